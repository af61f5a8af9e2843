//! Venvs that do not work, each in its own way: what ran before runs again, soon, and the answer says what was wrong.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::Value;
use venvd_tests::lab::{Lab, SOON};
use venvd_tests::{MemoryLimit, Os};

/// A venv that does not work.
struct Bad {
    /// What its units, hooks or health commands do; also its tag.
    kind: &'static str,
    /// What the first unit has besides.
    unit: &'static str,
    /// What the definition has besides.
    definition: &'static str,
    /// The exit status, and the code of the answer.
    answer: (i32, &'static str),
    /// Whether units were restarted.
    touched: bool,
    /// How long this may take beside [`SOON`].
    waits: u64,
}

const BAD: [Bad; 16] = [
    // The program that the unit itself names.
    Bad {
        kind: "missing",
        answer: (1, "unit-skipped"),
        touched: false,
        ..USUAL
    },
    // The one that the definition does.
    Bad {
        kind: "missing",
        answer: (1, "missing-program"),
        touched: false,
        definition: "[units.\"lab-1.service\"]\nprograms = [\"lab-serve\"]\n",
        ..USUAL
    },
    Bad { kind: "exits", ..USUAL },
    // It is over before any settle window of the usual length.
    Bad {
        kind: "exits-later",
        definition: "health.settle = \"4s\"\n",
        answer: (3, "not-settled"),
        // Three seconds until it exits, four for the old one.
        waits: 7,
        ..USUAL
    },
    Bad {
        kind: "hangs",
        unit: "[Service]\nTimeoutStartSec=1s\n",
        waits: 1,
        ..USUAL
    },
    Bad {
        kind: "hangs",
        definition: "health.timeout = \"2s\"\n",
        answer: (3, "timeout"),
        waits: 2,
        ..USUAL
    },
    Bad {
        kind: "crashes",
        unit: "[Service]\nRestart=always\nRestartSec=10ms\n",
        answer: (3, "not-settled"),
        ..USUAL
    },
    Bad {
        kind: "exits",
        unit: "[Service]\nRestart=always\nRestartSec=10ms\n",
        ..USUAL
    },
    // What counts its starts has none left for the old venv.
    Bad {
        kind: "exits",
        unit: "[Unit]\nStartLimitIntervalSec=1h\nStartLimitBurst=2\n[Service]\nRestart=always\nRestartSec=10ms\n",
        ..USUAL
    },
    Bad {
        kind: "unhealthy",
        definition: "health.commands = [\"lab-check\"]\n",
        answer: (3, "unhealthy"),
        ..USUAL
    },
    Bad {
        kind: "fails-before-stop",
        definition: HOOKS,
        answer: (3, "hook-failed"),
        touched: false,
        ..USUAL
    },
    Bad {
        kind: "fails-while-stopped",
        definition: HOOKS,
        answer: (3, "hook-failed"),
        ..USUAL
    },
    Bad {
        kind: "fails-after-start",
        definition: HOOKS,
        answer: (3, "hook-failed"),
        ..USUAL
    },
    Bad {
        kind: "exits",
        definition: HOOKS,
        ..USUAL
    },
    Bad {
        kind: "killed",
        answer: (3, "not-settled"),
        ..USUAL
    },
    // All is well with it, but that somebody's wrapper runs another one, with the variables of this.
    Bad {
        kind: "good",
        unit: "[Service]\nExecStartPre=/usr/bin/lab-hook nothing\nExecStart=\n\
               ExecStart=/bin/sh -c 'exec /var/lib/venvd/venvs/lab/a/bin/lab-serve lab-1'\n",
        definition: "[units.\"lab-1.service\"]\nprograms = [\"lab-hook\"]\n",
        answer: (3, "wrong-venv"),
        ..USUAL
    },
];

/// The kernel kills it, since it wants more memory than there is for it. See [`is_killed_by_the_kernel`].
const OUT_OF_MEMORY: Bad = Bad {
    kind: "eats",
    unit: "[Service]\nMemoryMax=100M\nMemorySwapMax=0\n",
    answer: (3, "not-settled"),
    ..USUAL
};

/// What there is for it where the unit's own limit does nothing, in bytes: enough for all else that starts meanwhile.
const MEMORY: u64 = 200 << 20;

const USUAL: Bad = Bad {
    kind: "",
    unit: "",
    definition: "",
    answer: (3, "job-failed"),
    touched: true,
    waits: 0,
};

const HOOKS: &str = "[[hooks.before-stop]]
run = \"lab-hook before-stop\"
[[hooks.while-stopped]]
run = \"lab-hook while-stopped\"
[[hooks.after-start]]
run = \"lab-hook after-start\"
";

impl Bad {
    fn describe(&self) -> String {
        format!("{} [{}] [{}]", self.kind, self.unit.trim(), self.definition.trim()).replace('\n', "; ")
    }
}

/// Activates a venv that does not work; returns what went otherwise than it should.
fn comes_back(lab: &Lab, bad: &Bad) -> Vec<String> {
    println!("{}", bad.describe());
    lab.forgive();
    lab.define(bad.definition);
    lab.change_unit(bad.unit);
    let before = lab.state();
    let begin = Instant::now();
    let (status, report) = lab.venvctl(&["activate", &format!("lab:{}", bad.kind)]);
    let took = begin.elapsed();
    println!("  {took:?}: {status} {}: {}", report["code"], report["message"]);
    let after = lab.state();
    let failed = lab
        .machine
        .ok("systemctl list-units --failed --plain --no-legend; systemctl list-jobs --no-legend");
    let untouched = before.invocations() == after.invocations();
    let checks = [
        (
            (status, report["code"].as_str().unwrap_or_default()) == bad.answer,
            "the answer",
        ),
        (took < SOON + Duration::from_secs(bad.waits), "the time"),
        (after.is_on("a"), "what runs"),
        (untouched != bad.touched, "which units were restarted"),
        (after.links["previous"] == before.links["previous"], "previous"),
        // Nothing that failed still waits for a start.
        (!failed.contains("lab"), "what is left"),
    ];
    let wrong = checks.iter().filter(|(holds, _)| !holds);
    let wrong: Vec<_> = wrong
        .map(|(_, what)| format!("{}: {what}: {took:?} {report:#} {after:#?} {failed}", bad.describe()))
        .collect();
    if !wrong.is_empty() {
        // The next one begins where this one did.
        lab.change_unit("");
        lab.define("");
        lab.machine.run(&["venvctl", "activate", "lab:a"]);
        lab.start();
    }
    wrong
}

/// A unit that ends in the settle window is found because systemd says so: looking once a second, as venvd does besides,
/// would find one of these three after a third of a second, and one after two, wherever its seconds begin.
fn an_end_is_found_at_once(lab: &Lab) {
    const FAILED: &str = "MESSAGE_ID=43515c59c6964e55b6babf885b45c5de";
    let mut took: Vec<u64> = ["1.00", "1.33", "1.67"]
        .iter()
        .map(|into| {
            lab.define("[health]\nsettle = \"20s\"\ntimeout = \"1m\"\nrollback = false\n");
            lab.machine.ok(&format!(
                "venvctl activate --force lab:b >/run/activate 2>&1 & \
                 until busctl get-property org.venvd1 /org/venvd1/app/lab org.venvd1.App State | grep -q settling; do \
                 sleep 0.05; done; sleep {into}; systemctl kill -s KILL lab-1.service; \
                 wait $!; code=$?; test $code = 4 || {{ cat /run/activate; false; }}"
            ));
            let ended = lab
                .machine
                .unit_property("lab-1.service", "InactiveEnterTimestampMonotonic");
            let record = lab
                .machine
                .journalctl(&["-u", "venvd", "-n", "1", "-o", "json", FAILED]);
            let record: Value = serde_json::from_str(&record).unwrap_or_default();
            let found = record["__MONOTONIC_TIMESTAMP"].as_str().unwrap_or_default();
            let number = |text: &str| text.parse::<u64>().unwrap_or_else(|error| panic!("{text:?}: {error}"));
            lab.define("");
            let (status, report) = lab.venvctl(&["activate", "lab:a"]);
            assert_eq!(status, 0, "{report:#}");
            number(found) - number(&ended)
        })
        .collect();
    took.sort_unstable();
    println!("an end is found after {took:?} us");
    assert!(took[1] < 300_000, "two of three at once: {took:?}");
}

/// Where neither runs, the answer says what to do, and doing it helps.
fn neither_runs(lab: &Lab) {
    lab.forgive();
    lab.define("");
    lab.change_unit("");
    lab.machine
        .ok("install -d /var/lib/lab/broken && touch /var/lib/lab/broken/a");
    let (status, report) = lab.venvctl(&["activate", "lab:exits"]);
    println!("{status}: {report:#}");
    assert_eq!((status, &report["code"]), (4, &"job-failed".into()), "{report:#}");
    let message = report["message"].as_str().unwrap_or_default();
    for said in [
        "and on the way back: ",
        "lab-1.service",
        "journalctl -e -u lab-1.service",
    ] {
        assert!(message.contains(said), "{message}");
    }
    let state = lab.state();
    assert_eq!(state.links["committed"], Some("a".to_owned()), "what was in force is");
    assert_eq!((state.pending.len(), state.open.len()), (0, 0), "{state:#?}");
    // As docs/activation.md has it: another venv, by its tag.
    let (status, report) = lab.venvctl(&["activate", "lab:b"]);
    assert_eq!(status, 0, "{report:#}");
    lab.assert_on("b");
    lab.machine.ok("rm -r /var/lib/lab/broken");
    let (status, report) = lab.venvctl(&["activate", "lab:a"]);
    assert_eq!(status, 0, "{report:#}");
    lab.assert_on("a");
}

/// Does so with [`OUT_OF_MEMORY`], and sees that it was the kernel that killed it.
fn is_killed_by_the_kernel(lab: &Lab) -> Result<Vec<String>> {
    let controllers = lab.machine.read("/sys/fs/cgroup/cgroup.controllers");
    if controllers.contains("memory") {
        let wrong = comes_back(lab, &OUT_OF_MEMORY);
        let said = lab.machine.journalctl(&["-o", "cat", "-u", "lab-1.service"]);
        assert!(said.contains("result 'oom-kill'"), "{said}");
        return Ok(wrong);
    }
    let limit = MemoryLimit::of(&lab.machine, MEMORY)?;
    let wrong = comes_back(lab, &OUT_OF_MEMORY);
    assert_eq!(limit.killed(), 1, "killed by the kernel");
    Ok(wrong)
}

fn rolled_back(os: Os) -> Result<()> {
    let mut venvs = vec![("a", "good"), ("b", "good")];
    for bad in BAD.iter().chain([&OUT_OF_MEMORY]) {
        if !venvs.contains(&(bad.kind, bad.kind)) {
            venvs.push((bad.kind, bad.kind));
        }
    }
    let lab = Lab::new(os, 2, &venvs)?;
    let mut wrong: Vec<_> = BAD.iter().flat_map(|bad| comes_back(&lab, bad)).collect();
    wrong.extend(is_killed_by_the_kernel(&lab)?);
    an_end_is_found_at_once(&lab);
    neither_runs(&lab);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[test]
fn bad_venvs_are_rolled_back_on_debian_12() -> Result<()> {
    rolled_back(Os::Debian12)
}

#[test]
fn bad_venvs_are_rolled_back_on_debian_13() -> Result<()> {
    rolled_back(Os::Debian13)
}
