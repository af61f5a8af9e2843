use super::*;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Child, Command};

use venvd_fs::Root;

/// A host below a directory of its own, and a `/proc` that is made up.
struct Host {
    directory: tempfile::TempDir,
    layout: Layout,
}

/// What is made up of a process.
#[derive(Clone, Copy)]
struct Made<'a> {
    pid: u32,
    parent: u32,
    cgroup: &'a str,
    exe: &'a str,
    cwd: &'a str,
    root: &'a str,
    namespace: &'a str,
    maps: &'a str,
    fd: &'a str,
    arguments: &'a str,
    environment: &'a str,
}

const PLAIN: Made<'static> = Made {
    pid: 10,
    parent: 1,
    cgroup: "/system.slice/other.service",
    exe: "/usr/bin/sleep",
    cwd: "/",
    root: "/",
    namespace: "mnt:[1]",
    maps: "/usr/lib/libc.so.6",
    fd: "socket:[7]",
    arguments: "sleep\x009",
    environment: "PATH=/usr/bin\0LANG=C",
};

/// A process of Python in a unit of the app, whose title lies over its arguments and environment.
const TITLED: Made<'static> = Made {
    cgroup: "/system.slice/nova-api.service",
    exe: "/usr/bin/python3.11",
    arguments: "nova-api: worker",
    environment: "er\0\0\0",
    ..PLAIN
};

impl Host {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(Root::at(fs::canonicalize(directory.path()).unwrap()));
        let host = Self { directory, layout };
        for tag in ["1", "2"] {
            fs::create_dir_all(host.layout.on_disk(venv(tag).path()).join("bin")).unwrap();
        }
        let definition = host.layout.on_disk("/etc/venvd/apps/nova.toml");
        fs::create_dir_all(definition.parent().unwrap()).unwrap();
        let text = "[units.\"nova-api.service\"]\n[units.\"nova-worker@.service\"]\n";
        fs::write(definition, text).unwrap();
        host.make(Made {
            pid: std::process::id(),
            ..PLAIN
        });
        host
    }

    fn proc(&self) -> PathBuf {
        self.layout.root().directory().join("proc")
    }

    /// `{}` in any of the texts is the path of nova:1 on disk.
    fn make(&self, made: Made) {
        let here = self.layout.on_disk(venv("1").path()).display().to_string();
        let said = |text: &str| text.replace("{}", &here);
        let directory = of(&self.proc(), made.pid);
        fs::create_dir_all(directory.join("fd")).unwrap();
        fs::create_dir_all(directory.join("ns")).unwrap();
        for (name, target) in [
            ("exe", made.exe),
            ("cwd", made.cwd),
            ("root", made.root),
            ("ns/mnt", made.namespace),
            ("fd/3", made.fd),
        ] {
            symlink(said(target), directory.join(name)).unwrap();
        }
        let stat = format!("{} (a) b) S {} 1 1 0", made.pid, made.parent);
        let maps = format!(
            "7f00-7f01 r-xp 00000000 fe:00 12  {}\n7f02-7f03 rw-p 00000000 00:00 0\n",
            made.maps
        );
        for (name, text) in [
            ("stat", stat.as_str()),
            ("cgroup", &format!("0::{}\n", made.cgroup)),
            ("maps", &maps),
            ("cmdline", &format!("{}\0", made.arguments)),
            ("environ", &format!("{}\0", made.environment)),
        ] {
            fs::write(directory.join(name), said(text)).unwrap();
        }
    }

    fn scan(&self) -> Usage {
        Usage::scan_below(&self.proc(), &self.layout, &[venv("1"), venv("2")]).unwrap()
    }

    /// Returns by what each process uses a venv.
    fn traces(&self, tag: &str) -> Vec<(u32, Trace)> {
        self.scan().of(&venv(tag)).iter().map(|one| (one.pid, one.by)).collect()
    }
}

fn venv(tag: &str) -> VenvPath {
    VenvPath::local(&Layout::new(Root::host()), format!("nova:{tag}").parse().unwrap())
}

