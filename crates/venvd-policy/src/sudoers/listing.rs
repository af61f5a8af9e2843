//! What `sudo -ll -U USER` prints: the Defaults that hold for a user, and his rules in the order that counts.

use super::lines::split;

/// The listing of one user. What sudo has from LDAP or SSSD is left out: there, the order is another.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// Settings for all of the user's commands. sudo-rs prints none.
    defaults: Vec<String>,
    /// Settings for some commands or targets, each as it stands behind its `Defaults`.
    specific: Vec<String>,
    entries: Vec<Entry>,
}

#[derive(Debug, Default)]
struct Entry {
    run_as: String,
    options: Vec<String>,
    commands: Vec<String>,
}

/// A call whose fate is asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call<'a> {
    pub(crate) program: &'a str,
    pub(crate) arguments: &'a str,
}

impl Listing {
    /// Reads the output of either family; what is not known in it is skipped.
    pub(crate) fn parse(output: &str) -> Self {
        let mut listing = Self::default();
        let (mut head, mut section) = (String::new(), "");
        let mut is_ours = false;
        for line in output.lines() {
            let text = line.trim();
            match (line.starts_with([' ', '\t']), text.split_once(": ")) {
                (false, _) => {
                    listing.finish(section, &std::mem::take(&mut head));
                    section = text;
                    is_ours = text.starts_with("Sudoers entry:");
                    if is_ours {
                        listing.entries.push(Entry::default());
                    }
                }
                (true, field) if is_ours => {
                    let Some(entry) = listing.entries.last_mut() else {
                        continue;
                    };
                    match field {
                        Some(("RunAsUsers", users)) => users.clone_into(&mut entry.run_as),
                        Some(("Options", options)) => entry.options = split(options, ','),
                        _ if line.starts_with('\t') => entry.commands.push(text.to_owned()),
                        _ => {}
                    }
                }
                (true, _) => head = format!("{head} {text}"),
            }
        }
        listing.finish(section, &head);
        listing
    }

    fn finish(&mut self, section: &str, text: &str) {
        if section.starts_with("Matching Defaults entries") {
            self.defaults = split(text, ',');
        } else if section.starts_with("Runas and Command-specific defaults") {
            let each = text.split(" Defaults").skip(1).map(|each| each.trim().to_owned());
            self.specific = each.collect();
        }
    }

    /// Returns the last `secure_path`: sudo applies them in order.
    pub(crate) fn secure_path(&self) -> Option<String> {
        let last = self.defaults.iter().rev();
        let mut last = last.filter(|setting| setting.trim_start_matches('!').starts_with("secure_path"));
        let value = last.next()?.strip_prefix("secure_path=")?;
        Some(value.trim_matches('"').replace("\\:", ":"))
    }

    /// Returns why a call without terminal and password is refused, though a rule admits it.
    pub(crate) fn hindrance(&self, call: Call<'_>) -> Option<String> {
        if self.is_on("requiretty", call).unwrap_or(false) {
            return Some(format!(
                "`Defaults requiretty` holds for {}, and services have no terminal; take it out, or set `!requiretty` for \
                 this user behind it",
                call.program
            ));
        }
        let (entry, command) = self.deciding(call)?;
        let has = |option: &str| entry.options.iter().any(|present| present == option);
        let asks = has("authenticate") || self.is_on("authenticate", call).unwrap_or(true);
        if has("!authenticate") || !asks {
            return None;
        }
        Some(format!(
            "{} needs a password by the rule `({}) {command}`, the last one that matches; give that one NOPASSWD, or put \
             it in front of venvd's",
            call.program, entry.run_as
        ))
    }

    /// Returns the rule that sudo follows: the last one that matches.
    fn deciding(&self, call: Call<'_>) -> Option<(&Entry, &str)> {
        let as_root = |entry: &&Entry| {
            entry
                .run_as
                .split(", ")
                .any(|user| ["ALL", "root", "#0"].contains(&user))
        };
        let entries = self.entries.iter().filter(as_root);
        let mut commands =
            entries.flat_map(|entry| entry.commands.iter().map(move |command| (entry, command.as_str())));
        commands.rfind(|(_, command)| call.may_match(command))
    }

    /// Returns how a flag is set for a call, if it is.
    fn is_on(&self, flag: &str, call: Call<'_>) -> Option<bool> {
        let specific = self.specific.iter().filter(|each| match each.split_at_checked(1) {
            Some(("!", list)) => {
                let mut words = list.split([' ', ',']);
                words.any(|word| word == "ALL" || word == call.program)
            }
            Some((">", list)) => ["ALL", "root"].contains(&list.split([' ', ',']).next().unwrap_or_default()),
            _ => false,
        });
        let specific = specific.flat_map(|each| each.split([' ', ',']));
        let settings = self.defaults.iter().map(String::as_str).chain(specific);
        settings
            .filter_map(|setting| match setting.strip_prefix('!') {
                Some(name) => (name == flag).then_some(false),
                None => (setting == flag).then_some(true),
            })
            .next_back()
    }
}

