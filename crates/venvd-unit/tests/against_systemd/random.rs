//! Random text of unit files, the same in every run.

use std::fmt::Write;

/// How many units a run makes unless `VENVD_RANDOM_UNITS` says otherwise.
const UNITS: usize = 500;

/// What lines are made of. None begins with a letter that makes a line break of a backslash before it: what systemd
/// shows has one line per command. The programs come first, then the blanks, then the prefixes.
const PARTS: [&str; 44] = [
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
    "/no/%%p",
    "/no/%i",
    " ",
    " ",
    " ",
    " ",
    "  ",
    "\t",
    " ; ",
    " ; ",
    "-",
    "@",
    ":",
    "+",
    "!",
    "!!",
    ";",
    r" \; ",
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
    "%i",
    "%-",
    r"\q",
    "\u{e4}",
    "c=b",
];
const PROGRAMS: usize = 12;
const PREFIXES: std::ops::Range<usize> = 20..26;

/// xorshift.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new() -> Self {
        let seed = std::env::var("VENVD_RANDOM_SEED").map_or(0, |seed| seed.parse().unwrap());
        eprintln!("VENVD_RANDOM_SEED={seed}");
        Self(0x0076_656e_7664 ^ (seed << 32))
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(limit).unwrap()).unwrap()
    }

    /// Once in `times`.
    pub(crate) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub(crate) fn of<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.below(all.len())]
    }

    fn line(&mut self) -> String {
        let length = 1 + self.below(10);
        let program = PARTS[self.below(PROGRAMS)];
        let prefix = if self.once_in(3) {
            PARTS[PREFIXES.start + self.below(PREFIXES.len())]
        } else {
            ""
        };
        let rest: String = (0..length).map(|_| PARTS[self.below(PARTS.len())]).collect();
        format!("{prefix}{program} {rest}")
    }

    /// A line that a drop-in or a unit may have, without its end.
    fn setting(&mut self) -> String {
        match self.below(24) {
            0 | 1 => self
                .of(&["ExecStart=", "ExecStartPre=", "Environment=", "ExecSearchPath="])
                .to_owned(),
            2 | 3 => format!("ExecStartPre = {}", self.line()),
            4 => format!("ExecReload={}", self.line()),
            5..=7 => format!("Environment=A=1 {}", self.line()),
            8 => format!("Environment=B={} 'C=x %i' \"D=%%\"", self.below(9)),
            9 => self
                .of(&["ExecSearchPath=/a:/b", "ExecSearchPath=/c:d:/e", "ExecSearchPath=/%i"])
                .to_owned(),
            10 => self
                .of(&["User=nova", "User=no:va", "WorkingDirectory=rel", "DynamicUser=?"])
                .to_owned(),
            11 => self.of(&["[X-Own]", "[Unit]", "[Nonsense]"]).to_owned(),
            12 => "[Service]".to_owned(),
            13 => self
                .of(&["nothing", "=x", "X-Own=1", "# ExecStart=/no/c", "; x \\", "\u{c}# x"])
                .to_owned(),
            14 if self.once_in(4) => "ExecStart=/no/%Q".to_owned(),
            15 if self.once_in(4) => "[broken".to_owned(),
            _ => format!("ExecStart={}", self.line()),
        }
    }

    /// Like [`Self::file`], with less that makes systemd refuse a whole unit.
    pub(crate) fn unit(&mut self) -> Vec<u8> {
        loop {
            let bytes = self.file();
            let text = String::from_utf8_lossy(&bytes);
            let wild = [
                "el/p",
                "%Q",
                "[broken",
                "no:va",
                "=rel",
                "DynamicUser",
                "\u{fffd}",
                "\u{ffff}",
            ];
            if self.once_in(8) || !wild.iter().any(|part| text.contains(part)) {
                return bytes;
            }
        }
    }

    /// The text of a unit or drop-in. It can be loaded without any ExecStart=.
    pub(crate) fn file(&mut self) -> Vec<u8> {
        let mut text = String::new();
        if self.once_in(8) {
            text.push('\u{feff}');
        }
        text.push_str("[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStop=/no/stop\n");
        for _ in 0..1 + self.below(4) {
            writeln!(text, "{}", self.setting()).unwrap();
        }
        if self.once_in(8) {
            text.pop();
        }
        let mut bytes = match self.below(12) {
            0 => text.replace('\n', "\r\n").into_bytes(),
            1 => text.replace('\n', "\r").into_bytes(),
            2 => text.replace('\n', "\n\0").into_bytes(),
            _ => text.into_bytes(),
        };
        match self.below(16) {
            0 => bytes.extend_from_slice(b"# \xff\nExecReload=/no/r1\n"),
            1 => bytes.extend_from_slice(b"X-A=\xff\nExecReload=/no/r2\n"),
            2 => bytes.extend_from_slice(b"X-A=\xef\xbf\xbf\nExecReload=/no/r3\n"),
            3 => bytes.extend_from_slice(b"ExecReload=/no/r4 x\\"),
            _ => {}
        }
        bytes
    }
}

/// Returns how many units to make.
pub(crate) fn units() -> usize {
    std::env::var("VENVD_RANDOM_UNITS").map_or(UNITS, |number| number.parse().unwrap())
}
