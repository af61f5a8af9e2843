//! The host.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Command, Output};

pub(crate) const NOVA: u32 = 64060;
pub(crate) const BIN: &str = "/var/lib/venvd/venvs/nova/2/bin";

pub(crate) struct Host(tempfile::TempDir);

impl Host {
    /// Makes a host with the venvs nova:1 and nova:2, the latter in force; `None` when this is not root.
    pub(crate) fn new() -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            return None;
        }
        let host = Self(tempfile::tempdir().unwrap());
        // A temporary directory is closed to others, and this one shall be a root.
        fs::set_permissions(host.0.path(), fs::Permissions::from_mode(0o755)).unwrap();
        host.write(
            "/etc/passwd",
            "root:x:0:0::/root:/bin/sh\nnova:x:64060:64060::/var/lib/nova:/bin/bash\nop:x:1000:1000::/:/bin/sh\n",
        );
        host.write(
            "/etc/group",
            "root:x:0:\nnova:x:64060:\nlibvirt:x:64100:nova\nop:x:1000:\n",
        );
        host.write("/etc/nsswitch.conf", "passwd: files\ngroup: files\n");
        host.write("/etc/venvd/apps/nova.toml", "user = \"nova\"\n");
        host.write("/etc/venvd/apps/plain.toml", "description = \"no user\"\n");
        host.program("/var/lib/venvd/venvs/nova/1/bin/nova-old", "true");
        host.program("/var/lib/venvd/venvs/plain/1/bin/x", "true");
        host.program(
            &format!("{BIN}/report"),
            "cat /proc/self/status; ls -l /proc/self/fd; pwd; umask; env",
        );
        fs::create_dir(host.path("/root")).unwrap();
        fs::set_permissions(host.path("/root"), fs::Permissions::from_mode(0o700)).unwrap();
        fs::create_dir_all(host.path("/etc/venvd/committed")).unwrap();
        for (app, tag) in [("nova", "2"), ("plain", "1")] {
            symlink(
                format!("/var/lib/venvd/venvs/{app}/{tag}"),
                host.path(&format!("/etc/venvd/committed/{app}")),
            )
            .unwrap();
        }
        let program = host.path("/venv-activate");
        fs::copy(env!("CARGO_BIN_EXE_venv-activate"), program).unwrap();
        Some(host)
    }

    pub(crate) fn path(&self, path: &str) -> std::path::PathBuf {
        self.0.path().join(path.trim_start_matches('/'))
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn program(&self, path: &str, body: &str) {
        self.write(path, &format!("#!/bin/sh\n{body}\n"));
        fs::set_permissions(self.path(path), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Runs a shell line on the host, as root.
    pub(crate) fn shell(&self, line: &str) -> Output {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/host/host.sh");
        Command::new("unshare")
            .args([
                "--mount",
                "--pid",
                "--fork",
                "--propagation=private",
                "--kill-child",
                "sh",
                script,
            ])
            .arg(self.0.path())
            .args(["/bin/sh", "-c", line])
            .output()
            .unwrap()
    }

    /// Runs a shell line that must succeed, and returns what it says on standard output.
    pub(crate) fn ok(&self, line: &str) -> String {
        let output = self.shell(line);
        assert!(
            output.status.success(),
            "{line}: {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a shell line that must fail, and returns its status and what it says on standard error.
    pub(crate) fn fails(&self, line: &str) -> (i32, String) {
        let output = self.shell(line);
        let said = String::from_utf8(output.stderr).unwrap();
        (output.status.code().unwrap(), said)
    }
}
