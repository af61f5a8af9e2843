//! Apps that claim packaged services, and what has to become of those.

use std::collections::{BTreeMap, BTreeSet};

use venvd_unit::UnitId;

use super::{
    reading::{Command, Service},
    systemd::Properties,
};
use crate::Machine;

/// How many apps share the services.
const APPS: usize = 8;

/// The app of the services whose program is an init script.
const SCRIPTS: &str = "scripts";

/// The tag of every venv.
pub const TAG: &str = "1.0";

/// A packaged service that an app claims.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The app.
    pub app: String,
    /// The name of the program that its command line has to run from the venv.
    pub program: String,
    /// Whether its packaged command line is `/etc/init.d/NAME systemd-start`.
    pub is_script: bool,
}

/// Units that venvd refuses to touch: an activation could not survive it.
fn is_protected(name: &str) -> bool {
    ["systemd-", "dbus", "venvd"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}

/// Decides which app claims which service, by what systemd says that they run. Others are not claimed: their program
/// lies elsewhere.
#[must_use]
pub fn claim(services: &BTreeMap<String, Service>) -> BTreeMap<String, Claim> {
    let mut claims = BTreeMap::new();
    for (number, (name, service)) in services.iter().enumerate() {
        let Some(main) = service.main().filter(|_| !is_protected(name)) else {
            continue;
        };
        if let Some(program) = installed(&main.path) {
            let app = format!("corpus-{}", number % APPS);
            let (program, is_script) = (program.to_owned(), false);
            claims.insert(
                name.clone(),
                Claim {
                    app,
                    program,
                    is_script,
                },
            );
        } else if let Some(program) = main.path.strip_prefix("/etc/init.d/")
            && main.argv.get(1).is_some_and(|word| word == "systemd-start")
        {
            let (app, program, is_script) = (SCRIPTS.to_owned(), program.to_owned(), true);
            claims.insert(
                name.clone(),
                Claim {
                    app,
                    program,
                    is_script,
                },
            );
        }
    }
    claims
}

/// The name of a program that lies where programs do, or has no directory.
fn installed(path: &str) -> Option<&str> {
    const DIRECTORIES: [&str; 6] = [
        "/usr/bin",
        "/usr/sbin",
        "/usr/local/bin",
        "/usr/local/sbin",
        "/bin",
        "/sbin",
    ];
    match path.rsplit_once('/') {
        Some((directory, name)) => DIRECTORIES.contains(&directory).then_some(name),
        None => Some(path),
    }
}

impl Claim {
    /// The venv's directory.
    #[must_use]
    pub fn venv(&self) -> String {
        format!("/var/lib/venvd/venvs/{}/{TAG}", self.app)
    }

    /// Where the program lies in the venv.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}/bin/{}", self.venv(), self.program)
    }

    /// What a definition gives for the command line of an init script, as far as the test has it.
    #[must_use]
    pub fn exec(&self) -> String {
        format!(
            "{0} --config-file /etc/{0}/{0}.conf \"two words\" --name=%n",
            self.program
        )
    }

    /// The words of that on `unit`.
    #[must_use]
    pub fn exec_argv(&self, unit: &str) -> Vec<String> {
        let configuration = format!("/etc/{0}/{0}.conf", self.program);
        let name = format!("--name={unit}");
        let words = [&self.path(), "--config-file", &configuration, "two words", &name];
        words.map(str::to_owned).to_vec()
    }

    /// What a packaged service has to be with its program from the venv.
    #[must_use]
    pub fn spliced(&self, packaged: &Service) -> BTreeMap<String, Vec<Command>> {
        let mut lists = packaged.lists.clone();
        for command in lists.values_mut().flatten() {
            if installed(&command.path) == Some(&self.program) {
                if let Some(first) = command.argv.first_mut().filter(|first| **first == command.path) {
                    *first = self.path();
                }
                command.path = self.path();
            }
        }
        lists
    }
}

/// Declares the apps, puts a venv in force for each, with `stand_in` for each of its programs. The caller reloads.
///
/// The services with init scripts get an `exec`, or nothing but their name.
///
/// # Panics
/// When the machine can't be written to.
pub fn declare(machine: &Machine, claims: &BTreeMap<String, Claim>, (stand_in, with_exec): (&str, bool)) {
    let mut definitions: BTreeMap<&str, (String, BTreeSet<String>)> = BTreeMap::new();
    for (name, claim) in claims {
        let (text, programs) = definitions.entry(&claim.app).or_default();
        let unit = UnitId::parse(name).ok().and_then(|id| id.template());
        let unit = unit.map_or_else(|| name.clone(), |template| template.to_string());
        text.push_str(&format!("[units.'{unit}']\n"));
        if claim.is_script && with_exec {
            text.push_str(&format!("exec = '{}'\n", claim.exec()));
        }
        programs.insert(claim.path());
    }
    for (app, (text, programs)) in definitions {
        let head = format!("enabled = true\nuser = \"root\"\n[build]\npackages = [\"{app}\"]\n");
        machine.write(&format!("/etc/venvd/apps/{app}.toml"), format!("{head}{text}"), 0o644);
        let list: String = programs.iter().flat_map(|program| [program, "\n"]).collect();
        let line = format!(
            "set -e; mkdir -p /etc/venvd/committed /var/lib/venvd/venvs/{app}/{TAG}/bin
             ln -sfn /var/lib/venvd/venvs/{app}/{TAG} /etc/venvd/committed/{app}
             while read -r program; do ln -sf {stand_in} \"$program\"; done"
        );
        let output = machine.run_with_input(&["sh", "-c", &line], list.as_bytes());
        assert!(output.success(), "can't lay out the venv of {app}: {output}");
    }
}

/// What may change in a unit that runs from a venv, as `systemctl show` prints it, and what is compared otherwise.
const OURS: [&str; 6] = [
    "DropInPaths",
    "Environment",
    "ExecSearchPath",
    "LogExtraFields",
    "SourcePath",
    "NeedDaemonReload",
];

/// Returns what differs between a packaged unit and the same one from a venv that must not.
#[must_use]
pub fn differences(claim: &Claim, packaged: &Properties, spliced: &Properties) -> Vec<String> {
    let ours =
        |word: &str| word == format!("venvd-{}.target", claim.app) || word == claim.venv() || word.ends_with(".mount");
    let mut differences = Vec::new();
    let keys: BTreeSet<_> = packaged.keys().chain(spliced.keys()).collect();
    for key in keys {
        // Command lines are compared word by word elsewhere.
        if OURS.contains(&key.as_str()) || key.starts_with("Exec") || is_volatile(key) {
            continue;
        }
        let value = |properties: &Properties| properties.get(key).cloned().unwrap_or_default();
        let (old, new) = (value(packaged), value(spliced));
        // Lists of units and the like come in any order.
        let words = |text: &str| {
            let words = text.split_whitespace().filter(|word| !ours(word));
            words.map(str::to_owned).collect::<BTreeSet<_>>()
        };
        if words(&old) != words(&new) {
            differences.push(format!("{key}: {old:?} became {new:?}"));
        }
    }
    differences
}

/// What changes by itself, by a start in between, or as an alias is loaded.
fn is_volatile(key: &str) -> bool {
    const PARTS: [&str; 8] = [
        "Timestamp",
        "Memory",
        "InvocationID",
        "Result",
        "CPUUsage",
        "ControlGroup",
        "Tasks",
        "Bytes",
    ];
    key == "WatchdogUSec" || key == "Names" || PARTS.iter().any(|part| key.contains(part))
}
