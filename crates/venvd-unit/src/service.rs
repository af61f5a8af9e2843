//! What the settings of a service other than its command lines are worth in the end.

use crate::effective::{Effective, Entry, SERVICE};
use crate::specifier;

/// What `Type=` may be (systemd.service(5)).
const SERVICE_TYPES: [&str; 8] = [
    "simple",
    "exec",
    "forking",
    "oneshot",
    "dbus",
    "notify",
    "notify-reload",
    "idle",
];

impl Effective {
    /// Returns the `Type=` of a service.
    #[must_use]
    pub fn service_type(&self) -> &str {
        // What systemd does not know, it ignores: then an earlier value stays.
        let mut kinds = self.all(SERVICE, "Type").map(Entry::value);
        match kinds.rfind(|kind| SERVICE_TYPES.contains(kind)) {
            Some(kind) => kind,
            // `service_add_extras()`
            None if self.last(SERVICE, "BusName").is_some_and(|name| !name.is_empty()) => "dbus",
            None if self
                .commands("ExecStart")
                .iter()
                .all(|(_, line)| line.commands.is_empty()) =>
            {
                "oneshot"
            }
            None => "simple",
        }
    }

    /// Returns the value that `Environment=` gives a variable; specifiers as they stand.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<String> {
        self.environment()
            .into_iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    }

    /// Returns all variables that `Environment=` sets, specifiers as they stand (`config_parse_environ()`).
    #[must_use]
    pub fn environment(&self) -> Vec<(String, String)> {
        let mut variables: Vec<(String, String)> = Vec::new();
        let set = self.list(SERVICE, "Environment").into_iter();
        for (name, value) in set.flat_map(|entry| entry.variables(&self.found.id)) {
            match variables.iter_mut().find(|(key, _)| *key == name) {
                Some(variable) => variable.1 = value,
                None => variables.push((name, value)),
            }
        }
        variables
    }

    /// Returns the directories of `ExecSearchPath=`, specifiers as they stand.
    #[must_use]
    pub fn exec_search_path(&self) -> Vec<&str> {
        let absolute = |path: &&str| match specifier::expand(path, &self.found.id) {
            Ok(Some(path)) => path.starts_with('/') && path.split('/').all(|part| part != ".."),
            Ok(None) => path.starts_with(['/', '%']),
            Err(_) => false,
        };
        let values = self.list(SERVICE, "ExecSearchPath").into_iter();
        // A directory that is not absolute ends the line (`config_parse_colon_separated_paths()`).
        values.flat_map(|e| e.value().split(':').take_while(absolute)).collect()
    }

    /// Returns the files of `EnvironmentFile=`, with their `-`.
    #[must_use]
    pub fn environment_files(&self) -> Vec<&Entry> {
        self.list(SERVICE, "EnvironmentFile")
    }
}

#[cfg(test)]
mod tests {
    use crate::effective::{Effective, Unit, load};
    use crate::tests_support::Tree;
    use crate::{UnitFiles, UnitId};

    const UNIT: &str = "usr/lib/systemd/system/a.service";

    fn loaded(tree: &Tree) -> Box<Effective> {
        match load(&UnitFiles::scan(tree.root()), &UnitId::parse("a.service").unwrap()) {
            Unit::Loaded(unit) => unit,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn environment_is_merged() {
        let tree = Tree::new();
        tree.file(
            UNIT,
            "[Service]\nExecStart=/bin/a\nEnvironment=A=1 \"B=x y\" 1C=no =no D\nEnvironment='A=%h/2' E=3 'F\n\
             ExecSearchPath=/a:/b\nExecSearchPath=/c:d:/e\nEnvironmentFile=-/etc/default/a\n",
        );
        let unit = loaded(&tree);
        let got: Vec<_> = unit
            .environment()
            .into_iter()
            .map(|(k, v)| format!("{k}={v}"))
            .collect();
        assert_eq!(got, ["A=%h/2", "B=x y", "E=3"]);
        assert_eq!(unit.variable("B").as_deref(), Some("x y"));
        assert_eq!(unit.exec_search_path(), ["/a", "/b", "/c"]);
        assert_eq!(unit.environment_files()[0].value(), "-/etc/default/a");
        tree.file(
            "etc/systemd/system/a.service.d/x.conf",
            "[Service]\nEnvironment=\nEnvironment=G=4\nExecSearchPath=\n",
        );
        let unit = loaded(&tree);
        assert_eq!(unit.environment(), [("G".to_owned(), "4".to_owned())]);
        assert!(unit.exec_search_path().is_empty());
    }

    #[test]
    fn service_types() {
        for (text, want) in [
            ("ExecStart=/bin/a", "simple"),
            ("ExecStart=/bin/a\nType=oneshot", "oneshot"),
            ("ExecStart=/bin/a\nBusName=a.b", "dbus"),
            ("ExecStop=/bin/a", "oneshot"),
            ("ExecStop=/bin/a\nBusName=a.b", "dbus"),
            ("ExecStart=/bin/a\nType=oneshot\nType=nonsense", "oneshot"),
        ] {
            let tree = Tree::new();
            tree.file(UNIT, &format!("[Service]\n{text}\n"));
            assert_eq!(loaded(&tree).service_type(), want, "{text}");
        }
    }
}
