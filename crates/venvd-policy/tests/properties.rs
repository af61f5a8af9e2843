//! Whatever a definition holds: what is written parses in each visudo, and means what was meant and nothing else.
//!
//! `VENVD_RANDOM_POLICIES` is how many random policies are tried (300), `VENVD_RANDOM_SEED` which ones. The oracle is
//! `cvtsudoers`; without it, and without a visudo, there is nothing to compare with, and the test says so and passes, unless
//! `VENVD_SUDOS` says of how many families (sudo, sudo-rs) there must be a visudo: `make test` does.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use venvd_app::value::SudoCommand;
use venvd_app::{AppName, UserName, VenvName};
use venvd_policy::sudoers::model::{PlainPath, Rule, SecurePath, path_file, rules_file};

#[cfg(test)]
mod meaning;

use meaning::{Meaning, ORACLE};

/// splitmix64: a few lines, the same everywhere, and good enough to choose texts.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap_or_default() % end
    }

    fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }

    fn of<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[self.below(choices.len())]
    }
}

const USERS: &[&str] = &["nova", "cinder", "_stack", "a-b", "u1", "x_y-9", "root", "nobody"];
const HOSTILE_USERS: &[&str] = &[
    "NOVA",
    "ALL",
    "%wheel",
    "#0",
    "+net",
    "nova,root",
    "!nova",
    "no va",
    "nova\nroot",
    "",
    "-",
    "é",
];
const APPS: &[&str] = &["nova", "a", "cinder_x", "z9-"];
const TAGS: &[&str] = &["1", "29.2.0", "A_b.c-d", "0", "x.y"];
const PROGRAMS: &[&str] = &["nova-rootwrap", "nova-rootwrap-daemon", "x", "a.b", "N", "p_1"];
const HOSTILE_PROGRAMS: &[&str] = &[
    "", "/bin/sh", "../x", "a b", "ALL", "a,b", "a#b", "sudoedit", "!x", "a\nb", "*", "list", "x\\",
];
const ARGUMENTS: &[&str] = &[
    "/etc/nova/rootwrap.conf",
    "--config-file",
    "a",
    "-",
    ".",
    "a@b",
    "x+y",
    "1",
    "/",
    "//a",
    "ALL",
    "_",
];
/// All that means something to sudoers(5), to a glob, a shell or a terminal.
const HOSTILE: &[&str] = &[
    " ",
    "  ",
    "\t",
    "\n",
    "\r",
    "\r\n",
    "\0",
    "\"",
    "'",
    "\\",
    "\\\n",
    "#",
    "#include /tmp/x",
    "@include /tmp/x",
    "!",
    ",",
    ", ALL",
    ":",
    "=",
    "*",
    "?",
    "[a]",
    "[!a]",
    "^",
    "^.*$",
    "$",
    "(",
    ")",
    "(ALL)",
    "%",
    "&",
    ";",
    "|",
    "<",
    ">",
    "`",
    "{",
    "}",
    "~",
    "é",
    "\u{a0}",
    "\u{202e}",
    "\u{feff}",
    "\u{7f}",
    "\u{1b}[2J",
    "..",
    "/../",
    "\nroot ALL=(ALL) NOPASSWD: ALL\n",
    "NOPASSWD:",
    "sha256:0",
    "\"\"",
    "ALL=",
];

/// A definition's policy, as text, before anything looked at it.
#[derive(Debug)]
struct Input {
    user: String,
    venvs: Vec<String>,
    commands: Vec<String>,
    system: Vec<String>,
}

/// Returns a text with something hostile put somewhere into it.
fn spoiled(random: &mut Random, text: &str) -> String {
    let hostile = random.of(HOSTILE);
    let places: Vec<usize> = text
        .char_indices()
        .map(|(index, _)| index)
        .chain([text.len()])
        .collect();
    let at = places[random.below(places.len())];
    format!("{}{hostile}{}", &text[..at], &text[at..])
}

/// Two of three inputs are sound, so that much is written; the others have something hostile in one place.
fn input(random: &mut Random) -> Input {
    let app = random.of(APPS);
    let mut commands = Vec::new();
    for _ in 0..=random.below(3) {
        let mut command = random.of(PROGRAMS).to_owned();
        for _ in 0..=random.below(4) {
            command.push(' ');
            command.push_str(random.of(ARGUMENTS));
        }
        command.push_str(if random.one_in(3) { " *" } else { "" });
        commands.push(command);
    }
    let mut input = Input {
        user: random.of(USERS).to_owned(),
        venvs: (0..=random.below(2))
            .map(|_| format!("{app}:{}", random.of(TAGS)))
            .collect(),
        commands,
        system: ["/usr/sbin", "/usr/bin", "/opt/x/bin"].map(str::to_owned).to_vec(),
    };
    if random.one_in(3) {
        match random.below(6) {
            0 => input.user = random.of(HOSTILE_USERS).to_owned(),
            1 => input.user = spoiled(random, &input.user.clone()),
            2 => input.venvs[0] = spoiled(random, &input.venvs[0].clone()),
            3 => input.system[1] = spoiled(random, &input.system[1].clone()),
            4 => input.commands[0] = format!("{} /etc/x", random.of(HOSTILE_PROGRAMS)),
            _ => input.commands[0] = spoiled(random, &input.commands[0].clone()),
        }
    }
    input
}

