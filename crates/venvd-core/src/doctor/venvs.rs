//! Each venv: sealed, root's alone, in its place; and for those that links lead to, what they need of the host.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use venvd_app::Layout;
use venvd_app::links::VenvPath;
use venvd_fs::{chain, report};

use super::Diagnosis;
use crate::manifest::Manifest;
use crate::verify::{self, Code, Finding};

/// Looks at venvs; `linked` are those that links lead to.
pub(super) fn examine(layout: &Layout, venvs: &[VenvPath], linked: &BTreeSet<VenvPath>, diagnosis: &mut Diagnosis) {
    let mut told = BTreeSet::new();
    for venv in venvs {
        if let Some(manifest) = sealed(layout, venv, diagnosis)
            && in_hands_of_root(layout, (venv, &manifest), &mut told, diagnosis)
            && linked.contains(venv)
        {
            needs(layout, venv, &manifest, diagnosis);
        }
    }
}

/// Returns a venv's manifest, or says why it has none.
fn sealed(layout: &Layout, venv: &VenvPath, diagnosis: &mut Diagnosis) -> Option<Manifest> {
    let name = venv.name();
    match verify::load_manifest(&layout.on_disk(venv.path())) {
        Ok(manifest) if manifest.app == *name.app() && manifest.tag == *name.tag() => Some(manifest),
        Ok(manifest) => {
            let message = format!(
                "its directory holds {}:{}: its scripts start another venv's python",
                manifest.app, manifest.tag
            );
            let advice = format!("`venvctl remove {name}`, then `venvctl install` or build it under this name");
            diagnosis.wrong(name, "renamed", (message, advice));
            None
        }
        Err(finding) => {
            let advice = format!("`venvctl remove {name}`, then build it again; it can't be activated");
            diagnosis.wrong(name, "not-sealed", (finding.to_string(), advice));
            None
        }
    }
}

/// Checks the ways to what root would run; a directory that was told is not told again.
fn in_hands_of_root(
    layout: &Layout,
    (venv, manifest): (&VenvPath, &Manifest),
    told: &mut BTreeSet<PathBuf>,
    diagnosis: &mut Diagnosis,
) -> bool {
    let site = format!("lib/python{}/site-packages", manifest.python.minor);
    let mut safe = true;
    for inner in [crate::manifest::PATH, "bin", site.as_str()] {
        match layout.trusted(&venv.path().join(inner)) {
            Ok(_) => {}
            Err(chain::Error::Io(error)) if error.source.kind() == ErrorKind::NotFound => {
                let advice = format!("`venvctl repair {}` puts back what is missing", venv.name());
                diagnosis.wrong(venv.name(), "missing", (format!("{inner} is not there"), advice));
            }
            Err(chain::Error::Io(error)) => diagnosis.unreadable(venv.name(), &error),
            Err(error) => {
                safe = false;
                if error.component().is_some_and(|at| !told.insert(at.to_owned())) {
                    continue;
                }
                let advice = format!("then `venvctl verify {}`: somebody may have used it", venv.name());
                diagnosis.wrong(venv.name(), "chain", (report(&error), advice));
            }
        }
    }
    safe
}

/// Checks interpreter, machine and host modules.
fn needs(layout: &Layout, venv: &VenvPath, manifest: &Manifest, diagnosis: &mut Diagnosis) {
    let name = venv.name();
    let link = layout.on_disk(venv.bin().join("python"));
    if std::fs::read_link(&link).is_ok_and(|target| target != manifest.python.interpreter) {
        let message = format!("bin/python does not lead to {:?}", manifest.python.interpreter);
        diagnosis.wrong(name, "link", (message, format!("`venvctl repair {name}` puts it back")));
    }
    let report = verify::host_of(layout, venv, manifest);
    for finding in report.findings {
        let advice = advice(venv, manifest, &finding);
        diagnosis.wrong(name, finding.code.as_str(), (finding.to_string(), advice));
    }
    for note in report.notes {
        diagnosis.note(name, "python-patch", (note, "nothing needs to be done".to_owned()));
    }
}

fn advice(venv: &VenvPath, manifest: &Manifest, finding: &Finding) -> String {
    let app = venv.name().app();
    let python = manifest.python.interpreter.display();
    match finding.code {
        Code::PythonGone | Code::PythonMinor | Code::PythonAbi | Code::PythonBroken => format!(
            "install python {} as {python} again, or `venvctl build {app}:NEWTAG` for the one that is there, and activate \
             that; until then services of {app} do not start",
            manifest.python.minor
        ),
        Code::Platform => format!("build {app} on this host, or on one like it"),
        Code::HostModule => {
            format!("install the host's package of the module again, or `venvctl build {app}:NEWTAG` for what is there")
        }
        _ => match Path::new(&manifest.python.interpreter).parent() {
            Some(parent) => format!("put the ownership and modes of {} right", parent.display()),
            None => "put its ownership and modes right".to_owned(),
        },
    }
}
