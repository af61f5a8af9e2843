use super::*;

const A: &str = "/var/lib/venvd/venvs/cinder/1/bin";
const B: &str = "/usr/lib/venvd/venvs/cinder/2/bin";

fn app() -> AppName {
    "cinder".parse().unwrap()
}

fn with(text: &str, admitted: &[&str]) -> String {
    let admitted: Vec<String> = admitted.iter().map(|&bin| bin.to_owned()).collect();
    Conf::parse(text).unwrap().with_front(&app(), &admitted)
}

#[test]
fn puts_bins_in_front_and_takes_them_away_again() {
    let filters = "filters_path=/etc/cinder/rootwrap.d\n";
    // What stands before and after the place where our entries go.
    for (before, after) in [
        ("[DEFAULT]\nexec_dirs=", "/sbin,/usr/sbin\n"),
        ("[DEFAULT]\nexec_dirs = ", "/sbin,/usr/sbin   \n"),
        ("[DEFAULT]\nexec_dirs\t:\t", "/sbin\n"),
        ("[DEFAULT]\n  Exec_Dirs=", "/sbin\n"),
        (
            "# exec_dirs=/no\n; exec_dirs=/no\n[DEFAULT]\n# exec_dirs=/no\nexec_dirs=",
            "/sbin\n# exec_dirs=/no\n",
        ),
        (
            "[other]\nexec_dirs=/no\n[DEFAULT]\nexec_dirs=",
            "/sbin\n[more]\nexec_dirs=/no\n[DEFAULT]\n",
        ),
        ("[DEFAULT]\ndaemon_timeout=1\n[a]\n[DEFAULT]\nexec_dirs=", "/sbin\n"),
        ("[DEFAULT]\r\nexec_dirs=", "/sbin\r\n"),
        (
            "[DEFAULT]\nlong = a\n  exec_dirs=/no\n\n  more\nexec_dirs=",
            "/sbin\n\n\n",
        ),
        ("[DEFAULT]\nexec_dirs=", "/sbin\n  # a comment inside\n\n"),
        ("[DEFAULT]\nexec_dirs=", "/sbin\n  /bin,/x\n"),
        ("[DEFAULT]\nexec_dirs=", "\n  /bin,/x\n"),
        ("[DEFAULT]\nexec_dirs=", "\n"),
        ("[DEFAULT]\n# é ü\nexec_dirs=", "/sbin"),
        (
            "[DEFAULT]\nexec_dirs=",
            "/sbin,/var/lib/venvd/venvs/nova/1/bin,/a b,/var/lib/venvd/venvs/cinder/1\n",
        ),
    ] {
        for original in [
            format!("{before}{after}\n{filters}"),
            format!("[DEFAULT]\n{filters}{before}{after}"),
        ] {
            let front =
                |list: &str| original.replacen(&format!("{before}{after}"), &format!("{before}{list},{after}"), 1);
            let one = with(&original, &[A]);
            assert_eq!(one, front(A), "{original:?}");
            assert_eq!(with(&one, &[A]), one, "again changes nothing");
            let both = with(&one, &[B, A]);
            assert_eq!(both, front(&format!("{B},{A}")), "the other one in front");
            assert_eq!(with(&both, &[B]), front(B), "the old one gone");
            assert_eq!(with(&both, &[]), original, "disabled: byte for byte");
            assert_eq!(with(&original, &[]), original);
        }
    }
}

#[test]
fn what_others_changed_meanwhile_stays() {
    let enabled = with("[DEFAULT]\nfilters_path=/f\nexec_dirs=/sbin,/bin\n", &[A]);
    let edited = format!("# mine\n{}use_syslog=True\n", enabled.replace("/sbin", "/opt,/sbin"));
    assert_eq!(
        with(&edited, &[]),
        "# mine\n[DEFAULT]\nfilters_path=/f\nexec_dirs=/opt,/sbin,/bin\nuse_syslog=True\n"
    );
    let moved = format!("[DEFAULT]\nfilters_path=/f\nexec_dirs=/sbin,{A},/bin\n");
    assert_eq!(with(&moved, &[]), "[DEFAULT]\nfilters_path=/f\nexec_dirs=/sbin,/bin\n");
}

