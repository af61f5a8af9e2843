//! The table: who may run what, by the policies that venvd writes. Some 300 rows, each of them run.

/// Which policy is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Policy {
    /// The app is off.
    Off,
    /// nova 1 is in force; cinder 1 is as well.
    One,
    /// During an activation: nova 1, and 2 behind it.
    Both,
    /// Behind the restart: nova 2, and 1 behind it.
    Turned,
}

impl Policy {
    pub(crate) const ALL: [Self; 4] = [Self::Off, Self::One, Self::Both, Self::Turned];

    /// The venvs of nova that it admits, the first one in front.
    pub(crate) fn tags(self) -> &'static [&'static str] {
        match self {
            Self::Off => &[],
            Self::One => &["1"],
            Self::Both => &["1", "2"],
            Self::Turned => &["2", "1"],
        }
    }
}

/// What has to come of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    /// This program runs.
    Runs(&'static str),
    /// Nothing runs.
    Refused,
    /// This program runs by the rule with a final `*`; where sudo does not honour one, venvd writes no such rule.
    ByStar(&'static str),
    /// sudo matches the arguments as one text, joined by blanks; sudo-rs word by word, and refuses.
    ByStarJoined(&'static str),
    /// A `*` stands for no argument at all in sudo-rs only.
    ByStarOfRustAlone(&'static str),
    /// sudo refuses; sudo-rs takes it for less than it says (an option that it ignores, a path that it tidies up).
    ByRustAlone(&'static str),
    /// As [`Expect::ByRustAlone`], but newer versions refuse.
    ByOldRustAlone(&'static str),
    /// The same file by another name: sudo compares inodes, and runs the name in the rule; sudo-rs compares names.
    SameFile(&'static str),
}

/// A call.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) policy: Policy,
    pub(crate) user: &'static str,
    pub(crate) env: Vec<(&'static str, &'static str)>,
    pub(crate) cwd: &'static str,
    /// What stands behind `sudo -n`.
    pub(crate) argv: Vec<String>,
    pub(crate) expect: Expect,
}

pub(crate) const CONF: &str = "/etc/nova/rootwrap.conf";
pub(crate) const MANILA_CONF: &str = "/etc/manila/manila.conf";
const CINDER_CONF: &str = "/etc/cinder/rootwrap.conf";
const WRAP_1: &str = "/var/lib/venvd/venvs/nova/1/bin/nova-rootwrap";
const WRAP_2: &str = "/var/lib/venvd/venvs/nova/2/bin/nova-rootwrap";
const WRAP_3: &str = "/var/lib/venvd/venvs/nova/3/bin/nova-rootwrap";
const DAEMON_1: &str = "/var/lib/venvd/venvs/nova/1/bin/nova-rootwrap-daemon";
const DAEMON_2: &str = "/var/lib/venvd/venvs/nova/2/bin/nova-rootwrap-daemon";
const DAEMON_3: &str = "/var/lib/venvd/venvs/nova/3/bin/nova-rootwrap-daemon";
const HELPER: &str = "/var/lib/venvd/venvs/manila/1/bin/privsep-helper";
const HELPER_2: &str = "/var/lib/venvd/venvs/manila/2/bin/privsep-helper";
const CINDER: &str = "/var/lib/venvd/venvs/cinder/1/bin/cinder-rootwrap-daemon";

use Expect::{ByOldRustAlone, ByRustAlone, ByStar, ByStarJoined, ByStarOfRustAlone, Refused, Runs, SameFile};

fn row(policy: Policy, user: &'static str, argv: &[&str], expect: Expect) -> Row {
    Row {
        policy,
        user,
        env: Vec::new(),
        cwd: "/",
        argv: argv.iter().map(|&word| word.to_owned()).collect(),
        expect,
    }
}

/// nova, with nova 1 in force.
fn one(argv: &[&str], expect: Expect) -> Row {
    row(Policy::One, "nova", argv, expect)
}

/// All rows.
pub(crate) fn rows() -> Vec<Row> {
    let parts = [
        admitted(),
        who_and_as_whom(),
        configurations(),
        further_arguments(),
        unsafe_helper(),
        other_programs(),
        other_names(),
        smuggled_environment(),
        options(),
    ];
    parts.concat()
}

/// Which venvs may be used while which policy is in force, by their paths and by bare names.
fn admitted() -> Vec<Row> {
    let mut rows = Vec::new();
    for (policy, wraps, daemons, bare) in [
        (Policy::Off, [Refused; 3], [Refused; 3], [Refused; 2]),
        (
            Policy::One,
            [ByStar(WRAP_1), Refused, Refused],
            [Runs(DAEMON_1), Refused, Refused],
            [ByStar(WRAP_1), Runs(DAEMON_1)],
        ),
        (
            Policy::Both,
            [ByStar(WRAP_1), ByStar(WRAP_2), Refused],
            [Runs(DAEMON_1), Runs(DAEMON_2), Refused],
            [ByStar(WRAP_1), Runs(DAEMON_1)],
        ),
        (
            Policy::Turned,
            [ByStar(WRAP_1), ByStar(WRAP_2), Refused],
            [Runs(DAEMON_1), Runs(DAEMON_2), Refused],
            [ByStar(WRAP_2), Runs(DAEMON_2)],
        ),
    ] {
        for (program, expect) in [WRAP_1, WRAP_2, WRAP_3].into_iter().zip(wraps) {
            rows.push(row(policy, "nova", &[program, CONF, "id"], expect));
        }
        for (program, expect) in [DAEMON_1, DAEMON_2, DAEMON_3].into_iter().zip(daemons) {
            rows.push(row(policy, "nova", &[program, CONF], expect));
        }
        rows.push(row(policy, "nova", &["nova-rootwrap", CONF, "id"], bare[0]));
        rows.push(row(policy, "nova", &["nova-rootwrap-daemon", CONF], bare[1]));
        // Another app's policy is not touched by any of this.
        rows.push(row(
            policy,
            "cinder",
            &["cinder-rootwrap-daemon", CINDER_CONF],
            Runs(CINDER),
        ));
    }
    rows
}

/// Nobody else gets a right, and nobody gets one as somebody else than root.
fn who_and_as_whom() -> Vec<Row> {
    let mut rows = Vec::new();
    for user in ["cinder", "glance", "novax", "nobody"] {
        rows.push(row(Policy::One, user, &[WRAP_1, CONF, "id"], Refused));
        rows.push(row(Policy::One, user, &[DAEMON_1, CONF], Refused));
    }
    for user in ["nova", "glance"] {
        rows.push(row(Policy::One, user, &[CINDER, CINDER_CONF], Refused));
    }
    rows.push(row(Policy::One, "cinder", &[CINDER, CINDER_CONF], Runs(CINDER)));
    for target in ["cinder", "glance", "nobody", "#1", "#4294967295", "#-1", ""] {
        rows.push(one(&["-u", target, DAEMON_1, CONF], Refused));
    }
    for target in ["root", "#0"] {
        rows.push(one(&["-u", target, DAEMON_1, CONF], Runs(DAEMON_1)));
    }
    for group in ["cinder", "sudo", "#42"] {
        rows.push(one(&["-g", group, DAEMON_1, CONF], Refused));
        rows.push(one(&["-u", "root", "-g", group, DAEMON_1, CONF], Refused));
    }
    rows
}

/// The configuration is pinned: whoever could name his own would be root.
fn configurations() -> Vec<Row> {
    let mut rows = Vec::new();
    for conf in [
        "/tmp/own/rootwrap.conf",
        CINDER_CONF,
        "/etc/nova/rootwrap.conf.bak",
        "/etc/nova/rootwrap.con",
        "/etc/nova/rootwrap.confx",
        "/etc/nova/rootwrap.conf/",
        "/etc/nova/../nova/rootwrap.conf",
        "/etc/nova/./rootwrap.conf",
        "/etc/nova//rootwrap.conf",
        "//etc/nova/rootwrap.conf",
        "/etc/nova/Rootwrap.conf",
        "rootwrap.conf",
        "./rootwrap.conf",
        "../etc/nova/rootwrap.conf",
        "",
        " ",
        "*",
        "?",
        "/etc/nova/*",
        "/etc/nova/rootwrap.*",
        "/etc/nova/[r]ootwrap.conf",
        "^.*$",
        "-",
        "--",
        "--config-file=/etc/nova/rootwrap.conf",
        " /etc/nova/rootwrap.conf",
        "\t/etc/nova/rootwrap.conf",
        "/etc/nova/rootwrap.conf\n",
        "/etc/nova/rootwrap.conf\t",
        "\n/etc/nova/rootwrap.conf",
        "/etc/nova/rootwrap\\.conf",
        "\\/etc/nova/rootwrap.conf",
        "'/etc/nova/rootwrap.conf'",
        "\"/etc/nova/rootwrap.conf\"",
        "$(echo /etc/nova/rootwrap.conf)",
        "/etc/nova/rootwrap.conf,ALL",
        "/etc/nova/rootwrap.conf;id",
        "/etc/nova/rootwrap.conf\u{a0}x",
    ] {
        rows.push(one(&[WRAP_1, conf, "id"], Refused));
        rows.push(one(&[DAEMON_1, conf], Refused));
    }
    // A file name that begins like the configuration's and goes on behind a blank. rootwrap reads no such file, as only
    // root can make one there.
    for conf in [
        "/etc/nova/rootwrap.conf x",
        "/etc/nova/rootwrap.conf x/../../../tmp/own/rootwrap.conf",
        "/etc/nova/rootwrap.conf ",
    ] {
        rows.push(one(&[WRAP_1, conf, "id"], ByStarJoined(WRAP_1)));
        rows.push(one(&[DAEMON_1, conf], Refused));
    }
    rows
}

/// Behind the configuration, a `*` stands for anything; without one, for nothing.
fn further_arguments() -> Vec<Row> {
    let mut rows = Vec::new();
    for arguments in [
        &["ip", "netns", "exec", "qrouter-1", "ip", "a"][..],
        &["a b"],
        &["a\nb"],
        &["a\tb"],
        &["*"],
        &["/../../bin/sh"],
        &["$(id)", "`id`", ";", "&&", "|"],
        &["\\"],
        &["'", "\""],
        &["--", "-u", "nova"],
        &["é", "\u{202e}"],
        &[CONF, CONF],
        &[""],
    ] {
        let with = |program: &'static str| [&[program, CONF], arguments].concat();
        rows.push(one(&with(WRAP_1), ByStar(WRAP_1)));
        rows.push(one(&with(DAEMON_1), Refused));
    }
    rows.push(one(&[WRAP_1, CONF], ByStarOfRustAlone(WRAP_1)));
    rows.push(one(&[WRAP_1], Refused));
    rows.push(one(&[DAEMON_1], Refused));
    rows.push(one(&[DAEMON_1, CONF, "*"], Refused));
    rows.push(one(&[DAEMON_1, "id", CONF], Refused));
    rows.push(one(&[WRAP_1, "id", CONF], Refused));
    rows
}

/// A rule for `privsep-helper` is its user's alone, and the venv's alone; what it pins comes first.
fn unsafe_helper() -> Vec<Row> {
    let mut rows = Vec::new();
    let context = ["--privsep_context", "manila.privsep.sys_admin_pctxt"];
    let socket = ["--privsep_sock_path", "/tmp/tmp0a_b1c/privsep.sock"];
    for (user, program, start, expect) in [
        ("manila", HELPER, &["--config-file", MANILA_CONF][..], ByStar(HELPER)),
        (
            "manila",
            "privsep-helper",
            &["--config-file", MANILA_CONF],
            ByStar(HELPER),
        ),
        ("manila", HELPER, &["--config-file", "/tmp/own/manila.conf"], Refused),
        ("manila", HELPER, &[MANILA_CONF, "--config-file"], Refused),
        ("manila", HELPER, &[], Refused),
        ("manila", HELPER_2, &["--config-file", MANILA_CONF], Refused),
        (
            "manila",
            "/tmp/own/privsep-helper",
            &["--config-file", MANILA_CONF],
            Refused,
        ),
        ("nova", HELPER, &["--config-file", MANILA_CONF], Refused),
        ("nova", "privsep-helper", &["--config-file", MANILA_CONF], Refused),
    ] {
        rows.push(row(
            Policy::One,
            user,
            &[&[program], start, &context, &socket].concat(),
            expect,
        ));
    }
    // Why it is called unsafe: what is pinned comes first, and what comes later counts.
    let own = ["--config-file", MANILA_CONF, "--config-file", "/tmp/own/manila.conf"];
    rows.push(row(
        Policy::One,
        "manila",
        &[&[HELPER][..], &own].concat(),
        ByStar(HELPER),
    ));
    rows
}

/// Programs that no rule names.
fn other_programs() -> Vec<Row> {
    let mut rows = Vec::new();
    for argv in [
        &["/usr/bin/id"][..],
        &["id"],
        &["/bin/sh", "-c", "id"],
        &["/usr/bin/python3", "-c", "1"],
        &["/var/lib/venvd/venvs/nova/1/bin/nova-manage", CONF],
        &["nova-manage", CONF],
        &["/var/lib/venvd/venvs/nova/1/bin/privsep-helper", CONF],
        &["privsep-helper", CONF],
        &["/var/lib/venvd/venvs/nova/1/bin/python3", "-c", "1"],
        &["/var/lib/venvd/venvs/nova/1/bin/python3", DAEMON_1, CONF],
        &["/bin/sh", DAEMON_1, CONF],
        &["/var/lib/venvd/venvs/nova/1/bin", CONF],
        &["/var/lib/venvd/venvs/nova/1/bin/", CONF],
        &["/var/lib/venvd/venvs/nova/1/bin/nova-rootwrap-daemo", CONF],
        &["/var/lib/venvd/venvs/nova/1/bin/nova-rootwrap-daemonx", CONF],
        &["/var/lib/venvd/venvs/nova/*/bin/nova-rootwrap-daemon", CONF],
        &["/var/lib/venvd/venvs/nova/3/bin/nova-rootwrap-daemon", CONF],
        &["cinder-rootwrap-daemon", CINDER_CONF],
        &["/tmp/own/nova-rootwrap-daemon", CONF],
        &["sudoedit", CONF],
        &["ALL"],
        &[""],
        &["/nonexistent", CONF],
    ] {
        rows.push(one(argv, Refused));
    }
    rows
}

/// Other names of an admitted program, and of one that is not.
fn other_names() -> Vec<Row> {
    let mut rows = vec![
        one(
            &["/var/lib/venvd/venvs/nova/1/bin/../bin/nova-rootwrap-daemon", CONF],
            SameFile(DAEMON_1),
        ),
        one(
            &["/var/lib/venvd/venvs/nova//1/bin/nova-rootwrap-daemon", CONF],
            SameFile(DAEMON_1),
        ),
        one(
            &["/var/lib/venvd/venvs/nova/1/./bin/nova-rootwrap-daemon", CONF],
            SameFile(DAEMON_1),
        ),
        one(&["/srv/link/nova-rootwrap-daemon", CONF], SameFile(DAEMON_1)),
        one(
            &["/var/lib/venvd/venvs/nova/1/bin/nova-rootwrap-daemon/", CONF],
            ByRustAlone(DAEMON_1),
        ),
        one(
            &["/var/lib/venvd/venvs/nova/1/bin/../../3/bin/nova-rootwrap-daemon", CONF],
            Refused,
        ),
        one(&["/srv/link3/nova-rootwrap-daemon", CONF], Refused),
        // A link of another name, and hard links in a directory of the user's own.
        one(&["/tmp/own/innocent", CONF], Refused),
    ];
    for (cwd, argv, expect) in [
        (
            "/var/lib/venvd/venvs/nova/1/bin",
            "./nova-rootwrap-daemon",
            SameFile(DAEMON_1),
        ),
        ("/var/lib/venvd/venvs/nova/3/bin", "./nova-rootwrap-daemon", Refused),
        ("/tmp/own", "./nova-rootwrap-daemon", Refused),
        ("/tmp/own", "nova-rootwrap-daemon", Runs(DAEMON_1)),
        (
            "/var/lib/venvd/venvs/nova/3/bin",
            "nova-rootwrap-daemon",
            Runs(DAEMON_1),
        ),
    ] {
        rows.push(Row {
            cwd,
            ..one(&[argv, CONF], expect)
        });
    }
    rows
}

/// Variables that make Python, the loader or a shell run what the caller wants. That none of them ever arrives is checked
/// of each row; here, they are tried.
fn smuggled_environment() -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, value, given) in [
        ("PYTHONPATH", "/tmp/own", "PYTHONPATH=/tmp/own"),
        ("PYTHONHOME", "/tmp/own", "PYTHONHOME=/tmp/own"),
        ("PYTHONSTARTUP", "/tmp/own/x.py", "PYTHONSTARTUP=/tmp/own/x.py"),
        ("PYTHONINSPECT", "1", "PYTHONINSPECT=1"),
        ("PYTHONBREAKPOINT", "os.system", "PYTHONBREAKPOINT=os.system"),
        ("PYTHONPYCACHEPREFIX", "/tmp/own", "PYTHONPYCACHEPREFIX=/tmp/own"),
        ("PYTHONPLATLIBDIR", "own", "PYTHONPLATLIBDIR=own"),
        ("PYTHONUSERBASE", "/tmp/own", "PYTHONUSERBASE=/tmp/own"),
        ("LD_PRELOAD", "/tmp/own/x.so", "LD_PRELOAD=/tmp/own/x.so"),
        ("LD_LIBRARY_PATH", "/tmp/own", "LD_LIBRARY_PATH=/tmp/own"),
        ("LD_AUDIT", "/tmp/own/x.so", "LD_AUDIT=/tmp/own/x.so"),
        ("PATH", "/tmp/own:/usr/bin:/bin", "PATH=/tmp/own"),
        ("BASH_ENV", "/tmp/own/x", "BASH_ENV=/tmp/own/x"),
        ("ENV", "/tmp/own/x", "ENV=/tmp/own/x"),
        ("IFS", "/", "IFS=/"),
        ("VIRTUAL_ENV", "/tmp/own", "VIRTUAL_ENV=/tmp/own"),
        ("GCONV_PATH", "/tmp/own", "GCONV_PATH=/tmp/own"),
        ("BASH_FUNC_id%%", "() { :; }", "BASH_FUNC_id%%=() { :; }"),
    ] {
        let inherited = |argv: &[&str], expect| Row {
            env: vec![(name, value)],
            ..one(argv, expect)
        };
        rows.push(inherited(&[DAEMON_1, CONF], Runs(DAEMON_1)));
        rows.push(one(&[given, DAEMON_1, CONF], Refused));
        rows.push(inherited(&["-E", DAEMON_1, CONF], ByRustAlone(DAEMON_1)));
        // These the dynamic loader takes away before sudo sees them, see ld.so(8), so there is nothing to refuse.
        let of_the_loader = name.starts_with("LD_") || name == "GCONV_PATH";
        let expect = if of_the_loader {
            Runs(DAEMON_1)
        } else {
            ByOldRustAlone(DAEMON_1)
        };
        rows.push(inherited(&[&format!("--preserve-env={name}"), DAEMON_1, CONF], expect));
    }
    rows
}

/// Options of sudo that would lead elsewhere.
fn options() -> Vec<Row> {
    let mut rows = Vec::new();
    for option in [
        &["-i"][..],
        &["-s"],
        &["-e"],
        &["-R", "/tmp/own"],
        &["-D", "/tmp/own"],
        &["-C", "9"],
        &["-a", "x"],
    ] {
        rows.push(one(&[option, &[DAEMON_1, CONF]].concat(), Refused));
    }
    rows.push(one(&["-s"], Refused));
    rows.push(one(&["-i"], Refused));
    rows.push(one(&["--", DAEMON_1, CONF], Runs(DAEMON_1)));
    rows
}
