//! doctor: what is wrong on this host, and what to do about it.

use std::process::ExitCode;

use venvd_app::{AppName, Layout, search};
use venvd_core::doctor::{self, Diagnosis, Severity};

use crate::failure::Failure;
use crate::output;

/// Looks for what is wrong; exit status 1 when there is something.
pub(super) fn run(layout: &Layout, app: Option<&AppName>, json: bool) -> Result<ExitCode, Failure> {
    let mut diagnosis = doctor::examine(layout, app);
    if let Some(app) = app
        && diagnosis.apps == 0
    {
        // For its message.
        search::load_app(layout, app)?;
    }
    if !layout.root().is_host() {
        // Without the root it would be the host's that is changed.
        let venvctl = format!("`venvctl --root {} ", layout.root().directory().display());
        for problem in &mut diagnosis.problems {
            problem.advice = problem.advice.replace("`venvctl ", &venvctl);
        }
    }
    output::show(&diagnosis, json, text)?;
    Ok(if diagnosis.is_sound() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn text(diagnosis: &Diagnosis) -> String {
    let mut text = String::new();
    for problem in &diagnosis.problems {
        let mark = match problem.severity {
            Severity::Wrong => '!',
            Severity::Note => '-',
        };
        let message = problem.message.replace('\n', "\n    ");
        text.push_str(&format!("{mark} {}: {message}  [{}]\n", problem.about, problem.code));
        text.push_str(&format!("  > {}\n", problem.advice));
    }
    let wrong = diagnosis
        .problems
        .iter()
        .filter(|problem| problem.severity == Severity::Wrong)
        .count();
    let looked_at = format!(
        "looked at {} and {}",
        counted(diagnosis.apps, "app"),
        counted(diagnosis.venvs, "venv")
    );
    let found = match wrong {
        0 => "nothing is wrong".to_owned(),
        1 => "1 thing is wrong".to_owned(),
        many => format!("{many} things are wrong"),
    };
    text.push_str(&format!("{looked_at}: {found}; `venvctl verify` reads every file\n"));
    text
}

fn counted(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use venvd_core::doctor::Problem;

    #[test]
    fn problems_come_with_what_to_do_and_a_sum() {
        let mut diagnosis = Diagnosis {
            apps: 1,
            venvs: 2,
            ..Diagnosis::default()
        };
        assert_eq!(
            text(&diagnosis),
            "looked at 1 app and 2 venvs: nothing is wrong; `venvctl verify` reads every file\n"
        );
        diagnosis.problems.push(Problem {
            severity: Severity::Wrong,
            about: "nova:1".to_owned(),
            code: "python-gone",
            message: "there is no python".to_owned(),
            advice: "install it".to_owned(),
        });
        let said = text(&diagnosis);
        assert!(
            said.starts_with("! nova:1: there is no python  [python-gone]\n  > install it\n"),
            "{said}"
        );
        assert!(said.contains("1 thing is wrong"), "{said}");
    }
}