#[test]
fn never_leaves_an_empty_list() {
    let ours_alone = format!("[DEFAULT]\nexec_dirs={A}\nfilters_path=/f\n");
    assert_eq!(with(&ours_alone, &[]), "[DEFAULT]\nfilters_path=/f\n");
    assert_eq!(
        with(&ours_alone, &[B]),
        format!("[DEFAULT]\nexec_dirs={B}\nfilters_path=/f\n")
    );
}

#[test]
fn what_goes_on_below_is_not_touched() {
    let text = format!("[DEFAULT]\nexec_dirs={B},{A}\n  /more,{A}\nfilters_path=/f\n");
    assert_eq!(with(&text, &[]), text.replacen(&format!("{B},"), "", 1));
}

#[test]
fn without_exec_dirs_nothing_changes() {
    for text in [
        "[DEFAULT]\nfilters_path=/f\n",
        "[DEFAULT]\nfilters_path=/f\n#exec_dirs=/sbin\n[x]\nexec_dirs=/y\n",
    ] {
        assert_eq!(Conf::parse(text).unwrap().exec_dirs(), None);
        assert_eq!(with(text, &[A]), text);
    }
}

#[test]
fn splits_lists_as_rootwrap_does() {
    let conf = Conf::parse("[DEFAULT]\nfilters_path = /a, /b ,/c\n  /d\nexec_dirs =\n  /x,\n\n  /y\n\n").unwrap();
    assert_eq!(conf.filters_path(), ["/a", " /b ", "/c\n/d"]);
    assert_eq!(conf.exec_dirs().unwrap(), ["\n/x", "\n\n/y"]);
    assert_eq!(
        Conf::parse("[DEFAULT]\nfilters_path=/f\nexec_dirs=\n")
            .unwrap()
            .exec_dirs()
            .unwrap(),
        [""]
    );
}

#[test]
fn refuses_what_oslo_rootwrap_would_not_read() {
    for (text, line, reason) in [
        ("", 1, "no filters_path"),
        ("[DEFAULT]\nexec_dirs=/sbin\n", 1, "no filters_path"),
        ("[x]\nfilters_path=/f\n", 1, "no filters_path"),
        ("filters_path=/f\n", 1, "before any section"),
        ("[DEFAULT]\nfilters_path=/f\nexec_dirs=/a\nEXEC_DIRS=/b\n", 4, "twice"),
        (
            "[DEFAULT]\nfilters_path=/f\n[x]\n[DEFAULT]\nfilters_path=/f\n",
            5,
            "twice",
        ),
        ("[DEFAULT]\nfilters_path=/f\n[x]\n[x]\n", 4, "twice"),
        ("[DEFAULT]\nfilters_path=/f\nword\n", 3, "no `key = value`"),
        ("[DEFAULT]\nfilters_path=/f\n=x\n", 3, "no key"),
        ("[DEFAULT] # here\nfilters_path=/f\n", 1, "no section"),
        ("[DEFAULT]]\nfilters_path=/f\n", 1, "no section"),
        ("[]\nfilters_path=/f\n", 1, "no section"),
        ("[DEFAULT]\nfilters_path=/f\rexec_dirs=/evil\n", 2, "control character"),
        (
            "[DEFAULT]\nfilters_path=/f\n\u{1c}exec_dirs=/evil\n",
            3,
            "control character",
        ),
        ("[DEFAULT]\nfilters_path=/f\0\n", 2, "control character"),
        ("\u{feff}[DEFAULT]\nfilters_path=/f\n", 1, "before any section"),
    ] {
        let error = Conf::parse(text).unwrap_err();
        assert!(error.line == line && error.reason.contains(reason), "{text:?}: {error}");
    }
}

#[test]
fn knows_its_own_entries() {
    for (entry, ours) in [
        (A, true),
        (B, true),
        ("/var/lib/venvd/venvs/cinder/1", false),
        ("/var/lib/venvd/venvs/cinder/1/bin/", false),
        ("/var/lib/venvd/venvs/cinder//1/bin", false),
        ("/var/lib/venvd/venvs/cinder/1/sbin", false),
        ("/var/lib/venvd/venvs/nova/1/bin", false),
        ("/var/lib/venvd/venvs/cinder/../bin", false),
        (" /var/lib/venvd/venvs/cinder/1/bin", false),
        ("/srv/cinder/1/bin", false),
    ] {
        assert_eq!(is_of(entry, &app()), ours, "{entry}");
    }
}
