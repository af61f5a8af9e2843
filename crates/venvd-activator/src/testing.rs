//! A small host for tests: a directory with definitions and sealed venvs, and a systemd that is only simulated.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use venvd_app::links::{self, Link, VenvPath};
use venvd_app::revoked::is_revoked;
use venvd_app::{App, AppName, Layout, Record, UnitName, search};
use venvd_bus::{Check, Code, JobReport, UnitReport};
use venvd_core::Interpreter;
use venvd_core::manifest::{self, BuilderRecord, LockRecord, Manifest, Python};
use venvd_fs::{Root, atomic};

use crate::actor::Announce;
use crate::commands::Run;
use crate::driver::Driver;
use crate::host::Host;
use crate::machine::{Failure, Side};
use crate::transaction::{CapturedUnit, Journal, Part, Transaction};
use crate::units::{LeftDown, Units};

pub(crate) const PROGRAM: &str = "nova-api";
pub(crate) const DEFINITION: &str = "enabled = true\n\
     [units.\"nova-api.service\"]\nprograms = [\"nova-api\"]\n\
     [health]\nsettle = \"1ms\"\ntimeout = \"5s\"\n";

/// The host.
#[derive(Debug)]
pub(crate) struct Place {
    _directory: tempfile::TempDir,
    pub(crate) layout: Layout,
    pub(crate) app: AppName,
}

impl Place {
    /// Returns a host with the app nova and its venvs 1 and 2, of which 1 is in force.
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let place = Self {
            layout: Layout::new(Root::at(directory.path())),
            app: "nova".parse().unwrap(),
            _directory: directory,
        };
        place.write("/etc/venvd/apps/nova.toml", DEFINITION);
        place.write("/proc/sys/kernel/random/boot_id", "first\n");
        fs::create_dir_all(place.layout.active_links()).unwrap();
        for tag in ["1", "2"] {
            place.venv(tag);
        }
        for link in [Link::Committed, Link::Active] {
            place.set(link, "1");
        }
        place
    }

    /// Adds hooks or health commands to the definition.
    pub(crate) fn define(&self, more: &str) {
        let definition = format!("user = \"nova\"\n{DEFINITION}{more}");
        self.write("/etc/venvd/apps/nova.toml", &definition);
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        atomic::write(&self.layout.on_disk(path), text.as_bytes(), 0o644).unwrap();
    }

    /// Makes what a sealed venv is to those who look at it.
    pub(crate) fn venv(&self, tag: &str) {
        let venv = venv(tag);
        let python = Interpreter::probe(Path::new("/usr/bin/python3")).unwrap();
        let (directory, bin) = (self.layout.on_disk(venv.path()), self.layout.on_disk(venv.bin()));
        fs::create_dir_all(&bin).unwrap();
        symlink(&python.path, bin.join("python")).unwrap();
        let program = bin.join(PROGRAM);
        fs::write(&program, format!("#!{}/python\n", venv.bin().display())).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let manifest = Manifest {
            format: manifest::FORMAT,
            app: self.app.clone(),
            tag: tag.parse().unwrap(),
            created: 0,
            builder: BuilderRecord {
                name: "pip".into(),
                version: "1".into(),
                venvd: "0".into(),
            },
            lock: LockRecord {
                digest: String::new(),
                format: venvd_core::lock::Format::Requirements,
                text: String::new(),
            },
            python: Python {
                interpreter: python.path,
                version: python.version,
                minor: python.minor,
                soabi: python.soabi,
                cache_tag: python.cache_tag,
                magic: python.magic,
            },
            platform: python.platform,
            arch: python.arch,
            glibc: None,
            host_modules: Vec::new(),
            distributions: Vec::new(),
            programs: vec![PROGRAM.parse().unwrap()],
            uncompiled: Vec::new(),
            contested: Vec::new(),
            files: Vec::new(),
            links: Vec::new(),
        };
        let text = serde_json::to_vec(&manifest).unwrap();
        atomic::write(&directory.join(manifest::PATH), &text, 0o644).unwrap();
    }

    pub(crate) fn set(&self, link: Link, tag: &str) {
        links::set(&self.layout, link, &self.app, Some(&venv(tag))).unwrap();
    }

    /// Returns the tag that a link names.
    pub(crate) fn tag(&self, link: Link) -> Option<String> {
        let venv = links::read(&self.layout, link, &self.app).unwrap()?;
        Some(venv.name().tag().to_string())
    }

    pub(crate) fn is_pending(&self) -> bool {
        self.layout.pending(&self.app).exists()
    }

    pub(crate) fn journal(&self) -> Journal {
        Journal::new(&self.layout)
    }

    pub(crate) fn driver(&self, units: Simulated) -> Driver<Simulated> {
        Driver {
            host: Host::new(&self.layout),
            journal: self.journal(),
            units,
        }
    }

    /// Returns a systemd where the app's one unit runs what is in force.
    pub(crate) fn systemd(&self) -> Simulated {
        let systemd = Simulated {
            layout: self.layout.clone(),
            loaded: RefCell::default(),
            runs: RefCell::default(),
            sick: BTreeSet::new(),
            hangs: Cell::new(None),
            log: RefCell::default(),
            failing: BTreeSet::new(),
        };
        let in_force = systemd.in_force();
        systemd.loaded.replace(in_force.clone());
        systemd.runs.replace(Some(in_force));
        systemd
    }
}

pub(crate) fn venv(tag: &str) -> VenvPath {
    VenvPath::local(&Layout::new(Root::host()), format!("nova:{tag}").parse().unwrap())
}

