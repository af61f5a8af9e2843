//! Exposed commands: links that are missing, and what stands in their way.

use venvd_app::exposed::{self, Problem};
use venvd_app::{AppName, Layout};
use venvd_fs::report;

use super::Diagnosis;

pub(super) fn examine(layout: &Layout, only: Option<&AppName>, diagnosis: &mut Diagnosis) {
    let plan = exposed::plan(layout, None);
    let concerned = |app: Option<&AppName>| only.is_none() || only == app;
    if concerned(None) && plan.problems.is_empty() && !plan.is_empty() {
        let message = "the links of exposed commands are not as the definitions want them".to_owned();
        let advice = "`systemctl restart venvd` makes them so, as does the next activation of any app".to_owned();
        diagnosis.note("commands", "commands", (message, advice));
    }
    for problem in plan.problems.iter().filter(|problem| concerned(problem.app())) {
        let about = problem.app().map_or("commands", AppName::as_str);
        let advice = match problem.app() {
            Some(app) => format!("then `venvctl enable {app}` makes the link"),
            None => "then `systemctl restart venvd` makes the links".to_owned(),
        };
        diagnosis.wrong(about, Problem::CODE, (report(problem), advice));
    }
}
