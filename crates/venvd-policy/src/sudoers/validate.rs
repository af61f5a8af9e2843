//! What `visudo` says of staged files, beside what it says without them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use venvd_app::Layout;
use venvd_fs::atomic;

use super::installed::{Answer, Sudo, run};
use super::model::PlainPath;
use super::system::{DIRECTORY, main_of};
use crate::Error;

/// What visudo finds wrong because of the staged files; `None` when nothing.
///
/// `visudo -c` reads no dotted file of `sudoers.d`, so it gets a wrapper that includes the whole configuration and then
/// the staged files. What it also says without them is somebody else's fault, and must not block a rollback.
pub(crate) fn faults(sudo: &Sudo, layout: &Layout, staged: &[&Path]) -> Result<Option<String>, Error> {
    let with = ask(sudo, layout, staged)?;
    if with.success {
        return Ok(None);
    }
    let without = ask(sudo, layout, &[])?;
    let ours = added_lines(&without.output, &with.output);
    match (ours.is_empty(), without.success) {
        (false, _) => Ok(Some(ours.join("; "))),
        // An old sudo may stop at what is broken elsewhere, before it comes to ours: so ours alone, too.
        (true, false) => {
            let alone = ask_of(sudo, layout, staged)?;
            Ok((!alone.success).then_some(alone.output))
        }
        // It fails only with our files and does not say why.
        (true, true) => Ok(Some(with.output)),
    }
}

/// Returns the name from which the wrapper gets its temporary one.
pub(crate) fn wrapper(layout: &Layout) -> PathBuf {
    layout.on_disk(DIRECTORY).join("venvd-check")
}

fn ask(sudo: &Sudo, layout: &Layout, staged: &[&Path]) -> Result<Answer, Error> {
    let main = layout.on_disk(main_of(layout, sudo.family));
    let main = main.exists().then_some(main.as_path());
    let included: Vec<&Path> = main.into_iter().chain(staged.iter().copied()).collect();
    ask_of(sudo, layout, &included)
}

fn ask_of(sudo: &Sudo, layout: &Layout, included: &[&Path]) -> Result<Answer, Error> {
    let mut text = String::new();
    for path in included {
        // A path that is not plain would need quotes that not every sudo knows; one below --root may be anything.
        let plain = PlainPath::new(path).map_err(|refused| Error::Unwrappable { source: refused })?;
        let _infallible = writeln!(text, "@include {}", plain.as_str());
    }
    let wrapper = atomic::stage(&wrapper(layout), text.as_bytes(), 0o440)?;
    let name = wrapper.path().to_string_lossy().into_owned();
    let mut answer = run(&sudo.visudo, &["-c", "-f", &name])?;
    answer.output = answer.output.replace(&name, "(all)");
    Ok(answer)
}

/// Returns the lines of `with` that are not in `without`, each as often as it is there more often.
fn added_lines(without: &str, with: &str) -> Vec<String> {
    let mut known: BTreeMap<&str, usize> = BTreeMap::new();
    for line in without.lines() {
        *known.entry(line).or_default() += 1;
    }
    let new = with.lines().filter(|line| match known.get_mut(line) {
        Some(count) if *count > 0 => {
            *count -= 1;
            false
        }
        _ => !line.trim().is_empty(),
    });
    new.map(|line| line.trim_end().to_owned()).collect()
}

#[cfg(test)]
mod tests;
