//! The kernel log: the only one there is when generators run (systemd.generator(7)).

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileTypeExt;

use venvd_fs::Root;

/// The kernel takes records of at most this many bytes (`LOG_LINE_MAX`), less some for its own prefix.
const RECORD_LIMIT: usize = 900;

/// How grave a message is; the numbers are those of syslog(3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Something could not be written.
    Error = 3,
    /// Something was skipped.
    Warning = 4,
}

/// A line for the kernel log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// How grave it is.
    pub level: Level,
    /// What it says.
    pub text: String,
}

impl Message {
    /// Returns a message that something was skipped.
    #[must_use]
    pub fn warning(text: String) -> Self {
        Self {
            level: Level::Warning,
            text,
        }
    }

    /// Returns a message that something could not be written.
    #[must_use]
    pub fn error(text: String) -> Self {
        Self {
            level: Level::Error,
            text,
        }
    }

    /// Returns the record: the text's first line, as the rest shows a place in a file; the report has all of it.
    fn record(&self) -> String {
        let first = self.text.lines().next().unwrap_or_default();
        let mut text: String = first.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let mut end = text.len().min(RECORD_LIMIT);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        format!(
            "<{}>venvd-generator[{}]: {text}\n",
            self.level as u8,
            std::process::id()
        )
    }
}

/// Writes the messages to `/dev/kmsg` below `root`, to standard error when that can't be had.
pub fn log(root: &Root, messages: &[Message]) {
    let path = root.join("/dev/kmsg");
    // In some containers it is a pipe that nobody reads: opening that would wait for ever.
    let usable = fs::metadata(&path).is_ok_and(|data| !data.file_type().is_fifo());
    let mut kmsg: Option<File> = Some(path)
        .filter(|_| usable)
        .and_then(|p| OpenOptions::new().write(true).open(p).ok());
    for message in messages {
        let record = message.record();
        // One write is one record: that is why the lines are not joined.
        let told = kmsg
            .as_mut()
            .is_some_and(|file| file.write_all(record.as_bytes()).is_ok());
        if !told {
            // The last place there is: that it fails too can be told to nobody.
            let _ = std::io::stderr().write_all(record.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line() {
        let record = Message::warning("a\tb c\n  d".to_owned()).record();
        assert!(record.starts_with("<4>venvd-generator["), "{record}");
        assert!(record.ends_with("]: a b c\n"), "{record}");
        let long = Message::error("ä".repeat(2000)).record();
        assert!(long.len() < 1000 && long.starts_with("<3>"));
    }

    #[test]
    fn writes_below_the_root() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("dev")).unwrap();
        std::fs::write(root.path().join("dev/kmsg"), "").unwrap();
        log(&Root::at(root.path()), &[Message::warning("skipped".to_owned())]);
        assert!(
            std::fs::read_to_string(root.path().join("dev/kmsg"))
                .unwrap()
                .ends_with(": skipped\n")
        );
    }
}
