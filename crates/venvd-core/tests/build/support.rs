//! A host in a temporary directory, with wheels made by hand.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use venvd_app::links::VenvPath;
use venvd_app::{Layout, Settings, search};
use venvd_core::build::{Built, Request, Silent};
use venvd_core::{Error, build};
use venvd_fs::Root;

/// Writes `DIRECTORY/NAME-VERSION-py3-none-any.whl` with the files given as `PATH=TEXT`; a wheel is a zip.
const MAKE_WHEEL: &str = r#"
import base64, hashlib, sys, zipfile
directory, name, version, *files = sys.argv[1:]
info = f'{name}-{version}.dist-info'
content = dict(file.split('=', 1) for file in files)
for number in range(int(content.pop('MANY', 0))):
    content[f'{name}/data{number}'] = '0' * 60000
content[f'{info}/METADATA'] = f'Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n'
content[f'{info}/WHEEL'] = 'Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n'
record = ''
with zipfile.ZipFile(f'{directory}/{name}-{version}-py3-none-any.whl', 'w', zipfile.ZIP_DEFLATED) as wheel:
    for path, text in content.items():
        wheel.writestr(zipfile.ZipInfo(path), text, zipfile.ZIP_DEFLATED)
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b'=').decode()
        record += f'{path},sha256={digest},{len(text.encode())}\n'
    wheel.writestr(zipfile.ZipInfo(f'{info}/RECORD'), record + f'{info}/RECORD,,\n')
"#;

/// A host.
#[derive(Debug)]
pub(crate) struct Host {
    directory: PathBuf,
    _temporary: Option<tempfile::TempDir>,
    pub(crate) layout: Layout,
}

impl Host {
    /// Returns a host of its own, where wheels come from `/wheels` alone.
    pub(crate) fn new() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let host = Self::at(temporary.path());
        fs::create_dir(host.path("/wheels")).unwrap();
        Self {
            _temporary: Some(temporary),
            ..host
        }
    }

    /// Returns the host that another process made.
    pub(crate) fn at(directory: &Path) -> Self {
        let layout = Layout::new(Root::at(directory));
        Self {
            directory: directory.to_owned(),
            _temporary: None,
            layout,
        }
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.layout.on_disk(path)
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    }

    /// Declares the app `demo`, with these further lines of `[build]`.
    pub(crate) fn declare(&self, build: &str) {
        let text = format!(
            "[build]\nbuilder = \"pip\"\n{build}\n[build.index]\nno-index = true\nfind-links = [\"/wheels\"]\n"
        );
        self.write("/etc/venvd/apps/demo.toml", &text);
    }

    /// Makes a wheel in `/wheels` and returns its line of a lock.
    pub(crate) fn wheel(&self, name: &str, version: &str, files: &[(&str, &str)]) -> String {
        let files = files.iter().map(|(path, text)| format!("{path}={text}"));
        let status = Command::new("/usr/bin/python3")
            .args(["-I", "-c", MAKE_WHEEL])
            .arg(self.path("/wheels"))
            .args([name, version])
            .args(files)
            .status()
            .unwrap();
        assert!(status.success());
        let hash = sha256(&self.path(&format!("/wheels/{name}-{version}-py3-none-any.whl")));
        format!("{name}=={version} --hash=sha256:{hash}\n")
    }

    /// Fills the file system up to a rest.
    pub(crate) fn fill_but(&self, rest: u64) {
        let status = nix::sys::statvfs::statvfs(self.directory()).unwrap();
        let free = status.blocks_available() * status.fragment_size();
        let ballast = self.path(&format!("/ballast-{rest}"));
        fs::write(ballast, vec![1; usize::try_from(free.saturating_sub(rest)).unwrap()]).unwrap();
    }

    /// Makes the wheel of `demo`: a program that says where it runs, and a template that is no Python.
    pub(crate) fn demo(&self, version: &str) -> String {
        let info = format!("demo-{version}.dist-info/entry_points.txt");
        let code = format!("import sys\ndef main():\n    print('{version}', sys.prefix)\n");
        self.wheel(
            "demo",
            version,
            &[
                ("demo/__init__.py", &code),
                ("demo/templates/new.py", "class ${name}: pass\n"),
                (
                    &format!("demo-{version}.data/scripts/demo-tool"),
                    "#!python\nimport demo\ndemo.main()\n",
                ),
                (&info, "[console_scripts]\ndemo = demo:main\n"),
            ],
        )
    }

    pub(crate) fn request(&self, tag: Option<&str>) -> Request {
        let app = search::load_app(&self.layout, &"demo".parse().unwrap()).unwrap();
        let mut request = Request::new(app);
        request.tag = tag.map(|tag| tag.parse().unwrap());
        // What a developer's machine has configured is not for these tests.
        request.environment = vec![
            ("PIP_CONFIG_FILE".into(), "/dev/null".into()),
            ("PIP_RETRIES".into(), "0".into()),
        ];
        request
    }

    pub(crate) fn build(&self, tag: Option<&str>) -> Result<Built, Error> {
        build(&self.layout, &Settings::default(), &self.request(tag), &mut Silent)
    }

    /// Returns the names in a directory, sorted; none if it is not there.
    pub(crate) fn names(&self, path: &str) -> Vec<String> {
        names(&self.path(path))
    }

    /// Checks that a failed build left nothing but its log.
    pub(crate) fn assert_nothing_left(&self) {
        let staging = self.names("/var/lib/venvd/staging");
        assert!(staging.iter().all(|name| name == "demo.log"), "{staging:?}");
        self.assert_unsealed();
    }

    /// Checks that there is no venv, and no lock of one.
    pub(crate) fn assert_unsealed(&self) {
        assert_eq!(self.names("/var/lib/venvd/venvs"), Vec::<String>::new());
        assert_eq!(self.names("/etc/venvd/locks/demo"), Vec::<String>::new());
    }
}

pub(crate) fn names(path: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(path) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

pub(crate) fn sha256(path: &Path) -> String {
    Sha256::digest(fs::read(path).unwrap())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Waits until something is there.
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let limit = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < limit, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn has_processes(user: u32) -> bool {
    let processes = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.unwrap().metadata().ok());
    processes
        .filter(|metadata| metadata.is_dir())
        .any(|metadata| metadata.uid() == user)
}

/// A venv of the host.
pub(crate) fn local(name: &str) -> VenvPath {
    VenvPath::local(&venvd_app::Layout::new(venvd_fs::Root::host()), name.parse().unwrap())
}
