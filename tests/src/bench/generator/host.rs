//! A host with a number of units, and what each side makes of it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::field::Field;
use crate::{cache, host};

/// How many units an app has.
const UNITS_OF_AN_APP: usize = 20;

/// The host: a root for ours, a directory of .container files for quadlet, a program that has the result in it.
#[derive(Debug)]
pub(super) struct Host<'a> {
    pub(super) units: usize,
    field: &'a Field,
    root: PathBuf,
    containers: PathBuf,
    least: PathBuf,
    output: PathBuf,
}

impl<'a> Host<'a> {
    /// Makes it in `directory`, unless that is done.
    pub(super) fn new(field: &'a Field, directory: &Path, units: usize) -> Result<Self> {
        let host = Self {
            units,
            field,
            root: directory.join("root"),
            containers: directory.join("containers"),
            least: directory.join("least"),
            output: directory.join("output"),
        };
        if !directory.exists() {
            host.fill().context("can't make the host")?;
            host.compile().context("can't make what ours is compared with")?;
        }
        Ok(host)
    }

    /// The command of the generator.
    pub(super) fn ours(&self) -> Command {
        let mut command = Command::new(&self.field.generator);
        command.arg(&self.output).env("VENVD_ROOT", &self.root);
        command
    }

    /// The command of the limit; of an empty program where there is nothing to write.
    pub(super) fn least(&self) -> Command {
        let mut command = Command::new(&self.least);
        command.arg(&self.output);
        command
    }

    /// The command of quadlet.
    pub(super) fn quadlet(&self) -> Command {
        self.field.quadlet.command(&self.containers, &self.output)
    }

    /// Runs a command into an empty directory, and returns how long it took.
    pub(super) fn milliseconds(&self, command: &mut Command) -> Result<f64> {
        self.empty_output()?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let begin = Instant::now();
        let status = command.status().with_context(|| format!("can't run {command:?}"))?;
        let took = begin.elapsed();
        ensure!(status.success(), "{command:?} failed ({status})");
        Ok(took.as_secs_f64() * 1000.0)
    }

