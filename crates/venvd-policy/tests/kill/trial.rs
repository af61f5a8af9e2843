//! One transition, tried at all of its stops.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::path::Path;
use std::process::Command;

use nix::errno::Errno;

use crate::Transition;
use crate::host::{APP, Host, OTHER_RULE, SYSTEM, State, USER, bin, commands};
use crate::judge::{Judge, Key, key};
use crate::meaning::{Meaning, ORACLE};
use crate::tracer::{self, Ended, Next, Stop, Who};

/// How many stops before its first change a writer is killed at each: reading what programs say takes it a call more or
/// less from run to run.
const MARGIN: usize = 40;

/// Kills the writer of this transition at its stops, and those that it runs at theirs.
pub(crate) fn survives(transition: &Transition) {
    if !Path::new(ORACLE).exists() {
        eprintln!("SKIPPED: there is no {ORACLE}; install sudo to run this test");
        return;
    }
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: sudo reads nothing below a sudoers.d that is not root's; run this test as root");
        return;
    }
    let every = env::var("VENVD_KILL_EVERY").map_or(40, |text| text.parse().unwrap());
    let host = Host::new();
    let mut trial = Trial::new(transition, &host);
    let watched = trial.watch();
    let near = watched.first_change.saturating_sub(MARGIN).max(1);
    for stop in (1..near).step_by(every).chain(near..) {
        if !trial.kill(Who::Writer, stop, Who::Writer) {
            break;
        }
    }
    for (index, stop) in (1..watched.of_children).step_by(every).enumerate() {
        let victim = [Who::Writer, Who::Child][index % 2];
        trial.kill(Who::Child, stop, victim);
    }
    let failed = trial.fail_each(near);
    println!(
        "{} kills and {failed} failures at {watched:?}; {} states, {} ways back",
        trial.kills,
        trial.judge.states(),
        trial.recovered.len()
    );
    assert!(trial.kills > MARGIN);
}

/// What a writer does that is left alone.
#[derive(Debug, Default)]
struct Watched {
    of_writer: usize,
    of_children: usize,
    /// The stop of the writer at which it has changed something.
    first_change: usize,
}

struct Trial<'a> {
    transition: &'a Transition,
    host: &'a Host,
    judge: Judge<'a>,
    recovered: BTreeSet<Key>,
    kills: usize,
}

impl<'a> Trial<'a> {
    fn new(transition: &'a Transition, host: &'a Host) -> Self {
        let &Transition { before, after, edited } = transition;
        for (app, tags) in before {
            host.commit(app, tags[0]);
            host.write(app, tags);
        }
        if edited {
            host.edit(&format!("etc/sudoers.d/venvd-{APP}"));
        }
        let judge = Judge::new(host, || host.write(APP, after));
        let mut apps: BTreeMap<&str, &[&str]> = before.iter().copied().collect();
        assert_eq!(judge.old_meaning, policies(&apps));
        apps.insert(APP, after);
        assert_eq!(judge.new_meaning, policies(&apps));
        Self {
            transition,
            host,
            judge,
            recovered: BTreeSet::new(),
            kills: 0,
        }
    }

    /// Looks at each stop of a writer that is left alone.
    fn watch(&mut self) -> Watched {
        let old = key(&self.judge.old);
        let mut watched = Watched::default();
        let judge = &mut self.judge;
        let ended = run(
            self.transition,
            self.host,
            &[Who::Writer, Who::Child],
            |Stop { who, .. }| {
                match who {
                    Who::Writer => watched.of_writer += 1,
                    Who::Child => watched.of_children += 1,
                }
                if judge.check(&format!("{watched:?}")) != old && watched.first_change == 0 {
                    watched.first_change = watched.of_writer;
                }
                Next::GoOn
            },
        );
        assert_eq!(ended, Ended::Done);
        assert_eq!(self.host.state(), self.judge.new);
        self.host.restore(&self.judge.old);
        watched
    }

    /// Kills `victim` at a stop of `who`; returns whether it got that far.
    fn kill(&mut self, who: Who, stop: usize, victim: Who) -> bool {
        let mut number = 0;
        let ended = run(self.transition, self.host, &[who], |_| {
            number += 1;
            match number == stop {
                true => Next::Kill(victim),
                false => Next::GoOn,
            }
        });
        let when = format!("{victim:?} killed at stop {stop} of {who:?}");
        let key = self.judge.check(&when);
        let got_there = ended != Ended::Done;
        match (ended, victim) {
            (Ended::Killed, Who::Writer) => {
                if self.recovered.insert(key) {
                    self.recover(&when);
                }
            }
            // What can't be validated is not put in place; an app that is turned off loses its rules all the same.
            (Ended::Failed(said), Who::Child) => {
                let state = self.host.state();
                let is_off = self.transition.after.is_empty() && state == self.left_behind();
                assert!(is_off || state == self.judge.old, "{when}: {said}\n{state:#?}");
            }
            (Ended::Done, _) => assert_eq!(self.host.state(), self.judge.new, "{when}"),
            (ended, _) => panic!("{when}: {ended:?}"),
        }
        self.kills += usize::from(got_there);
        self.host.restore(&self.judge.old);
        got_there
    }

