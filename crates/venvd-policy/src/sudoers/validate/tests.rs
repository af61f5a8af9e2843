use super::*;
use std::fs;
use venvd_fs::Root;

/// Everything below a directory of its own: visudo only reads.
struct Host {
    directory: tempfile::TempDir,
    layout: Layout,
    sudo: Sudo,
}

/// Returns `None`, and says so, where there is no visudo; the machine tests have it.
fn host() -> Option<Host> {
    let sudo = match Sudo::installed(&"nova".parse().unwrap()) {
        Ok(sudo) => sudo,
        Err(Error::NoSudo { .. }) => {
            eprintln!("SKIPPED: there is no /usr/sbin/visudo; install sudo to run this test");
            return None;
        }
        Err(error) => panic!("{error}"),
    };
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir_all(directory.path().join("etc/sudoers.d")).unwrap();
    let layout = Layout::new(Root::at(directory.path()));
    let host = Host {
        directory,
        layout,
        sudo,
    };
    let included = host.layout.on_disk(DIRECTORY);
    host.put(
        "etc/sudoers",
        &format!("Defaults env_reset\n@includedir {}\n", included.display()),
    );
    Some(host)
}

impl Host {
    fn put(&self, path: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.directory.path().join(path);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o440)).unwrap();
    }

    fn faults_of(&self, text: &str) -> Option<String> {
        let staged = atomic::stage(
            &self.layout.on_disk(DIRECTORY).join("venvd-nova"),
            text.as_bytes(),
            0o440,
        )
        .unwrap();
        faults(&self.sudo, &self.layout, &[staged.path()]).unwrap()
    }
}

const GOOD: &str = "nova ALL=(root) NOPASSWD: NOSETENV: /v/bin/nova-rootwrap /etc/nova/rootwrap.conf\n\
                    Defaults:nova secure_path=\"/v/bin:/usr/bin\"\n";

#[test]
fn a_staged_file_is_really_looked_at() {
    let Some(host) = host() else { return };
    assert_eq!(host.faults_of(GOOD), None);
    for bad in [
        "nova ALL=\n",
        "nova ALL=(root) NOPASSWD: relative/path\n",
        "Defaults:nova no_such_setting\n",
    ] {
        let report = host.faults_of(bad).unwrap();
        assert!(report.contains(".venvd-nova."), "{report}");
    }
    assert_eq!(
        fs::read_dir(host.layout.on_disk(DIRECTORY)).unwrap().count(),
        0,
        "nothing stays behind"
    );
}

#[test]
fn somebody_elses_broken_file_blocks_nothing() {
    let Some(host) = host() else { return };
    host.put("etc/sudoers.d/10-broken", "this is no sudoers file\n");
    assert_eq!(host.faults_of(GOOD), None);
    let report = host.faults_of("this is no sudoers file\n").unwrap();
    assert!(
        report.contains(".venvd-nova.") && !report.contains("10-broken"),
        "{report}"
    );
}

#[test]
fn what_clashes_with_the_rest_is_ours() {
    let Some(host) = host() else { return };
    host.put(
        "etc/sudoers.d/10-alias",
        "Cmnd_Alias TOOLS = /usr/bin/id\nroot ALL=(ALL) TOOLS\n",
    );
    assert!(
        host.faults_of("Cmnd_Alias TOOLS = /usr/bin/true\nroot ALL=(ALL) TOOLS\n")
            .is_some()
    );
}

#[test]
fn counts_lines() {
    assert!(added_lines("a\nb\n", "b\na\n\n").is_empty());
    assert_eq!(added_lines("a\n", "a\na\nc\n"), ["a", "c"]);
}
