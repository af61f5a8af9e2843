//! Golden trees: `tests/cases/NN-what/{etc,usr,run,proc,home}` in, `expected/` and the lines of `expected.log` out.
//!
//! A case with a `home` is the user manager's of `/home/alice`. Each case runs twice, into two empty directories, and both results must be the same. Where there is a
//! `systemd-analyze`, systemd reads what was made. `UPDATE_EXPECTED=1` writes the results down as expected.

#[cfg(test)]
mod golden {
    use std::collections::BTreeMap;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::{Path, PathBuf};
    use std::process::{Command, Stdio};

    use walkdir::WalkDir;

    const INPUTS: [&str; 5] = ["etc", "usr", "run", "proc", "home"];

    /// What a user's manager gives to generators.
    const USER: [(&str, &str); 4] = [
        ("SYSTEMD_SCOPE", "user"),
        ("HOME", "/home/alice"),
        ("XDG_RUNTIME_DIR", "/run/user/1000"),
        ("PATH", "/home/alice/bin:/usr/bin:/bin"),
    ];

    /// A unit of the cases with a drop-in that comes after ours.
    const SHADOWED: &str = "nova-conductor.service";

    #[test]
    fn cases() {
        let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/cases");
        let mut names: Vec<_> = fs::read_dir(&cases)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        names.sort();
        assert!(names.len() >= 13, "the cases are not all there");
        let update = std::env::var_os("UPDATE_EXPECTED").is_some();
        let mut failures = Vec::new();
        for case in names {
            if let Err(failure) = run_case(&case, update) {
                failures.push(format!("{}: {failure}", case.file_name().unwrap().display()));
            }
        }
        assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    }

    fn run_case(case: &Path, update: bool) -> Result<(), String> {
        let work = tempfile::tempdir().unwrap();
        let root = work.path().join("root");
        for input in INPUTS {
            copy(&case.join(input), &root.join(input));
        }
        let (first, second) = (work.path().join("first"), work.path().join("second"));
        let log = generate(&root, &first);
        assert_eq!(generate(&root, &second), log);
        let read = |directory: &Path| -> BTreeMap<PathBuf, String> {
            let host = |text: String| text.replace(&root.display().to_string(), "");
            tree(directory)
                .into_iter()
                .map(|(path, text)| (path, host(text)))
                .collect()
        };
        let got = read(&first);
        assert_eq!(got, read(&second), "the second run differs");
        if update {
            write_expected(case, &got, &log);
        }
        let (want, want_log) = (tree(&case.join("expected")), read_or_empty(&case.join("expected.log")));
        for path in want.keys().chain(got.keys()) {
            let (want, got) = (want.get(path), got.get(path));
            if want != got {
                return Err(format!("{}\nexpected: {want:#?}\ngot: {got:#?}", path.display()));
            }
        }
        if want_log != log {
            return Err(format!("log\nexpected: {want_log}\ngot: {log}"));
        }
        verify(&root, &first, &got)
    }

    fn is_user(root: &Path) -> bool {
        root.join("home").is_dir()
    }

    fn environment(root: &Path) -> Vec<(&'static str, &'static str)> {
        if is_user(root) {
            USER.to_vec()
        } else {
            vec![("SYSTEMD_SCOPE", "system")]
        }
    }

    /// Runs the generator as systemd does, and returns its log without process ids.
    fn generate(root: &Path, directory: &Path) -> String {
        let made = ["normal", "early", "late"].map(|name| directory.join(name));
        for directory in &made {
            fs::create_dir_all(directory).unwrap();
        }
        let output = Command::new(env!("CARGO_BIN_EXE_venvd-generator"))
            .args(&made)
            .env_clear()
            .env("VENVD_ROOT", root)
            .envs(environment(root))
            .env("SYSTEMD_IN_INITRD", "0")
            .current_dir("/")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
        let log = String::from_utf8(output.stderr)
            .unwrap()
            .replace(&root.display().to_string(), "");
        log.lines()
            .map(|line| format!("{}: {}\n", &line[..3], line.split_once("]: ").unwrap().1))
            .collect()
    }

