//! How a build goes on, for whoever shows it.

/// What a build is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Resolving packages to a lock.
    Lock,
    /// Getting wheels.
    Download,
    /// Building from source what the definition names, confined.
    Build,
    /// Installing them, confined.
    Install,
    /// Copying what was installed to root's own files.
    Copy,
    /// Making it fit its final place.
    Relocate,
    /// Compiling the sources.
    Compile,
    /// Hashing all files, writing the manifest, syncing, renaming.
    Seal,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Files.
    Files,
    /// Distributions.
    Distributions,
}

/// How far a stage is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Amount {
    /// So many are done.
    pub done: u64,
    /// Of so many; an estimate for bytes, none where it is not known or was said before.
    pub total: Option<u64>,
    /// What they are.
    pub unit: Unit,
}

/// Hears how a build goes on.
pub trait Progress {
    /// A stage has begun, or has something new to say. `detail` is one line for people, and may be empty.
    fn report(&mut self, stage: Stage, detail: &str);

    /// Something is done that is no stage of a build: a repair has some of its own.
    fn say(&mut self, _text: &str) {}

    /// A stage has come to a distribution.
    fn distribution(&mut self, _stage: Stage, _name: &str) {}

    /// A stage is so far. Called often.
    fn amount(&mut self, _stage: Stage, _amount: Amount) {}

    /// Something is not as it should be, and the build goes its way all the same.
    fn warn(&mut self, _text: &str) {}

    /// A program said something else. It is in the log; this is for a closer look only.
    fn heard(&mut self, _stage: Stage, _line: &str) {}
}

/// Hears nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn report(&mut self, _: Stage, _: &str) {}
}

/// Understands what installers say, and tells what matters of it.
#[derive(Debug)]
pub(super) struct Listener {
    stage: Stage,
    distributions: u64,
    bytes: u64,
}

impl Listener {
    pub(super) fn new(stage: Stage) -> Self {
        Self {
            stage,
            distributions: 0,
            bytes: 0,
        }
    }

    /// Takes one line of output.
    pub(super) fn hear(&mut self, line: &str, progress: &mut dyn Progress) {
        match understand(self.stage, line) {
            Some(Said::Distribution(name)) => {
                progress.distribution(self.stage, &name);
                self.distributions += 1;
                let amount = Amount {
                    done: self.distributions,
                    total: None,
                    unit: Unit::Distributions,
                };
                progress.amount(self.stage, amount);
            }
            Some(Said::Bytes(bytes)) => {
                self.bytes += bytes;
                let amount = Amount {
                    done: self.bytes,
                    total: None,
                    unit: Unit::Bytes,
                };
                progress.amount(self.stage, amount);
            }
            None => progress.heard(self.stage, line),
        }
    }
}

/// What a line means.
#[derive(Debug, PartialEq)]
enum Said {
    /// This one is the next.
    Distribution(String),
    /// So many bytes of it come over the network.
    Bytes(u64),
}

/// Returns what a line of pip or uv means. Both write for people, so a line that is not understood is no error.
fn understand(stage: Stage, line: &str) -> Option<Said> {
    let line = line.trim_start();
    match stage {
        // `Collecting nova==33.0.2 (from -r …)`, `  Downloading nova-33.0.2-py3-none-any.whl (6.0 MB)`
        Stage::Lock | Stage::Download => {
            let collected = line.strip_prefix("Collecting ").map(first_word);
            let collected = collected.map(|name| Said::Distribution(name.replacen("==", " ", 1)));
            let size = || {
                line.strip_prefix("Downloading ")?
                    .rsplit_once(" (")
                    .and_then(|(_, size)| bytes(size))
            };
            collected.or_else(|| size().map(Said::Bytes))
        }
        // uv: ` + nova==33.0.2`. pip: `Processing /dev/shm/wheels/nova-33.0.2-py3-none-any.whl (from -r …)`
        Stage::Install => {
            let installed = line.strip_prefix("+ ").map(|name| name.replacen("==", " ", 1));
            let wheel = || {
                let path = first_word(line.strip_prefix("Processing ")?);
                let mut parts = path.rsplit('/').next()?.splitn(3, '-');
                Some(format!("{} {}", parts.next()?, parts.next()?))
            };
            installed.or_else(wheel).map(Said::Distribution)
        }
        _ => None,
    }
}

fn first_word(text: &str) -> &str {
    text.split_ascii_whitespace().next().unwrap_or_default()
}

/// Reads a size as pip writes it: `6.0 MB)`, `143 kB)`, `912 bytes)`.
fn bytes(text: &str) -> Option<u64> {
    let (number, unit) = text.trim_end().strip_suffix(')')?.split_once(' ')?;
    let (whole, tenths) = number.split_once('.').unwrap_or((number, "0"));
    let tenths = whole.parse::<u64>().ok()?.checked_mul(10)? + tenths.get(..1)?.parse::<u64>().ok()?;
    let scale: u64 = match unit {
        "bytes" => 1,
        "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return None,
    };
    Some(tenths.checked_mul(scale)? / 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pip_and_uv_say_is_understood() {
        let name = |text: &str| Some(Said::Distribution(text.to_owned()));
        for (stage, line, expected) in [
            (
                Stage::Download,
                "Collecting nova==33.0.2 (from -r /dev/shm/input/download.txt (line 1))",
                name("nova 33.0.2"),
            ),
            (Stage::Lock, "Collecting oslo.config>=1", name("oslo.config>=1")),
            (
                Stage::Download,
                "  Downloading nova-33.0.2-py3-none-any.whl (6.0 MB)",
                Some(Said::Bytes(6_000_000)),
            ),
            (
                Stage::Download,
                "  Downloading PyMySQL-1-py3-none-any.whl (44 kB)",
                Some(Said::Bytes(44_000)),
            ),
            (
                Stage::Download,
                "  Downloading x-1.whl.metadata (912 bytes)",
                Some(Said::Bytes(912)),
            ),
            (Stage::Download, "Downloading ovs-3.7.0.tar.gz", None),
            (Stage::Download, "Saved /dev/shm/venvd/download/x.whl", None),
            (Stage::Download, "  Downloading x (99999999999999999999 GB)", None),
            (Stage::Install, " + ovs==3.7.0", name("ovs 3.7.0")),
            (
                Stage::Install,
                "Processing /dev/shm/wheels/oslo_config-1.0-py3-none-any.whl (from -r x)",
                name("oslo_config 1.0"),
            ),
            (Stage::Build, "Collecting setuptools>=40.8.0", None),
            (Stage::Install, "", None),
        ] {
            assert_eq!(understand(stage, line), expected, "{line}");
        }
    }

    #[test]
    fn distributions_and_bytes_add_up() {
        #[derive(Default)]
        struct Heard(Vec<(u64, Unit)>);
        impl Progress for Heard {
            fn report(&mut self, _: Stage, _: &str) {}
            fn amount(&mut self, _: Stage, amount: Amount) {
                self.0.push((amount.done, amount.unit));
            }
        }
        let (mut heard, mut listener) = (Heard::default(), Listener::new(Stage::Download));
        for line in [
            "Collecting a==1",
            "  Downloading a-1.whl (1 kB)",
            "Collecting b==1",
            "  Downloading b-1.whl (2 kB)",
        ] {
            listener.hear(line, &mut heard);
        }
        let (names, bytes) = (Unit::Distributions, Unit::Bytes);
        let expected = [(1, names), (1000, bytes), (2, names), (3000, bytes)];
        assert_eq!(heard.0, expected);
    }
}
