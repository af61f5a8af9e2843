//! The services of hundreds of Debian packages, run from venvs: only the program is another.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use venvd_tests::corpus::Site;
use venvd_tests::corpus::claims::{self, Claim};
use venvd_tests::corpus::reading::Service;
use venvd_tests::corpus::start::{self, Record, STAND_IN};
use venvd_tests::corpus::systemd::{self, Properties};
use venvd_tests::{Machine, Os, tour};
use venvd_unit::UnitId;

const READER: &str = env!("CARGO_BIN_EXE_read-units");

/// So many services have to be started at least, of each sort.
const FEWEST: usize = 100;

/// Claims, the services that they are of, and what systemd shows of those, at one moment.
struct Packaged {
    claims: BTreeMap<String, Claim>,
    services: BTreeMap<String, Service>,
}

impl Packaged {
    fn new(site: &Site) -> Result<Self> {
        let names = site.names();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let readings = systemd::read(&site.machine, &names)?;
        let services: BTreeMap<_, _> = readings
            .into_values()
            .filter_map(|reading| Some((reading.id, reading.service?)))
            .collect();
        Ok(Self {
            claims: claims::claim(&services),
            services,
        })
    }

    /// The services that can be started as a whole: each of their main commands is one program, of which there is a
    /// stand-in in the venv, and nothing else is started when it ends.
    fn startable(&self, machine: &Machine) -> BTreeMap<String, Service> {
        let names: Vec<_> = self.claims.keys().map(String::as_str).collect();
        let shown = systemd::show(machine, &["ActiveState", "OnSuccess", "OnFailure"], &names);
        let quiet = |properties: &Properties| {
            let is = |key: &str, value: &str| properties.get(key).is_none_or(|text| text == value);
            is("ActiveState", "inactive") && is("OnSuccess", "") && is("OnFailure", "")
        };
        let quiet = names.iter().zip(&shown).filter(|(_, shown)| quiet(shown));
        let one = |service: &&Service| {
            let programs = service.lists["ExecStart"].iter().map(|command| &command.path);
            programs.clone().all(|program| Some(program) == programs.clone().next())
        };
        let startable = quiet.filter_map(|(name, _)| {
            let service = self.services.get(*name).filter(one)?;
            Some(((*name).to_owned(), service.clone()))
        });
        startable.collect()
    }

    fn of_sort(&self, is_script: bool) -> Vec<&str> {
        let claims = self.claims.iter().filter(|(_, claim)| claim.is_script == is_script);
        claims.map(|(name, _)| name.as_str()).collect()
    }
}

fn all(machine: &Machine, names: &[&str]) -> BTreeMap<String, Properties> {
    let shown = systemd::show(machine, &[], names);
    names.iter().map(|name| (*name).to_owned()).zip(shown).collect()
}

/// What the record of a service has to be, run from the venv: `first` is the word that it is called by.
fn expected(claim: &Claim, first: &str, packaged: &Record) -> Record {
    let mut record = packaged.clone().settled();
    if let Some(word) = record.argv.first_mut() {
        first.clone_into(word);
    }
    let path = record.environment.remove("PATH").unwrap_or_default();
    let venv = claim.venv();
    let bin = format!("{venv}/bin:{path}");
    record.environment.insert("PATH".to_owned(), bin);
    record.environment.insert("VIRTUAL_ENV".to_owned(), venv);
    record
        .environment
        .insert("VENVD_TAG".to_owned(), claims::TAG.to_owned());
    record
}

/// Reads the services of the venvs, and returns what is wrong with them.
fn check_spliced(machine: &Machine, packaged: &Packaged, before: &BTreeMap<String, Properties>) -> Result<Vec<String>> {
    let names: Vec<_> = packaged.claims.keys().map(String::as_str).collect();
    let after = all(machine, &names);
    let services = systemd::services(machine, names.iter().copied())?;
    let report: serde_json::Value = serde_json::from_str(&machine.read("/run/systemd/generator/venvd-report.json"))?;
    let mut wrong = Vec::new();
    for (name, claim) in &packaged.claims {
        let id = UnitId::parse(name)?;
        let unit = id.template().unwrap_or(id).to_string();
        let state = &report["apps"][&claim.app]["units"][&unit];
        let told = if claim.is_script { "skipped" } else { "spliced" };
        if state["state"] != told {
            wrong.push(format!("{name}: it was to be {told}, and is reported as {state}"));
        }
        let (before, after) = (&before[name], &after[name]);
        let differences = claims::differences(claim, before, after);
        wrong.extend(differences.iter().map(|difference| format!("{name}: {difference}")));
        let lists = &packaged.services[name].lists;
        let want = if claim.is_script {
            lists.clone()
        } else {
            claim.spliced(&packaged.services[name])
        };
        if services[name].lists != want {
            wrong.push(format!("{name}: {:?}\n  is not {want:?}", services[name].lists));
        }
        if after.get("LoadState").is_none_or(|state| state != "loaded") {
            wrong.push(format!("{name}: {:?}", after.get("LoadState")));
        }
        if claim.is_script && before.get("DropInPaths") != after.get("DropInPaths") {
            wrong.push(format!("{name} was not left alone"));
        }
    }
    Ok(wrong)
}