#[test]
fn each_trace_is_found() {
    for (by, made) in [
        (
            Trace::Executable,
            Made {
                exe: "{}/bin/tool",
                ..PLAIN
            },
        ),
        (
            Trace::Executable,
            Made {
                exe: "{}/bin/tool (deleted)",
                ..PLAIN
            },
        ),
        (Trace::Root, Made { root: "{}", ..PLAIN }),
        (Trace::WorkingDirectory, Made { cwd: "{}", ..PLAIN }),
        (
            Trace::WorkingDirectory,
            Made {
                cwd: "{} (deleted)",
                ..PLAIN
            },
        ),
        (
            Trace::OpenFile,
            Made {
                fd: "{}/lib/x",
                ..PLAIN
            },
        ),
        (
            Trace::Mapping,
            Made {
                maps: "{}/lib/x.so",
                ..PLAIN
            },
        ),
        (
            Trace::Mapping,
            Made {
                maps: "{}/lib/x.so (deleted)",
                ..PLAIN
            },
        ),
        (
            Trace::Arguments,
            Made {
                arguments: "{}/bin/python\0{}/bin/nova-api",
                ..PLAIN
            },
        ),
        (
            Trace::Arguments,
            Made {
                arguments: "uwsgi\0--virtualenv={}",
                ..PLAIN
            },
        ),
        (
            Trace::Environment,
            Made {
                environment: "VIRTUAL_ENV={}",
                ..PLAIN
            },
        ),
        (
            Trace::Environment,
            Made {
                environment: "PATH=/opt:{}/bin:/usr/bin",
                ..PLAIN
            },
        ),
    ] {
        let host = Host::new();
        host.make(made);
        assert_eq!(host.traces("1"), [(10, by)], "{by:?}");
        assert_eq!(host.traces("2"), [], "{by:?}");
    }
}

#[test]
fn what_only_looks_like_a_trace_is_none() {
    for made in [
        PLAIN,
        Made { cwd: "{}0", ..PLAIN },
        Made {
            maps: "/srv{}/lib/x.so",
            ..PLAIN
        },
        Made {
            environment: "PATH=/usr/bin\0OLDPWD={}\0SUDO_COMMAND={}/bin/x",
            ..PLAIN
        },
        Made {
            arguments: "sh\0-c\0ls {}; venvctl gc",
            ..PLAIN
        },
        // The host's own venv of that name, not the one below this root.
        Made {
            environment: "VIRTUAL_ENV=/var/lib/venvd/venvs/nova/1",
            ..PLAIN
        },
    ] {
        let host = Host::new();
        host.make(made);
        assert_eq!(host.traces("1"), []);
    }
}

#[test]
fn in_a_container_only_the_same_directory_counts() {
    let host = Host::new();
    let inside = Made {
        namespace: "mnt:[2]",
        environment: "VIRTUAL_ENV=/var/lib/venvd/venvs/nova/1",
        ..PLAIN
    };
    let elsewhere = tempfile::tempdir().unwrap();
    fs::create_dir_all(elsewhere.path().join("var/lib/venvd/venvs/nova/1")).unwrap();
    let (same, other) = (
        host.layout.root().directory().display().to_string(),
        elsewhere.path().display().to_string(),
    );
    host.make(Made {
        pid: 10,
        root: &same,
        ..inside
    });
    host.make(Made {
        pid: 11,
        root: &other,
        ..inside
    });
    assert_eq!(host.traces("1"), [(10, Trace::Environment)]);
}

#[test]
fn the_tag_in_the_environment_of_a_unit_is_enough() {
    let host = Host::new();
    let tagged = Made {
        environment: "PATH=/usr/bin\0VENVD_TAG=2",
        ..PLAIN
    };
    host.make(Made { pid: 10, ..tagged });
    host.make(Made {
        pid: 11,
        cgroup: "/system.slice/nova-api.service",
        ..tagged
    });
    host.make(Made {
        pid: 12,
        cgroup: "/system.slice/system-nova.slice/nova-worker@a.service",
        ..tagged
    });
    assert_eq!(host.traces("2"), [(11, Trace::Environment), (12, Trace::Environment)]);
    assert_eq!(host.traces("1"), []);
}

