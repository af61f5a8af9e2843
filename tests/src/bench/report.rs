//! The rows as a table, and as JSON.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::Row;

/// Returns the rows for people.
#[must_use]
pub fn table(rows: &[Row]) -> String {
    let header = ["", "venvd", "peer", "ratio", "goal", "holds"].map(str::to_owned);
    let lines: Vec<[String; 6]> = std::iter::once(header).chain(rows.iter().map(line)).collect();
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let mut text = String::new();
    for line in &lines {
        let cells = line.iter().enumerate();
        let row: Vec<_> = cells
            .map(|(column, cell)| format!("{cell:<width$}", width = width(column)))
            .collect();
        text.push_str(row.join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn line(row: &Row) -> [String; 6] {
    let peers: Vec<_> = row
        .peers
        .iter()
        .map(|(name, figure)| format!("{name} {}", value(*figure, row.unit)))
        .collect();
    let goal = match (row.goal, row.limit) {
        (Some(goal), _) => format!("<= {goal:.2}"),
        (None, Some(limit)) => format!("<= {}", value(limit, row.unit)),
        (None, None) => String::new(),
    };
    [
        format!("{}: {}", row.group, row.name),
        value(row.venvd, row.unit),
        peers.join(", "),
        row.ratio.map_or_else(String::new, |ratio| format!("{ratio:.3}")),
        goal,
        match (row.holds, row.goal.or(row.limit)) {
            (_, None) => "",
            (true, _) => "yes",
            (false, _) => "NO",
        }
        .to_owned(),
    ]
}

impl Row {
    /// Returns the row by itself.
    pub(super) fn line(&self) -> String {
        line(self).join("  ")
    }
}

fn value(figure: f64, unit: &str) -> String {
    let digits = if figure < 10.0 { 3 } else { 1 };
    format!("{figure:.digits$} {unit}")
}

/// Writes the rows as JSON.
///
/// # Errors
/// When the file can't be written.
pub fn write(rows: &[Row], path: &Path) -> Result<()> {
    let mut text = serde_json::to_string_pretty(rows).context("can't write the rows as JSON")?;
    text.push('\n');
    fs::write(path, text).with_context(|| format!("can't write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::contest::Outcome;

    #[test]
    fn a_row_that_does_not_hold_says_so() {
        let outcome = Outcome {
            ours: 0.6,
            peer: "cp -al",
            theirs: 0.8,
            ratio: 0.75,
        };
        let mut rows = [
            Row::against("placing", "s", &outcome, 0.65),
            Row::limited("no-op", "ms", (20.0, 50.0)),
        ];
        rows.iter_mut().for_each(|row| row.group = "core");
        assert_eq!(
            table(&rows),
            concat!(
                "               venvd    peer            ratio  goal        holds\n",
                "core: placing  0.600 s  cp -al 0.800 s  0.750  <= 0.65     NO\n",
                "core: no-op    20.0 ms                         <= 50.0 ms  yes\n",
            )
        );
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bench.json");
        write(&rows, &path).unwrap();
        let json: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(json[0]["peers"]["cp -al"], 0.8);
        assert_eq!(json[0]["holds"], false);
        assert_eq!(json[1]["limit"], 50.0);
        assert!(json[1]["ratio"].is_null());
    }
}
