//! The command's environment.
//!
//! The caller's, without what would change which code the interpreter, the loader or a shell runs. When root becomes
//! a service user, what speaks of root's own session goes too; proxies, locale, `OS_*` stay.

use std::collections::BTreeMap;
use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use venvd_app::Layout;
use venvd_app::links::VenvPath;

use crate::identity::Account;

/// Names and values, as the command will see them.
pub(crate) type Variables = BTreeMap<OsString, OsString>;

pub(crate) const PATH: &str = "PATH";

/// What a service user gets, whatever root's own PATH is.
const SAFE_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Names that make a loader, an interpreter or a shell run other code: sudo's `initial_badenv_table` (env.c), glibc's
/// list for setuid programs (unsecvars.h), and Python's variables, all of them since there is one more each year.
const HOOKS: [Pattern; 52] = {
    use Pattern::{Exactly, Prefix};
    [
        // Python
        Prefix("PYTHON"),
        Prefix("VIRTUAL_ENV"),
        Prefix("__PYVENV"),
        // the loader and the C library
        Prefix("LD_"),
        Prefix("_RLD"),
        Prefix("MALLOC_"),
        Exactly("GCONV_PATH"),
        Exactly("GETCONF_DIR"),
        Exactly("GLIBC_TUNABLES"),
        Exactly("HOSTALIASES"),
        Exactly("LIBPATH"),
        Exactly("LOCALDOMAIN"),
        Exactly("LOCPATH"),
        Exactly("NIS_PATH"),
        Exactly("NLSPATH"),
        Exactly("PATH_LOCALE"),
        Exactly("RESOLV_HOST_CONF"),
        Exactly("RES_OPTIONS"),
        Exactly("SHLIB_PATH"),
        Exactly("AUTHSTATE"),
        Exactly("OPENSSL_CONF"),
        Exactly("OPENSSL_ENGINES"),
        Exactly("OPENSSL_MODULES"),
        // shells
        Prefix("BASH_FUNC_"),
        Exactly("BASHOPTS"),
        Exactly("BASH_ENV"),
        Exactly("BASH_LOADABLES_PATH"),
        Exactly("CDPATH"),
        Exactly("ENV"),
        Exactly("FPATH"),
        Exactly("GLOBIGNORE"),
        Exactly("IFS"),
        Exactly("NULLCMD"),
        Exactly("PROMPT_COMMAND"),
        Exactly("PS4"),
        Exactly("READNULLCMD"),
        Exactly("SHELLOPTS"),
        Exactly("TMPPREFIX"),
        Exactly("ZDOTDIR"),
        // terminals
        Exactly("TERMCAP"),
        Exactly("TERMINFO"),
        Exactly("TERMINFO_DIRS"),
        Exactly("TERMPATH"),
        // other interpreters
        Prefix("PERL5"),
        Exactly("PERLIO_DEBUG"),
        Exactly("PERLLIB"),
        Exactly("PERL_MM_OPT"),
        Exactly("RUBYLIB"),
        Exactly("RUBYOPT"),
        Exactly("NODE_OPTIONS"),
        Exactly("JAVA_TOOL_OPTIONS"),
        Exactly("_JAVA_OPTIONS"),
    ]
};

/// What belongs to root's session and is of no use, or too much of it, to somebody else.
const OF_ROOTS_SESSION: [Pattern; 18] = {
    use Pattern::{Exactly, Prefix};
    [
        Prefix("SUDO_"),
        Prefix("XDG_"),
        Prefix("SSH_"),
        Prefix("GPG_"),
        // Sockets that systemd passed: descriptors above 2 are closed.
        Prefix("LISTEN_"),
        Exactly("CREDENTIALS_DIRECTORY"),
        Exactly("DBUS_SESSION_BUS_ADDRESS"),
        Exactly("HISTFILE"),
        Exactly("KRB5CCNAME"),
        Exactly("MAIL"),
        Exactly("OLDPWD"),
        Exactly("TEMP"),
        Exactly("TMP"),
        Exactly("TMPDIR"),
        Exactly("USERNAME"),
        Exactly("XAUTHORITY"),
        // The safe one is put in its place.
        Exactly(PATH),
        Exactly("_"),
    ]
};

#[derive(Debug, Clone, Copy)]
enum Pattern {
    Exactly(&'static str),
    Prefix(&'static str),
}

impl Pattern {
    fn matches(self, name: &OsStr) -> bool {
        match self {
            Self::Exactly(whole) => name == whole,
            Self::Prefix(prefix) => name.as_bytes().starts_with(prefix.as_bytes()),
        }
    }
}

/// Returns the caller's variables without those that run code.
pub(crate) fn clean(inherited: impl IntoIterator<Item = (OsString, OsString)>) -> Variables {
    inherited
        .into_iter()
        // Before bash's Shellshock patches, any variable of this form was a function.
        .filter(|(name, value)| !matches_any(&HOOKS, name) && !value.as_bytes().starts_with(b"()"))
        .collect()
}

/// Replaces root's session by the user's.
pub(crate) fn become_user(variables: &mut Variables, account: &Account) {
    variables.retain(|name, _| !matches_any(&OF_ROOTS_SESSION, name));
    for (name, value) in [
        ("HOME", account.home.as_os_str()),
        ("USER", account.name.as_str().as_ref()),
        ("LOGNAME", account.name.as_str().as_ref()),
        ("SHELL", account.shell.as_os_str()),
    ] {
        variables.insert(name.into(), value.to_owned());
    }
}

/// Puts the venv in front, and takes every other one out of PATH.
pub(crate) fn enter_venv(layout: &Layout, variables: &mut Variables, venv: &VenvPath) {
    let rest = match variables.get(OsStr::new(PATH)) {
        Some(path) if !path.is_empty() => path.clone(),
        _ => SAFE_PATH.into(),
    };
    let mut path = venv.bin().into_os_string();
    let in_a_venv = |directory: &PathBuf| layout.venv_directories().iter().any(|all| directory.starts_with(all));
    for directory in absolute_entries(&rest).filter(|directory| !in_a_venv(directory)) {
        path.push(":");
        path.push(directory);
    }
    for (name, value) in [
        (PATH, path),
        ("VIRTUAL_ENV", venv.path().into()),
        ("VENVD_APP", venv.name().app().as_str().into()),
        ("VENVD_TAG", venv.name().tag().as_str().into()),
    ] {
        variables.insert(name.into(), value);
    }
}

/// Returns the entries of a PATH that do not depend on the current directory.
pub(crate) fn absolute_entries(path: &OsStr) -> impl Iterator<Item = PathBuf> {
    env::split_paths(path).filter(|directory| Path::is_absolute(directory))
}

fn matches_any(patterns: &[Pattern], name: &OsStr) -> bool {
    patterns.iter().any(|pattern| pattern.matches(name))
}

#[cfg(test)]
mod tests;
