//! Random Exec and Environment lines, quoted, continued and commented at random, read by us and by a real systemd.
//!
//! With its log level at debug, `systemd-analyze verify` shows each unit as it loaded it: every command line of every
//! list, and the environment. Without `systemd-analyze` the test says so and passes.

#[cfg(test)]
mod against_systemd {
    use std::collections::BTreeMap;
    use std::fs;
    use std::path::Path;
    use std::process::Command;

    use venvd_unit::effective::{EXEC_KEYS, Unit, load};
    use venvd_unit::{UnitFiles, UnitId};

    /// How many units a run makes; `VENVD_RANDOM_UNITS` says otherwise.
    const UNITS: usize = 500;

    /// What lines are made of. None begins with a letter that makes a line break of a backslash before it: what
    /// systemd shows has one line per command.
    const PARTS: [&str; 40] = [
        "/no/p1",
        "/no/p2",
        "/no//p3",
        "/no/./p4",
        "prog5",
        "'/no/p6'",
        "\"/no/p7\"",
        "/no/\"p8\"",
        r"/no/\x70\x39",
        "el/p",
        " ",
        " ",
        " ",
        " ",
        "  ",
        "\t",
        " ; ",
        " ; ",
        ";",
        r" \; ",
        "-",
        "@",
        ":",
        "+",
        "!",
        "!!",
        "'",
        "\"",
        "\\",
        "\\\\",
        "\\\n",
        "\\\n",
        " \\\n# comment\n",
        " \\\n; comment \\\n",
        "$X",
        "${X}",
        "%%",
        r"\q",
        "\u{e4}",
        "c=b",
    ];

    /// xorshift: the same lines in every run.
    struct Random(u64);

    impl Random {
        fn below(&mut self, limit: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            usize::try_from(self.0 % u64::try_from(limit).unwrap()).unwrap()
        }

        fn line(&mut self) -> String {
            let length = 1 + self.below(10);
            let program = PARTS[self.below(10)];
            let prefix = if self.below(3) == 0 {
                PARTS[20 + self.below(6)]
            } else {
                ""
            };
            let rest: String = (0..length).map(|_| PARTS[self.below(PARTS.len())]).collect();
            format!("{prefix}{program} {rest}")
        }

        fn file(&mut self) -> String {
            let mut text = String::from("[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStop=/no/stop\n");
            for _ in 0..1 + self.below(4) {
                match self.below(10) {
                    0 => text.push_str("ExecStart=\n"),
                    1 => text.push_str(&format!("ExecStartPre = {}\n", self.line())),
                    2 => text.push_str(&format!("Environment=A=1 {}\n", self.line())),
                    _ => text.push_str(&format!("ExecStart={}\n", self.line())),
                }
            }
            text
        }
    }

    /// A unit as somebody reads it: its command lines by key, and its environment; none when it can't be loaded.
    #[derive(Debug, Default, PartialEq, Eq)]
    struct Reading {
        loaded: bool,
        lists: BTreeMap<String, Vec<Vec<String>>>,
        environment: Vec<String>,
    }

    #[test]
    fn both_read_the_same() {
        if Command::new("systemd-analyze").arg("--version").output().is_err() {
            eprintln!("systemd-analyze is missing: nothing is compared");
            return;
        }
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("etc/systemd/system");
        let units = std::env::var("VENVD_RANDOM_UNITS").map_or(UNITS, |number| number.parse().unwrap());
        let mut random = Random(0x0076_656e_7664);
        for number in 0..units {
            let unit = directory.join(format!("u{number}.service"));
            fs::create_dir_all(&directory).unwrap();
            fs::write(&unit, random.file()).unwrap();
            if random.below(2) == 0 {
                let dropin = directory.join(format!("u{number}.service.d/x.conf"));
                fs::create_dir_all(dropin.parent().unwrap()).unwrap();
                fs::write(dropin, random.file()).unwrap();
            }
        }
        let mut theirs = read_by_systemd(&directory, units);
        let files = UnitFiles::scan(root.path());
        let mut commands = 0;
        for number in 0..units {
            let name = format!("u{number}.service");
            let ours = read_by_us(&files, &name);
            let theirs = theirs.remove(&name).unwrap_or_default();
            let text = fs::read_to_string(directory.join(&name)).unwrap();
            let dropin = fs::read_to_string(directory.join(format!("{name}.d/x.conf"))).unwrap_or_default();
            assert_eq!(ours.loaded, theirs.loaded, "{name}:\n{text}\n--- drop-in\n{dropin}");
            if ours.loaded {
                assert_eq!(ours, theirs, "{name}:\n{text}\n--- drop-in\n{dropin}");
                commands += ours.lists.values().flatten().count();
            }
        }
        assert!(
            commands > units,
            "the lines are too wild to say much: {commands} commands"
        );
    }