    /// Lets systemd read each unit below `made`: it may miss the programs, which are not there, and nothing else.
    fn verify(root: &Path, made: &Path, files: &BTreeMap<PathBuf, String>) -> Result<(), String> {
        if Command::new("systemd-analyze").arg("--version").output().is_err() {
            eprintln!("systemd-analyze is missing: systemd's own reading is not checked");
            return Ok(());
        }
        let own = if is_user(root) {
            "home/alice/.config/systemd/user"
        } else {
            "etc/systemd/system"
        };
        let scope = if is_user(root) { "user" } else { "system" };
        let directories = [
            root.join(own),
            made.join("normal"),
            root.join("usr/lib/systemd").join(scope),
            // For what every unit depends on.
            Path::new("/usr/lib/systemd").join(scope),
            Path::new("/lib/systemd").join(scope),
        ];
        let path: Vec<_> = directories
            .iter()
            .map(|directory| directory.display().to_string())
            .collect();
        for (file, text) in files {
            let name = file.iter().nth(1).unwrap().to_str().unwrap();
            let unit = name.strip_suffix(".d").unwrap_or(name).replace("@.", "@example.");
            if ![".service", ".socket", ".timer"]
                .iter()
                .any(|kind| unit.ends_with(kind))
            {
                continue;
            }
            let output = Command::new("systemd-analyze")
                .arg(format!("--{scope}"))
                .args(["verify", "--man=no", "--recursive-errors=no", &unit])
                .env("XDG_RUNTIME_DIR", root)
                .env("SYSTEMD_UNIT_PATH", path.join(":"))
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stderr).replace(&root.display().to_string(), "");
            // It looks for programs on this host, where there are no venvs; else it has nothing to say of us.
            let missing = |line: &str| line.contains("is not executable");
            let of_us = |line: &str| line.starts_with(&unit) || line.contains(&made.display().to_string());
            if let Some(line) = said.lines().find(|line| of_us(line) && !missing(line)) {
                return Err(format!("systemd says of {unit}: {line}"));
            }
            // And so it tells which programs it would have started: all of ours, if nothing has the last word after us.
            for program in programs(text).filter(|_| unit != SHADOWED) {
                let want = format!("{unit}: Command {program} is not executable: No such file or directory");
                if !said.lines().any(|line| line == want) {
                    return Err(format!("systemd does not run {program} for {unit}: {said}"));
                }
            }
        }
        Ok(())
    }

    /// Returns the programs of the venv in the command lines whose failure systemd does not ignore.
    fn programs(text: &str) -> impl Iterator<Item = &str> {
        let lines = text
            .lines()
            .filter_map(|line| line.strip_prefix("Exec")?.split_once('='));
        lines
            .filter(|(key, value)| *key != "SearchPath" && !value.starts_with('-'))
            .filter_map(|(_, value)| {
                let program = value.split(' ').next()?.trim_start_matches(['@', ':', '+', '!']);
                program.contains("/venvs/").then_some(program)
            })
    }

    /// Returns every file and link below a directory, with its text and mode.
    fn tree(directory: &Path) -> BTreeMap<PathBuf, String> {
        let entries = WalkDir::new(directory).min_depth(1).into_iter().filter_map(Result::ok);
        entries
            .filter(|entry| !entry.file_type().is_dir())
            .map(|entry| {
                let path = entry.path().strip_prefix(directory).unwrap().to_owned();
                let text = if entry.path_is_symlink() {
                    format!("-> {}", fs::read_link(entry.path()).unwrap().display())
                } else {
                    let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
                    assert_eq!(mode & 0o133, 0, "{} has mode {mode:o}", entry.path().display());
                    fs::read_to_string(entry.path()).unwrap()
                };
                (path, text)
            })
            .collect()
    }

    fn write_expected(case: &Path, made: &BTreeMap<PathBuf, String>, log: &str) {
        let (directory, log_file) = (case.join("expected"), case.join("expected.log"));
        if directory.exists() {
            fs::remove_dir_all(&directory).unwrap();
        }
        if log_file.exists() {
            fs::remove_file(&log_file).unwrap();
        }
        for (path, text) in made {
            let path = directory.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            match text.strip_prefix("-> ") {
                Some(target) => symlink(target, path).unwrap(),
                None => fs::write(path, text).unwrap(),
            }
        }
        if !log.is_empty() {
            fs::write(log_file, log).unwrap();
        }
    }

    /// Copies a tree with the modes that a package would give it, whatever a checkout made of them.
    fn copy(from: &Path, to: &Path) {
        for entry in WalkDir::new(from).into_iter().filter_map(Result::ok) {
            let target = to.join(entry.path().strip_prefix(from).unwrap());
            if entry.file_type().is_dir() {
                fs::create_dir_all(&target).unwrap();
                fs::set_permissions(&target, fs::Permissions::from_mode(0o755)).unwrap();
            } else if entry.path_is_symlink() {
                symlink(fs::read_link(entry.path()).unwrap(), &target).unwrap();
            } else {
                fs::copy(entry.path(), &target).unwrap();
                let is_program = entry.metadata().unwrap().permissions().mode() & 0o100 != 0;
                let mode = if is_program { 0o755 } else { 0o644 };
                fs::set_permissions(&target, fs::Permissions::from_mode(mode)).unwrap();
            }
        }
    }

    fn read_or_empty(path: &Path) -> String {
        fs::read_to_string(path).unwrap_or_default()
    }
}
