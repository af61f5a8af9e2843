use super::*;
use crate::build::Silent;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;
use venvd_fs::Root;

/// Runs a shell script, confined; returns how that went and what it said.
fn run(directory: &Path, step: Step, script: &str) -> (Result<Left, Error>, String) {
    let mut log = Log::begin(directory.join("log"), directory.join("kept")).unwrap();
    let confined = Confined::new(&Layout::new(Root::at(directory)), directory, &Interrupt::default()).unwrap();
    let job = Job {
        name: "sh",
        program: "/bin/sh".into(),
        arguments: vec!["-c".into(), script.into()],
        environment: Vec::new(),
    };
    let mut ears = Ears {
        log: &mut log,
        progress: &mut Silent,
    };
    let result = confined.phase(step).unwrap().run(&[job], &mut ears);
    let said = fs::read_to_string(directory.join("log")).unwrap();
    (
        result,
        said.split_once('\n').unwrap().1.split_once('\n').unwrap().1.to_owned(),
    )
}

#[test]
fn a_step_is_nobody_and_sees_nothing_of_others() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("secret"), "x").unwrap();
    let script = format!(
        "id -u; id -G; grep -h -E 'CapEff|CapBnd|NoNewPrivs' /proc/self/status; pwd; touch here && echo wrote; \
         for place in / /tmp /var/tmp /dev/shm /etc /run /run/lock {0}; do touch $place/x 2>/dev/null && echo wrote to $place; done; \
         cat {0}/secret 2>/dev/null; ls /tmp; grep -c : /proc/net/dev; env | cut -d= -f1 | sort | tr '\\n' ' '",
        directory.path().display()
    );
    let (result, said) = run(directory.path(), Step::Install, &script);
    let left = result.unwrap();
    let lines: Vec<&str> = said.lines().collect();
    let uid: u32 = lines[0].parse().unwrap();
    assert!(user::USERS.contains(&uid) && lines[1] == lines[0], "{said}");
    assert_eq!(
        lines[2..5],
        [
            "CapEff:\t0000000000000000",
            "CapBnd:\t0000000000000000",
            "NoNewPrivs:\t1"
        ]
    );
    // One network device: the loopback, down.
    assert_eq!(lines[5..8], [INSIDE, "wrote", "1"], "{said}");
    assert_eq!(
        lines[8].trim_end(),
        "HOME LANG LC_ALL PATH PWD PYTHONDONTWRITEBYTECODE TMPDIR"
    );
    assert_eq!(fs::metadata(left.path("here")).unwrap().uid(), uid);
}

#[test]
fn a_step_has_no_terminal_and_no_sockets_of_the_host() {
    let directory = tempfile::tempdir().unwrap();
    // Session and terminal, proc_pid_stat(5).
    let script = "cut -d' ' -f6,7 /proc/self/stat; find /run -type s 2>/dev/null; (: </dev/tty) 2>&1";
    let (result, said) = run(directory.path(), Step::Install, script);
    result.unwrap_err();
    let lines: Vec<&str> = said.lines().collect();
    let (session, terminal) = lines[0].split_once(' ').unwrap();
    let ours = nix::unistd::getsid(None).unwrap();
    assert_ne!(session, ours.to_string(), "{said}");
    assert_eq!(terminal, "0", "{said}");
    assert!(lines.len() == 2 && lines[1].contains("/dev/tty"), "{said}");
}

#[test]
fn what_a_step_leaves_running_ends_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let script = "(trap '' TERM HUP; setsid sleep 300 & while :; do echo alive > beat; sleep 0.02; done) & \
                  until [ -e beat ]; do sleep 0.01; done; echo done";
    let started = std::time::Instant::now();
    let (result, said) = run(directory.path(), Step::Install, script);
    let left = result.unwrap();
    assert_eq!(said, "done\n");
    assert!(started.elapsed() < Duration::from_secs(60));
    let beat = left.path("beat");
    fs::remove_file(&beat).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    assert!(!beat.exists(), "a process of the step still runs");
}

