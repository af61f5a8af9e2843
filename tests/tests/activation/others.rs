//! What others do meanwhile: units read anew, and a service that crashes, in every state of an activation.

use anyhow::Result;
use venvd_tests::Os;
use venvd_tests::lab::{GOOD, Lab};

use crate::states::{Aim, Caught, aims, assert_only_what_was_in_force, catch, outcome};

/// Which outcomes an activation may have that was disturbed in this state.
fn outcomes(aim: &Aim) -> &'static [&'static str] {
    match aim.phase {
        // The unit did not stay up.
        r#"{"forward":{"settle":"new"}}"# => &["rolled-back"],
        // It may have crashed before it was restarted, or behind that.
        r#"{"forward":"restart-units"}"# | r#"{"forward":"start-units"}"# => &["done", "rolled-back"],
        // Nor did the old one.
        r#"{"back":{"settle":"old"}}"# => &["failed"],
        r#"{"back":"start-units"}"# => &["rolled-back", "failed"],
        _ if aim.venv.is_some() => &["rolled-back"],
        _ => &["done"],
    }
}

/// Whether the committed link has not moved yet.
fn is_before_the_commit(aim: &Aim) -> bool {
    let committing = r#"{"forward":{"set-committed":"new"}}"#;
    let before = aims().into_iter().take_while(|aim| aim.phase != committing);
    before.map(|aim| aim.phase).any(|phase| phase == aim.phase)
        || aim.phase.contains("-stop")
        || aim.phase.contains(r#""write-policies":"new""#)
}

fn disturbed(lab: &Lab, aim: &Aim) -> Option<String> {
    let Caught { number, old, new, at } = catch(lab, aim, "disturb");
    lab.wait_idle();
    let outcome = outcome(&lab.machine, number);
    let log = lab.log();
    assert_only_what_was_in_force(&log, &old);
    let meanwhile = log.iter().filter(|line| line.what == "start" && line.at < at);
    let meanwhile: Vec<_> = meanwhile.map(|line| line.tag.as_str()).collect();
    println!("{}: {outcome}, meanwhile {meanwhile:?}", aim.phase);
    if is_before_the_commit(aim) {
        assert!(meanwhile.iter().all(|tag| *tag == old), "{}: {log:#?}", aim.phase);
    }
    let now = if outcome == "done" { &new } else { &old };
    let fits = outcomes(aim).contains(&outcome.as_str()) && lab.state().is_on(now);
    (!fits).then(|| format!("{}: {outcome}: {:#?}", aim.phase, lab.state()))
}

fn all(os: Os) -> Result<()> {
    let lab = Lab::new(os, 2, &[GOOD[0], GOOD[1], ("exits", "exits")])?;
    lab.change_unit("[Service]\nRestart=always\nRestartSec=10ms\n");
    let wrong: Vec<_> = aims().iter().filter_map(|aim| disturbed(&lab, aim)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[test]
fn nobody_else_changes_what_is_in_force_on_debian_12() -> Result<()> {
    all(Os::Debian12)
}

#[test]
fn nobody_else_changes_what_is_in_force_on_debian_13() -> Result<()> {
    all(Os::Debian13)
}
