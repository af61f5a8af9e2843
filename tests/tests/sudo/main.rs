//! What venvd's policies allow and refuse, as each sudo has it: the same table of calls, each of them run.

mod table;

use std::path::Path;

use anyhow::Result;
use serde::Deserialize;
use serde_json::json;
use venvd_app::value::{SudoCommand, UnsafeCommand};
use venvd_policy::sudoers::model::{PlainPath, Rule, SecurePath, path_file, rules_file};
use venvd_tests::{Machine, Os, sudo_rs};

use table::{CONF, Expect, MANILA_CONF, Policy, Row, rows};

/// A sudo to be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sudo {
    sudo: &'static str,
    visudo: &'static str,
    rust: bool,
    honours_star: bool,
}

const SYSTEM: [&str; 6] = [
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
];

/// What came of a call.
#[derive(Debug, Deserialize)]
struct Outcome {
    status: i32,
    out: String,
    err: String,
}

/// Users, venvs and what a hostile user has of his own. The programs say what they are run as.
fn set_up(machine: &Machine) {
    machine.copy_in(concat!(env!("CARGO_MANIFEST_DIR"), "/scenario/sudo"), "/srv/sudo");
    machine.ok(
        "set -e; cd /srv; chmod 755 sudo/program.sh
        for user in nova novax cinder glance manila; do useradd --system --user-group --shell /usr/sbin/nologin $user; done
        place() { install -D -m 755 sudo/program.sh /var/lib/venvd/venvs/$1; }
        for tag in 1 2 3; do for name in nova-rootwrap nova-rootwrap-daemon nova-manage privsep-helper; do place nova/$tag/bin/$name; done; done
        place cinder/1/bin/cinder-rootwrap-daemon; place manila/1/bin/privsep-helper; place manila/2/bin/privsep-helper
        ln -s /usr/bin/python3 /var/lib/venvd/venvs/nova/1/bin/python3
        ln -s /var/lib/venvd/venvs/nova/1/bin link; ln -s /var/lib/venvd/venvs/nova/3/bin link3
        mkdir /tmp/own; for name in nova-rootwrap nova-rootwrap-daemon privsep-helper id; do install -m 755 sudo/program.sh /tmp/own/$name; done
        ln -s /var/lib/venvd/venvs/nova/1/bin/nova-rootwrap-daemon /tmp/own/innocent
        chown -R nova: /tmp/own",
    );
}

fn rule(user: &str, bin: &str, command: &str) -> Result<Rule> {
    rule_of(user, bin, &SudoCommand::try_from(command.to_owned())?)
}

fn rule_of(user: &str, bin: &str, command: &SudoCommand) -> Result<Rule> {
    let path = Path::new(bin).join(command.program.as_str());
    Ok(Rule::new(&user.parse()?, &path, command)?)
}

/// The `bin` directories of a user's venvs, the first one in front.
fn bins(policy: Policy, user: &str) -> Vec<String> {
    match user {
        "cinder" | "manila" => vec![format!("/var/lib/venvd/venvs/{user}/1/bin")],
        _ => {
            let bin = |tag: &&str| format!("/var/lib/venvd/venvs/nova/{tag}/bin");
            policy.tags().iter().map(bin).collect()
        }
    }
}

/// The `secure_path` of a user, which is also the PATH that root's programs must have.
fn secure_path(policy: Policy, user: &str) -> Result<SecurePath> {
    let plain = |path: &str| PlainPath::new(Path::new(path));
    let front: Result<Vec<_>, _> = bins(policy, user).iter().map(|bin| plain(bin)).collect();
    let system: Result<Vec<_>, _> = SYSTEM.into_iter().map(plain).collect();
    Ok(SecurePath::new(front?, &system?))
}

