//! The files that a plan writes.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use venvd_app::links::VenvPath;
use venvd_fs::atomic;

use crate::Error;
use crate::rootwrap::conf::Conf;
use crate::sudoers::header;
use crate::sudoers::model::Rule;

/// The mode that sudoers(5) asks for.
pub(crate) const SUDOERS_MODE: u32 = 0o440;

/// What a file is to the policy. The order is that of writing; where rules only go, it is the other way round.
///
/// It keeps every moment harmless, also when the machine dies in it: a rule comes before anything leads to it, and goes
/// after nothing does any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The app's rules.
    Rules,
    /// The `rootwrap.conf`.
    Rootwrap,
    /// The user's `secure_path`.
    SecurePath,
}

/// What becomes of a sudoers file of ours that an administrator edited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edited {
    /// It stays, and the plan is refused.
    Refuse,
    /// It goes, and a copy stays beside it as `NAME.edited`, which sudo does not read.
    ///
    /// This is for `--force`, and for what must not fail: a way back, and turning an app off.
    SetAside,
}

/// One file to write or remove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// What it is.
    pub kind: Kind,
    /// Where it lies on disk.
    pub path: PathBuf,
    /// Its contents now; `None` when it is not there. Of a link, where it leads: what is there is not ours.
    pub before: Option<Vec<u8>>,
    /// Where it leads now, if it is a link.
    pub link: Option<PathBuf>,
    /// Its contents afterwards; `None` when it is to go.
    pub after: Option<Vec<u8>>,
    /// Whether what is there now is followed, and is what venvd wrote: sudo skips a file with another mode or owner, and
    /// what somebody edited was neither looked at nor proved.
    pub in_force: bool,
}

impl Edit {
    /// Returns the edit that makes a file below `sudoers.d` right, if it is not.
    pub(crate) fn of_sudoers(kind: Kind, path: PathBuf, text: Option<String>) -> Result<Option<Self>, Error> {
        let (before, link) = present(&path)?;
        let after = text.map(String::into_bytes);
        let is_followed = has_attributes(&path);
        let same = before == after && (after.is_none() || is_followed);
        let is_ours = link.is_none() && before.as_deref().is_some_and(|text| !header::is_edited(text));
        Ok((!same).then_some(Self {
            kind,
            path,
            before,
            link,
            after,
            in_force: is_followed && is_ours,
        }))
    }

    /// Returns whether what is there now is a sudoers file that somebody else than venvd wrote or changed.
    #[must_use]
    pub fn is_over_edited(&self) -> bool {
        let is_ours = self.kind != Kind::Rootwrap;
        is_ours && self.before != self.after && self.before.as_deref().is_some_and(header::is_edited)
    }

    /// Returns whether this brings no rule that is not there now.
    pub(crate) fn adds_no_rule(&self) -> bool {
        self.kind != Kind::Rules || rules_of(self.after.as_deref()).is_subset(&rules_of(self.before.as_deref()))
    }

    /// Returns the rules that are there now.
    pub(crate) fn rules_before(&self) -> BTreeSet<String> {
        match self.kind {
            Kind::Rules => rules_of(self.before.as_deref()),
            Kind::Rootwrap | Kind::SecurePath => BTreeSet::new(),
        }
    }

    /// Returns whether this is what brings a rule that is not in force now.
    pub(crate) fn adds(&self, rule: &Rule) -> bool {
        let has = || rules_of(self.before.as_deref()).contains(&rule.to_string());
        self.kind == Kind::Rules && !(self.in_force && has())
    }

    /// Returns whether this makes root run what is in a venv, and nothing in this file does so now.
    pub(crate) fn brings(&self, venv: &VenvPath) -> bool {
        let bin = venv.bin().to_string_lossy().into_owned();
        let names = |text: &Option<Vec<u8>>| {
            let text = String::from_utf8_lossy(text.as_deref().unwrap_or_default());
            match self.kind {
                Kind::Rules | Kind::SecurePath => text.contains(&bin),
                // What else that file says, also in comments, is anybody's.
                Kind::Rootwrap => {
                    let conf = Conf::parse(&text).ok();
                    let entries = conf.as_ref().and_then(Conf::exec_dirs).unwrap_or_default();
                    entries.contains(&bin.as_str())
                }
            }
        };
        names(&self.after) && !(self.in_force && names(&self.before))
    }

    /// Returns where an edited file is kept. Its name has a dot, so that sudo skips it, see sudoers(5).
    #[must_use]
    pub fn aside(&self) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(".edited");
        name.into()
    }
}

fn rules_of(text: Option<&[u8]>) -> BTreeSet<String> {
    let text = String::from_utf8_lossy(text.unwrap_or_default());
    let lines = text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned);
    lines.collect()
}

/// Reads a file without following a link, of which it returns where it leads, in words and as it is.
pub(crate) fn present(path: &Path) -> Result<(Option<Vec<u8>>, Option<PathBuf>), venvd_fs::Error> {
    match fs::read_link(path) {
        Ok(target) => Ok((
            Some(format!("# a symbolic link to {target:?}\n").into_bytes()),
            Some(target),
        )),
        // It is none, or not there.
        Err(_) => Ok((atomic::read(path)?, None)),
    }
}

fn has_attributes(path: &Path) -> bool {
    // Any doubt means "no": writing again is always right.
    fs::symlink_metadata(path).is_ok_and(|metadata| {
        metadata.mode() & 0o7777 == SUDOERS_MODE && metadata.uid() == nix::unistd::geteuid().as_raw()
    })
}
