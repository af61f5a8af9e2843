use venvd_bus::Leftover;
use venvd_core::note::Note;
use venvd_fs::Root;

use super::*;
use crate::commands::status::brakes::Brakes;
use crate::commands::status::model::Line;
use crate::systemd::UnitState;

fn app(unit: UnitStatus) -> AppStatus {
    AppStatus {
        app: "nova".parse().unwrap(),
        enabled: Some(true),
        in_force: Some("2".to_owned()),
        why: Why::Committed,
        asked_for: Some("2".to_owned()),
        committed: Some("2".to_owned()),
        previous: Some("1".to_owned()),
        pending: false,
        brakes: Brakes::default(),
        units: vec![unit],
        problems: Vec::new(),
    }
}

/// A unit that runs and is to run the tag 2.
fn unit() -> UnitStatus {
    let generated = Path::new("/run/systemd/generator/nova-api.service.d/zz-venvd.conf").to_owned();
    UnitStatus {
        unit: "nova-api.service".to_owned(),
        only_variables: false,
        state: Some(UnitState {
            active: "active".to_owned(),
            sub: "running".to_owned(),
            main_pid: Some(1),
            tag: Some("2".to_owned()),
            ..UnitState::default()
        }),
        files: Files {
            load: Load::Loaded,
            exec_start: vec![Line {
                path: generated.clone(),
                line: 2,
                text: "ExecStart=x".to_owned(),
            }],
            generated: Some(generated),
            tag: Some("2".to_owned()),
            generator: Some("spliced".to_owned()),
            ..Files::default()
        },
    }
}

fn found(app: &AppStatus) -> Vec<Problem> {
    let directory = tempfile::tempdir().unwrap();
    let host = Host {
        layout: &Layout::new(Root::at(directory.path())),
        booted: true,
        switch: &Switch::Nothing,
    };
    of_app(host, app)
}

fn codes(app: &AppStatus) -> Vec<(&'static str, Severity)> {
    found(app)
        .iter()
        .map(|problem| (problem.code, problem.severity))
        .collect()
}

#[test]
fn a_sound_unit_has_no_problem() {
    assert_eq!(found(&app(unit())), []);
}

#[test]
fn each_kind_of_trouble_has_its_code_and_advice() {
    use Severity::{Note, Wrong};
    type Change = fn(&mut AppStatus, &mut UnitStatus);
    let table: &[(&str, Severity, Change)] = &[
        ("restart-due", Wrong, |_, unit| {
            unit.state.as_mut().unwrap().tag = Some("1".into())
        }),
        ("restart-due", Wrong, |_, unit| unit.state.as_mut().unwrap().tag = None),
        ("failed", Wrong, |_, unit| {
            let state = unit.state.as_mut().unwrap();
            (state.active, state.main_pid) = ("failed".into(), None);
        }),
        ("failed", Wrong, |_, unit| {
            let state = unit.state.as_mut().unwrap();
            (state.active, state.sub, state.main_pid) = ("activating".into(), "auto-restart".into(), None);
        }),
        ("reload-due", Wrong, |_, unit| {
            unit.state.as_mut().unwrap().need_daemon_reload = true
        }),
        ("stale-files", Wrong, |_, unit| unit.files.tag = Some("1".into())),
        ("stale-files", Wrong, |app, unit| {
            (app.in_force, app.why) = (None, Why::OffByDefinition);
            unit.state.as_mut().unwrap().tag = None;
        }),
        ("restart-due", Wrong, |app, unit| {
            (app.in_force, app.why) = (None, Why::OffByDefinition);
            (unit.files.tag, unit.files.generated) = (None, None);
        }),
        ("not-generated", Wrong, |_, unit| {
            (unit.files.tag, unit.files.generated, unit.files.generator) = (None, None, None);
            unit.state.as_mut().unwrap().tag = None;
        }),
        ("skipped", Wrong, |_, unit| {
            (unit.files.tag, unit.files.generated) = (None, None);
            unit.files.skipped = Some("its Exec lines name nothing".into());
            unit.state.as_mut().unwrap().tag = None;
        }),
        ("not-followed", Wrong, |app, _| app.asked_for = Some("3".into())),
        ("pending", Note, |app, _| app.pending = true),
        ("odd", Note, |_, unit| unit.files.warnings = vec!["odd".into()]),
        ("ignored", Note, |_, unit| {
            unit.files.ignored = vec!["/x:1: nonsense".into()]
        }),
        ("off-for-this-boot", Note, |app, unit| {
            (app.in_force, app.why) = (None, Why::OffByKernelCommandLine);
            (unit.files.tag, unit.files.generated) = (None, None);
            unit.state.as_mut().unwrap().tag = None;
        }),
    ];
    for (code, severity, change) in table {
        let (mut app, mut unit) = (app(unit()), unit());
        change(&mut app, &mut unit);
        app.units = vec![unit];
        assert_eq!(codes(&app), [(*code, *severity)]);
        let problem = found(&app).remove(0);
        assert!(problem.advice.is_some() || *severity == Note, "{code}");
    }
}