    /// Returns how many instructions a command takes.
    pub(super) fn instructions(&self, command: &Command) -> Result<f64> {
        self.empty_output()?;
        let mut valgrind = Command::new("valgrind");
        valgrind
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg(command.get_program())
            .args(command.get_args())
            .envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let output = valgrind
            .stdin(Stdio::null())
            .output()
            .context("can't run valgrind (Debian: the package valgrind)")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "{valgrind:?} failed ({}): {said}",
            output.status
        );
        let collected = said.lines().find_map(|line| line.split_once("Collected : "));
        let (_, number) = collected.with_context(|| format!("valgrind says no number: {said}"))?;
        number.trim().parse().context("valgrind says no number")
    }

    fn empty_output(&self) -> Result<()> {
        cache::remove_tree(&self.output)?;
        fs::create_dir(&self.output).with_context(|| format!("can't make {}", self.output.display()))
    }

    /// Writes definitions, links, records and units, and as many .container files.
    fn fill(&self) -> Result<()> {
        let etc = self.root.join("etc/venvd");
        let system = self.root.join("usr/lib/systemd/system");
        for path in [
            &etc.join("apps"),
            &etc.join("committed"),
            &system,
            &self.root.join("etc/systemd/system"),
            &self.root.join("usr/bin"),
            &self.containers,
        ] {
            fs::create_dir_all(path)?;
        }
        let python = self.root.join("usr/bin/python3.13");
        fs::write(&python, "")?;
        fs::set_permissions(&python, fs::Permissions::from_mode(0o755))?;
        symlink("python3.13", self.root.join("usr/bin/python3"))?;
        let names: Vec<usize> = (0..self.units).collect();
        for (number, units) in names.chunks(UNITS_OF_AN_APP).enumerate() {
            let app = format!("app{number:04}");
            let mut definition = format!("description = \"Application {number}\"\nenabled = true\nuser = \"{app}\"\n");
            let mut programs = Vec::new();
            for unit in units {
                let name = format!("{app}-{unit:05}");
                definition.push_str(&format!("[units.\"{name}.service\"]\n"));
                fs::write(system.join(format!("{name}.service")), service(&app, &name))?;
                fs::write(
                    self.containers.join(format!("{name}.container")),
                    container(&app, &name),
                )?;
                programs.push(name);
            }
            fs::write(etc.join(format!("apps/{app}.toml")), definition)?;
            symlink(
                format!("/var/lib/venvd/venvs/{app}/1.0"),
                etc.join(format!("committed/{app}")),
            )?;
            let record = serde_json::json!({
                "venv": format!("{app}:1.0"), "interpreter": "/usr/bin/python3", "minor": "3.13",
                "soabi": "cpython-313-x86_64-linux-gnu", "version": "3.13.5", "programs": programs,
            });
            fs::write(etc.join(format!("committed/{app}.json")), record.to_string())?;
        }
        Ok(())
    }

    /// Compiles what ours is compared with: a program that writes what ours has written, byte for byte.
    fn compile(&self) -> Result<()> {
        self.milliseconds(&mut self.ours())?;
        let ours = tree(&self.output)?;
        let files = self.least.with_extension("files");
        let mut gcc = Command::new("gcc");
        gcc.args(["-O2", "-o"]).arg(&self.least);
        let source = if self.units == 0 {
            ensure!(ours.is_empty(), "something was written for no units: {:?}", ours.keys());
            include_str!("empty.c")
        } else {
            let ours = ours.iter();
            let blob: Vec<u8> = ours.flat_map(|(path, text)| record(path, text.as_deref())).collect();
            fs::write(&files, blob)?;
            gcc.arg(format!("-DFILES=\"{}\"", files.display()));
            include_str!("limit.c")
        };
        let program = self.least.with_extension("c");
        fs::write(&program, source)?;
        host::run(gcc.arg(&program))?;
        self.milliseconds(&mut self.least())?;
        let same = tree(&self.output)? == ours && ours.len() >= self.units;
        ensure!(same, "the limit does not write what the generator does");
        Ok(())
    }
}

fn service(app: &str, name: &str) -> String {
    format!(
        "[Unit]\nDescription=The service {name} of {app}\nAfter=network-online.target\n\n[Service]\nType=notify\nUser={app}\n\
         ExecStart=/usr/bin/{name} --config-file /etc/{app}/{app}.conf --log-file /var/log/{app}/{name}.log\n\
         Restart=on-failure\nLimitNOFILE=65535\n\n[Install]\nWantedBy=multi-user.target\n"
    )
}

/// The same service for quadlet; without [Install], which it would make a link for.
fn container(app: &str, name: &str) -> String {
    format!(
        "[Unit]\nDescription=The service {name} of {app}\nAfter=network-online.target\n\n[Container]\n\
         Image=registry.example.org/{app}:1.0\n\
         Exec={name} --config-file /etc/{app}/{app}.conf --log-file /var/log/{app}/{name}.log\n\n\
         [Service]\nRestart=on-failure\nLimitNOFILE=65535\n"
    )
}

/// What the limit has in it for a file or, without text, for a directory.
fn record(path: &str, text: Option<&[u8]>) -> Vec<u8> {
    match text {
        Some(text) => [path.as_bytes(), b"\0", text.len().to_string().as_bytes(), b"\0", text].concat(),
        None => [path.as_bytes(), b"/\0"].concat(),
    }
}

/// A tree's paths, in an order in which they can be made, with what is in files.
type Tree = BTreeMap<String, Option<Vec<u8>>>;

fn tree(directory: &Path) -> Result<Tree> {
    let mut tree = Tree::new();
    let mut todo = vec![PathBuf::new()];
    while let Some(below) = todo.pop() {
        for entry in fs::read_dir(directory.join(&below))? {
            let entry = entry?;
            let path = below.join(entry.file_name());
            let name = path.display().to_string();
            if entry.file_type()?.is_dir() {
                todo.push(path);
                tree.insert(name, None);
            } else {
                tree.insert(name, Some(fs::read(entry.path())?));
            }
        }
    }
    Ok(tree)
}
