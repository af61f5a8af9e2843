use std::fs;
use std::path::Path;

use venvd_app::links::Link;
use venvd_bus::Outcome;
use venvd_core::brake;
use venvd_core::note::Note;

use super::*;
use crate::request::Ask;
use crate::testing::{Place, Simulated, venv};

fn request(ask: Ask) -> Request {
    let options = crate::request::Options::of(venvd_bus::Cause::Dbus);
    Request::one("nova".parse().unwrap(), ask, options)
}

fn activate(tag: &str) -> Ask {
    Ask::Activate(tag.parse().unwrap())
}

/// All files below a directory, with what they say or where they lead.
fn all_of(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_symlink() {
            let target = fs::read_link(&path).unwrap();
            all.insert(path, target.into_os_string().into_encoded_bytes());
        } else if path.is_dir() {
            all.extend(all_of(&path));
        } else {
            all.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    all
}

fn links(plan: &Plan) -> Vec<(String, Option<String>, Option<String>)> {
    let tag = |path: &Option<PathBuf>| Some(path.as_ref()?.file_name()?.to_str()?.to_owned());
    let moves = plan.steps.iter().flat_map(|step| &step.links);
    let directory = |path: &Path| path.parent().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
    moves
        .map(|moved| (directory(&moved.link), tag(&moved.from), tag(&moved.to)))
        .collect()
}

async fn plan(place: &Place, ask: Ask) -> Plan {
    let driver: Driver<Simulated> = place.driver(place.systemd());
    let before = all_of(place.layout.root().directory());
    let plan = driver.plan(&request(ask)).await;
    assert_eq!(all_of(place.layout.root().directory()), before, "nothing is changed");
    assert!(driver.units.calls().iter().all(|call| call == "capture"));
    assert_eq!(Plan::from_json(&plan.to_json().unwrap()).unwrap(), plan);
    plan
}

/// What a plan says is what then happens.
#[tokio::test]
async fn the_links_and_stages_are_those_of_the_activation() {
    let place = Place::new();
    place.set(Link::Previous, "1");
    let planned = plan(&place, activate("2")).await;
    assert_eq!(planned.refused, None);
    let moves = [("active", Some("1"), Some("2")), ("committed", Some("1"), Some("2"))];
    let expected = moves.map(|(link, from, to)| (link.to_owned(), from.map(str::to_owned), to.map(str::to_owned)));
    assert_eq!(links(&planned), expected, "previous names it already");
    let on_failure = planned.on_failure.unwrap();
    assert_eq!((on_failure.outcome, on_failure.why), (Outcome::RolledBack, None));
    assert!(
        on_failure
            .steps
            .contains(&"the units that ran before are started".to_owned())
    );

    let driver = place.driver(place.systemd());
    let (mut transaction, objection) = request(activate("2")).prepare(&driver.host, 1);
    let mut stages: Vec<Stage> = Vec::new();
    driver
        .drive(&mut transaction, (Event::Begin, objection), |transaction| {
            stages.push(transaction.state.stage())
        })
        .await;
    assert_eq!(stages.pop(), Some(Stage::Ended));
    let told: Vec<Stage> = planned.steps.iter().map(|step| step.stage).collect();
    assert_eq!(told, stages);
    for (link, _, to) in moves {
        let link = if link == "active" {
            Link::Active
        } else {
            Link::Committed
        };
        assert_eq!(place.tag(link).as_deref(), to);
    }
}

#[tokio::test]
async fn what_would_be_refused_says_why() {
    let place = Place::new();
    brake::revoke(&place.layout, venv("2").name(), &Note::default()).unwrap();
    for (ask, code) in [
        (activate("2"), Code::REVOKED),
        (activate("9"), Code::NO_SUCH_VENV),
        (Ask::Rollback, Code::NO_PREVIOUS),
    ] {
        let plan = plan(&place, ask).await;
        assert_eq!(plan.refused.unwrap().code.as_str(), code);
        assert!(plan.steps.is_empty());
    }
}

#[tokio::test]
async fn commands_jobs_and_the_way_back_follow_the_definition() {
    let hooks = "rollback = false\n[[hooks.while-stopped]]\nrun = \"nova-api db\"\n\
                 [[hooks.after-start]]\nrun = \"nova-api x\"\nwhen-unit = \"other.service\"\none-way = true\n\
                 [units.\"other.service\"]\nprograms = [\"nova-api\"]\n";
    let place = Place::new();
    place.define(hooks);
    let plan = plan(&place, activate("2")).await;
    let commands: Vec<&String> = plan.steps.iter().flat_map(|step| &step.commands).collect();
    assert_eq!(
        commands,
        [
            "nova-api db",
            "nova-api x (skipped: other.service is not enabled on this host)"
        ]
    );
    let jobs: Vec<String> = plan
        .steps
        .iter()
        .flat_map(|step| &step.jobs)
        .map(|job| format!("{} {}", job.job, job.unit))
        .collect();
    assert_eq!(jobs, ["stop nova-api.service", "start nova-api.service"]);
    let on_failure = plan.on_failure.unwrap();
    assert_eq!(on_failure.outcome, Outcome::Failed);
    assert_eq!(on_failure.why.as_deref(), Some("the definition has `rollback = false`"));
}

#[test]
fn changes_are_told_from_step_to_step() {
    let text = |text: &str| Some(text.as_bytes().to_vec());
    let path = PathBuf::from("/etc/x");
    let planned = |then: Option<Vec<u8>>| Files::from([(path.clone(), (text("a\nb\n"), then))]);
    let mut files = Files::new();
    for (planned, expected) in [
        (planned(text("a\nb\nc\n")), Some((1, 0))),
        (planned(text("a\nb\nc\n")), None),
        (planned(text("c\nb\n")), Some((0, 1))),
        // As it is on the disk: no plan has an edit.
        (Files::new(), Some((1, 1))),
        (Files::new(), None),
        (planned(None), Some((0, 2))),
    ] {
        let changes = changes(&mut files, planned);
        let counts = changes.first().map(|change| (change.added, change.removed));
        assert_eq!(counts, expected);
    }
}
