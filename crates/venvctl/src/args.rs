//! What was typed.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Parser, Subcommand};
use venvd_app::name::NameError;
use venvd_app::{AppName, Tag, VenvName};

/// Runs Python services from named, tagged, sealed virtual environments
#[derive(Debug, Parser)]
#[command(
    name = "venvctl",
    version,
    after_help = "\
Exit status of activate, rollback, enable and disable:
  0  in force and healthy
  1  refused, nothing changed
  2  usage
  3  failed, and the previous venv runs again
  4  failed, and so did the way back: it needs you
All other commands: 0, 1 when they fail, 2 for usage. With --json, `code` tells the cases apart."
)]
pub(crate) struct Args {
    /// Work below DIR, an image or a chroot, instead of on the running host
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,

    /// Print JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Build a venv from a lock, or from the packages of the app's definition
    ///
    /// A tag names one content: the same lock again is a no-op, another one under the same tag is refused. Without
    /// TAG it is made of the first package's version and the lock's digest. Nothing is activated.
    Build {
        /// APP or APP:TAG
        #[arg(value_name = "APP[:TAG]")]
        target: Target,
        /// Requirements with hashes, or a pylock.toml, instead of the definition's
        #[arg(long, value_name = "FILE")]
        lock: Option<PathBuf>,
    },
    /// List the venvs of this host, or of one app
    List {
        /// Only this app's
        app: Option<AppName>,
    },
    /// Put a venv in force: units, policies and commands follow, and the way back is kept
    Activate {
        /// APP:TAG
        #[arg(value_name = "APP:TAG")]
        venv: VenvName,
    },
    /// Put the venv back in force that was there before
    Rollback {
        /// The app
        app: AppName,
    },
    /// Let units, sudoers and rootwrap of an app follow its venv
    Enable {
        /// The app
        app: AppName,
    },
    /// Put everything of an app back as the distribution made it
    Disable {
        /// The app
        app: AppName,
    },
    /// Show what is asked for, in force and really running
    Status {
        /// Only this app
        app: Option<AppName>,
    },
    /// Remove a venv that is neither asked for, in force, the previous one, nor in use
    Remove {
        /// APP:TAG
        #[arg(value_name = "APP:TAG")]
        venv: VenvName,
    },
}

/// An app, and perhaps a tag.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) app: AppName,
    pub(crate) tag: Option<Tag>,
}

impl FromStr for Target {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.contains(':') {
            let name: VenvName = text.parse()?;
            Ok(Self {
                app: name.app().clone(),
                tag: Some(name.tag().clone()),
            })
        } else {
            Ok(Self {
                app: text.parse()?,
                tag: None,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn names_are_parsed_before_use() {
        for bad in [
            vec!["venvctl", "activate", "nova"],
            vec!["venvctl", "activate", "nova:../x"],
            vec!["venvctl", "build", "No:va"],
            vec!["venvctl", "enable", "nova:1"],
            vec!["venvctl"],
        ] {
            assert!(Args::try_parse_from(&bad).is_err(), "{bad:?}");
        }
        assert!(Args::try_parse_from(["venvctl", "--root", "/x", "build", "nova:1", "--json"]).is_ok());
    }
}
