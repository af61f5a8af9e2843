//! What sudo itself takes a policy for, by `cvtsudoers -f json`.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Reads sudoers as sudo does. It comes with sudo, not with sudo-rs.
pub(crate) const ORACLE: &str = "/usr/bin/cvtsudoers";

/// What a policy grants: users and commands, and users with their `secure_path`.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Meaning {
    pub(crate) grants: BTreeSet<(String, String)>,
    pub(crate) paths: BTreeSet<(String, String)>,
}

impl Meaning {
    /// Reads a file and what it includes, and refuses whatever else than our kind of rule is in there.
    pub(crate) fn of(file: &Path) -> Self {
        let said = Command::new(ORACLE).args(["-f", "json"]).arg(file).output().unwrap();
        assert!(
            said.status.success() && said.stderr.is_empty(),
            "{said:?} of {}",
            file.display()
        );
        Self::understood(&serde_json::from_slice(&said.stdout).unwrap())
    }

    fn understood(json: &Value) -> Self {
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let only = |value: &Value, key: &str| {
            let values = list(value);
            assert_eq!(values.len(), 1, "{json:#}");
            values[0][key]
                .as_str()
                .unwrap_or_else(|| panic!("no {key} in {json:#}"))
                .to_owned()
        };
        let mut meaning = Self::default();
        for spec in list(&json["User_Specs"]) {
            let user = only(&spec["User_List"], "username");
            assert_eq!(only(&spec["Host_List"], "hostname"), "ALL");
            for grant in list(&spec["Cmnd_Specs"]) {
                assert_eq!(only(&grant["runasusers"], "username"), "root");
                assert_eq!(grant["runasgroups"], Value::Null);
                assert_eq!(
                    grant["Options"],
                    serde_json::json!([{"authenticate": false}, {"setenv": false}])
                );
                for command in list(&grant["Commands"]) {
                    let text = command["command"]
                        .as_str()
                        .unwrap_or_else(|| panic!("{json:#}"))
                        .to_owned();
                    meaning.grants.insert((user.clone(), text));
                }
            }
        }
        for defaults in list(&json["Defaults"]) {
            let user = only(&defaults["Binding"], "username");
            meaning.paths.insert((user, only(&defaults["Options"], "secure_path")));
        }
        for other in ["User_Aliases", "Runas_Aliases", "Host_Aliases", "Command_Aliases"] {
            assert_eq!(json[other], Value::Null);
        }
        meaning
    }
}
