//! A terminal in a machine, with somebody at it: tmux.

use std::time::Duration;

use crate::Machine;

/// Longer than any program of these tests takes to answer on a busy host.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A terminal with a shell of root's in it.
#[derive(Debug)]
pub struct Terminal<'a> {
    machine: &'a Machine,
    name: &'static str,
}

impl<'a> Terminal<'a> {
    /// Opens one in which `shell` runs.
    pub fn open(machine: &'a Machine, name: &'static str, shell: &str) -> Self {
        let terminal = Self { machine, name };
        terminal.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", "120", "-y", "24", shell]);
        terminal
    }

    fn tmux(&self, words: &[&str]) -> String {
        let mut command = vec!["env", "LANG=C.UTF-8", "TERM=screen", "tmux", "-L", self.name];
        command.extend(words);
        let output = self.machine.run(&command);
        assert!(output.success(), "{words:?}: {output}");
        output.stdout
    }

    /// Types a text.
    pub fn type_text(&self, text: &str) {
        self.tmux(&["send-keys", "-l", text]);
    }

    /// Presses a key, by tmux's name of it.
    pub fn press(&self, key: &str) {
        self.tmux(&["send-keys", key]);
    }

    /// Types a line.
    pub fn enter(&self, line: &str) {
        self.type_text(line);
        self.press("Enter");
    }

    /// Changes the size.
    pub fn resize(&self, columns: u16, rows: u16) {
        self.tmux(&["resize-window", "-x", &columns.to_string(), "-y", &rows.to_string()]);
    }

    /// Waits until a line is there that begins like this.
    ///
    /// # Panics
    /// When it does not come within [`PATIENCE`].
    pub fn wait_for(&self, beginning: &str) {
        self.wait_until(beginning, |screen| {
            screen.lines().any(|line| line.starts_with(beginning))
        });
    }

    /// Waits until the last line that is not empty is exactly this, but for blanks at its end.
    ///
    /// # Panics
    /// When it does not come within [`PATIENCE`].
    pub fn wait_for_last(&self, line: &str) {
        self.wait_until(line, |screen| screen.trim_end().lines().last() == Some(line));
    }

    /// Waits until what is on it is so.
    ///
    /// # Panics
    /// When it is not within [`PATIENCE`]: with `what`.
    pub fn wait_until(&self, what: &str, mut is_so: impl FnMut(&str) -> bool) {
        let begin = std::time::Instant::now();
        let mut screen = self.screen();
        while !is_so(&screen) {
            assert!(begin.elapsed() < PATIENCE, "not on the terminal: {what}\n{screen}");
            screen = self.screen();
        }
    }

    /// Returns what is on it, and what went out at its upper end.
    #[must_use]
    pub fn screen(&self) -> String {
        let screen = self.tmux(&["capture-pane", "-p", "-S", "-"]);
        screen.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
    }
}
