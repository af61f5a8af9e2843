//! policy adopt: a root-owned copy of a rootwrap configuration that others can write.

use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;
use venvd_app::{AppName, Layout, search};

use crate::failure::Failure;
use crate::output;

#[derive(Debug, Serialize)]
struct Adopted {
    app: AppName,
    before: PathBuf,
    config: PathBuf,
    files: Vec<PathBuf>,
    written: bool,
}

/// Copies, or says what would be copied.
pub(super) fn run(layout: &Layout, app: &AppName, dry_run: bool, json: bool) -> Result<ExitCode, Failure> {
    let app = search::load_app(layout, app)?;
    let adoption = venvd_policy::adopt(layout, &app)?;
    if !dry_run {
        adoption.write()?;
    }
    let adopted = Adopted {
        app: app.name,
        before: adoption.before,
        config: adoption.config,
        files: adoption.files.into_iter().map(|(path, _)| path).collect(),
        written: !dry_run,
    };
    output::show(&adopted, json, text)?;
    Ok(ExitCode::SUCCESS)
}

fn text(adopted: &Adopted) -> String {
    let Adopted {
        app, before, config, ..
    } = adopted;
    let (before, config) = (before.display(), config.display());
    let what = if adopted.written { "written" } else { "to be written" };
    let mut text = format!("{what}:\n");
    for file in &adopted.files {
        text.push_str(&format!("  {}\n", file.display()));
    }
    text.push_str(&format!(
        "What is left to do:\n  \
         1. Read the copies: whoever could write {before} wrote what root will believe.\n  \
         2. Let the service call rootwrap with the copy, in its own configuration:\n     \
            nova, cinder, manila:  [DEFAULT] rootwrap_config = {config}\n     \
            neutron:               [AGENT] root_helper = sudo neutron-rootwrap {config}\n     \
            \x20                      [AGENT] root_helper_daemon = sudo neutron-rootwrap-daemon {config}\n  \
         3. venvctl policy diff {app}; venvctl policy apply {app}\n  \
         4. Restart its services at once: until then they call rootwrap with {before}, which sudo refuses.\n"
    ));
    text
}
