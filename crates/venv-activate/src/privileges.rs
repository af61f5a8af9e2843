//! Root becomes a service user, for good.

use std::collections::BTreeSet;
use std::io;

use caps::CapSet;
use nix::unistd::{Gid, ResGid, ResUid, Uid, getgroups, getresgid, getresuid, setgroups, setresgid, setresuid};

use crate::error::Error;
use crate::identity::Account;

/// Changes groups, then all four group ids, then all four user ids; drops every capability; and looks whether it is so.
///
/// The order matters: without the user id of root, groups can no longer be changed. See credentials(7).
pub(crate) fn drop_to(account: &Account) -> Result<(), Error> {
    let failed = |step| {
        move |source: io::Error| Error::Drop {
            user: account.name.clone(),
            step,
            source,
        }
    };
    let (uid, gid) = (account.uid, account.gid);
    setgroups(&account.groups).map_err(|error| failed("setgroups")(error.into()))?;
    setresgid(gid, gid, gid).map_err(|error| failed("setresgid")(error.into()))?;
    setresuid(uid, uid, uid).map_err(|error| failed("setresuid")(error.into()))?;
    // The change of user clears the permitted, effective and ambient sets, unless securebits say otherwise; never the
    // inheritable one, which root in a container often has: capabilities(7). The bounding set stays, for sudo.
    for set in [
        CapSet::Ambient,
        CapSet::Effective,
        CapSet::Permitted,
        CapSet::Inheritable,
    ] {
        caps::clear(None, set).map_err(|error| failed("clearing capabilities")(io::Error::other(error)))?;
    }
    match what_is_left(account) {
        None => Ok(()),
        Some(what) => Err(Error::NotDropped {
            user: account.name.clone(),
            what,
        }),
    }
}

/// Returns what this process still has of its former self. A failing look counts as having it.
fn what_is_left(account: &Account) -> Option<&'static str> {
    let (uid, gid) = (account.uid, account.gid);
    let users = ResUid {
        real: uid,
        effective: uid,
        saved: uid,
    };
    if getresuid() != Ok(users) {
        return Some("some user id is another one");
    }
    let groups = ResGid {
        real: gid,
        effective: gid,
        saved: gid,
    };
    if getresgid() != Ok(groups) {
        return Some("some group id is another one");
    }
    if getgroups().map(sorted) != Ok(sorted(account.groups.clone())) {
        return Some("the groups are not the user's");
    }
    for set in [CapSet::Permitted, CapSet::Effective, CapSet::Inheritable] {
        if !caps::read(None, set).is_ok_and(|left| left.is_empty()) {
            return Some("capabilities are left");
        }
    }
    let root = Uid::from_raw(0);
    if setresuid(root, root, root).is_ok() {
        return Some("it can become root again");
    }
    None
}

fn sorted(groups: Vec<Gid>) -> BTreeSet<u32> {
    groups.into_iter().map(Gid::as_raw).collect()
}
