use super::*;
use crate::commands::status::brakes::Brakes;
use crate::commands::status::model::{Files, UnitStatus};
use crate::systemd::UnitState;
use venvd_core::note::Note;

const DEFINITIONS: &str = "/etc/venvd/apps";

fn app(enabled: Option<bool>, asked_for: Option<&str>, previous: Option<&str>) -> AppStatus {
    AppStatus {
        app: "nova".parse().unwrap(),
        enabled,
        in_force: asked_for.filter(|_| enabled == Some(true)).map(|_| "2".to_owned()),
        why: match enabled {
            Some(true) => Why::Committed,
            _ => Why::OffByDefinition,
        },
        asked_for: asked_for.map(str::to_owned),
        committed: asked_for.map(|_| "2".to_owned()),
        previous: previous.map(str::to_owned),
        pending: false,
        brakes: Brakes::default(),
        units: Vec::new(),
        problems: Vec::new(),
    }
}

#[test]
fn the_headline_says_what_is_and_leaves_out_what_is_not() {
    for (app, line) in [
        (app(Some(false), None, None), "nova is off: no venv committed"),
        (
            app(Some(true), Some("2"), Some("1")),
            "nova is on: 2 in force, 1 before",
        ),
        (app(Some(true), Some("3"), None), "nova is on: 2 in force, 3 asked for"),
        (app(None, Some("2"), None), "nova has a broken definition: 2 committed"),
        (
            AppStatus {
                why: Why::OffByKernelCommandLine,
                in_force: None,
                ..app(Some(true), Some("2"), None)
            },
            "nova is off for this boot: 2 committed",
        ),
        (
            AppStatus {
                why: Why::FellBackToPrevious,
                in_force: Some("1".to_owned()),
                pending: true,
                ..app(Some(true), Some("2"), Some("1"))
            },
            "nova is on: 1 in force, since 2 can't run, an activation is open",
        ),
        (
            AppStatus {
                why: Why::Distribution,
                in_force: None,
                brakes: Brakes {
                    frozen: Some(Note::default()),
                    revoked: [("2".parse().unwrap(), Note::default())].into(),
                    ..Brakes::default()
                },
                ..app(Some(true), Some("2"), None)
            },
            "nova is on: no venv in force, since 2 is revoked, frozen",
        ),
    ] {
        assert_eq!(headline(&app), line);
    }
}

fn unit(name: &str, running: Option<&str>, next: Option<&str>) -> UnitStatus {
    UnitStatus {
        unit: name.to_owned(),
        only_variables: false,
        state: Some(UnitState {
            active: "active".to_owned(),
            main_pid: Some(7),
            tag: running.map(str::to_owned),
            ..UnitState::default()
        }),
        files: Files {
            load: Load::Loaded,
            tag: next.map(str::to_owned),
            ..Files::default()
        },
    }
}

fn text(app: AppStatus) -> String {
    let status = Status {
        kernel_command_line: None,
        problems: Vec::new(),
        apps: vec![app],
    };
    lines(&status, Path::new(DEFINITIONS))
        .iter()
        .map(|line| format!("{}\n", line.text))
        .collect()
}

#[test]
fn what_is_wrong_stands_out_with_what_to_type() {
    let mut app = app(Some(true), Some("2"), Some("1"));
    app.units = vec![
        unit("nova-api.service", Some("2"), Some("2")),
        unit("nova-compute.service", Some("1"), Some("2")),
        unit("nova-conductor.service", None, None),
    ];
    app.problems = vec![
        Problem::wrong("restart-due", "still runs 1, not 2")
            .of("nova-compute.service")
            .advise("systemctl restart nova-compute.service"),
        Problem::note("switched-off", "one line\nand another").of("nova-conductor.service"),
    ];
    assert_eq!(
        text(app),
        "\
nova is on: 2 in force, 1 before
  UNIT                    STATE   PID  RUNS        NEXT START
  nova-api.service        active  7    2           2
! nova-compute.service    active  7    1           2
  nova-conductor.service  active  7    the host's  the host's
  ! nova-compute.service: still runs 1, not 2
    > systemctl restart nova-compute.service
  - nova-conductor.service: one line
      and another
"
    );
}

#[test]
fn where_nothing_runs_only_files_are_shown() {
    let mut app = app(Some(true), Some("2"), None);
    let below_a_root = UnitStatus {
        state: None,
        ..unit("nova-api.service", None, None)
    };
    let missing = UnitStatus {
        state: None,
        files: Files::default(),
        ..unit("nova-compute.service", None, None)
    };
    app.units = vec![below_a_root, missing];
    assert_eq!(
        text(app),
        "\
nova is on: 2 in force
  UNIT                  NEXT START
  nova-api.service      decided at boot
  nova-compute.service  not on this host
"
    );
    let nothing = Status {
        kernel_command_line: Some("venvd.enabled=0".to_owned()),
        problems: Vec::new(),
        apps: Vec::new(),
    };
    let lines = lines(&nothing, Path::new(DEFINITIONS));
    assert_eq!(lines[0].text, "the kernel command line has venvd.enabled=0");
    assert!(lines[1].text.ends_with("APP.toml in /etc/venvd/apps"));
}
