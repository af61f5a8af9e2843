//! The `[Install]` section of a whole unit. `systemctl enable` refuses generated units, so the links that it would make
//! are made here, below the generator's directory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use venvd_unit::UnitId;

use super::member::Skip;

/// Keys of a section and their values.
pub(crate) type Keys = BTreeMap<String, Vec<String>>;

/// The keys that make links in a directory beside another unit (systemd.unit(5), "[Install] Section Options").
const DEPENDENCIES: [(&str, &str); 3] = [
    ("WantedBy", "wants"),
    ("RequiredBy", "requires"),
    ("UpheldBy", "upholds"),
];

/// What the section means.
#[derive(Debug, Default)]
pub(crate) struct Install {
    /// Links in other units' directories, and their targets.
    pub(crate) dependencies: Vec<(String, PathBuf)>,
    /// Units that are to uphold a unit, and that one's name. Before 254, systemd does not look into `.upholds`.
    pub(crate) upholds: Vec<(UnitId, String)>,
    /// Other names of the unit.
    pub(crate) aliases: Vec<UnitId>,
    /// Units that are to be enabled with it.
    pub(crate) also: Vec<String>,
    /// What has no effect.
    pub(crate) refused: Vec<Skip>,
}

impl Install {
    /// Reads the section of the unit `id`.
    pub(crate) fn read(id: &UnitId, keys: &Keys) -> Self {
        let mut install = Self::default();
        let names = install.names(id, keys);
        for (key, suffix) in DEPENDENCIES {
            for value in words(keys, key) {
                for name in &names {
                    match dependency(id, name, &value) {
                        Ok(by) => {
                            install
                                .dependencies
                                .push((format!("{by}.{suffix}/{name}"), Path::new("..").join(id.as_str())));
                            if key == "UpheldBy" {
                                // In a file, the instance must be said.
                                install.upholds.push((by, name.as_str().replace("@.", "@%i.")));
                            }
                        }
                        Err(why) => install.refuse(key, &value, why),
                    }
                }
            }
        }
        for value in words(keys, "Alias") {
            match expand(id, &value).and_then(|name| UnitId::parse(&name).ok()) {
                Some(alias) if may_be_alias(&alias, id) => install.aliases.push(alias),
                _ => install.refuse("Alias", &value, "not another name for such a unit"),
            }
        }
        install.also = words(keys, "Also");
        for (key, value) in keys
            .iter()
            .flat_map(|(key, values)| values.iter().map(move |v| (key, v)))
        {
            let known = ["WantedBy", "RequiredBy", "UpheldBy", "Alias", "Also", "DefaultInstance"];
            if !known.contains(&key.as_str()) && !key.starts_with("X-") {
                install.refuse(key, value, "it has no effect on a generated unit");
            }
        }
        install
    }

    /// Returns the names under which the unit is enabled: of a template its default instances, of which there may be
    /// several here; without one itself, for other templates to pull in.
    fn names(&mut self, id: &UnitId, keys: &Keys) -> Vec<UnitId> {
        let mut names = Vec::new();
        for instance in words(keys, "DefaultInstance") {
            let name = id.as_str().replacen('@', &format!("@{instance}"), 1);
            match UnitId::parse(&name).ok().filter(|_| id.is_template()) {
                Some(name) => names.push(name),
                None => self.refuse("DefaultInstance", &instance, "not an instance of this unit"),
            }
        }
        if names.is_empty() {
            names.push(id.clone());
        }
        names
    }

    fn refuse(&mut self, key: &str, value: &str, why: &'static str) {
        self.refused.push(Skip::Install {
            key: key.to_owned(),
            value: value.to_owned(),
            why,
        });
    }
}

/// Returns the unit that pulls in `name`, an instance of `id` or itself.
fn dependency(id: &UnitId, name: &UnitId, value: &str) -> Result<UnitId, &'static str> {
    let by = expand(name, value).ok_or("of specifiers, only %n, %N, %p, %i, %j and %% are expanded here")?;
    let by = UnitId::parse(&by).map_err(|_| "not a unit name")?;
    // As `install_info_symlink_wants()`: a template is an instance only of what has an instance itself.
    let plain = !by.is_template() && by.instance().is_none();
    if name == id && id.is_template() && plain {
        return Err("a template needs a DefaultInstance= to be enabled");
    }
    Ok(by)
}

/// `unit_validate_alias_symlink()`
fn may_be_alias(alias: &UnitId, id: &UnitId) -> bool {
    let same_form = if alias.instance().is_some() {
        id.is_template() || alias.instance() == id.instance()
    } else {
        alias.is_template() == id.is_template() && id.instance().is_none()
    };
    alias != id && alias.kind() == id.kind() && same_form
}

