//! The unit files of hundreds of Debian packages: read as the systemd of their release reads them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::Result;
use venvd_tests::corpus::reading::{self, Reading};
use venvd_tests::corpus::{Site, admin, systemd};
use venvd_tests::{MachineBuilder, Os};
use venvd_unit::UnitId;

const READER: &str = env!("CARGO_BIN_EXE_read-units");

/// The issue asks for so many unit files at least.
const FEWEST: usize = 300;

/// Reads the units of the machine on the host, from a copy of its directories of units.
fn on_the_host(site: &Site, names: &[&str]) -> Result<BTreeMap<String, Reading>> {
    let root = tempfile::tempdir()?;
    for directory in ["etc/systemd/system", "usr/lib/systemd/system", "run/systemd/system"] {
        fs::create_dir_all(root.path().join(directory))?;
        site.machine
            .copy_out(&format!("/{directory}"), root.path().join(directory));
    }
    symlink("usr/lib", root.path().join("lib"))?;
    Ok(reading::ours(root.path(), names.iter().copied()))
}

/// Reads all units three times: we in the machine, we on the host, and the machine's systemd. Returns the services.
fn compare(site: &Site, what: &str) -> Result<BTreeSet<UnitId>> {
    let names = site.names();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let ours = site.ours(&names)?;
    assert_eq!(
        on_the_host(site, &names)?,
        ours,
        "{what}: a root and the machine itself differ"
    );
    let theirs = systemd::read(&site.machine, &names)?;
    let specifiers = site.specifiers();
    let mut differences = Vec::new();
    let mut services = BTreeSet::new();
    let (mut dropins, mut aliases, mut commands) = (0, 0, 0);
    for (name, our) in ours {
        let our = our.expand(&specifiers);
        let their = &theirs[&name];
        if let Some(service) = &their.service {
            services.insert(UnitId::parse(&their.id)?);
            commands += service.lists.values().flatten().count();
        }
        dropins += their.dropins.len();
        aliases += usize::from(their.id != name);
        if our != *their {
            differences.push(format!("{name}:\n  ours   {our:?}\n  theirs {their:?}"));
        }
    }
    println!(
        "{} {what}: {} units, {aliases} of them aliases; {} services with {commands} commands; {dropins} drop-ins",
        site.machine.os(),
        names.len(),
        services.len(),
    );
    assert!(
        differences.is_empty(),
        "{what}: {} differ:\n{}",
        differences.len(),
        differences.join("\n")
    );
    Ok(services)
}

fn read_alike(os: Os) -> Result<()> {
    let site = Site::new(MachineBuilder::new(os), os, Path::new(READER))?;
    let services = compare(&site, "as packaged")?;
    assert!(services.len() >= FEWEST, "only {} services", services.len());

    let changes = tempfile::tempdir()?;
    let etc = changes.path().join("etc");
    admin::change(&etc, &services.into_iter().collect::<Vec<_>>())?;
    site.machine.copy_in(&etc, "/etc/systemd/system");
    // Enabled: with the aliases that their [Install] asks for. Some of them exclude each other.
    site.machine
        .run(&["systemctl", "preset-all", "--preset-mode=enable-only"]);
    site.machine.ok("systemctl daemon-reload");
    compare(&site, "enabled and changed")?;
    Ok(())
}

#[test]
fn every_packaged_unit_is_read_alike_on_debian_12() -> Result<()> {
    read_alike(Os::Debian12)
}

#[test]
fn every_packaged_unit_is_read_alike_on_debian_13() -> Result<()> {
    read_alike(Os::Debian13)
}
