//! From a lock to a sealed venv.

use std::ffi::OsString;
use std::path::PathBuf;

use venvd_app::links::VenvPath;
use venvd_app::{App, Layout, Settings, Tag};

use crate::error::{Error, Step};
use crate::interpreter::Interpreter;
use crate::lock::Lock;

mod compile;
mod confine;
mod contest;
mod environment;
mod fetch;
mod finish;
mod install;
mod interrupt;
mod kept;
mod local;
mod log;
mod plan;
mod progress;
mod resolve;
mod sdist;
pub(crate) mod staging;
mod tools;

use confine::{Confined, Ears, Job, Left, Phase};
use plan::{Plan, Source};
use tools::Tools;

pub use compile::recompile;
pub(crate) use install::VENV as ORIGIN;
pub use interrupt::Interrupt;
pub use progress::{Amount, Progress, Silent, Stage, Unit};
pub(crate) use staging::Staging;

/// What to build.
#[derive(Debug, Clone)]
pub struct Request {
    /// The app, as declared.
    pub app: App,
    /// The tag; made from the lock where there is none.
    pub tag: Option<Tag>,
    /// A lock to build from, on disk; it goes before what the definition says.
    pub lock: Option<PathBuf>,
    /// Make a new lock even where one was made before.
    pub upgrade: bool,
    /// Ask no index: the wheels must be in `find_links` or the definition's `find-links`.
    pub offline: bool,
    /// Further directories with wheels, on disk, besides the definition's.
    pub find_links: Vec<PathBuf>,
    /// The uv to build with, where it is not the one in `/usr/local/bin` or `/usr/bin`.
    pub uv: Option<PathBuf>,
    /// The variables that say how to reach an index: proxies, certificates, `PIP_INDEX_URL` and the like.
    pub environment: Vec<(OsString, OsString)>,
    /// What may end the build before its end.
    pub interrupt: Interrupt,
}

impl Request {
    /// Returns the request to build an app as its definition says, with this process's way to an index.
    #[must_use]
    pub fn new(app: App) -> Self {
        Self {
            app,
            tag: None,
            lock: None,
            upgrade: false,
            offline: false,
            find_links: Vec::new(),
            uv: None,
            environment: environment::passed(std::env::vars_os()),
            interrupt: Interrupt::default(),
        }
    }
}

/// A venv that is there now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// Its name and place.
    pub venv: VenvPath,
    /// Whether anything had to be done.
    pub outcome: Outcome,
}

/// Whether a build had to do anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The venv was made.
    New,
    /// It was there already, built from the same lock.
    AlreadyThere,
}

/// Builds the venv of an app, or finds that it is there already.
///
/// Nothing is ever half there: until one final rename everything lies in the staging directory, and is removed when
/// something fails. The log of a failed build stays, and its error names it.
///
/// The interpreter is the running system's, also when `layout` is below another root: the venv fits a host that has the
/// same one at the same path.
///
/// # Errors
/// See [`Error`]; each leaves what was there before.
pub fn build(
    layout: &Layout,
    settings: &Settings,
    request: &Request,
    progress: &mut dyn Progress,
) -> Result<Built, Error> {
    let interpreter = Interpreter::probe(&request.app.build.python)?;
    let plan = Plan::make(layout, request, &interpreter)?;
    if let Some(venv) = plan.already_there(layout, settings)? {
        return Ok(Built {
            venv,
            outcome: Outcome::AlreadyThere,
        });
    }
    let mut staging = Staging::open(layout, &request.app.name)?;
    crate::space::require_some(&staging.tree())?;
    let mut confined = Confined::new(layout, staging.directory(), &request.interrupt)?;
    staging.log.heading(&confined.backend().to_string())?;
    let tools = Tools::find(request, &interpreter, &mut confined)?;
    let mut bench = Bench {
        layout,
        request,
        interpreter: &interpreter,
        staging: &mut staging,
        confined,
        tools,
        progress,
        unpacked: 0,
    };
    let result = bench.build(plan, settings);
    if result.is_err() {
        // The first error is the one to tell; without its log it is still true.
        if let Err(error) = staging.log.keep() {
            progress.warn(&venvd_fs::report(&error));
        }
    }
    result
}

/// All that the steps of one build need.
struct Bench<'a> {
    layout: &'a Layout,
    request: &'a Request,
    interpreter: &'a Interpreter,
    staging: &'a mut Staging,
    confined: Confined,
    tools: Tools,
    progress: &'a mut dyn Progress,
    /// How many bytes the wheels unpack to, about.
    unpacked: u64,
}

