//! Where the command runs: `--cd`, else what the unit says, else where the caller is, if the user may be there at all.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::args::Invocation;
use crate::environment::Variables;
use crate::error::Error;
use crate::identity::{Account, Identity};
use crate::say;
use crate::unit;

/// Goes there, as the user, and keeps PWD true.
pub(crate) fn enter(
    invocation: &Invocation,
    of_unit: Option<&unit::Directory>,
    identity: &Identity,
    variables: &mut Variables,
) -> Result<(), Error> {
    match (&invocation.directory, of_unit, identity) {
        (Some(directory), _, _) => go(directory)?,
        (None, Some(directory), _) => {
            let path: Option<PathBuf> = directory.path.clone().or_else(|| identity.home());
            match go(path.as_deref().unwrap_or(Path::new("/"))) {
                Err(_) if directory.may_be_missing => go(Path::new("/"))?,
                result => result?,
            }
        }
        (None, None, Identity::Become(account)) => stay(account)?,
        // The caller's PWD may be a nicer name for the same.
        (None, None, Identity::Keep) => return Ok(()),
    }
    match env::current_dir() {
        Ok(directory) => drop(variables.insert("PWD".into(), directory.into())),
        Err(_) => drop(variables.remove(OsStr::new("PWD"))),
    }
    Ok(())
}

fn stay(account: &Account) -> Result<(), Error> {
    // By its name, so that every directory on the way counts, and one that was removed is noticed.
    let Err(error) = env::current_dir().and_then(env::set_current_dir) else {
        return Ok(());
    };
    say(&format!(
        "note: {} can't be in the current directory ({error}), so the command runs in /; --cd says where else",
        account.name
    ));
    go(Path::new("/"))
}

fn go(directory: &Path) -> Result<(), Error> {
    env::set_current_dir(directory).map_err(|source| Error::Directory {
        directory: directory.to_owned(),
        source,
    })
}
