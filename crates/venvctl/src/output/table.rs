//! Tables for people.

/// Returns rows as aligned columns, without trailing blanks; nothing when there are none.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let header: Vec<String> = header.iter().map(|&cell| cell.to_owned()).collect();
    let lines: Vec<&Vec<String>> = std::iter::once(&header).chain(rows).collect();
    let width = |column: usize| {
        lines
            .iter()
            .filter_map(|line| line.get(column))
            .map(|cell| cell.chars().count())
            .max()
    };
    let mut text = String::new();
    for line in &lines {
        let mut row = String::new();
        for (column, cell) in line.iter().enumerate() {
            row.push_str(&format!("{cell:<width$}  ", width = width(column).unwrap_or(0)));
        }
        text.push_str(row.trim_end());
        text.push('\n');
    }
    text
}

/// Returns a size as people read it.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["B", "kB", "MB", "GB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{bytes} B")
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

/// Returns a time span as people tell it.
pub(crate) fn age(seconds: u64) -> String {
    const DAY: u64 = 86_400;
    const UNITS: [(u64, &str); 5] = [
        (365 * DAY, "year"),
        (7 * DAY, "week"),
        (DAY, "day"),
        (3_600, "hour"),
        (60, "minute"),
    ];
    // Eleven days say more than one week.
    let unit = UNITS.iter().find(|(length, _)| seconds >= *length * 2);
    match unit {
        Some((length, name)) => format!("{} {name}s", seconds / length),
        None if seconds >= 60 => "1 minute".to_owned(),
        None => "now".to_owned(),
    }
}

/// Aligns columns of numbers with each other at their right.
pub(crate) fn right(rows: &mut [Vec<String>], columns: &[usize]) {
    for column in columns {
        let cells = rows.iter().filter_map(|row| row.get(*column));
        let width = cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
        for cell in rows.iter_mut().filter_map(|row| row.get_mut(*column)) {
            *cell = format!("{cell:>width$}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align() {
        let rows = vec![vec!["a".into(), "bcd".into()], vec!["long".into(), String::new()]];
        assert_eq!(table(&["X", "Y"], &rows), "X     Y\na     bcd\nlong\n");
        assert_eq!(table(&["X"], &[]), "");
    }

    #[test]
    fn ages() {
        for (seconds, said) in [
            (0, "now"),
            (119, "1 minute"),
            (120, "2 minutes"),
            (7_199, "119 minutes"),
            (7_200, "2 hours"),
            (11 * 86_400, "11 days"),
            (15 * 86_400, "2 weeks"),
            (729 * 86_400, "104 weeks"),
            (730 * 86_400, "2 years"),
        ] {
            assert_eq!(age(seconds), said);
        }
    }

    #[test]
    fn numbers_align_at_the_right() {
        let mut rows = vec![
            vec!["a".into(), "9 B".into()],
            vec!["b".into(), "999 B".into()],
            vec!["c".into()],
        ];
        right(&mut rows, &[1]);
        assert_eq!(rows, [vec!["a", "  9 B"], vec!["b", "999 B"], vec!["c"]]);
    }

    #[test]
    fn sizes() {
        assert_eq!(size(999), "999 B");
        assert_eq!(size(130_000_000), "130.0 MB");
    }
}