#[test]
fn what_may_not_be_looked_at_is_no_problem() {
    type Change = fn(&mut UnitStatus);
    let hidden: Change = |unit| unit.state.as_mut().unwrap().hidden = true;
    let overwritten: Change = |unit| unit.state.as_mut().unwrap().overwritten = true;
    let variables: Change = |unit| unit.only_variables = true;
    let not_here: Change = |unit| {
        unit.files = Files::default();
        unit.state = None;
    };
    for change in [hidden, overwritten, variables, not_here] {
        let mut unit = unit();
        if let Some(state) = &mut unit.state {
            state.tag = None;
        }
        change(&mut unit);
        assert_eq!(found(&app(unit)), []);
    }
}

#[test]
fn shadows_say_what_to_type() {
    let shadow = |kind, path: &str, line| Shadow {
        kind,
        path: path.into(),
        line,
        key: None,
        what: "does it".to_owned(),
    };
    for (kind, path, line, code, advice) in [
        (
            ShadowKind::LaterDropIn,
            "/etc/systemd/system/a.service.d/zzz.conf",
            3,
            ("shadowed", Severity::Wrong),
            "mv /etc/systemd/system/a.service.d/zzz.conf /etc/systemd/system/a.service.d/50-zzz.conf && systemctl \
             daemon-reload && systemctl try-restart nova-api.service",
        ),
        (
            ShadowKind::LaterDropIn,
            "/usr/lib/systemd/system/a.service.d/zzz.conf",
            3,
            ("shadowed", Severity::Wrong),
            "change /usr/lib/systemd/system/a.service.d/zzz.conf && systemctl daemon-reload && systemctl try-restart \
             nova-api.service",
        ),
        (
            ShadowKind::SameName,
            "/etc/systemd/system/a.service.d/zz-venvd.conf",
            0,
            ("switched-off", Severity::Note),
            "to have venvd change it again: rm /etc/systemd/system/a.service.d/zz-venvd.conf && systemctl daemon-reload \
             && systemctl try-restart nova-api.service",
        ),
        (
            ShadowKind::UnitFile,
            "/etc/systemd/system/a.service",
            0,
            ("unit-replaced", Severity::Wrong),
            "rm /etc/systemd/system/a.service && systemctl daemon-reload",
        ),
        (
            ShadowKind::Mask,
            "/etc/systemd/system/a.service",
            0,
            ("masked", Severity::Note),
            "to have it again: systemctl unmask nova-api.service",
        ),
    ] {
        let mut unit = unit();
        unit.files.shadowed_by = vec![shadow(kind, path, line)];
        let app = app(unit);
        assert_eq!(codes(&app), [code]);
        let problem = found(&app).remove(0);
        assert_eq!(problem.advice.as_deref(), Some(advice));
        assert_eq!(problem.line, Some(line).filter(|line| *line > 0));
        let place = if line > 0 {
            format!("{path}:{line} does it")
        } else {
            format!("{path} does it")
        };
        assert!(problem.message.starts_with(&place), "{}", problem.message);
    }
}

#[test]
fn rules_of_an_app_that_is_off_are_told() {
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::new(Root::at(directory.path()));
    let rules = layout.sudoers(&"nova".parse().unwrap());
    fs::create_dir_all(rules.parent().unwrap()).unwrap();
    fs::write(&rules, "").unwrap();
    let mut app = app(unit());
    app.units.clear();
    let host = Host {
        layout: &layout,
        booted: true,
        switch: &Switch::Nothing,
    };
    assert_eq!(of_app(host, &app), []);
    (app.in_force, app.why) = (None, Why::OffByKernelCommandLine);
    let problems = of_app(host, &app);
    assert_eq!(problems[0].code, "rules-left");
    assert!(
        problems[0]
            .advice
            .as_ref()
            .unwrap()
            .contains("venvd-policy-boot.service")
    );
}

