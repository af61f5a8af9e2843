//! The systemd generator: makes the units of each app run from its committed venv.
//!
//! It follows systemd.generator(7). It runs before `/var`, `/opt` and `/srv` are mounted: only `/etc`, `/usr` and
//! `/run` are there. So it reads definitions, the committed links (readlink, never a look at what they lead to) and
//! unit files, and writes below the directory that systemd gives it; it starts nothing, asks nobody and waits for
//! nothing. What is wrong is skipped, said in the kernel log and in `venvd-report.json`, and does not stop the rest.
//!
//! [`plan()`] decides, in parts that are values; [`write()`] puts one on disk.

pub mod kmsg;
pub mod manager;
pub mod plan;
pub mod report;
pub mod write;

use std::ffi::OsString;
use std::path::PathBuf;

use venvd_app::cmdline::Source;
use venvd_app::{Layout, Record, UserPlaces};
use venvd_fs::{Root, report as explain};
use venvd_unit::UnitFiles;

use crate::kmsg::Message;
use crate::manager::Manager;
pub use crate::plan::{Inputs, Part, plan};
pub use crate::report::Report;
pub use crate::write::{write, write_report};

/// How the generator was started.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// The directory for what is generated, with the priority of most generators.
    pub directory: PathBuf,
    /// Where everything is read from.
    pub layout: Layout,
    /// Who reads what is generated.
    pub manager: Manager,
    /// Where the kernel command line is read.
    pub cmdline: Source,
}

/// What came of a run.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What to tell in the kernel log.
    pub messages: Vec<Message>,
    /// Whether nothing that was planned could be written.
    pub failed: bool,
}

impl Invocation {
    /// Reads arguments (`normal early late`, or one directory for all three) and environment.
    ///
    /// Returns `None` when there is nothing to do: no directory, the initrd, whose `/etc` is not that of the host, or a
    /// user whose home can hold no venvs.
    pub fn new(
        mut arguments: impl Iterator<Item = OsString>,
        variable: impl Fn(&str) -> Option<OsString>,
        uid: u32,
    ) -> Option<Self> {
        let directory = PathBuf::from(arguments.next()?);
        let is = |name: &str, value: &str| variable(name).is_some_and(|set| set == value);
        if is("SYSTEMD_IN_INITRD", "1") {
            return None;
        }
        let root = variable("VENVD_ROOT").map_or_else(Root::host, Root::at);
        let (layout, manager) = if is("SYSTEMD_SCOPE", "user") {
            let user = UserPlaces::from_environment(&variable, uid).ok()?;
            (Layout::user(root, &user), Manager::user(&variable))
        } else {
            (Layout::new(root), Manager::system(&variable))
        };
        Some(Self {
            directory,
            layout,
            manager,
            cmdline: Source::new(&variable),
        })
    }
}

/// Reads, plans and writes: each part as soon as it is planned, while others are.
#[must_use]
pub fn run(invocation: &Invocation) -> Outcome {
    let layout = &invocation.layout;
    let inputs = Inputs::read(layout, &invocation.cmdline, invocation.manager.clone());
    // Most boots of most hosts: nothing is in force, so no unit file is looked at.
    let units = if inputs.in_force().is_empty() {
        UnitFiles::scan_directories(layout.root().directory(), &[])
    } else {
        invocation.manager.scan(layout)
    };
    let mut messages: Vec<_> = units
        .unreadable()
        .iter()
        .map(|error| Message::warning(explain(error)))
        .collect();
    let (mut written, report) = plan(&inputs, &units, |part| write(part, &invocation.directory));
    messages.extend(report.messages());
    written.push(write_report(&report, &invocation.directory));
    let errors = written.iter().flat_map(|part| &part.errors);
    messages.extend(errors.map(|error| Message::error(explain(error))));
    let nothing = written.iter().all(|part| part.count == 0);
    let failed = nothing && written.iter().any(|part| !part.errors.is_empty());
    // The process ends: to give back what a thousand units took, piece by piece, would only delay it.
    std::mem::forget((inputs, units, report, written));
    Outcome { messages, failed }
}

/// The first argument with which the generator writes nothing: it reads [`Record`]s, as a list in JSON, and says what
/// would become of the units with these venvs in force.
pub const PREVIEW: &str = "--preview";

/// Says what would become of the units if these venvs were in force.
#[must_use]
pub fn preview(invocation: &Invocation, records: Vec<Record>) -> Report {
    let layout = &invocation.layout;
    let mut inputs = Inputs::read(layout, &invocation.cmdline, invocation.manager.clone());
    inputs.put_in_force(layout, records);
    let units = invocation.manager.scan(layout);
    plan(&inputs, &units, |_| ()).1
}

#[cfg(test)]
mod tests {
    use super::*;
    use venvd_app::Scope;

    fn invocation(arguments: &[&str], variables: &[(&str, &str)]) -> Option<Invocation> {
        let variable = |name: &str| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| OsString::from(value))
        };
        Invocation::new(arguments.iter().map(OsString::from), variable, 1000)
    }

    #[test]
    fn a_preview_tells_what_is_not_in_force_yet() {
        use crate::report::{AppReport, UnitState};
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().to_str().unwrap();
        for (path, text) in [
            ("etc/venvd/apps/nova.toml", "[units.\"nova-api.service\"]\n"),
            (
                "usr/lib/systemd/system/nova-api.service",
                "[Service]\nExecStart=/usr/bin/nova-api\n",
            ),
        ] {
            let path = directory.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let invocation = invocation(&[PREVIEW], &[("VENVD_ROOT", root)]).unwrap();
        let is_skipped = |programs: &[&str]| {
            let record = Record {
                venv: "nova:2".parse().unwrap(),
                interpreter: "/usr/bin/python3".into(),
                minor: "3.11".to_owned(),
                soabi: String::new(),
                version: String::new(),
                programs: programs.iter().map(|name| name.parse().unwrap()).collect(),
            };
            let report = preview(&invocation, vec![record]);
            let AppReport::InForce { tag, units, .. } = &report.apps["nova"] else {
                panic!("{report:?}");
            };
            assert_eq!(tag, "2");
            matches!(units["nova-api.service"].state, UnitState::Skipped { .. })
        };
        assert!(!is_skipped(&["nova-api"]));
        assert!(is_skipped(&["nova-manage"]));
    }

    #[test]
    fn arguments_and_environment() {
        let got = invocation(
            &["/n", "/e", "/l"],
            &[("SYSTEMD_SCOPE", "system"), ("SYSTEMD_IN_INITRD", "0")],
        )
        .unwrap();
        assert_eq!(got.directory, PathBuf::from("/n"));
        assert!(got.layout.root().is_host());
        assert_eq!(got.layout.scope(), Scope::System);
        let got = invocation(&["/n"], &[("VENVD_ROOT", "/srv/image")]).unwrap();
        assert_eq!(*got.layout.root(), Root::at("/srv/image"));
        assert!(invocation(&[], &[]).is_none());
        assert!(invocation(&["/n"], &[("SYSTEMD_SCOPE", "user")]).is_none(), "no home");
        let got = invocation(&["/n"], &[("SYSTEMD_SCOPE", "user"), ("HOME", "/home/alice")]).unwrap();
        assert_eq!((got.layout.scope(), got.manager.scope), (Scope::User, Scope::User));
        assert_eq!(
            got.layout.active_links(),
            PathBuf::from("/home/alice/.config/venvd/active")
        );
        assert!(invocation(&["/n"], &[("SYSTEMD_IN_INITRD", "1")]).is_none());
    }
}