impl Call<'_> {
    /// Returns whether a command of sudoers(5) could mean this call. Where it has wildcards, what stands before them
    /// decides; a negated one does not matter, since sudo itself says what is denied.
    fn may_match(self, command: &str) -> bool {
        let is_digest =
            |word: &&str| word.starts_with("sha2") || word.starts_with("sha384:") || word.starts_with("sha512:");
        let mut words = command.split(' ').skip_while(is_digest);
        let program = words.next().unwrap_or_default();
        let arguments = words.collect::<Vec<_>>().join(" ");
        if program == "ALL" {
            return true;
        }
        let in_directory = || {
            let rest = self.program.strip_prefix(program).unwrap_or_default();
            program.ends_with('/') && !rest.is_empty() && !rest.contains('/')
        };
        (could_be(program, self.program) || in_directory())
            && (arguments.is_empty() || could_be(&arguments, self.arguments))
    }
}

/// Returns whether a pattern, a glob or since sudo 1.9.10 a regular expression behind `^`, could mean a text.
fn could_be(pattern: &str, text: &str) -> bool {
    let (pattern, special): (_, &[char]) = match pattern.strip_prefix('^') {
        Some(expression) => (expression, &['.', '*', '+', '?', '(', '[', '{', '|', '\\', '$']),
        None => (pattern, &['*', '?', '[', '\\']),
    };
    match pattern.find(special) {
        Some(end) => text.starts_with(&pattern[..end]),
        None => pattern == text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULTS: &str = "Matching Defaults entries for nova on vm:\n    env_reset, \
                            secure_path=/usr/sbin\\:/sbin, use_pty,\n    secure_path=/v/bin\\:/sbin";
    const OURS: &str = "Sudoers entry:\n    RunAsUsers: root\n    Options: !setenv, !authenticate\n    Commands:\n\t\
                        /v/bin/x /etc/x *\n";

    fn hindrance(defaults: &str, later: &str) -> Option<String> {
        let listing = format!(
            "{DEFAULTS}{defaults}\n\nUser nova may run the following commands on vm:\n\n{OURS}\nSudoers entry: \
             /etc/sudoers.d/zz\n{later}\n"
        );
        Listing::parse(&listing).hindrance(Call {
            program: "/v/bin/x",
            arguments: "/etc/x venvd-probe",
        })
    }

    #[test]
    fn reads_secure_path() {
        let of = |more: &str| Listing::parse(&format!("{DEFAULTS}{more}\n\nUser nova")).secure_path();
        assert_eq!(of("").as_deref(), Some("/v/bin:/sbin"));
        assert_eq!(of(", !secure_path"), None);
        assert_eq!(
            Listing::parse("User nova may not run sudo on vm.\n").secure_path(),
            None
        );
    }

    #[test]
    fn finds_a_later_rule_that_asks_for_a_password() {
        for (users, options, command) in [
            ("ALL", "", "ALL"),
            ("root", "    Options: authenticate\n", "/v/bin/x"),
            ("nova, root", "    Options: setenv\n", "/v/bin/"),
            ("#0", "", "/v/bin/x /etc/x *"),
            ("ALL", "", "/v/*"),
            ("ALL", "", "^/v/.*$ ^.*$"),
            ("ALL", "", "sha256:00 /v/bin/x"),
        ] {
            let later = format!("    RunAsUsers: {users}\n{options}    Commands:\n\t/usr/bin/a\n\t{command}\n");
            let said = hindrance("", &later).unwrap();
            assert!(
                said.contains(&format!("`({users}) {command}`")) && said.contains("NOPASSWD"),
                "{said}"
            );
            assert!(hindrance(", !authenticate", &later).is_some() == options.contains(" authenticate"));
        }
        for (users, options, command) in [
            ("ALL", "    Options: !authenticate\n", "ALL"),
            ("nova", "", "ALL"),
            ("ALL", "", "/usr/bin/x"),
            ("ALL", "", "/v/"),
            ("ALL", "", "/v/bin/x \"\""),
            ("ALL", "", "/v/bin/x /etc/y"),
            ("ALL", "", "!/v/bin/x"),
            ("ALL", "", "sudoedit /etc/x"),
        ] {
            let later = format!("    RunAsUsers: {users}\n{options}    Commands:\n\t{command}\n");
            assert_eq!(hindrance("", &later), None, "{later}");
        }
    }

    #[test]
    fn finds_that_a_terminal_is_required() {
        let specific = |text: &str| format!("\n\nRunas and Command-specific defaults for nova:\n    {text}");
        for (defaults, hindered) in [
            ("", false),
            (", requiretty", true),
            (",\n    !requiretty", false),
            (", requiretty, !requiretty", false),
            (&specific("Defaults!/usr/bin/a requiretty"), false),
            (&specific("Defaults!/usr/bin/a, /v/bin/x requiretty"), true),
            (&specific("Defaults>root requiretty    Defaults!ALL use_pty"), true),
            (&specific("Defaults>nova requiretty"), false),
            (
                &format!(", requiretty{}", specific("Defaults!/v/bin/x !requiretty")),
                false,
            ),
        ] {
            let said = hindrance(defaults, "");
            assert_eq!(
                said.is_some_and(|said| said.contains("requiretty")),
                hindered,
                "{defaults}"
            );
        }
    }
}
