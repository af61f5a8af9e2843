//! A writer of policies is killed at each of its syscalls, and sudo never sees anything but an old file or a new one.
//!
//! The writer is a process of its own, run one syscall at a time. Each kill begins with the old policy. After it, and at
//! each stop of runs without a kill, all that sudo reads is whole, `visudo` takes it, and the right rules hold. The same
//! write once more then leads to exactly the new policy.
//!
//! A writer is killed at each stop from its first change on. Before that, and while a program that it runs has not
//! ended, nothing changes; there it is each `VENVD_KILL_EVERY`th stop (40; 1 is all of them).
//! At last, each call by which it changes something fails once.

use std::io;
use std::path::Path;

#[cfg(test)]
mod host;
#[cfg(test)]
mod judge;
#[cfg(test)]
#[path = "../meaning/mod.rs"]
mod meaning;
#[cfg(test)]
mod tracer;
#[cfg(test)]
mod trial;

use tracer::READY;
use trial::survives;

/// From one policy of cinder's to the next.
#[derive(Default)]
struct Transition {
    /// The venvs that each app's policy admits at first.
    before: &'static [(&'static str, &'static [&'static str])],
    /// What cinder's admits then.
    after: &'static [&'static str],
    /// Whether an administrator edited the rules before.
    edited: bool,
}

#[test]
fn turning_an_app_on() {
    survives(&Transition {
        after: &["1"],
        ..Transition::default()
    });
}

#[test]
fn admitting_a_second_venv() {
    survives(&Transition {
        before: &[("cinder", &["1"])],
        after: &["1", "2"],
        ..Transition::default()
    });
}

#[test]
fn admitting_only_the_new_venv() {
    survives(&Transition {
        before: &[("cinder", &["1", "2"])],
        after: &["2"],
        ..Transition::default()
    });
}

#[test]
fn revoking_the_old_venv_at_once() {
    survives(&Transition {
        before: &[("cinder", &["1"])],
        after: &["2"],
        ..Transition::default()
    });
}

#[test]
fn turning_an_app_off() {
    survives(&Transition {
        before: &[("cinder", &["2"])],
        ..Transition::default()
    });
}

#[test]
fn turning_an_app_off_whose_rules_were_edited() {
    survives(&Transition {
        before: &[("cinder", &["2"])],
        edited: true,
        ..Transition::default()
    });
}

#[test]
fn admitting_a_second_venv_beside_another_app_of_the_user() {
    survives(&Transition {
        before: &[("backup", &["1"]), ("cinder", &["1"])],
        after: &["1", "2"],
        ..Transition::default()
    });
}

#[test]
fn turning_an_app_off_beside_another_of_the_user() {
    survives(&Transition {
        before: &[("backup", &["1"]), ("cinder", &["2"])],
        ..Transition::default()
    });
}

/// What the other tests start, and kill.
#[test]
#[ignore = "it is no test by itself"]
#[expect(clippy::exit, reason = "what the test harness does afterwards is not to be traced")]
fn writer() {
    println!("{READY}");
    let mut order = String::new();
    io::stdin().read_line(&mut order).unwrap();
    let words: Vec<&str> = order.split_whitespace().collect();
    let [root, app, tags @ ..] = &words[..] else { return };
    match host::write(Path::new(root), app, tags) {
        Ok(_) => std::process::exit(0),
        Err(error) => {
            eprintln!("{}", venvd_fs::report(&error));
            std::process::exit(1);
        }
    }
}