    fn read_by_systemd(directory: &Path, units: usize) -> BTreeMap<String, Reading> {
        let paths = (0..units).map(|number| directory.join(format!("u{number}.service")));
        let output = Command::new("systemd-analyze")
            .args(["verify", "--man=no", "--recursive-errors=no"])
            .args(paths)
            .env("SYSTEMD_UNIT_PATH", format!("{}:", directory.display()))
            .env("SYSTEMD_LOG_LEVEL", "debug")
            .output()
            .unwrap();
        let mut readings: BTreeMap<String, Reading> = BTreeMap::new();
        let mut unit = String::new();
        let mut list = String::new();
        for line in String::from_utf8_lossy(&output.stdout).lines().map(str::trim_start) {
            if let Some(name) = line.strip_prefix("-> Unit ") {
                unit = name.trim_end_matches(':').to_owned();
            } else if let Some(name) = line.strip_prefix("-> Exec") {
                list = format!("Exec{}", name.trim_end_matches(':'));
            }
            let reading = readings.entry(unit.clone()).or_default();
            if let Some(state) = line.strip_prefix("Unit Load State: ") {
                reading.loaded = state == "loaded";
            } else if let Some(command) = line.strip_prefix("Command Line: ") {
                reading.lists.entry(list.clone()).or_default().push(unquote(command));
            } else if let Some(variable) = line.strip_prefix("Environment: ") {
                reading.environment.push(variable.to_owned());
            }
        }
        readings
    }

    /// Takes apart what `quote_command_line()` put together: blanks between words, some of them in double quotes.
    fn unquote(line: &str) -> Vec<String> {
        let mut words = vec![String::new()];
        let mut quoted = false;
        let mut characters = line.chars();
        while let Some(character) = characters.next() {
            match (character, words.last_mut()) {
                ('"', _) => quoted = !quoted,
                ('\\', Some(word)) if quoted => word.extend(characters.next().map(|c| if c == 't' { '\t' } else { c })),
                (' ', _) if !quoted => words.push(String::new()),
                (other, Some(word)) => word.push(other),
                (_, None) => {}
            }
        }
        words
    }

    fn read_by_us(files: &UnitFiles, name: &str) -> Reading {
        let Unit::Loaded(unit) = load(files, &UnitId::parse(name).unwrap()) else {
            return Reading::default();
        };
        let mut reading = Reading {
            loaded: true,
            ..Reading::default()
        };
        for key in EXEC_KEYS {
            let commands = unit.commands(key).into_iter().flat_map(|(_, line)| &line.commands);
            let words: Vec<_> = commands.map(arguments).collect();
            if !words.is_empty() {
                reading.lists.insert(key.to_owned(), words);
            }
        }
        let variables = unit.environment().into_iter();
        reading.environment = variables
            .map(|(name, value)| format!("{name}={}", expand(&value)))
            .collect();
        reading
    }

    fn arguments(command: &venvd_unit::command::Command) -> Vec<String> {
        let program = Some(&command.program).filter(|_| !command.prefixes.argv0);
        program
            .into_iter()
            .chain(&command.arguments)
            .map(|word| expand(word))
            .collect()
    }

    /// The one specifier that the lines have.
    fn expand(word: &str) -> String {
        word.replace("%%", "%")
    }
}
