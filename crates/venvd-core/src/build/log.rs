//! The log of a build: all output of all its steps, and its last lines for errors.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use venvd_fs::IoContext;

/// How much of a log an error shows.
const TAIL: usize = 15;

/// How much output of one program is kept, in bytes: one that says more would fill the disk with it.
const MOST: usize = 16 << 20;

/// A log that is being written.
#[derive(Debug)]
pub(super) struct Log {
    file: File,
    path: PathBuf,
    /// Where it goes when the build fails.
    kept: PathBuf,
    tail: VecDeque<String>,
    /// How much has been written since the heading.
    written: usize,
}

impl Log {
    /// Begins a log at `path`, which `kept` will be the name of if the build fails.
    pub(super) fn begin(path: PathBuf, kept: PathBuf) -> Result<Self, venvd_fs::Error> {
        // For root only, also when it is kept: it has the address of the index, which may have a password in it.
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(&path);
        let file = file.at("create the log", &path)?;
        Ok(Self {
            file,
            path,
            kept,
            tail: VecDeque::new(),
            written: 0,
        })
    }

    /// Writes what begins now; the tail starts anew.
    pub(super) fn heading(&mut self, text: &str) -> Result<(), venvd_fs::Error> {
        self.tail.clear();
        self.written = 0;
        writeln!(self.file, "\n== {text}").at("write the log", &self.path)
    }

    /// Writes a line of output, unless there was too much of it.
    pub(super) fn line(&mut self, line: &str) -> Result<(), venvd_fs::Error> {
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(line.to_owned());
        if self.written > MOST {
            return Ok(());
        }
        self.written += line.len() + 1;
        let line = if self.written > MOST { "… and so on" } else { line };
        writeln!(self.file, "{line}").at("write the log", &self.path)
    }

    /// Returns the last lines, indented.
    pub(super) fn tail(&self) -> String {
        let lines: Vec<String> = self.tail.iter().map(|line| format!("    {line}")).collect();
        lines.join("\n")
    }

    /// Returns whether a program said that there is no space left (strerror(3), or uv's way of saying it).
    pub(super) fn says_full(&self) -> bool {
        let phrases = ["No space left on device", "Disk quota exceeded", "os error 28"];
        self.tail
            .iter()
            .any(|line| phrases.iter().any(|phrase| line.contains(phrase)))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn kept(&self) -> &Path {
        &self.kept
    }

    /// Keeps the log of a failed build under its final name.
    pub(super) fn keep(&self) -> Result<(), venvd_fs::Error> {
        std::fs::rename(&self.path, &self.kept).at("keep the log as", &self.kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_says_too_much_is_not_written_down() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut log = Log::begin(path.clone(), directory.path().join("kept")).unwrap();
        log.heading("build").unwrap();
        let line = "y".repeat(1 << 20);
        for _ in 0..40 {
            log.line(&line).unwrap();
        }
        log.line("the last").unwrap();
        log.heading("install").unwrap();
        log.line("heard again").unwrap();
        assert!(log.tail().ends_with("heard again"));
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.len() < MOST + 1024, "{}", text.len());
        assert!(text.ends_with("… and so on\n\n== install\nheard again\n"));
    }
}