/// Reads the services with init scripts, which have a command line of their own now, and returns what is wrong with them.
fn check_exec(machine: &Machine, packaged: &Packaged, before: &BTreeMap<String, Properties>) -> Result<Vec<String>> {
    let names = packaged.of_sort(true);
    let after = all(machine, &names);
    let services = systemd::services(machine, names.iter().copied())?;
    let mut wrong = Vec::new();
    for name in names {
        let claim = &packaged.claims[name];
        let differences = claims::differences(claim, &before[name], &after[name]);
        wrong.extend(
            differences
                .iter()
                .map(|difference| format!("{name}, exec: {difference}")),
        );
        let mut want = packaged.services[name].lists.clone();
        if let Some(command) = want.get_mut("ExecStart").and_then(|list| list.first_mut()) {
            (command.path, command.argv) = (claim.path(), claim.exec_argv(name));
        }
        if services[name].lists != want {
            wrong.push(format!("{name}, exec: {:?}\n  is not {want:?}", services[name].lists));
        }
    }
    Ok(wrong)
}

/// Compares how a service was started with how it had to be.
fn check_started(claim: &Claim, service: &Service, (packaged, got): (&[Record], &[Record])) -> Option<String> {
    let got: Vec<_> = got.iter().cloned().map(Record::settled).collect();
    let want: Vec<_> = if claim.is_script {
        let argv = got.iter().map(|record| &record.argv);
        let Some(name) = argv.clone().flatten().find_map(|word| word.strip_prefix("--name=")) else {
            return Some("not started".to_owned());
        };
        let want = [claim.exec_argv(name)];
        return (!argv.eq(&want)).then(|| format!("started as {got:?}, not {want:?}"));
    } else {
        let commands = claim.spliced(service).remove("ExecStart").unwrap_or_default();
        let first = commands.iter().map(|command| command.argv[0].as_str());
        packaged
            .iter()
            .zip(first)
            .map(|(record, first)| expected(claim, first, record))
            .collect()
    };
    (got != want).then(|| format!("started as {got:?}\n  is not {want:?}"))
}

fn spliced(os: Os) -> Result<()> {
    let builder = tour::supplied(os)?.bind_ro(env!("CARGO_BIN_EXE_stand-in"), STAND_IN);
    let site = Site::new(builder, os, Path::new(READER))?;
    let machine = &site.machine;
    machine.ok("dpkg -i /srv/venvd.deb");
    let packaged = Packaged::new(&site)?;
    let (programs, scripts) = (packaged.of_sort(false), packaged.of_sort(true));
    let every: Vec<_> = packaged.claims.keys().map(String::as_str).collect();
    let before = all(machine, &every);

    // As packaged, with a stand-in for each program.
    let startable = packaged.startable(machine);
    start::prepare(machine, &startable);
    machine.ok("systemctl daemon-reload");
    let names: Vec<_> = startable.keys().map(String::as_str).collect();
    let started: Vec<_> = names.iter().copied().filter(|name| programs.contains(name)).collect();
    let as_packaged = start::start(machine, &started)?;
    start::undo(machine);

    // From the venvs, the services with init scripts with nothing but their name.
    claims::declare(machine, &packaged.claims, (STAND_IN, false));
    machine.ok("systemctl daemon-reload");
    let mut wrong = check_spliced(machine, &packaged, &before)?;

    // Those get a command line, and all are started.
    claims::declare(machine, &packaged.claims, (STAND_IN, true));
    machine.ok("systemctl daemon-reload");
    wrong.extend(check_exec(machine, &packaged, &before)?);
    start::prepare(machine, &startable);
    machine.ok("systemctl daemon-reload");
    let from_venvs = start::start(machine, &names)?;

    let mut compared = [0, 0];
    for (name, service) in &startable {
        let claim = &packaged.claims[name];
        let packaged = as_packaged.get(name).map(Vec::as_slice).unwrap_or_default();
        if packaged.is_empty() && !claim.is_script {
            println!("{name} does not start as packaged");
            continue;
        }
        let got = from_venvs.get(name).map(Vec::as_slice).unwrap_or_default();
        let told = check_started(claim, service, (packaged, got));
        wrong.extend(told.map(|told| format!("{name}: {told}")));
        compared[usize::from(claim.is_script)] += 1;
    }
    println!(
        "{os}: {} services spliced, {} of them started; {} with init scripts left alone, then given a command line, {} of them started",
        programs.len(),
        compared[0],
        scripts.len(),
        compared[1]
    );
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(compared.iter().all(|number| *number >= FEWEST), "too few were started");
    Ok(())
}

#[test]
fn packaged_services_run_from_venvs_on_debian_12() -> Result<()> {
    spliced(Os::Debian12)
}

#[test]
fn packaged_services_run_from_venvs_on_debian_13() -> Result<()> {
    spliced(Os::Debian13)
}
