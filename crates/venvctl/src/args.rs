//! What was typed.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Parser, Subcommand, ValueEnum};
use venvd_app::name::NameError;
use venvd_app::{AppName, Tag, VenvName};

/// Run Python services from named, tagged, sealed virtual environments
///
/// An app is declared in /etc/venvd/apps/APP.toml: its packages, its units, its user, its sudo rules. A venv of it, named
/// APP:TAG, is built aside, hashed, and never changed after that. Activating one is a transaction: units, sudoers and
/// rootwrap follow it, the services restart in order, and if they are not healthy the previous venv comes back. An app
/// that is off stays as the distribution made it.
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
  4  failed, and so did the way back, or there was none: it needs you
All other commands: 0, 1 when they fail, 2 for usage. With --json, `code` tells the cases apart."
)]
pub(crate) struct Args {
    /// Work below DIR, an image or a chroot, instead of on the running host
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,

    /// Work on your own venvs and services, which your own systemd runs, instead of on the host's
    #[arg(long, global = true, conflicts_with = "root")]
    pub(crate) user: bool,

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
        /// Make a new lock from the definition's packages, instead of the one that was made before
        #[arg(long, conflicts_with = "lock")]
        upgrade: bool,
        /// Ask no index: take all wheels from --find-links and the definition's find-links
        #[arg(long)]
        offline: bool,
        /// A further directory with wheels; may be given several times
        #[arg(long, value_name = "DIR")]
        find_links: Vec<PathBuf>,
    },
    /// Place a sealed venv from a directory on this host, under its own name or another
    ///
    /// DIR is a sealed venv of another root, host or medium, or of this host. Every file is compared with DIR's manifest
    /// while it is taken over; what names DIR's own place is written anew.
    Install {
        /// A sealed venv
        #[arg(value_name = "DIR")]
        from: PathBuf,
        /// APP:TAG, instead of the name in the manifest
        #[arg(value_name = "APP:TAG")]
        name: Option<VenvName>,
    },
    /// Compare venvs with their manifests, and with what they need of the host
    ///
    /// Every file's content, extra and missing files, modes, owners, the directories above, the interpreter, host
    /// modules, and whether the distributions fit each other.
    Verify {
        /// APP or APP:TAG; all venvs of the host when there is none
        #[arg(value_name = "APP[:TAG]")]
        targets: Vec<Target>,
        /// Also compile all sources anew and compare the bytecode
        #[arg(long)]
        deep: bool,
    },
    /// Put damaged files of a venv back as its manifest has them
    ///
    /// They come from DIR, a sound copy of the venv, or from a rebuild of the venv's own lock.
    Repair {
        /// APP:TAG
        #[arg(value_name = "APP:TAG")]
        venv: VenvName,
        /// A sealed venv that has the same files
        #[arg(long, value_name = "DIR")]
        from: Option<PathBuf>,
    },
    /// Show what two venvs have in common, and what not
    ///
    /// Distributions that come, go, or change their version, programs that appear and vanish, and bytes. Nothing but the two
    /// manifests is read.
    Diff {
        /// APP:TAG
        #[arg(value_name = "APP:TAG")]
        before: VenvName,
        /// APP:TAG
        #[arg(value_name = "APP:TAG")]
        after: VenvName,
    },
    /// Remove the venvs that nothing needs any more, and what dead builds left
    ///
    /// Never one that is asked for, in force, the previous one, held, among the newest, or used by a process.
    Gc {
        /// Only this app's
        app: Option<AppName>,
        /// How many of an app's newest venvs stay in any case, instead of the settings' `keep`
        #[arg(long, value_name = "N")]
        keep: Option<u32>,
        /// Remove nothing; say of each venv why it would stay or go
        #[arg(long)]
        dry_run: bool,
    },
    /// Keep a venv from being collected
    ///
    /// `venvctl gc` leaves it alone until `venvctl unhold`.
    Hold {
        /// APP:TAG
        #[arg(value_name = "APP:TAG")]
        venv: VenvName,
        /// Why, for whoever wonders later
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Let a held venv be collected again
    ///
    /// The next `venvctl gc` treats it as any other; the reason that it was held for is forgotten.
    Unhold {
        /// APP:TAG
        #[arg(value_name = "APP:TAG")]
        venv: VenvName,
    },
    /// Look for what is wrong on this host, without reading every file
    ///
    /// Definitions, links, interpreters, host modules, the directories above the venvs, and what the store has left over.
    Doctor {
        /// Only this app
        app: Option<AppName>,
    },
    /// List the venvs of this host, or of one app
    ///
    /// Of the bytes that a venv shows, many are shared with others; what it takes for itself is what its removal would free.
    List {
        /// Only this app's
        app: Option<AppName>,
    },
    /// Put a venv in force: units, policies and commands follow, and the way back is kept
    ///
    /// Sudo rules allow both venvs, the units that run restart in the order of their dependencies, and are watched for as
    /// long as the definition's `health.settle` says. The definition's hooks run around that, and its health commands
    /// behind it. If a unit does not stay up in the new venv, or a command fails, everything goes back, unless a one-way
    /// hook has run. What is stopped stays stopped. `ln -sfn` on the active link does the same. Below --root nothing runs,
    /// no hook either, and both links move.
    ///
    /// Venvs of several apps are put in force together, or none of them.
    Activate {
        /// APP:TAG
        #[arg(value_name = "APP:TAG", required = true)]
        venvs: Vec<VenvName>,
        #[command(flatten)]
        how: How,
        /// Change nothing; say what would be done, in which order, and whether it would be refused
        #[arg(long)]
        dry_run: bool,
    },
    /// Keep an app at the venv that is in force
    ///
    /// Every activation of it is refused, also one that a flip of the active link asks for, until `venvctl thaw`. It can
    /// still be turned on and off.
    Freeze {
        /// The app
        app: AppName,
        /// Why, for whoever wonders later
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Let a frozen app be activated again
    ///
    /// What was asked for meanwhile was refused, and is not asked for any more.
    Thaw {
        /// The app
        app: AppName,
    },
    /// Say that a venv must not run any more
    ///
    /// From now on no activation puts it in force, not even with --force, nor does a rollback or a boot; it has no sudo
    /// rights, and root's daemons of it end. It need not be on this host yet. What is in force is refused, unless with
    /// --force: then its rights end at once, and its units start from the venv before, or from what the distribution
    /// installed, when they are restarted.
    Revoke {
        /// APP:TAG
        #[arg(value_name = "APP:TAG")]
        venv: VenvName,
        /// Why, for whoever asks for it later
        #[arg(value_name = "REASON")]
        reason: String,
        /// Revoke it also while it is in force
        #[arg(long)]
        force: bool,
    },
    /// Break glass: let an app run from its venv without venvd
    ///
    /// What the generator wrote in /run for its units is left as plain files in /etc/systemd/system, sudoers and
    /// rootwrap.conf stay as they are, and from then on nothing of venvd touches the app, not even where the package is
    /// removed. Nothing is restarted. Upgrades, rollback and links of commands are then yours to make.
    Detach {
        /// The app
        app: AppName,
    },
    /// Take a detached app back
    ///
    /// The files that were left are removed, and the app is enabled, as by `venvctl enable`: its units restart.
    Attach {
        /// The app
        app: AppName,
    },
    /// Let a revoked venv be put in force again
    ///
    /// Nothing is activated. Where it is the committed one, its units start from it again when they are restarted.
    Unrevoke {
        /// APP:TAG
        #[arg(value_name = "APP:TAG")]
        venv: VenvName,
    },
    /// Put the venv back in force that was there before
    ///
    /// This is an activation of what /etc/venvd/previous/APP names, without hooks: those migrate forward.
    Rollback {
        /// The app
        app: AppName,
        /// Change nothing; say what would be done, in which order, and whether it would be refused
        #[arg(long)]
        dry_run: bool,
    },
    /// Let units, sudoers, rootwrap and exposed commands of an app follow its venv
    ///
    /// Units that run are restarted in the venv in force, as by an activation; from now on they start there, also at boot.
    /// Of an app that is on, it makes exposed commands follow a changed definition.
    Enable {
        /// The app
        app: AppName,
        /// Change nothing; say what would be done, in which order, and whether it would be refused
        #[arg(long)]
        dry_run: bool,
    },
    /// Put everything of an app back as the distribution made it
    ///
    /// Its units run the distribution's programs again, its sudoers file goes, and rootwrap.conf is byte for byte as it was.
    /// Its venvs and links stay, for `venvctl enable`.
    Disable {
        /// The app
        app: AppName,
        /// Change nothing; say what would be done, in which order, and whether it would be refused
        #[arg(long)]
        dry_run: bool,
    },
    /// Show what became of activations: when, from which venv to which, who asked, and why they failed
    ///
    /// Of the host's journal, with the newest last. What else was said meanwhile: `journalctl VENVD_JOB=JOB`.
    Log {
        /// Only this app's
        app: Option<AppName>,
        /// How many
        #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
        lines: u32,
    },
    /// Show what is asked for, in force and really running, what is wrong, and what to type next
    ///
    /// RUNS is read from the processes themselves, not from what units should have started. NEXT START is what the unit's
    /// files say, as systemd reads them: the generator's drop-in among them, and what stands in front of it, by file and
    /// line. `!` is wrong, `-` good to know, and `>` says what to type.
    Status {
        /// Only this app
        app: Option<AppName>,
    },
    /// Show the files of units like `systemctl cat`, and which lines have no effect
    ///
    /// Each file that makes up a unit, in the order in which they apply, with the generator's drop-in among them. Below a
    /// line that has no effect stands why: which later line, in which file, empties the list or sets it again. It reads the
    /// files as they are now, whether systemd has read them since or not.
    Cat {
        /// An app, for all of its units, or a unit
        #[arg(value_name = "APP|UNIT", required = true)]
        targets: Vec<String>,
    },
    /// Show, compare, check and write the sudoers files and rootwrap.conf of apps
    ///
    /// Activations write them; this is for all between: a definition that changed, a file that was edited, a look before.
    #[command(disable_help_subcommand = true)]
    Policy {
        #[command(subcommand)]
        command: PolicyCommand,
    },
    /// Remove a venv that is neither asked for, in force, the previous one, nor in use
    ///
    /// `venvctl gc` does it for all that nothing needs.
    Remove {
        /// APP:TAG
        #[arg(value_name = "APP:TAG")]
        venv: VenvName,
    },
    /// Write files that come with the package
    #[command(hide = true)]
    Generate {
        /// What to write
        #[arg(value_enum)]
        what: Generated,
        /// Where to
        #[arg(value_name = "DIR")]
        directory: PathBuf,
        /// The date that man pages bear, as in 2026-01-31
        #[arg(long, default_value = "")]
        date: String,
    },
}

/// What is to be done with policies.
#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Show the rules and the secure_path that are to hold, and whether the files are so
    Show {
        /// Only this app
        app: Option<AppName>,
    },
    /// Show what `apply` would change, as a unified diff
    Diff {
        /// Only this app
        app: Option<AppName>,
    },
    /// Look for what is wrong: files that differ, rights that sudo does not follow, filters without a program, and more
    Check {
        /// Only this app
        app: Option<AppName>,
    },
    /// Make the files as they should be for the venv in force; of an app that is off, take them away
    Apply {
        /// Only this app
        app: Option<AppName>,
        /// Also overwrite a file that was edited by hand; what it said is kept beside it as NAME.edited
        #[arg(long)]
        force: bool,
    },
    /// Copy a rootwrap configuration that others than root can write to /etc/venvd/rootwrap/APP, for rules to name
    Adopt {
        /// The app
        app: AppName,
        /// Write nothing; say what would be written
        #[arg(long)]
        dry_run: bool,
    },
}

/// What the package has besides the program, made by the program.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Generated {
    /// Man pages
    Man,
    /// Completions for bash, zsh and fish
    Completions,
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

/// How a venv is put in force.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct How {
    /// End the sudo rights of the venv before first: with the units stopped, before the new ones begin
    ///
    /// Else both venvs have rights from before the restart until the old one's processes are gone, at most for
    /// `policy-grace` of the settings.
    #[arg(long)]
    pub(crate) revoke: bool,
    /// Restart nothing: units run on as they do, and change with their next start
    ///
    /// Until then both venvs have rights. Nothing is watched, and nothing goes back by itself.
    #[arg(long, conflicts_with = "revoke")]
    pub(crate) at_next_restart: bool,
    /// Try the venv also when it did not run well on this host before
    #[arg(long)]
    pub(crate) force: bool,
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
        assert!(Args::try_parse_from(["venvctl", "--root", "/x", "--user", "list"]).is_err());
    }
}
