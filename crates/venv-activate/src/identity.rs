//! Who the command runs as.

use std::ffi::CString;
use std::path::PathBuf;

use nix::unistd::{Gid, Uid, User, getegid, geteuid, getgid, getgrouplist, getuid};
use venvd_app::{AppName, Layout, UserName, search};

use crate::args::{Invocation, RunAs};
use crate::error::Error;

/// Who the command runs as.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    /// As whoever called.
    Keep,
    /// As another user, which only root can do.
    Become(Account),
}

impl Identity {
    /// Returns the user that the command runs as.
    pub(crate) fn uid(&self) -> Uid {
        match self {
            Self::Keep => getuid(),
            Self::Become(account) => account.uid,
        }
    }

    /// Returns that user's home, as the user database has it.
    pub(crate) fn home(&self) -> Option<PathBuf> {
        match self {
            Self::Keep => Some(User::from_uid(getuid()).ok()??.dir),
            Self::Become(account) => Some(account.home.clone()),
        }
    }
}

/// A user, with all that a process of it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) name: UserName,
    pub(crate) uid: Uid,
    pub(crate) gid: Gid,
    /// All of its groups, also the primary one.
    pub(crate) groups: Vec<Gid>,
    pub(crate) home: PathBuf,
    pub(crate) shell: PathBuf,
}

/// Refuses to run with somebody else's rights: what follows trusts its arguments and its environment.
pub(crate) fn refuse_setuid() -> Result<(), Error> {
    if getuid() == geteuid() && getgid() == getegid() {
        Ok(())
    } else {
        Err(Error::SetUid)
    }
}

/// Decides who the command runs as. The definition is read only where the command line leaves it open.
pub(crate) fn decide(layout: &Layout, invocation: &Invocation) -> Result<Identity, Error> {
    let caller = getuid();
    let user = match &invocation.run_as {
        RunAs::Caller if caller.is_root() => return Err(Error::AsRoot),
        RunAs::Caller => return Ok(Identity::Keep),
        RunAs::User(user) => user.clone(),
        RunAs::AppUser => user_of(layout, &invocation.target.app)?,
    };
    match relation(caller, &look_up(&user)?) {
        Relation::Same => Ok(Identity::Keep),
        Relation::BelowRoot(found) => Ok(Identity::Become(account(user, found)?)),
        Relation::Root => Err(Error::AsRoot),
        Relation::Other => Err(Error::NotAllowed {
            app: invocation.target.app.clone(),
            user,
        }),
    }
}

/// What a caller is to the user that the command shall run as.
#[derive(Debug)]
enum Relation<'a> {
    Root,
    Same,
    BelowRoot(&'a User),
    Other,
}

fn relation(caller: Uid, wanted: &User) -> Relation<'_> {
    // Nothing in a venv runs as root, however root is called.
    if wanted.uid.is_root() {
        Relation::Root
    } else if caller.is_root() {
        Relation::BelowRoot(wanted)
    } else if caller == wanted.uid {
        Relation::Same
    } else {
        Relation::Other
    }
}

fn user_of(layout: &Layout, app: &AppName) -> Result<UserName, Error> {
    // Where the files are broken, its services go on with what was accepted last, and so do its commands.
    let definition = search::load_app(layout, app).or_else(|source| match search::load_accepted(layout, app) {
        Ok(Some(accepted)) => Ok(accepted),
        Ok(None) | Err(_) => Err(Error::Definition {
            app: app.clone(),
            source,
        }),
    });
    definition?.user.ok_or_else(|| Error::NoUser { app: app.clone() })
}

fn look_up(user: &UserName) -> Result<User, Error> {
    match User::from_name(user.as_str()) {
        Ok(Some(found)) => Ok(found),
        Ok(None) => Err(Error::UnknownUser { user: user.clone() }),
        Err(source) => Err(Error::Lookup {
            user: user.clone(),
            source,
        }),
    }
}

fn account(name: UserName, found: &User) -> Result<Account, Error> {
    let groups = CString::new(name.as_str())
        .map_err(|_| nix::Error::EINVAL)
        .and_then(|text| getgrouplist(&text, found.gid))
        .map_err(|source| Error::Lookup {
            user: name.clone(),
            source,
        })?;
    Ok(Account {
        name,
        uid: found.uid,
        gid: found.gid,
        groups,
        home: found.dir.clone(),
        shell: found.shell.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(uid: u32) -> User {
        let mut user = User::from_uid(Uid::from_raw(0)).unwrap().unwrap();
        user.uid = uid.into();
        user
    }

    #[test]
    fn a_typo_in_a_definition_takes_no_commands_away() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(venvd_fs::Root::at(directory.path()));
        let path = layout.on_disk("/etc/venvd/apps/nova.toml");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::create_dir_all(layout.on_disk("/etc/venvd/committed")).unwrap();
        let user = || user_of(&layout, &"nova".parse().unwrap());
        std::fs::write(&path, "user = \"nova\"\n").unwrap();
        search::accept(&layout, &"nova".parse().unwrap()).unwrap();
        std::fs::write(&path, "usr = \"nova\"\n").unwrap();
        assert_eq!(user().unwrap().as_str(), "nova");
        std::fs::remove_file(layout.accepted_definition(&"nova".parse().unwrap())).unwrap();
        assert!(
            venvd_fs::report(&user().unwrap_err()).contains("usr"),
            "what is wrong is said"
        );
    }

    #[test]
    fn only_root_becomes_somebody_else_and_nobody_becomes_root() {
        let (root, nova, other) = (Uid::from_raw(0), Uid::from_raw(64060), Uid::from_raw(1000));
        assert!(matches!(relation(root, &user(64060)), Relation::BelowRoot(_)));
        assert!(matches!(relation(nova, &user(64060)), Relation::Same));
        assert!(matches!(relation(other, &user(64060)), Relation::Other));
        for caller in [root, nova, other] {
            assert!(matches!(relation(caller, &user(0)), Relation::Root));
        }
    }
}
