//! Two apps that change together: one order of their units, one verdict, and both back or none.

use anyhow::Result;
use serde_json::Value;
use venvd_tests::Os;
use venvd_tests::lab::Lab;

const UNIT: &str = "twin-1.service";

/// Makes a second app like the first, whose unit needs the last one of that.
fn set_up(lab: &Lab) {
    let machine = &lab.machine;
    let unit = machine.ok("cat /usr/lib/systemd/system/lab-2.service");
    let unit = unit
        .replace("lab-2", "twin-1")
        .replace("lab-1.service", "lab-2.service");
    machine.write("/usr/lib/systemd/system/twin-1.service", unit, 0o644);
    let definition = machine.read("/etc/venvd/apps/lab.toml");
    let (of_all, _) = definition.split_once("[units").unwrap_or_default();
    let definition = format!("enabled = true\n{of_all}[units.\"{UNIT}\"]\n");
    machine.write("/etc/venvd/apps/twin.toml", definition, 0o644);
    for tag in ["a", "b"] {
        machine.ok(&format!("venvctl build twin:{tag} --lock /srv/lab/locks/good.txt"));
    }
    machine.ok(&format!(
        "systemctl daemon-reload && venvctl activate twin:a && systemctl start {UNIT} && systemctl is-active {UNIT}"
    ));
}

fn tag_of_twin(lab: &Lab) -> String {
    let pid = lab.machine.main_pid(UNIT);
    lab.machine.ok(&format!(
        "tr '\\0' '\\n' </proc/{pid}/environ | sed -n 's/^VENVD_TAG=//p'"
    ))
}

fn invocations(lab: &Lab) -> Vec<String> {
    let units = lab.units().iter().map(String::as_str).chain([UNIT]);
    units
        .map(|unit| lab.machine.unit_property(unit, "InvocationID"))
        .collect()
}

/// Returns who did this, in order.
fn order(lab: &[venvd_tests::lab::Line], what: &str) -> Vec<String> {
    let lines = lab.iter().filter(|line| line.what == what);
    lines.map(|line| line.unit.clone()).collect()
}

fn both_or_none(os: Os) -> Result<()> {
    let lab = Lab::new(os, 2, &[("a", "good"), ("b", "good"), ("unhealthy", "exits")])?;
    set_up(&lab);

    lab.forget_log();
    let (status, report) = lab.venvctl(&["activate", "twin:b", "lab:b"]);
    assert_eq!(status, 0, "{report:#}");
    let apps: Vec<&Value> = report["apps"].as_array().into_iter().flatten().collect();
    let names: Vec<_> = apps.iter().map(|app| &app["app"]).collect();
    assert_eq!(names, ["lab", "twin"], "one job, by their names");
    lab.assert_on("b");
    assert_eq!(tag_of_twin(&lab), "b");
    let log = lab.log();
    assert_eq!(
        order(&log, "stop"),
        ["twin-1", "lab-2", "lab-1"],
        "each once, in one order"
    );
    assert_eq!(order(&log, "start"), ["lab-1", "lab-2", "twin-1"]);

    // The history of all apps has the job once for each.
    let history = lab.machine.ok("venvctl log --json");
    let history: Value = serde_json::from_str(&history).unwrap_or_else(|error| panic!("no JSON ({error}): {history}"));
    let ends = history["jobs"].as_array().into_iter().flatten();
    let ends = ends.filter(|end| end["job"] == report["id"]);
    let mut ends: Vec<_> = ends
        .map(|end| ["app", "from", "to", "result"].map(|key| &end[key]))
        .collect();
    ends.sort_by_key(|end| end[0].as_str());
    assert_eq!(
        ends,
        [["lab", "a", "b", "done"], ["twin", "a", "b", "done"]],
        "{history:#}"
    );

    // One of them does not run, so neither changes, and only that one is remembered as bad.
    let (status, report) = lab.venvctl(&["activate", "twin:a", "lab:unhealthy"]);
    assert_eq!((status, &report["result"]), (3, &"rolled-back".into()), "{report:#}");
    lab.assert_on("b");
    assert_eq!(tag_of_twin(&lab), "b");
    let bad = lab.machine.ok("cd /var/lib/venvd/known-bad && find . -type f");
    assert_eq!(bad, "./lab/unhealthy");

    // One is refused, so nothing is touched.
    let before = invocations(&lab);
    let (status, report) = lab.venvctl(&["activate", "twin:a", "lab:none"]);
    assert_eq!((status, &report["code"]), (1, &"no-such-venv".into()), "{report:#}");
    assert_eq!(invocations(&lab), before);
    lab.machine.ok("venvctl freeze twin");
    let (status, report) = lab.venvctl(&["activate", "lab:a", "twin:a"]);
    assert_eq!((status, &report["code"]), (1, &"frozen".into()), "{report:#}");
    assert_eq!(invocations(&lab), before);
    lab.machine.ok("venvctl thaw twin");

    // One is off, and one is in force already: only the other's units restart.
    lab.machine
        .ok(&format!("systemctl stop {UNIT} && venvctl disable twin"));
    let before = invocations(&lab);
    let (status, report) = lab.venvctl(&["activate", "lab:a", "twin:a"]);
    assert_eq!(status, 0, "{report:#}");
    lab.assert_on("a");
    assert_eq!(
        lab.machine.ok("readlink /etc/venvd/committed/twin"),
        "/var/lib/venvd/venvs/twin/a"
    );
    assert_ne!(invocations(&lab)[..2], before[..2]);
    Ok(())
}

#[test]
fn apps_change_together_or_not_at_all_on_debian_12() -> Result<()> {
    both_or_none(Os::Debian12)
}

#[test]
fn apps_change_together_or_not_at_all_on_debian_13() -> Result<()> {
    both_or_none(Os::Debian13)
}