/// Expands the specifiers that are about the unit's own name (`install_name_printf()`).
fn expand(id: &UnitId, value: &str) -> Option<String> {
    let mut expanded = String::new();
    let mut rest = value;
    while let Some((before, after)) = rest.split_once('%') {
        expanded.push_str(before);
        let prefix = id.prefix();
        expanded.push_str(match after.chars().next()? {
            'n' => id.as_str(),
            'N' => id.as_str().rsplit_once('.')?.0,
            'p' => prefix,
            'i' => id.instance().unwrap_or_default(),
            'j' => prefix.rsplit_once('-').map_or(prefix, |(_, last)| last),
            '%' => "%",
            _ => return None,
        });
        rest = after.get(1..)?;
    }
    expanded.push_str(rest);
    Some(expanded)
}

fn words(keys: &Keys, key: &str) -> Vec<String> {
    let values = keys.get(key).into_iter().flatten();
    values
        .flat_map(|value| value.split_whitespace())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(id: &str, keys: &[(&str, &str)]) -> (Vec<String>, Vec<String>) {
        let mut map = Keys::new();
        for (key, value) in keys {
            map.entry((*key).to_owned()).or_default().push((*value).to_owned());
        }
        let install = Install::read(&UnitId::parse(id).unwrap(), &map);
        let links = install
            .dependencies
            .iter()
            .map(|(link, target)| format!("{} -> {}", link, target.display()));
        let aliases = install.aliases.iter().map(ToString::to_string);
        (
            links.chain(aliases).collect(),
            install.refused.iter().map(ToString::to_string).collect(),
        )
    }

    #[test]
    fn links_are_those_of_systemctl_enable() {
        for (id, key, value, want) in [
            (
                "a.service",
                "WantedBy",
                "b.target",
                "b.target.wants/a.service -> ../a.service",
            ),
            (
                "a.socket",
                "RequiredBy",
                "b.service",
                "b.service.requires/a.socket -> ../a.socket",
            ),
            (
                "a.timer",
                "UpheldBy",
                "%p-x.service",
                "a-x.service.upholds/a.timer -> ../a.timer",
            ),
            (
                "a@1.service",
                "WantedBy",
                "b@%i.target",
                "b@1.target.wants/a@1.service -> ../a@1.service",
            ),
            (
                "a@.service",
                "WantedBy",
                "b@.target",
                "b@.target.wants/a@.service -> ../a@.service",
            ),
            ("x-a.service", "WantedBy", "%j%%.target", ""),
            (
                "x-a.service",
                "WantedBy",
                "%j.target",
                "a.target.wants/x-a.service -> ../x-a.service",
            ),
            ("a.service", "WantedBy", "%H.target", ""),
            ("a@.service", "WantedBy", "b.target", ""),
            ("a.service", "DefaultInstance", "1", ""),
            ("a.service", "Alias", "b.service", "b.service"),
            ("a.service", "Alias", "%N-x.service", "a-x.service"),
            ("a@.service", "Alias", "b@.service", "b@.service"),
            ("a@.service", "Alias", "b@1.service", "b@1.service"),
            ("a@1.service", "Alias", "b@1.service", "b@1.service"),
            ("a@1.service", "Alias", "b@2.service", ""),
            ("a@1.service", "Alias", "b.service", ""),
            ("a.service", "Alias", "b@.service", ""),
            ("a.service", "Alias", "b.socket", ""),
            ("a.service", "Alias", "a.service", ""),
            ("a.service", "Sometimes", "b", ""),
        ] {
            let (links, refused) = read(id, &[(key, value)]);
            assert_eq!(links.join(" "), want, "{id} {key}={value}");
            assert_eq!(refused.is_empty(), !want.is_empty(), "{id} {key}={value}: {refused:?}");
        }
    }

    #[test]
    fn a_template_may_have_several_instances() {
        let (links, refused) = read(
            "a@.service",
            &[
                ("DefaultInstance", "1"),
                ("DefaultInstance", "2"),
                ("WantedBy", "b.target c@.target"),
            ],
        );
        assert_eq!(
            links,
            [
                "b.target.wants/a@1.service -> ../a@.service",
                "b.target.wants/a@2.service -> ../a@.service",
                "c@.target.wants/a@1.service -> ../a@.service",
                "c@.target.wants/a@2.service -> ../a@.service"
            ]
        );
        assert!(refused.is_empty());
    }
}
