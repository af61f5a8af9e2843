//! log: what became of activations, as the journal has it.
//!
//! Of the journal and not of venvd's own files: those are root's, are kept for the last ones only, and say nothing of a
//! host that doesn't run. Who may read the journal of the system (the groups adm and systemd-journal) sees these, too.

use std::process::{Command, ExitCode, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::unistd::{Uid, User, geteuid};
use serde::Serialize;
use serde_json::Value;
use venvd_app::{AppName, Layout, Scope};
use venvd_bus::event;

use crate::failure::Failure;
use crate::output::{
    self,
    table::{age, table},
};

/// The records of the ends of jobs.
const ENDS: [&str; 4] = [event::DONE, event::REFUSED, event::ROLLED_BACK, event::FAILED];

#[derive(Debug, Serialize)]
struct History {
    jobs: Vec<Job>,
}

/// How a job ended for one app.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Job {
    job: u32,
    /// Seconds since 1970.
    ended: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    started: Option<u64>,
    app: String,
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
    cause: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    caller_uid: Option<u32>,
    result: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

/// Shows the last `lines` of them, the newest last, as journalctl does.
pub(super) fn run(layout: &Layout, (app, lines): (Option<&AppName>, u32), json: bool) -> Result<ExitCode, Failure> {
    let mut journalctl = Command::new("journalctl");
    journalctl
        .args(["--no-pager", "--quiet", "--output=json", &format!("--lines={lines}")])
        .args(ENDS.map(|id| format!("MESSAGE_ID={id}")))
        // Anybody may write a record that looks like ours; whose it is journald knows.
        .arg(format!("_UID={}", owner(layout.scope())))
        .args(app.map(|app| format!("VENVD_APP={app}")));
    if !layout.root().is_host() {
        journalctl.arg("--root").arg(layout.on_disk("/"));
    }
    let output = journalctl
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| Failure::refused("no-journal", format!("cannot run journalctl: {error}")))?;
    if !output.status.success() {
        return Err(Failure::refused(
            "no-journal",
            format!("journalctl failed ({}), and says why above", output.status),
        ));
    }
    let records = String::from_utf8_lossy(&output.stdout);
    let history = History {
        jobs: records.lines().filter_map(Job::read).collect(),
    };
    output::show(&history, json, text)?;
    Ok(ExitCode::SUCCESS)
}

/// Returns as whom venvd runs.
fn owner(scope: Scope) -> Uid {
    match scope {
        Scope::System => Uid::from_raw(0),
        Scope::User => geteuid(),
    }
}

impl Job {
    /// Reads a record, as `journalctl --output=json` prints it; one that is none of ours is skipped.
    fn read(record: &str) -> Option<Self> {
        let record: Value = serde_json::from_str(record).ok()?;
        let field = |name: &str| {
            let text = record.get(name)?.as_str()?;
            (!text.is_empty()).then(|| text.to_owned())
        };
        let microseconds: u64 = field("__REALTIME_TIMESTAMP")?.parse().ok()?;
        Some(Self {
            job: field("VENVD_JOB")?.parse().ok()?,
            ended: microseconds / 1_000_000,
            started: field("VENVD_STARTED").and_then(|started| started.parse().ok()),
            app: field("VENVD_APP")?,
            kind: field("VENVD_KIND")?,
            from: field("VENVD_PREVIOUS"),
            to: field("VENVD_TAG"),
            cause: field("VENVD_CAUSE")?,
            caller_uid: field("VENVD_CALLER_UID").and_then(|uid| uid.parse().ok()),
            result: field("VENVD_RESULT")?,
            code: field("VENVD_CODE"),
            message: field("VENVD_WHY"),
        })
    }

    fn row(&self, now: u64) -> Vec<String> {
        let tag = |tag: &Option<String>| tag.clone().unwrap_or_else(|| "-".to_owned());
        let change = match self.kind.as_str() {
            "activate" => format!("{} → {}", tag(&self.from), tag(&self.to)),
            kind => format!("{kind}, {}", tag(if self.to.is_some() { &self.to } else { &self.from })),
        };
        let who = self.caller_uid.map(name_of);
        let took = self.started.map(|started| self.ended.saturating_sub(started));
        vec![
            self.job.to_string(),
            match age(now.saturating_sub(self.ended)).as_str() {
                "now" => "now".to_owned(),
                age => format!("{age} ago"),
            },
            self.app.clone(),
            change,
            who.map_or_else(|| self.cause.clone(), |who| format!("{} ({who})", self.cause)),
            took.map_or_else(String::new, |took| format!("{took} s")),
            self.result.clone(),
        ]
    }
}

