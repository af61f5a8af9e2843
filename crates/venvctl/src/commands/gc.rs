//! gc: what nothing needs any more.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;
use venvd_app::links::VenvPath;
use venvd_app::{AppName, Layout, VenvName, search};
use venvd_core::collect::{self, Collected, Plan, Reason, Verdict};

use super::require_known;
use crate::failure::Failure;
use crate::output::{
    self,
    table::{right, size, table},
};

/// What was asked for.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) app: Option<AppName>,
    pub(super) keep: Option<u32>,
    pub(super) dry_run: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    dry_run: bool,
    venvs: Vec<Row>,
    /// What dead builds left.
    leftovers: Vec<PathBuf>,
    /// What the store kept for nobody, and is gone; what would go is not looked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    store: Option<Store>,
    /// Bytes that were freed, or would be.
    frees: u64,
    /// What went wrong besides.
    problems: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Store {
    objects: u64,
    bytes: u64,
    /// Venvs whose manifest can't be read: while there is one, what it needs is not known, and nothing goes.
    unread: Vec<PathBuf>,
    /// What lies in the store and is not venvd's.
    stray: Vec<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Row {
    venv: VenvName,
    path: PathBuf,
    result: Outcome,
    /// Why it stays.
    reasons: Vec<Said>,
    /// Bytes on disk that nothing else shares.
    alone: u64,
}

#[derive(Debug, Serialize)]
struct Said {
    #[serde(flatten)]
    reason: Reason,
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Outcome {
    Stays,
    WouldGo,
    Removed,
    Failed,
}

/// Collects venvs.
pub(super) fn run(layout: &Layout, asked: &Asked, json: bool) -> Result<ExitCode, Failure> {
    if let Some(app) = &asked.app {
        require_known(layout, app)?;
    }
    let keep = match asked.keep {
        Some(keep) => keep,
        None => search::load_settings(layout)?.keep,
    };
    let what = collect::Asked {
        app: asked.app.clone(),
        keep,
    };
    let plan = collect::plan(layout, &what)?;
    let report = if asked.dry_run {
        report(&plan, None)
    } else {
        let collected = collect::apply(layout, &what, &plan);
        report(&plan, Some(&collected))
    };
    output::show(&report, json, text)?;
    let failed = !report.problems.is_empty() || report.venvs.iter().any(|row| row.result == Outcome::Failed);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn report(plan: &Plan, collected: Option<&Collected>) -> Report {
    let mut problems = Vec::new();
    let no_failures = BTreeMap::new();
    let failures = collected.map_or(&no_failures, |collected| &collected.failed);
    for (venv, error) in failures {
        problems.push(format!(
            "{} could not be removed: {}",
            venv.name(),
            venvd_fs::report(error)
        ));
    }
    let others = collected.iter().flat_map(|collected| &collected.problems);
    problems.extend(others.map(|error| venvd_fs::report(error)));
    let rows = plan.decisions.iter().map(|decision| {
        let (result, reasons) = match &decision.verdict {
            Verdict::Keep(reasons) => (Outcome::Stays, reasons.clone()),
            Verdict::Go => collected.map_or((Outcome::WouldGo, Vec::new()), |collected| {
                outcome(collected, &decision.venv)
            }),
        };
        Row {
            venv: decision.venv.name().clone(),
            path: decision.venv.path(),
            result,
            reasons: reasons.into_iter().map(Said::from).collect(),
            alone: decision.alone,
        }
    });
    Report {
        dry_run: collected.is_none(),
        venvs: rows.collect(),
        leftovers: collected
            .map_or(&plan.leftovers, |collected| &collected.leftovers)
            .clone(),
        store: collected
            .and_then(|collected| collected.swept.as_ref())
            .map(|swept| Store {
                objects: swept.objects,
                bytes: swept.bytes,
                unread: swept.unread.clone(),
                stray: swept.stray.clone(),
            }),
        frees: collected.map_or(plan.frees, |collected| collected.freed),
        problems,
    }
}

fn outcome(collected: &Collected, venv: &VenvPath) -> (Outcome, Vec<Reason>) {
    match collected.kept.get(venv) {
        Some(reasons) => (Outcome::Stays, reasons.clone()),
        None if collected.removed.contains(venv) => (Outcome::Removed, Vec::new()),
        None => (Outcome::Failed, Vec::new()),
    }
}

impl From<Reason> for Said {
    fn from(reason: Reason) -> Self {
        Self {
            text: reason.to_string(),
            reason,
        }
    }
}

fn text(report: &Report) -> String {
    let mut rows: Vec<Vec<String>> = report.venvs.iter().map(cells).collect();
    right(&mut rows, &[2]);
    let mut text = table(&["VENV", "RESULT", "ALONE", "WHY"], &rows);
    let verb = if report.dry_run { "would be removed" } else { "removed" };
    for leftover in &report.leftovers {
        text.push_str(&format!("{verb}: {}, left by a dead build\n", leftover.display()));
    }
    if let Some(Store {
        objects,
        bytes,
        unread,
        stray,
    }) = &report.store
    {
        if *objects > 0 {
            text.push_str(&format!(
                "{verb}: {objects} files of the store that no venv has, {}\n",
                size(*bytes)
            ));
        }
        for venv in unread {
            text.push_str(&format!(
                "the store keeps all it has: the manifest of {} can't be read\n",
                venv.display()
            ));
        }
        for path in stray {
            text.push_str(&format!(
                "stays: {}, which is none of the store's; move it elsewhere\n",
                path.display()
            ));
        }
    }
    for problem in &report.problems {
        text.push_str(&format!("problem: {problem}\n"));
    }
    let verb = if report.dry_run { "would be freed" } else { "freed" };
    text.push_str(&format!("{verb}: {}\n", size(report.frees)));
    text
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn cells(row: &Row) -> Vec<String> {
    let result = match row.result {
        Outcome::Stays => "stays",
        Outcome::WouldGo => "would go",
        Outcome::Removed => "removed",
        Outcome::Failed => "failed",
    };
    // An error in a definition is shown with its lines; a table has one for each venv.
    let why: Vec<String> = row.reasons.iter().map(|said| one_line(&said.text)).collect();
    let why = match (row.result, why.is_empty()) {
        (Outcome::Removed | Outcome::WouldGo, _) => "not linked, held, new or in use".to_owned(),
        _ => why.join("; "),
    };
    vec![row.venv.to_string(), result.to_owned(), size(row.alone), why]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(venv: &str, result: Outcome, reasons: Vec<Reason>) -> Row {
        Row {
            venv: venv.parse().unwrap(),
            path: "/x".into(),
            result,
            reasons: reasons.into_iter().map(Said::from).collect(),
            alone: 7_200_000,
        }
    }

    #[test]
    fn says_of_each_why_it_stays_or_goes() {
        let report = Report {
            dry_run: true,
            venvs: vec![
                row("nova:1", Outcome::WouldGo, Vec::new()),
                row(
                    "nova:2",
                    Outcome::Stays,
                    vec![Reason::Previous, Reason::Newest { rank: 2, keep: 3 }],
                ),
            ],
            leftovers: vec!["/var/lib/venvd/staging/nova.x".into()],
            store: None,
            frees: 7_200_000,
            problems: Vec::new(),
        };
        let expected = "\
VENV    RESULT    ALONE   WHY
nova:1  would go  7.2 MB  not linked, held, new or in use
nova:2  stays     7.2 MB  previous; among the newest 3
would be removed: /var/lib/venvd/staging/nova.x, left by a dead build
would be freed: 7.2 MB
";
        assert_eq!(text(&report), expected);
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["venvs"][0]["result"], "would-go");
        let reason = serde_json::json!({"code": "newest", "rank": 2, "keep": 3, "text": "among the newest 3"});
        assert_eq!(json["venvs"][1]["reasons"][1], reason);
    }

    #[test]
    fn says_what_the_store_freed_and_keeps_each_venv_on_one_line() {
        let why = "line 1\n  |\n1 | x\n  | ^".to_owned();
        let report = Report {
            dry_run: false,
            venvs: vec![row("nova:1", Outcome::Stays, vec![Reason::Unknown { why }])],
            leftovers: Vec::new(),
            store: Some(Store {
                objects: 2,
                bytes: 8_192,
                unread: vec!["/var/lib/venvd/venvs/nova/1".into()],
                stray: Vec::new(),
            }),
            frees: 0,
            problems: Vec::new(),
        };
        let expected = "\
VENV    RESULT  ALONE   WHY
nova:1  stays   7.2 MB  can't be decided: line 1 | 1 | x | ^
removed: 2 files of the store that no venv has, 8.2 kB
the store keeps all it has: the manifest of /var/lib/venvd/venvs/nova/1 can't be read
freed: 0 B
";
        assert_eq!(text(&report), expected);
    }
}