/// What the distribution's unit runs.
pub(crate) const DISTRIBUTION: &str = "the distribution's";

/// A systemd with one unit. It runs the venv that was committed at the last reload.
#[derive(Debug)]
pub(crate) struct Simulated {
    layout: Layout,
    pub(crate) loaded: RefCell<String>,
    /// What runs: a tag, [`DISTRIBUTION`], or nothing.
    pub(crate) runs: RefCell<Option<String>>,
    /// What is never healthy.
    pub(crate) sick: BTreeSet<&'static str>,
    /// The call that never returns.
    pub(crate) hangs: Cell<Option<&'static str>>,
    pub(crate) log: RefCell<Vec<String>>,
    /// The commands that fail.
    pub(crate) failing: BTreeSet<&'static str>,
}

impl Simulated {
    fn in_force(&self) -> String {
        let app: AppName = "nova".parse().unwrap();
        let on = search::load_app(&self.layout, &app).unwrap().enabled;
        let committed = links::read(&self.layout, Link::Committed, &app).unwrap();
        let runs = |venv: &VenvPath| on && !is_revoked(&self.layout, venv.name());
        match committed.filter(runs) {
            Some(venv) => venv.name().tag().to_string(),
            None => DISTRIBUTION.to_owned(),
        }
    }

    fn unit(&self) -> UnitName {
        "nova-api.service".parse().unwrap()
    }

    async fn call(&self, what: &str) {
        self.log.borrow_mut().push(what.to_owned());
        if self.hangs.get() == Some(what) {
            std::future::pending::<()>().await;
        }
    }

    pub(crate) fn calls(&self) -> Vec<String> {
        self.log.borrow().clone()
    }

    pub(crate) fn running(&self) -> String {
        self.runs.borrow().clone().unwrap_or_default()
    }
}

impl Units for Simulated {
    async fn reload(&self) -> Result<(), Failure> {
        self.call("reload").await;
        self.loaded.replace(self.in_force());
        Ok(())
    }

    async fn capture(&self, app: &App, _: &LeftDown) -> Result<Vec<CapturedUnit>, Failure> {
        // Once: before the units are stopped it is looked for what was started since.
        if !self.calls().contains(&"capture".to_owned()) {
            self.call("capture").await;
        }
        let unit = app.units.keys().next().unwrap().clone();
        let captured = self.runs.borrow().as_ref().map(|runs| CapturedUnit {
            unit,
            invocation: runs.clone(),
            running: true,
            tagged: true,
            own_stop: false,
        });
        Ok(captured.into_iter().collect())
    }

    async fn outside(&self, _: &Transaction) -> Result<Vec<UnitName>, Failure> {
        Ok(Vec::new())
    }

    async fn foresee(&self, _: &Transaction, _: Vec<Record>) -> Result<BTreeSet<UnitName>, Failure> {
        Ok(BTreeSet::new())
    }

    async fn stop(&self, _: &Transaction) -> Result<(), Failure> {
        self.call("stop").await;
        self.runs.replace(None);
        Ok(())
    }

    async fn restart(&self, _: &Transaction) -> Result<(), Failure> {
        self.runs.replace(Some(self.loaded.borrow().clone()));
        self.call("restart").await;
        Ok(())
    }

    async fn let_go(&self, _: u32) {}

    async fn start(&self, _: &Transaction, _: Side) -> Result<(), Failure> {
        self.call("start").await;
        let mut runs = self.runs.borrow_mut();
        runs.get_or_insert_with(|| self.loaded.borrow().clone());
        Ok(())
    }

    async fn settle(&self, transaction: &Transaction, side: Side) -> Result<Vec<UnitReport>, Failure> {
        self.call(if side == Side::New { "settle" } else { "settle back" })
            .await;
        let runs = self.running();
        let unit = transaction.parts[0].captured[0].unit.clone();
        if self.sick.contains(runs.as_str()) {
            return Err(Failure::new(
                Code::NOT_SETTLED,
                format!("{unit} does not run well from {runs}"),
            ));
        }
        let result = "done".to_owned();
        Ok(vec![UnitReport { unit, result }])
    }

    async fn not_up(&self, _: &Transaction) -> Vec<UnitReport> {
        Vec::new()
    }

    fn generation(&self) -> u64 {
        0
    }

    async fn is_another_since(&self, _: u64) -> bool {
        false
    }

    async fn is_enabled(&self, _: &Part, unit: &UnitName) -> Result<bool, Failure> {
        Ok(*unit == self.unit())
    }

    async fn run_command(&self, _: &Transaction, run: Run<'_>) -> Result<Check, Failure> {
        let command = run.command.to_string();
        let runs = self.runs.borrow().clone().unwrap_or_else(|| "nothing".to_owned());
        self.call(&format!("{command} while {runs} runs")).await;
        let result = if self.failing.contains(command.as_str()) {
            "exit-code, status 1"
        } else {
            Check::DONE
        };
        Ok(Check {
            stage: run.stage,
            result: result.to_owned(),
            output: vec![format!("{command} says so")],
            command,
        })
    }

    async fn end_commands(&self, _: u32) {
        self.log.borrow_mut().push("end commands".to_owned());
    }
}

/// Keeps what is announced.
#[derive(Debug, Default)]
pub(crate) struct Heard(pub(crate) RefCell<Vec<JobReport>>);

impl Announce for Heard {
    async fn announce(&self, report: &JobReport) {
        self.0.borrow_mut().push(report.clone());
    }
}
