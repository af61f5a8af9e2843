//! The installers of a host, and how they are started.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use venvd_app::definition::Builder;
use venvd_fs::Root;
use venvd_fs::chain::{self, Owners};

use super::Request;
use super::confine::Confined;
use crate::error::Error;
use crate::interpreter::Interpreter;

/// Where an administrator or a package puts uv. Not `PATH`: a build must not depend on who starts it.
const UV_PLACES: [&str; 2] = ["/usr/local/bin/uv", "/usr/bin/uv"];

/// Where distributions put pip as a wheel for `venv` and `virtualenv`.
const PIP_WHEELS: &str = "/usr/share/python-wheels";

/// What installs.
#[derive(Debug)]
pub(super) enum Installer {
    /// uv, at this path inside.
    Uv(PathBuf),
    /// `python -m venv` and pip.
    Pip,
}

/// The tools of one build.
#[derive(Debug)]
pub(super) struct Tools {
    pub(super) installer: Installer,
    /// pip as a wheel, if there is one; else the interpreter's own module is tried.
    pip_wheel: Option<PathBuf>,
}

impl Tools {
    /// Chooses the tools for a request.
    pub(super) fn find(request: &Request, interpreter: &Interpreter, confined: &mut Confined) -> Result<Self, Error> {
        let uv = match (request.app.build.builder, &request.uv) {
            (Builder::Pip, _) => None,
            (_, Some(uv)) => Some(uv.clone()),
            (_, None) => installed_uv(),
        };
        let installer = match (request.app.build.builder, uv) {
            // Its own place may be hidden inside, or not be the builder's to look into.
            (_, Some(uv)) => Installer::Uv(confined.show(&uv, "uv")),
            (Builder::Uv, None) => {
                return Err(Error::NoTool {
                    tool: "uv",
                    hint: "install it as /usr/local/bin/uv, root's own, or set [build] builder = \"pip\"",
                });
            }
            (_, None) => Installer::Pip,
        };
        Ok(Self {
            installer,
            pip_wheel: pip_wheel(interpreter),
        })
    }

    /// Returns the arguments that make a python run pip.
    pub(super) fn pip(&self) -> Vec<OsString> {
        let mut words = vec![OsString::from("-I")];
        match &self.pip_wheel {
            // A wheel is a zip, and `pip` in it has a `__main__`: pip's own way to run without being installed.
            Some(wheel) => words.push(wheel.join("pip").into()),
            None => words.extend(["-m".into(), "pip".into()]),
        }
        words.extend(["--disable-pip-version-check", "--no-input", "--no-cache-dir"].map(OsString::from));
        words
    }

    /// Returns the version of pip, if it is a wheel, which any python can run.
    pub(super) fn pip_wheel_version(&self) -> Option<String> {
        let name = self.pip_wheel.as_ref()?.file_name()?.to_str()?;
        Some(name.split('-').nth(1)?.to_owned())
    }
}

/// Returns an installed uv that only root can have put there.
fn installed_uv() -> Option<PathBuf> {
    let ours = |place: &&str| {
        chain::check(&Root::host(), Owners::of_this_process(), Path::new(place)).is_ok_and(|path| path.is_file())
    };
    UV_PLACES.into_iter().find(ours).map(PathBuf::from)
}

fn pip_wheel(interpreter: &Interpreter) -> Option<PathBuf> {
    let bundled = interpreter.stdlib.join("ensurepip/_bundled");
    [Path::new(PIP_WHEELS), &bundled].into_iter().find_map(|place| {
        // An absent directory is the usual case; of several wheels the last name is the newest in practice.
        let names = std::fs::read_dir(place)
            .ok()?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let wheel = names
            .filter(|name| name.starts_with("pip-") && name.ends_with(".whl"))
            .max()?;
        Some(place.join(wheel))
    })
}