impl Bench<'_> {
    fn build(&mut self, plan: Plan<'_>, settings: &Settings) -> Result<Built, Error> {
        self.show_inputs();
        let lock = match &plan.source {
            Source::Lock(lock) => lock.clone(),
            Source::Make(inputs) => {
                let lock = resolve::resolve(self, inputs)?;
                // It may well be the one of a venv that is there.
                if let Some(venv) = plan.already_built(self.layout, settings, &lock)? {
                    return Ok(Built {
                        venv,
                        outcome: Outcome::AlreadyThere,
                    });
                }
                lock
            }
        };
        let venv = VenvPath::local(self.layout, plan.name(settings, &lock)?);
        let first_line = "#!".len() + venv.bin().join("python").as_os_str().len();
        if first_line > crate::relocate::LONGEST_FIRST_LINE {
            return Err(Error::LongPath { path: venv.path() });
        }
        let install::Installation { left, builder } = self.fill(&lock)?;
        finish::finish(
            self,
            finish::Finished {
                plan: &plan,
                venv,
                lock,
                builder,
            },
            left,
        )
    }

    /// Gets and installs what the lock names.
    fn fill(&mut self, lock: &Lock) -> Result<install::Installation, Error> {
        let sdist::Split { wheels, sources } = sdist::split(self, lock);
        fetch::fetch(self, &wheels)?;
        sdist::fetch(self, &sources)?;
        let lock = sdist::build(self, lock, &sources)?;
        self.expect(Stage::Install, lock.requirements.len());
        fetch::write_requirements(self, &lock)?;
        self.unpacked = crate::space::require_for_wheels(&self.staging.wheels())?;
        install::install(self)
    }

    /// Returns whether no index and no remote place may be asked.
    fn offline(&self) -> bool {
        let index = &self.request.app.build.index;
        let is_local = index.find_links.iter().all(|place| place.starts_with('/'));
        self.request.offline || (index.no_index && is_local)
    }

    /// Shows the confined programs what they may read.
    fn show_inputs(&mut self) {
        self.confined.show(&self.staging.input(), "input");
        self.confined.show(&self.staging.wheels(), "wheels");
        self.confined.show(&self.staging.sdists(), "sdists");
        for (host, inside) in fetch::local_places(self) {
            if let (true, Some(name)) = (host.is_dir(), inside.file_name()) {
                self.confined.show(&host, &name.to_string_lossy());
            }
        }
    }

    /// Begins a stage of root's own work, unless the build was asked to end.
    fn begin(&mut self, stage: Stage) -> Result<(), Error> {
        self.request.interrupt.check()?;
        self.progress.report(stage, "");
        Ok(())
    }

    /// Says how many distributions a stage is about.
    fn expect(&mut self, stage: Stage, distributions: usize) {
        let amount = Amount {
            done: 0,
            total: Some(distributions as u64),
            unit: Unit::Distributions,
        };
        self.progress.report(stage, "");
        self.progress.amount(stage, amount);
    }

    /// Begins a confined phase.
    fn phase(&self, step: Step) -> Result<Phase, Error> {
        let mut phase = self.confined.phase(step)?;
        // A promise that no variable and no configuration file can break.
        if self.request.offline {
            phase.isolate();
        }
        if matches!(step, Step::Lock | Step::Download) {
            for path in environment::paths(&self.request.environment) {
                phase.show_in_place(&path);
            }
        }
        Ok(phase)
    }

    /// Runs the programs of a phase, one after the other.
    fn run(&mut self, phase: Phase, jobs: &[Job]) -> Result<Left, Error> {
        let mut ears = Ears {
            log: &mut self.staging.log,
            progress: self.progress,
        };
        phase.run(jobs, &mut ears)
    }

    /// Runs a confined program in a phase of its own and returns the first line that it says.
    fn ask(&mut self, job: Job) -> Result<String, Error> {
        let mut first = FirstLine(String::new());
        let mut ears = Ears {
            log: &mut self.staging.log,
            progress: &mut first,
        };
        self.confined.phase(Step::Install)?.run(&[job], &mut ears)?;
        Ok(first.0)
    }
}

/// Keeps the first line that is said.
struct FirstLine(String);

impl Progress for FirstLine {
    fn report(&mut self, _: Stage, _: &str) {}

    fn heard(&mut self, _: Stage, line: &str) {
        if self.0.is_empty() {
            line.clone_into(&mut self.0);
        }
    }
}
