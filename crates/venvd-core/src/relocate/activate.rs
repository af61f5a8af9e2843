//! The script that puts a venv in front in an administrator's shell; services never need it.

use venvd_app::links::VenvPath;

/// Where it lies in a venv.
pub(super) const PATH: &str = "bin/activate";

/// Returns its content for a venv's place.
pub(super) fn text(venv: &VenvPath) -> String {
    include_str!("activate.sh")
        .replace("@VENV@", &venv.path().display().to_string())
        .replace("@NAME@", &venv.name().to_string())
}