/// Writes the policy as venvd does, but for the rules with a `*` where venvd refuses them.
fn write(machine: &Machine, sudo: Sudo, policy: Policy) -> Result<()> {
    machine.ok("rm -f /etc/sudoers.d/venvd*");
    let mut rules = Vec::new();
    for bin in &bins(policy, "cinder") {
        rules.push(rule("cinder", bin, "cinder-rootwrap-daemon /etc/cinder/rootwrap.conf")?);
    }
    put(machine, policy, "cinder", &rules)?;
    rules.clear();
    if sudo.honours_star {
        for bin in &bins(policy, "manila") {
            let command = UnsafeCommand::try_from(format!("privsep-helper --config-file {MANILA_CONF} *"))?;
            rules.push(rule_of("manila", bin, &command)?);
        }
        put(machine, policy, "manila", &rules)?;
        rules.clear();
    }
    for bin in &bins(policy, "nova") {
        if sudo.honours_star {
            rules.push(rule("nova", bin, &format!("nova-rootwrap {CONF} *"))?);
        }
        rules.push(rule("nova", bin, &format!("nova-rootwrap-daemon {CONF}"))?);
    }
    if !rules.is_empty() {
        put(machine, policy, "nova", &rules)?;
    }
    machine.ok(&format!("{} -c", sudo.visudo));
    Ok(())
}

/// Writes the files of a user, whose app has the same name.
fn put(machine: &Machine, policy: Policy, user: &str, rules: &[Rule]) -> Result<()> {
    let text = rules_file(&user.parse()?, rules);
    machine.write(&format!("/etc/sudoers.d/venvd-{user}"), text, 0o440);
    let text = path_file(&user.parse()?, &secure_path(policy, user)?)?;
    machine.write(&format!("/etc/sudoers.d/venvd_path-{user}"), text, 0o440);
    Ok(())
}

/// The program that has to run; none when the call has to be refused.
fn expected(sudo: Sudo, expect: Expect) -> Option<&'static str> {
    match expect {
        Expect::Runs(program) | Expect::SameFile(program) => Some(program),
        Expect::Refused => None,
        Expect::ByStar(program) => Some(program).filter(|_| sudo.honours_star),
        Expect::ByStarJoined(program) => Some(program).filter(|_| !sudo.rust),
        Expect::ByRustAlone(program) => Some(program).filter(|_| sudo.rust),
        Expect::ByOldRustAlone(program) => Some(program).filter(|_| sudo.rust && !sudo.honours_star),
        Expect::ByStarOfRustAlone(program) => Some(program).filter(|_| sudo.rust && sudo.honours_star),
    }
}

/// Says what is wrong with an outcome.
fn fault(sudo: Sudo, row: &Row, outcome: &Outcome) -> Result<Option<String>> {
    let lines: Vec<&str> = outcome.out.lines().collect();
    let ran = lines.first().and_then(|line| line.strip_prefix("RAN "));
    let Some(program) = expected(sudo, row.expect) else {
        let refused = ran.is_none() && outcome.status != 0 && !outcome.err.is_empty();
        return Ok((!refused).then(|| "it is not refused".to_owned()));
    };
    let Some(ran) = ran else {
        return Ok(Some("it is refused".to_owned()));
    };
    if ran != program {
        return Ok(Some(format!("it runs as {ran}")));
    }
    if lines.get(1) != Some(&"uid=0") {
        return Ok(Some("it is not run by root".to_owned()));
    }
    let environment: Vec<&str> = lines.iter().filter_map(|line| line.strip_prefix("env ")).collect();
    let path = format!("PATH={}", secure_path(row.policy, row.user)?);
    if !environment.contains(&path.as_str()) {
        return Ok(Some(format!("it lacks {path}")));
    }
    // What Debian's sudo and sudo-rs set; the shell adds PWD.
    const KNOWN: [&str; 18] = [
        "PATH",
        "HOME",
        "LC_ALL",
        "LANG",
        "LANGUAGE",
        "TERM",
        "SHELL",
        "USER",
        "LOGNAME",
        "MAIL",
        "PWD",
        "OLDPWD",
        "_",
        "SUDO_COMMAND",
        "SUDO_USER",
        "SUDO_UID",
        "SUDO_GID",
        "SUDO_HOME",
    ];
    let name = |line: &&str| line.split('=').next().unwrap_or_default().to_owned();
    let smuggled = environment
        .iter()
        .map(name)
        .find(|name| !KNOWN.contains(&name.as_str()) && !name.is_empty());
    // An argument with a line break looks like a line of its own, in SUDO_COMMAND as well.
    let smuggled = smuggled.filter(|_| !row.argv.iter().any(|word| word.contains('\n')));
    Ok(smuggled.map(|name| format!("{name} arrived")))
}

