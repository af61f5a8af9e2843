//! Whom and where a list of sudoers(5) means: is this user, on this host, in it?

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;

use nix::unistd::{Group, User, getgrouplist, gethostname};
use venvd_app::{Layout, UserName};

use super::lines::words;

/// As in sudo: an alias may name others, and a loop must end.
const MAX_ALIAS_DEPTH: usize = 64;

/// Aliases of one kind: name and members.
pub(crate) type Aliases = BTreeMap<String, String>;

/// What is known of a user and the host.
#[derive(Debug, Default)]
pub(crate) struct Identity {
    name: String,
    uid: Option<u32>,
    /// Names and numbers.
    groups: Vec<String>,
    hosts: Vec<String>,
}

/// Whether a list means somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Matches {
    Yes,
    No,
    /// By a netgroup, an address or a plugin, which only sudo itself could ask.
    Unknown,
}

impl Identity {
    /// Looks a user up: on the host as sudo does, below another root in its files.
    pub(crate) fn of(layout: &Layout, user: &UserName) -> Self {
        let mut identity = Self {
            name: user.as_str().to_owned(),
            ..Self::default()
        };
        if layout.root().is_host() {
            identity.ask_host();
        } else {
            identity.read_files(layout);
        }
        if let Some(short) = identity.hosts.first().and_then(|full| full.split('.').next()) {
            identity.hosts.push(short.to_owned());
        }
        identity
    }

    fn ask_host(&mut self) {
        // Who is not found matches by name alone.
        if let Ok(Some(user)) = User::from_name(&self.name) {
            self.uid = Some(user.uid.as_raw());
            let name = CString::new(self.name.as_str()).unwrap_or_default();
            for gid in getgrouplist(&name, user.gid).unwrap_or_default() {
                self.groups.push(format!("#{gid}"));
                self.groups
                    .extend(Group::from_gid(gid).ok().flatten().map(|group| group.name));
            }
        }
        self.hosts
            .extend(gethostname().ok().and_then(|name| name.into_string().ok()));
    }

    fn read_files(&mut self, layout: &Layout) {
        let read = |path: &str| fs::read_to_string(layout.on_disk(path)).unwrap_or_default();
        let passwd = read("/etc/passwd");
        let entry = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
        let entry = entry
            .into_iter()
            .find(|fields| fields.first() == Some(&self.name.as_str()));
        let primary = entry
            .as_ref()
            .and_then(|fields| fields.get(3))
            .map(|gid| (*gid).to_owned());
        self.uid = entry.and_then(|fields| fields.get(2)?.parse().ok());
        for line in read("/etc/group").lines() {
            let fields: Vec<&str> = line.split(':').collect();
            let [name, _, gid, members] = fields[..] else { continue };
            if primary.as_deref() == Some(gid) || members.split(',').any(|member| member == self.name) {
                self.groups.extend([name.to_owned(), format!("#{gid}")]);
            }
        }
        self.hosts
            .extend(read("/etc/hostname").lines().next().map(str::to_owned));
    }

    /// Returns the user's number, where there is such a user.
    pub(crate) fn uid(&self) -> Option<u32> {
        self.uid
    }

    /// Returns the host's name up to its first dot, for `%h`.
    pub(crate) fn short_host(&self) -> &str {
        self.hosts.last().map_or("", String::as_str)
    }

    /// Returns whether a user list means this user; the last member that does decides, as in sudo.
    pub(crate) fn in_users(&self, list: &str, aliases: &Aliases) -> Matches {
        decide(list, aliases, MAX_ALIAS_DEPTH, &|member| self.is_user(member))
    }

    /// Returns whether a host list means this host.
    pub(crate) fn in_hosts(&self, list: &str, aliases: &Aliases) -> Matches {
        decide(list, aliases, MAX_ALIAS_DEPTH, &|member| {
            let is_address =
                member.starts_with('+') || member.contains(':') || member.starts_with(|c: char| c.is_ascii_digit());
            match member {
                "ALL" => Matches::Yes,
                _ if self.hosts.iter().any(|host| host.eq_ignore_ascii_case(member)) => Matches::Yes,
                _ if is_address || member.contains(['*', '?', '[']) => Matches::Unknown,
                _ => Matches::No,
            }
        })
    }

    fn is_user(&self, member: &str) -> Matches {
        let known = |found: bool| if found { Matches::Yes } else { Matches::No };
        if let Some(group) = member.strip_prefix('%') {
            return match group.strip_prefix(':') {
                Some(_) => Matches::Unknown,
                None => known(self.groups.iter().any(|name| name == group)),
            };
        }
        if let Some(uid) = member.strip_prefix('#') {
            return known(self.uid.is_some() && uid.parse().ok() == self.uid);
        }
        match member {
            "ALL" => Matches::Yes,
            _ if member.starts_with('+') => Matches::Unknown,
            _ => known(member == self.name),
        }
    }
}

fn decide(list: &str, aliases: &Aliases, depth: usize, is: &dyn Fn(&str) -> Matches) -> Matches {
    let mut result = Matches::No;
    for member in words(list) {
        let negated = member.bytes().take_while(|&b| b == b'!').count();
        let name = member[negated..].trim();
        let found = match aliases.get(name) {
            Some(_) if depth == 0 => Matches::Unknown,
            Some(members) => decide(members, aliases, depth - 1, is),
            None => is(name),
        };
        match (found, negated % 2 == 1) {
            (Matches::Yes, true) => result = Matches::No,
            (Matches::Yes, false) => result = Matches::Yes,
            (Matches::Unknown, _) => result = Matches::Unknown,
            (Matches::No, _) => {}
        }
    }
    result
}
