//! Flips to what can't be put in force: refused, put back, said in the journal, and no unit has noticed.

use anyhow::Result;
use venvd_tests::Os;
use venvd_tests::lab::{GOOD, Lab, SOON};

/// A flip that is refused.
struct Flip {
    /// Makes what the link is to lead to.
    set_up: &'static str,
    /// Where the link is to lead.
    target: &'static str,
    /// What the journal has to say.
    said: &'static str,
    /// What the definition has besides.
    definition: &'static str,
}

const FLIPS: [Flip; 13] = [
    Flip {
        target: "/var/lib/venvd/venvs/lab/nowhere",
        said: "there is no venv lab:nowhere",
        ..PLAIN
    },
    Flip {
        target: "/tmp",
        said: "/tmp",
        ..PLAIN
    },
    Flip {
        set_up: "mkdir -p /srv/elsewhere && cp -a /var/lib/venvd/venvs/lab/b /srv/elsewhere/b",
        target: "/srv/elsewhere/b",
        said: "/srv/elsewhere/b",
        ..PLAIN
    },
    Flip {
        target: "../../../var/lib/venvd/venvs/lab/b",
        said: "../../../var/lib/venvd/venvs/lab/b",
        ..PLAIN
    },
    Flip {
        target: "/etc/venvd/previous/lab",
        said: "/etc/venvd/previous/lab",
        ..PLAIN
    },
    Flip {
        target: "/var/lib/venvd/venvs/other/a",
        said: "/var/lib/venvd/venvs/other/a",
        ..PLAIN
    },
    Flip {
        set_up: "mkdir /var/lib/venvd/venvs/lab/empty",
        target: "/var/lib/venvd/venvs/lab/empty",
        said: "lab:empty is not sealed",
        ..PLAIN
    },
    Flip {
        set_up: "cp -a /var/lib/venvd/venvs/lab/b /var/lib/venvd/venvs/lab/copy",
        target: "/var/lib/venvd/venvs/lab/copy",
        said: "the directory of lab:copy holds lab:b",
        ..PLAIN
    },
    Flip {
        set_up: "chown lab /var/lib/venvd/venvs/lab/owned",
        target: "/var/lib/venvd/venvs/lab/owned",
        said: "lab:owned is not in root's hands alone",
        ..PLAIN
    },
    Flip {
        set_up: "chmod o+w /var/lib/venvd/venvs/lab/open/bin",
        target: "/var/lib/venvd/venvs/lab/open",
        said: "lab:open is not in root's hands alone",
        ..PLAIN
    },
    Flip {
        set_up: "ln -sfn /usr/bin/true /var/lib/venvd/venvs/lab/python/bin/python",
        target: "/var/lib/venvd/venvs/lab/python",
        said: "bin/python of lab:python leads to",
        ..PLAIN
    },
    Flip {
        target: "/var/lib/venvd/venvs/lab/missing",
        said: "lab:missing has no usable program lab-serve",
        definition: "[units.\"lab-1.service\"]\nprograms = [\"lab-serve\"]\n",
        ..PLAIN
    },
    // The last one: it stays until it is unmounted.
    Flip {
        set_up: "mount -t tmpfs -o size=64k tmpfs /etc/venvd/pending",
        target: "/var/lib/venvd/venvs/lab/b",
        said: "not enough space on the file system of \"/etc/venvd/pending\"",
        ..PLAIN
    },
];

const PLAIN: Flip = Flip {
    set_up: "true",
    target: "",
    said: "",
    definition: "",
};

/// What is made for them.
pub(crate) const VENVS: [(&str, &str); 6] = [
    GOOD[0],
    GOOD[1],
    ("owned", "good"),
    ("open", "good"),
    ("python", "good"),
    ("missing", "missing"),
];

pub(crate) fn flips_are_refused(lab: &Lab) {
    let definition = lab.machine.read("/etc/venvd/apps/lab.toml");
    let nothing = definition.lines().filter(|line| !line.starts_with("[units."));
    lab.machine.write(
        "/etc/venvd/apps/other.toml",
        nothing.collect::<Vec<_>>().join("\n"),
        0o644,
    );
    lab.machine.ok("venvctl build other:a --lock /srv/lab/locks/good.txt");
    let wrong: Vec<_> = FLIPS.iter().filter_map(|flip| is_followed(lab, flip)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    lab.machine.ok("umount /etc/venvd/pending");
    lab.define("");
}

/// Flips the link; returns what became of it, if it was not refused as it should be.
fn is_followed(lab: &Lab, flip: &Flip) -> Option<String> {
    lab.define(flip.definition);
    lab.machine.ok(flip.set_up);
    let before = lab.state();
    lab.machine
        .ok(&format!("ln -sfn {} /etc/venvd/active/lab", flip.target));
    lab.machine
        .wait_until(SOON, &format!("{} is answered", flip.target), |_| {
            let state = lab.state();
            state.last > before.last && state.open.is_empty()
        });
    let after = lab.state();
    let job = format!("VENVD_JOB={}", after.last);
    let said = lab
        .machine
        .journalctl(&["-b", "-o", "cat", "VENVD_RESULT=refused", "VENVD_CAUSE=link", &job]);
    let is_refused = said.contains(flip.said)
        && after.is_on("a")
        && before.invocations() == after.invocations()
        && before.links == after.links;
    if is_refused {
        return None;
    }
    lab.machine.ok("venvctl activate lab:a");
    Some(format!("{}: {said:?}: {after:#?}", flip.target))
}

fn all(os: Os) -> Result<()> {
    let lab = Lab::new(os, 2, &VENVS)?;
    flips_are_refused(&lab);
    Ok(())
}

#[test]
fn flips_to_what_is_no_good_are_refused_on_debian_12() -> Result<()> {
    all(Os::Debian12)
}

#[test]
fn flips_to_what_is_no_good_are_refused_on_debian_13() -> Result<()> {
    all(Os::Debian13)
}