    /// Returns the new state, but for the `secure_path`, which is shared with another app.
    fn left_behind(&self) -> State {
        let mut state = self.judge.new.clone();
        let path = format!("etc/sudoers.d/venvd_path-{USER}");
        state.extend(self.judge.old.get(&path).map(|file| (path.clone(), file.clone())));
        state
    }

    /// Writes once more after a kill. What was put in place before it and not synced is made durable now.
    fn recover(&mut self, when: &str) {
        let mut synced = BTreeSet::new();
        let judge = &mut self.judge;
        let ended = run(self.transition, self.host, &[Who::Writer], |stop| {
            judge.check(&format!("{when}, then on the way back"));
            synced.extend(stop.synced());
            Next::GoOn
        });
        assert_eq!(ended, Ended::Done, "{when}");
        assert_eq!(self.host.state(), self.judge.new, "{when}");
        let (old, new) = (&self.judge.old, &self.judge.new);
        let paths = old.keys().chain(new.keys());
        for path in paths.filter(|path| old.get(*path) != new.get(*path)) {
            let path = self.host.at(path);
            let durable = synced.contains(path.parent().unwrap());
            assert!(durable, "{when}: a power cut may undo {}", path.display());
        }
    }

    /// Lets each call that changes something fail once, from a stop on; returns how many there were. What fails as a
    /// whole leaves the old policy.
    fn fail_each(&mut self, from: usize) -> usize {
        for nth in 1.. {
            let (mut number, mut changing) = (0, 0);
            let mut failed = None;
            let judge = &mut self.judge;
            let ended = run(self.transition, self.host, &[Who::Writer], |stop| {
                number += 1;
                if number < from {
                    return Next::GoOn;
                }
                judge.check(&format!("call {nth} of those that change something failed: {failed:?}"));
                let call = stop.changing();
                changing += usize::from(call.is_some());
                match call {
                    Some(call) if changing == nth && failed.is_none() => {
                        failed = Some(call);
                        Next::Fail(Errno::ENOSPC)
                    }
                    _ => Next::GoOn,
                }
            });
            let mut state = without_temporary(self.host.state());
            let Some(call) = failed else {
                assert_eq!((ended, &state), (Ended::Done, &self.judge.new));
                self.host.restore(&self.judge.old);
                return nth - 1;
            };
            match ended {
                // As where a temporary file can't be removed.
                Ended::Done => assert_eq!(state, self.judge.new, "{nth}: {call}"),
                Ended::Failed(said) => {
                    // A copy of what an administrator wrote may be there already.
                    state.retain(|path, _| self.judge.old.contains_key(path) || !path.ends_with(".edited"));
                    assert_eq!(state, self.judge.old, "{nth}: {call}: {said}");
                }
                Ended::Killed => panic!("{nth}: {call}"),
            }
            self.host.restore(&self.judge.old);
        }
        unreachable!("each writer ends")
    }
}

fn without_temporary(mut state: State) -> State {
    state.retain(|path, _| !path.contains("/."));
    state
}

fn run(transition: &Transition, host: &Host, whom: &[Who], at_stop: impl FnMut(Stop) -> Next) -> Ended {
    let mut writer = Command::new(env::current_exe().unwrap());
    writer.args(["writer", "--exact", "--ignored", "--nocapture"]);
    let order = [host.root().to_str().unwrap(), APP];
    let order: Vec<&str> = order.iter().chain(transition.after).copied().collect();
    tracer::run(&mut writer, &order.join(" "), whom, at_stop)
}

/// What policies mean that admit these venvs, by the manual, and the administrator's rule.
fn policies(apps: &BTreeMap<&str, &[&str]>) -> Meaning {
    let mut meaning = Meaning::default();
    let (other, command) = OTHER_RULE;
    meaning.grants.insert((other.to_owned(), command.to_owned()));
    let mut path = Vec::new();
    for (app, tags) in apps {
        for bin in tags.iter().map(|tag| bin(app, tag)) {
            for command in commands(app) {
                meaning.grants.insert((USER.to_owned(), format!("{bin}/{command}")));
            }
            path.push(bin);
        }
    }
    if !path.is_empty() {
        let path = format!("{}:{SYSTEM}", path.join(":"));
        meaning.paths.insert((USER.to_owned(), path));
    }
    meaning
}