#[test]
fn a_process_of_a_unit_that_hides_its_venv_has_that_of_its_parents_or_any() {
    let host = Host::new();
    host.make(Made {
        pid: 10,
        maps: "{}/lib/x.so",
        ..TITLED
    });
    host.make(Made {
        pid: 11,
        parent: 10,
        ..TITLED
    });
    host.make(Made {
        pid: 12,
        parent: 11,
        ..TITLED
    });
    let expected = [(10, Trace::Mapping), (11, Trace::Parent), (12, Trace::Parent)];
    assert_eq!((host.traces("1"), host.traces("2")), (expected.to_vec(), vec![]));
    // It outlived its parent.
    host.make(Made { pid: 13, ..TITLED });
    assert_eq!(host.traces("1").last(), Some(&(13, Trace::Unit)));
    assert_eq!(host.traces("2"), [(13, Trace::Unit)]);
    let used = host.scan().of(&venv("2"))[0].to_string();
    assert!(
        used.starts_with("a) b (13) of nova-api.service [it runs Python"),
        "{used}"
    );
}

#[test]
fn who_runs_no_python_or_shows_an_environment_without_a_venv_hides_nothing() {
    let host = Host::new();
    host.make(Made {
        pid: 10,
        exe: "/usr/sbin/dnsmasq",
        ..TITLED
    });
    host.make(Made {
        pid: 11,
        environment: "PATH=/usr/bin",
        ..TITLED
    });
    host.make(Made {
        pid: 12,
        cgroup: "/system.slice/other.service",
        ..TITLED
    });
    assert_eq!((host.traces("1"), host.traces("2")), (vec![], vec![]));
    // A server that embeds it.
    host.make(Made {
        pid: 13,
        exe: "/usr/bin/uwsgi",
        maps: "/usr/lib/libpython3.11.so.1.0",
        ..TITLED
    });
    assert_eq!(host.traces("2"), [(13, Trace::Unit)]);
}

#[test]
fn a_definition_that_is_broken_leaves_the_units_unknown_unless_one_was_accepted() {
    let host = Host::new();
    fs::write(host.layout.on_disk("/etc/venvd/apps/nova.toml"), "uni = 1\n").unwrap();
    let app: AppName = "nova".parse().unwrap();
    assert!(host.scan().unknown[&app].contains("uni"));
    let accepted = host.layout.accepted_definition(&app);
    fs::create_dir_all(accepted.parent().unwrap()).unwrap();
    fs::write(accepted, "[units.\"nova-api.service\"]\n").unwrap();
    host.make(TITLED);
    assert_eq!(
        (host.scan().unknown.len(), host.traces("1")),
        (0, vec![(10, Trace::Unit)])
    );
}

#[test]
fn a_proc_that_does_not_show_the_caller_is_refused() {
    let host = Host::new();
    fs::remove_dir_all(of(&host.proc(), std::process::id())).unwrap();
    let error = Usage::scan_below(&host.proc(), &host.layout, &[]).unwrap_err();
    assert_eq!(error.code(), "blind");
    assert!(may_look(&Layout::new(Root::host())).is_ok(), "tests run as root");
}

#[test]
fn what_has_ended_uses_nothing() {
    let host = Host::new();
    host.make(Made { cwd: "{}", ..PLAIN });
    fs::write(of(&host.proc(), 10).join("stat"), "10 (x) Z 1 1").unwrap();
    assert_eq!(host.traces("1"), []);
}