/// Writes a policy, as the planner does; `None` when anything in it is refused.
fn written(input: &Input) -> Option<(String, Meaning)> {
    let user: UserName = input.user.parse().ok()?;
    let mut meaning = Meaning::default();
    let (mut rules, mut bins) = (Vec::new(), Vec::new());
    let mut app: Option<AppName> = None;
    for venv in &input.venvs {
        let name: VenvName = venv.parse().ok()?;
        let bin = format!("/var/lib/venvd/venvs/{}/{}/bin", name.app(), name.tag());
        app = Some(name.app().clone());
        for text in &input.commands {
            let command = SudoCommand::try_from(text.clone()).ok()?;
            let path = format!("{bin}/{}", command.program);
            rules.push(Rule::new(&user, Path::new(&path), &command).ok()?);
            // What the definition says, with the program's path in front: nothing of it is lost or added.
            meaning.grants.insert((input.user.clone(), format!("{bin}/{text}")));
        }
        bins.push(PlainPath::new(Path::new(&bin)).ok()?);
    }
    let system = input.system.iter().map(|path| PlainPath::new(Path::new(path)).ok());
    let path = SecurePath::new(bins, &system.collect::<Option<Vec<_>>>()?);
    meaning.paths.insert((input.user.clone(), path.to_string()));
    let text = rules_file(&app?, &rules) + &path_file(&user, &path).ok()?;
    Some((text, meaning))
}

/// Each visudo of this host: sudo's, sudo-rs's, and the newest sudo-rs in the cache of the machine tests.
fn visudos() -> Vec<PathBuf> {
    let cache = env::var_os("VENVD_CACHE").map_or_else(|| PathBuf::from("/var/tmp/venvd"), PathBuf::from);
    let built = fs::read_dir(cache.join("tools")).into_iter().flatten().flatten();
    let built = built
        .map(|entry| entry.path())
        .filter(|path| path.to_string_lossy().contains("/sudo-rs-"));
    let known = ["/usr/sbin/visudo", "/usr/bin/visudo-rs"]
        .map(PathBuf::from)
        .into_iter();
    known
        .chain(built.map(|path| path.join("bin/visudo")))
        .filter(|path| path.exists())
        .collect()
}

fn number(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| {
        text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number"))
    })
}

#[test]
fn what_is_written_is_what_was_meant() {
    let visudos = visudos();
    let needed = number("VENVD_SUDOS", 0);
    let is_rust = |visudo: &PathBuf| {
        let said = Command::new(visudo).arg("--version").output().unwrap().stdout;
        let said = String::from_utf8(said).unwrap();
        said.contains("visudo-rs") || said.contains("version 0.")
    };
    let families: BTreeSet<bool> = visudos.iter().map(is_rust).collect();
    assert!(
        families.len() as u64 >= needed && (needed == 0 || Path::new(ORACLE).exists()),
        "cvtsudoers, and visudo of {needed} families, are needed, found {visudos:?}; run `make test`, which fetches them"
    );
    if !Path::new(ORACLE).exists() || visudos.is_empty() {
        eprintln!("SKIPPED: there is no cvtsudoers; install sudo to run this test");
        return;
    }
    let (many, seed) = (number("VENVD_RANDOM_POLICIES", 300), number("VENVD_RANDOM_SEED", 1));
    let mut random = Random(seed);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("policy");
    let (mut accepted, mut refused) = (0, 0);
    for index in 0..many {
        let input = input(&mut random);
        let Some((text, meant)) = written(&input) else {
            refused += 1;
            continue;
        };
        accepted += 1;
        let context = format!("policy {index} of seed {seed}: {input:?}\n{text}");
        fs::write(&file, &text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o440)).unwrap();
        for visudo in &visudos {
            let said = Command::new(visudo).arg("-c").arg("-f").arg(&file).output().unwrap();
            assert!(said.status.success(), "{}: {said:?}\n{context}", visudo.display());
        }
        assert_eq!(Meaning::of(&file), meant, "{context}");
    }
    println!("{accepted} policies were written and read back by {visudos:?}, {refused} refused");
    assert!(
        accepted >= many / 2 && refused >= many / 10,
        "{accepted} written, {refused} refused"
    );
}

/// Wherever something hostile stands, the policy is refused, or means nothing else: tried for all of them in all places.
#[test]
fn nothing_hostile_gets_through_anywhere() {
    for hostile in HOSTILE {
        let sound = || Input {
            user: "nova".to_owned(),
            venvs: vec!["nova:1".to_owned()],
            commands: vec!["nova-rootwrap /etc/nova/rootwrap.conf".to_owned()],
            system: vec!["/usr/bin".to_owned()],
        };
        assert!(written(&sound()).is_some());
        for place in 0..=sound().commands[0].len() {
            for field in 0..4 {
                let mut input = sound();
                let text = match field {
                    0 => &mut input.user,
                    1 => &mut input.venvs[0],
                    2 => &mut input.commands[0],
                    _ => &mut input.system[0],
                };
                if place > text.len() {
                    continue;
                }
                text.insert_str(place, hostile);
                let Some((text, meant)) = written(&input) else { continue };
                // `..` in a word is no parent, `*` as the last word is what it is, a blank parts words, `@` begins no argument's line.
                let harmless =
                    ["..", " ", ":", "@include /tmp/x"].contains(hostile) || (*hostile == "*" && text.contains(" *\n"));
                assert!(harmless, "{hostile:?} got through: {input:?}\n{text}");
                for line in text.lines().filter(|line| !line.starts_with("# ")) {
                    assert!(
                        line.starts_with("nova ALL=(root) NOPASSWD: NOSETENV: /") || line.starts_with("Defaults:nova "),
                        "{line}"
                    );
                }
                assert!(meant.grants.iter().all(|(user, _)| user == "nova"), "{meant:?}");
            }
        }
    }
}