/// Runs the whole table, and fails with all rows that came out otherwise.
fn comply(machine: &Machine, sudo: Sudo) -> Result<()> {
    let table = rows();
    let mut faults = Vec::new();
    for policy in Policy::ALL {
        write(machine, sudo, policy)?;
        let rows: Vec<&Row> = table.iter().filter(|row| row.policy == policy).collect();
        let calls: Vec<_> = rows
            .iter()
            .map(|row| {
                let env: serde_json::Map<_, _> = row
                    .env
                    .iter()
                    .map(|(name, value)| ((*name).to_owned(), json!(value)))
                    .collect();
                json!({"user": row.user, "env": env, "cwd": row.cwd, "argv": row.argv})
            })
            .collect();
        let input = json!({"sudo": sudo.sudo, "rows": calls}).to_string();
        let output = machine.run_with_input(&["python3", "/srv/sudo/run.py"], input.as_bytes());
        assert!(output.success(), "{output}");
        let outcomes: Vec<Outcome> = serde_json::from_str(&output.stdout)?;
        assert_eq!(outcomes.len(), rows.len());
        for (row, outcome) in rows.iter().zip(&outcomes) {
            faults.extend(fault(sudo, row, outcome)?.map(|fault| format!("{fault}: {row:?}\n  {outcome:?}")));
        }
    }
    println!("{}: {} calls", sudo.sudo, table.len());
    assert!(table.len() >= 150, "{}", table.len());
    assert!(
        faults.is_empty(),
        "{} of {} rows, with {sudo:?}:\n{}",
        faults.len(),
        table.len(),
        faults.join("\n")
    );
    Ok(())
}

#[test]
fn sudo_1_9_13() -> Result<()> {
    let machine = Machine::boot(Os::Debian12)?;
    assert!(machine.ok("sudo -V").contains("1.9.13"));
    set_up(&machine);
    comply(&machine, C_SUDO)
}

const C_SUDO: Sudo = Sudo {
    sudo: "/usr/bin/sudo",
    visudo: "/usr/sbin/visudo",
    rust: false,
    honours_star: true,
};

#[test]
fn sudo_1_9_16_and_sudo_rs_0_2_5() -> Result<()> {
    let machine = Machine::boot(Os::Debian13)?;
    assert!(machine.ok("sudo -V").contains("1.9.16"));
    assert!(machine.ok("sudo-rs --version 2>&1").contains("0.2.5"));
    set_up(&machine);
    comply(&machine, C_SUDO)?;
    let debian = Sudo {
        sudo: "/usr/bin/sudo-rs",
        visudo: "/usr/bin/visudo-rs",
        rust: true,
        honours_star: false,
    };
    comply(&machine, debian)
}

#[test]
fn the_newest_sudo_rs() -> Result<()> {
    if !sudo_rs::can_be_built() {
        eprintln!("SKIPPED: building sudo-rs needs libpam0g-dev");
        return Ok(());
    }
    let built = sudo_rs::ensure()?;
    let machine = Machine::boot(Os::Debian13)?;
    set_up(&machine);
    for name in ["sudo", "visudo"] {
        machine.copy_in(built.join(name), &format!("/opt/sudo-rs/{name}"));
    }
    machine.ok("chmod 4755 /opt/sudo-rs/sudo");
    assert!(
        machine
            .ok("/opt/sudo-rs/sudo --version 2>&1")
            .contains(sudo_rs::VERSION)
    );
    let newest = Sudo {
        sudo: "/opt/sudo-rs/sudo",
        visudo: "/opt/sudo-rs/visudo",
        rust: true,
        honours_star: true,
    };
    comply(&machine, newest)
}