#[test]
fn systemd_is_not_believed_to_have_read_everything() {
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::new(Root::at(directory.path()));
    for name in [
        "/usr/lib/systemd/system/a.service",
        "/etc/a.service.d/x.conf",
        "/etc/a.service.d/empty.conf",
    ] {
        let path = layout.on_disk(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, if name.contains("empty") { "" } else { "[Service]\n" }).unwrap();
    }
    let files = |drop_ins: &[&str]| Files {
        fragment: Some("/usr/lib/systemd/system/a.service".into()),
        drop_ins: drop_ins.iter().map(PathBuf::from).collect(),
        ..Files::default()
    };
    let (x, empty, gone) = (
        "/etc/a.service.d/x.conf",
        "/etc/a.service.d/empty.conf",
        "/etc/gone.conf",
    );
    for (there, read, same) in [
        (&[x][..], &["/lib/systemd/system/a.service", x][..], true),
        (&[x, empty], &["/usr/lib/systemd/system/a.service", x], true),
        (&[x], &["/usr/lib/systemd/system/a.service"], false),
        (&[], &["/usr/lib/systemd/system/a.service", gone], false),
        (&[], &["/usr/lib/systemd/system/a.service", empty], true),
        (&[x], &[], true),
    ] {
        let read: Vec<PathBuf> = read.iter().map(PathBuf::from).collect();
        assert_eq!(
            is_what_was_read(&layout, (&files(there), &read)),
            same,
            "{there:?} {read:?}"
        );
    }
}

#[test]
fn what_is_forbidden_and_what_failed_before() {
    let note = || Note {
        reason: Some("CVE".to_owned()),
        by: Some("alice".to_owned()),
        since: None,
    };
    let tags = |tags: &[&str]| tags.iter().map(|tag| (tag.parse().unwrap(), note())).collect();
    let with = |revoked: &[&str], known_bad: &[&str]| AppStatus {
        brakes: Brakes {
            revoked: tags(revoked),
            known_bad: tags(known_bad),
            ..Brakes::default()
        },
        ..app(unit())
    };
    for (app, expected) in [
        (with(&["3"], &[]), &[][..]),
        (with(&[], &["3"]), &[("known-bad", Severity::Note)]),
        (with(&["1"], &[]), &[("previous-revoked", Severity::Note)]),
        (
            with(&["2"], &[]),
            &[("revoked", Severity::Wrong), ("runs-revoked", Severity::Wrong)],
        ),
        (
            AppStatus {
                brakes: Brakes {
                    frozen: Some(note()),
                    ..Brakes::default()
                },
                ..app(unit())
            },
            &[("frozen", Severity::Note)],
        ),
    ] {
        assert_eq!(codes(&app), expected, "{:?}", app.brakes);
    }
    let mut stood_in = with(&["2"], &[]);
    (stood_in.in_force, stood_in.why) = (Some("1".to_owned()), Why::FellBackToPrevious);
    stood_in.units[0].files.tag = Some("1".to_owned());
    let problems = found(&stood_in);
    assert_eq!(
        problems[0].message,
        "2 is committed, and revoked by alice: CVE; 1 stands in for it"
    );
    let codes: Vec<_> = problems.iter().map(|problem| problem.code).collect();
    assert_eq!(codes, ["revoked", "runs-revoked"], "that a restart is due is said once");
    assert_eq!(
        problems[1].advice.as_deref(),
        Some("systemctl restart nova-api.service")
    );
}

#[test]
fn what_is_left_behind_is_named() {
    let left = |pid, unit: Option<&str>| Leftover {
        pid,
        unit: unit.map(str::to_owned),
        program: "python3".to_owned(),
        venv: "nova:1".parse().unwrap(),
    };
    let app = AppStatus {
        brakes: Brakes {
            leftovers: vec![left(7, Some("nova-api.service")), left(8, None)],
            ..Brakes::default()
        },
        ..app(unit())
    };
    let problems = found(&app);
    assert_eq!((problems.len(), problems[0].code), (1, "left-behind"));
    assert_eq!(
        problems[0].message,
        "still run from nova:1, which is not in force: python3 (7) of nova-api.service, python3 (8)"
    );
}
