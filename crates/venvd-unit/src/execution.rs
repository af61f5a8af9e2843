//! What a unit says about the process it starts, besides its command line and its variables (systemd.exec(5)).

use crate::effective::{Effective, Entry, SERVICE};
use crate::limit::{Limit, Resource};
use crate::specifier;

/// The largest mode, see `parse_mode()`.
const LARGEST_MODE: u32 = 0o7777;

/// Where a unit's processes start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkingDirectory<'a> {
    /// `~`: the user's home.
    Home,
    /// A path; specifiers as they stand.
    Path(&'a str),
}

impl Effective {
    /// Returns the `UMask=`; what is no mode is ignored.
    #[must_use]
    pub fn umask(&self) -> Option<u32> {
        self.all(SERVICE, "UMask")
            .rev()
            .find_map(|entry| u32::from_str_radix(entry.value(), 8).ok())
            .filter(|mode| *mode <= LARGEST_MODE)
    }

    /// Returns the `WorkingDirectory=`, and whether it may be missing (`config_parse_working_directory()`).
    #[must_use]
    pub fn working_directory(&self) -> Option<(WorkingDirectory<'_>, bool)> {
        let value = self
            .last(SERVICE, "WorkingDirectory")
            .filter(|value| !value.is_empty())?;
        let path = value.strip_prefix('-').unwrap_or(value);
        let directory = match path {
            "~" => WorkingDirectory::Home,
            path => WorkingDirectory::Path(path),
        };
        Some((directory, path.len() < value.len()))
    }

    /// Returns the limits that it sets, each the last valid one; an empty value leaves the resource alone
    /// (`config_parse_rlimit()`).
    #[must_use]
    pub fn limits(&self) -> Vec<(Resource, Limit)> {
        let last = |resource: Resource| {
            let key = format!("Limit{}", resource.name());
            self.all(SERVICE, &key)
                .rev()
                .find_map(|entry| match entry.value() {
                    "" => Some(None),
                    value => Limit::parse(resource, value).map(Some),
                })
                .flatten()
        };
        let limit = |resource: Resource| Some((resource, last(resource)?));
        Resource::ALL.into_iter().filter_map(limit).collect()
    }

    /// Returns the words of `UnsetEnvironment=`: names, or assignments that are removed when they are as they say.
    /// Specifiers are not ours to expand in those that have any but of the name.
    #[must_use]
    pub fn unset_environment(&self) -> Vec<String> {
        let entries = self.list(SERVICE, "UnsetEnvironment").into_iter();
        let words = entries.flat_map(|entry: &Entry| crate::environment::words(entry.value()));
        words
            .filter_map(|word| specifier::expand(&word, &self.found.id).ok()?)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::UnitId;
    use crate::effective::of_text;

    fn unit(text: &str) -> Effective {
        let id = UnitId::parse("a.service").unwrap();
        of_text(
            &id,
            Path::new("/a.service"),
            &format!("[Service]\nExecStart=/bin/a\n{text}"),
        )
    }

    #[test]
    fn the_last_valid_umask_counts() {
        for (text, want) in [
            ("", None),
            ("UMask=0027", Some(0o27)),
            ("UMask=7\nUMask=", Some(7)),
            ("UMask=7\nUMask=9", Some(7)),
            ("UMask=17777", None),
        ] {
            assert_eq!(unit(text).umask(), want, "{text}");
        }
    }

    #[test]
    fn working_directories() {
        for (text, want) in [
            ("", None),
            (
                "WorkingDirectory=/srv/%p",
                Some((WorkingDirectory::Path("/srv/%p"), false)),
            ),
            ("WorkingDirectory=-/srv", Some((WorkingDirectory::Path("/srv"), true))),
            ("WorkingDirectory=/srv\nWorkingDirectory=", None),
            ("WorkingDirectory=~", Some((WorkingDirectory::Home, false))),
            ("WorkingDirectory=-~", Some((WorkingDirectory::Home, true))),
        ] {
            assert_eq!(unit(text).working_directory(), want, "{text}");
        }
    }

    #[test]
    fn limits_are_reset_one_by_one() {
        let got = unit("LimitNOFILE=5\nLimitNOFILE=x\nLimitCORE=1\nLimitCORE=\nLimitNPROC=1:infinity\n").limits();
        assert_eq!(
            got,
            [
                (Resource::OpenFiles, Limit { soft: 5, hard: 5 }),
                (
                    Resource::Processes,
                    Limit {
                        soft: 1,
                        hard: Limit::INFINITE
                    }
                ),
            ]
        );
    }

    #[test]
    fn what_is_unset() {
        let got = unit("UnsetEnvironment=A\nUnsetEnvironment=B=%p 'C=x y'\n").unset_environment();
        assert_eq!(got, ["A", "B=a", "C=x y"]);
    }
}