fn name_of(uid: u32) -> String {
    let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    user.map_or_else(|| uid.to_string(), |user| user.name)
}

fn text(history: &History) -> String {
    if history.jobs.is_empty() {
        return "the journal has no activations\n".to_owned();
    }
    // A clock before 1970 is no reason to fail.
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let rows: Vec<Vec<String>> = history.jobs.iter().map(|job| job.row(now)).collect();
    let header = ["JOB", "ENDED", "APP", "CHANGE", "ASKED BY", "TOOK", "RESULT"];
    let mut text = String::new();
    let lines = table(&header, &rows);
    let whys = std::iter::once(None).chain(history.jobs.iter().map(|job| job.message.as_ref()));
    for (line, why) in lines.lines().zip(whys) {
        text.push_str(line);
        text.push('\n');
        if let Some(why) = why {
            text.push_str(&format!("     {}\n", why.replace('\n', " ")));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const DONE: &str = r#"{"__REALTIME_TIMESTAMP": "1790000010500000", "VENVD_JOB": "7", "VENVD_STARTED": "1790000000",
        "VENVD_APP": "nova", "VENVD_KIND": "activate", "VENVD_PREVIOUS": "1", "VENVD_TAG": "2", "VENVD_CAUSE": "dbus",
        "VENVD_CALLER_UID": "0", "VENVD_RESULT": "done", "MESSAGE": "nova:2 is in force (before: nova:1)"}"#;

    fn edited(edits: &[(&str, &str)]) -> Job {
        let mut record: Value = serde_json::from_str(DONE).unwrap();
        for (field, value) in edits {
            record[*field] = Value::from(*value);
        }
        Job::read(&record.to_string()).unwrap()
    }

    #[test]
    fn rows() {
        for (edits, expected) in [
            (
                &[][..],
                ["7", "2 minutes ago", "nova", "1 → 2", "dbus (root)", "10 s", "done"],
            ),
            (
                &[
                    ("VENVD_PREVIOUS", ""),
                    ("VENVD_CALLER_UID", ""),
                    ("VENVD_CAUSE", "link"),
                ],
                ["7", "2 minutes ago", "nova", "- → 2", "link", "10 s", "done"],
            ),
            (
                &[("VENVD_KIND", "disable"), ("VENVD_TAG", ""), ("VENVD_STARTED", "")],
                ["7", "2 minutes ago", "nova", "disable, 1", "dbus (root)", "", "done"],
            ),
            (
                &[("VENVD_KIND", "enable"), ("__REALTIME_TIMESTAMP", "1790000130000000")],
                ["7", "now", "nova", "enable, 2", "dbus (root)", "130 s", "done"],
            ),
        ] {
            assert_eq!(edited(edits).row(1_790_000_130), expected, "{edits:?}");
        }
        for other in ["", "{}", r#"{"MESSAGE": "hello"}"#, &DONE.replace("nova\"", "\"")] {
            assert_eq!(Job::read(other), None, "{other}");
        }
    }

    #[test]
    fn what_failed_says_why_below() {
        let jobs = vec![
            edited(&[]),
            edited(&[
                ("VENVD_JOB", "8"),
                ("VENVD_RESULT", "refused"),
                ("VENVD_WHY", "no\nsuch venv"),
            ]),
        ];
        let text = text(&History { jobs });
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("JOB  ENDED"), "{text}");
        assert!(lines[1].starts_with("7 "), "{text}");
        assert!(lines[2].starts_with("8 ") && lines[2].ends_with("refused"), "{text}");
        assert_eq!(lines[3..], ["     no such venv"]);
        assert_eq!(
            super::text(&History { jobs: Vec::new() }),
            "the journal has no activations\n"
        );
    }
}