/// Ends its process, however the test ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn real_processes_leave_these_traces() {
    let host = Host::new();
    let directory = host.layout.on_disk(venv("1").path());
    let own = directory.join("bin/sleep");
    fs::copy("/bin/sleep", &own).unwrap();
    fs::set_permissions(&own, fs::Permissions::from_mode(0o755)).unwrap();
    let sleep = |program: &Path| {
        let mut command = Command::new(program);
        command.arg("60").env_clear();
        command
    };
    let plain = Path::new("/bin/sleep");
    let open = fs::File::open(&own).unwrap();
    let by_bash = "exec 7<\"$0\"; exec /bin/sleep 60";
    let mut started = Vec::new();
    let mut start = |command: &mut Command, by: Trace| {
        let child = command.spawn().unwrap();
        started.push((child.id(), by, Running(child)));
    };
    start(&mut sleep(&own), Trace::Executable);
    start(sleep(plain).current_dir(&directory), Trace::WorkingDirectory);
    start(sleep(plain).stdin(open), Trace::OpenFile);
    start(sleep(plain).env("VIRTUAL_ENV", &directory), Trace::Environment);
    start(
        Command::new("/bin/bash").args(["-c", by_bash]).arg(&own),
        Trace::OpenFile,
    );
    let mapped = format!(
        "import mmap, time; f = open({own:?}, 'rb'); m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ); f.close(); time.sleep(60)"
    );
    start(Command::new("/usr/bin/python3").args(["-c", &mapped]), Trace::Mapping);
    // A program that is started is not at once the one that was asked for.
    let mut expected: Vec<(u32, Trace)> = started.iter().map(|(pid, by, _)| (*pid, *by)).collect();
    expected.sort_unstable();
    let mut seen = Vec::new();
    for _ in 0..200 {
        let usage = Usage::scan(&host.layout, &[venv("1")]).unwrap();
        seen = usage.of(&venv("1")).iter().map(|one| (one.pid, one.by)).collect();
        if seen == expected {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(seen, expected);

    // Also after the venv is gone from under them.
    fs::remove_dir_all(&directory).unwrap();
    let usage = Usage::scan(&host.layout, &[venv("1")]).unwrap();
    assert_eq!(usage.of(&venv("1")).len(), expected.len());
    drop(started);
    let usage = Usage::scan(&host.layout, &[venv("1")]).unwrap();
    assert_eq!(usage.of(&venv("1")), [], "{:?}", host.directory);
}

/// What keeps the rights of a venv that is in force no more: not what a user of the same name does elsewhere.
#[test]
fn only_units_of_the_app_that_run_from_a_venv_are_its_members() {
    let host = Host::new();
    let unit = "/system.slice/nova-api.service";
    for (pid, made) in [
        // In a unit of the app, running from it.
        (
            20,
            Made {
                exe: "{}/bin/tool",
                cgroup: unit,
                ..PLAIN
            },
        ),
        (
            21,
            Made {
                arguments: "python\0{}/bin/nova-api",
                cgroup: unit,
                ..PLAIN
            },
        ),
        // There too, but it merely keeps something of it.
        (
            22,
            Made {
                fd: "{}/lib/x.py",
                cgroup: unit,
                ..PLAIN
            },
        ),
        (
            23,
            Made {
                cwd: "{}",
                cgroup: unit,
                ..PLAIN
            },
        ),
        // As sudo starts it while both have rights.
        (
            26,
            Made {
                environment: "PATH=/var/lib/venvd/venvs/nova/2/bin:{}/bin:/usr/bin",
                cgroup: unit,
                ..PLAIN
            },
        ),
        // A service of it that has nothing else to be known by.
        (
            27,
            Made {
                environment: "PATH={}/bin:/usr/bin\0VENVD_TAG=1",
                cgroup: unit,
                ..PLAIN
            },
        ),
        // Elsewhere.
        (
            24,
            Made {
                arguments: "python\0{}/bin/nova-api",
                ..PLAIN
            },
        ),
        (
            25,
            Made {
                exe: "{}/bin/tool",
                cgroup: "/user.slice/user-1.slice/session-1.scope",
                ..PLAIN
            },
        ),
    ] {
        host.make(Made { pid, ..made });
    }
    let usage = host.scan();
    let members = |tag: &str| usage.members_of(&venv(tag)).map(|one| one.pid).collect::<Vec<_>>();
    assert_eq!((members("1"), members("2")), (vec![20, 21, 27], vec![]));
    assert_eq!(usage.of(&venv("1")).len(), 8);
}