#[test]
fn a_failure_shows_the_last_lines_and_names_the_log() {
    let directory = tempfile::tempdir().unwrap();
    let (result, _) = run(directory.path(), Step::Download, "seq 100; echo why >&2; exit 3");
    let error = result.unwrap_err();
    assert_eq!(error.code(), "download-failed");
    let text = error.to_string();
    assert!(
        text.contains("exit status: 3") && text.contains("    100\n    why\n"),
        "{text}"
    );
    assert!(text.contains("kept") && !text.contains("    80\n"), "{text}");
    let other = tempfile::tempdir().unwrap();
    let (result, _) = run(
        other.path(),
        Step::Install,
        "echo 'cp: No space left on device'; exit 1",
    );
    assert_eq!(result.unwrap_err().code(), "no-space");
}

#[test]
fn what_a_step_leaves_and_says_has_limits() {
    let directory = tempfile::tempdir().unwrap();
    let script = "truncate -s 100G lock.txt; head -c 300000 /dev/zero | tr '\\0' x; echo; echo end";
    let (result, said) = run(directory.path(), Step::Lock, script);
    let left = result.unwrap();
    let text = venvd_fs::report(&left.read("lock.txt").unwrap_err());
    assert!(text.contains("larger"), "{text}");
    assert!(said.lines().count() == 6 && said.ends_with("\nend\n"), "{}", said.len());
}

#[test]
fn what_a_step_says_gives_no_orders_to_a_terminal() {
    let directory = tempfile::tempdir().unwrap();
    let script = r"printf 'a\tb\033]0;title\007\302\2332J\303\251\377\r\n'";
    let (result, said) = run(directory.path(), Step::Install, script);
    result.unwrap();
    assert_eq!(said, "a\tb\u{fffd}]0;title\u{fffd}\u{fffd}2J\u{e9}\u{fffd}\n");
}

#[test]
fn a_tree_is_tried_in_its_final_place_and_can_not_be_changed() {
    let directory = tempfile::tempdir().unwrap();
    let tree = directory.path().join("tree");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("file"), "content").unwrap();
    let place = Path::new("/var/lib/venvd/venvs/demo/not-there");
    let mut log = Log::begin(directory.path().join("log"), directory.path().join("kept")).unwrap();
    let interrupt = Interrupt::default();
    let layout = Layout::new(Root::at(directory.path()));
    let confined = Confined::new(&layout, directory.path(), &interrupt).unwrap();
    let mut phase = confined.phase(Step::Check).unwrap();
    phase.show_at(&tree, place);
    let script = format!("cat {0}/file >said; ! touch {0}/new 2>/dev/null", place.display());
    let job = Job {
        name: "sh",
        program: "/bin/sh".into(),
        arguments: vec!["-c".into(), script.into()],
        environment: Vec::new(),
    };
    let mut ears = Ears {
        log: &mut log,
        progress: &mut Silent,
    };
    let left = phase.run(&[job], &mut ears).unwrap();
    assert_eq!(left.read("said").unwrap(), b"content");
    assert!(!tree.join("new").exists() && !place.exists());
}

#[test]
fn an_interrupt_ends_a_step_and_removes_what_it_made() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = Log::begin(directory.path().join("log"), directory.path().join("kept")).unwrap();
    let interrupt = Interrupt::default();
    let layout = Layout::new(Root::at(directory.path()));
    let confined = Confined::new(&layout, directory.path(), &interrupt).unwrap();
    let job = Job {
        name: "sh",
        program: "/bin/sh".into(),
        arguments: vec!["-c".into(), "echo begun; setsid sleep 3000 & sleep 3000".into()],
        environment: Vec::new(),
    };
    /// Raises the interrupt when the program has begun.
    struct Raise(Interrupt);
    impl Progress for Raise {
        fn report(&mut self, _: Stage, _: &str) {}

        fn heard(&mut self, _: Stage, line: &str) {
            if line == "begun" {
                self.0.raise(2);
            }
        }
    }
    let phase = confined.phase(Step::Install).unwrap();
    let work = phase.work();
    let mut ears = Ears {
        log: &mut log,
        progress: &mut Raise(interrupt.clone()),
    };
    let error = phase.run(&[job], &mut ears).unwrap_err();
    assert_eq!(error.code(), "interrupted", "{error}");
    assert!(!work.exists());
    assert_eq!(
        confined
            .phase(Step::Install)
            .unwrap()
            .run(&[], &mut ears)
            .unwrap_err()
            .code(),
        "interrupted"
    );
}
