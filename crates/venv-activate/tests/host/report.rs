//! What a command of the venv says about itself.

/// Returns the value of a field of `/proc/self/status`, with single blanks.
pub(crate) fn field(report: &str, name: &str) -> String {
    let line = report
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .unwrap_or_else(|| panic!("no {name} in {report}"));
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

pub(crate) fn has_line(report: &str, line: &str) -> bool {
    report.lines().any(|candidate| candidate == line)
}
