//! Why a unit's settings can't be taken over.

use std::io;
use std::path::PathBuf;

use venvd_fs::chain;
use venvd_unit::effective::Trouble;
use venvd_unit::environment::FileFault;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Problem {
    #[error("there is no unit of that name (`systemctl list-unit-files` lists them)")]
    Absent,
    #[error("it is masked by {path:?}")]
    Masked { path: PathBuf },
    #[error("it is a template; name an instance, as in nova-worker@1.service")]
    Template,
    #[error(transparent)]
    Trouble(Box<Trouble>),
    #[error(transparent)]
    Unsafe(chain::Error),
    #[error("{key}={text}: what its specifiers stand for is known to systemd alone; a drop-in may say it in words")]
    Specifier { key: &'static str, text: String },
    #[error("EnvironmentFile={0} matches no file")]
    Pattern(String),
    #[error("can't read its EnvironmentFile {path:?}{}", hint(.source))]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("systemd takes nothing from its EnvironmentFile {path:?}, since {source}")]
    BadFile { path: PathBuf, source: FileFault },
    #[error("what stands in an EnvironmentFile is for the unit's own user only where others can write it")]
    Foreign(#[source] chain::Error),
}

impl From<Trouble> for Problem {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(Box::new(trouble))
    }
}

fn hint(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::PermissionDenied {
        "; root can (`sudo venv-activate --unit=…`)"
    } else {
        ""
    }
}
