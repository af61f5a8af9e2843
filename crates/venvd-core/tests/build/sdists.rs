use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::{Host, sha256};
use venvd_core::build::{Outcome, Silent};
use venvd_core::{Error, Manifest, build};

/// Writes `DIRECTORY/NAME-VERSION.tar.gz` with a build backend of its own, which needs `REQUIRES` (a list, as Python) and
/// puts a module into its wheel that says what the backend saw.
const MAKE_SDIST: &str = r#"
import io, sys, tarfile
directory, name, version, requires = sys.argv[1:]
backend = f'''
import os, socket, zipfile
NAME, VERSION = {name!r}, {version!r}
def get_requires_for_build_wheel(config_settings=None):
    return []
def _metadata():
    return f"Metadata-Version: 2.1\\nName: {{NAME}}\\nVersion: {{VERSION}}\\n"
def prepare_metadata_for_build_wheel(directory, config_settings=None):
    info = f"{{NAME}}-{{VERSION}}.dist-info"
    os.mkdir(os.path.join(directory, info))
    with open(os.path.join(directory, info, "METADATA"), "w") as file:
        file.write(_metadata())
    return info
def build_wheel(directory, config_settings=None, metadata_directory=None):
    try:
        import helper
        had = helper.WORD
    except ImportError:
        had = "nothing"
    network = len(socket.if_nameindex())
    seen = f"had {{had}}, root {{os.getuid() == 0}}, devices {{network}}, epoch {{os.environ['SOURCE_DATE_EPOCH']}}"
    file_name = f"{{NAME}}-{{VERSION}}-py3-none-any.whl"
    info = f"{{NAME}}-{{VERSION}}.dist-info"
    with zipfile.ZipFile(os.path.join(directory, file_name), "w") as wheel:
        for path, text in (
            (f"{{NAME}}.py", f"SEEN = {{seen!r}}\\n"),
            (f"{{info}}/METADATA", _metadata()),
            (f"{{info}}/WHEEL", "Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"),
            (f"{{info}}/RECORD", f"{{NAME}}.py,,\\n{{info}}/METADATA,,\\n{{info}}/WHEEL,,\\n{{info}}/RECORD,,\\n"),
        ):
            wheel.writestr(path, text)
    return file_name
'''
project = f'[build-system]\nrequires = {requires}\nbuild-backend = "backend"\nbackend-path = ["."]\n'
info = f'Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n'
with tarfile.open(f'{directory}/{name}-{version}.tar.gz', 'w:gz') as archive:
    for path, text in (('backend.py', backend), ('pyproject.toml', project), ('PKG-INFO', info)):
        member = tarfile.TarInfo(f'{name}-{version}/{path}')
        member.size = len(text)
        archive.addfile(member, io.BytesIO(text.encode()))
"#;

/// Makes a source distribution in a directory of the host, and returns its line of a lock.
fn sdist(host: &Host, directory: &str, requires: &str) -> String {
    let directory = host.path(directory);
    fs::create_dir_all(&directory).unwrap();
    let status = Command::new("/usr/bin/python3")
        .args(["-I", "-c", MAKE_SDIST])
        .arg(&directory)
        .args(["source", "1.0", requires])
        .status()
        .unwrap();
    assert!(status.success());
    format!(
        "source==1.0 --hash=sha256:{}\n",
        sha256(&directory.join("source-1.0.tar.gz"))
    )
}

fn read(host: &Host, file: &str) -> String {
    let venv = host.path("/var/lib/venvd/venvs/demo/1");
    let minor = Manifest::load(&venv).unwrap().python.minor;
    fs::read_to_string(venv.join(format!("lib/python{minor}/site-packages/{file}"))).unwrap()
}

#[test]
fn a_named_distribution_is_built_from_source_without_network_and_as_nobody() {
    let host = Host::new();
    let line = sdist(&host, "/wheels", "[]");
    host.write("/lock.txt", &format!("{line}{}", host.demo("1.0")));
    host.declare("lock = \"/lock.txt\"");
    // It takes a word.
    let error = host.build(Some("1")).unwrap_err();
    assert_eq!(error.code(), "missing-wheel", "{error}");
    host.declare("lock = \"/lock.txt\"\nsdists = [\"Source\"]");
    assert_eq!(host.build(Some("1")).unwrap().outcome, Outcome::New);
    // One network device: the loopback, down.
    assert_eq!(
        read(&host, "source.py"),
        "SEEN = 'had nothing, root False, devices 1, epoch 315532800'\n"
    );
    assert_eq!(host.build(Some("1")).unwrap().outcome, Outcome::AlreadyThere);
    let manifest = Manifest::load(&host.path("/var/lib/venvd/venvs/demo/1")).unwrap();
    let names: Vec<&str> = manifest.distributions.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["demo", "source"]);
    assert_eq!(
        host.names("/var/lib/venvd/staging/"),
        ["demo.log"],
        "of the first attempt"
    );
}

#[test]
fn packages_with_sources_make_a_lock_that_demands_the_source() {
    let host = Host::new();
    let line = sdist(&host, "/wheels", "[]");
    // Its wheel is there as well, and is not what was asked for.
    host.wheel("source", "1.0", &[("source.py", "")]);
    host.demo("1.0");
    host.declare("packages = [\"demo\", \"source\"]\nsdists = [\"source\"]");
    host.build(Some("1")).unwrap();
    let lock = fs::read_to_string(host.path("/etc/venvd/locks/demo/1.txt")).unwrap();
    assert!(lock.contains(&line), "{lock}");
    assert!(read(&host, "source.py").starts_with("SEEN"));
    // Other words, another lock.
    host.declare("packages = [\"demo\", \"source\"]");
    let error = host.build(Some("1")).unwrap_err();
    assert_eq!(error.code(), "other-lock");
}

#[test]
fn what_a_build_needs_must_be_in_the_lock() {
    let host = Host::new();
    let line = sdist(&host, "/wheels", "['helper>=2']");
    let helper = host.wheel("helper", "2", &[("helper.py", "WORD = 'a helper'\n")]);
    host.write("/lock.txt", &line);
    host.declare("lock = \"/lock.txt\"\nsdists = [\"source\"]");
    let error = host.build(Some("1")).unwrap_err();
    assert_eq!(error.code(), "build-needs", "{error}");
    assert!(
        error
            .to_string()
            .contains("source==1.0 can't be built: it needs helper>=2"),
        "{error}"
    );
    host.assert_nothing_left();
    host.write("/lock.txt", &format!("{line}{helper}"));
    host.build(Some("1")).unwrap();
    assert!(
        read(&host, "source.py").contains("had a helper"),
        "{}",
        read(&host, "source.py")
    );
}

/// Serves the directory `SITE` on a free port, which it prints, to whoever has the password; `simple` pages are HTML for
/// `/html/` and JSON for `/json/`.
const SERVER: &str = r#"
import base64, hashlib, http.server, json, os, sys
os.chdir(sys.argv[1])
WORD = 'Basic ' + base64.b64encode(b'me:p@ss').decode()
NAME = 'source-1.0.tar.gz'
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.headers.get('Authorization') != WORD:
            return self.send_error(401)
        digest = hashlib.sha256(open(NAME, 'rb').read()).hexdigest()
        other = '0' * 64
        if self.path == '/html/simple/source/':
            kind, body = 'text/html', (
                f'<html><body><a href="../../files/source-0.9.tar.gz#sha256={other}">x</a>'
                f'<a class=x href="../../files/{NAME}#sha256={digest}">x</a></body></html>').encode()
        elif self.path == '/json/simple/source/':
            kind, body = 'application/vnd.pypi.simple.v1+json', json.dumps({
                'meta': {'api-version': '1.1'}, 'name': 'source',
                'files': [{'filename': NAME, 'url': f'/json/files/{NAME}', 'hashes': {'sha256': digest}}]}).encode()
        elif self.path == f'/moved/simple/source/':
            self.send_response(302)
            self.send_header('Location', '/html/simple/source/')
            return self.end_headers()
        elif self.path.endswith(f'/files/{NAME}'):
            kind, body = 'application/octet-stream', open(NAME, 'rb').read()
        else:
            return self.send_error(404)
        self.send_response(200)
        self.send_header('Content-Type', kind)
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *words):
        pass
server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
"#;

/// An index that ends with the test.
struct Index {
    process: Child,
    port: String,
}

impl Index {
    fn serve(site: &Path) -> Self {
        let mut process = Command::new("/usr/bin/python3")
            .args(["-I", "-c", SERVER])
            .arg(site)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut port = String::new();
        BufReader::new(process.stdout.as_mut().unwrap())
            .read_line(&mut port)
            .unwrap();
        Self {
            process,
            port: port.trim().to_owned(),
        }
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Builds with an index in pip's variables.
fn build_from(host: &Host, index: &str) -> Result<Outcome, Error> {
    let mut request = host.request(Some("1"));
    request.environment.push(("PIP_INDEX_URL".into(), index.into()));
    Ok(build(&host.layout, &Default::default(), &request, &mut Silent)?.outcome)
}

#[test]
fn sources_come_from_any_kind_of_index_by_their_hashes() {
    let from = |path: &str, login: &str, wrong: bool| {
        let host = Host::new();
        let mut line = sdist(&host, "/site", "[]");
        if wrong {
            line = format!("source==1.0 --hash=sha256:{}\n", "1".repeat(64));
        }
        host.write("/lock.txt", &line);
        host.write(
            "/etc/venvd/apps/demo.toml",
            "[build]\nbuilder = \"pip\"\nlock = \"/lock.txt\"\nsdists = [\"source\"]\n",
        );
        let index = Index::serve(&host.path("/site"));
        let result = build_from(&host, &format!("http://{login}127.0.0.1:{}/{path}/simple", index.port));
        result.inspect(|_| assert!(read(&host, "source.py").starts_with("SEEN")))
    };
    // A page of HTML behind a redirect, and one of JSON.
    for path in ["moved", "json"] {
        assert_eq!(from(path, "me:p%40ss@", false).unwrap(), Outcome::New, "{path}");
    }
    for (path, login, wrong, says) in [
        ("html", "", false, "401"),
        ("absent", "me:p%40ss@", false, "404"),
        (
            "html",
            "me:p%40ss@",
            true,
            "no source distribution of source 1.0 with a hash of the lock",
        ),
    ] {
        let error = from(path, login, wrong).unwrap_err();
        assert_eq!(error.code(), "download-failed", "{error}");
        let text = error.to_string();
        assert!(text.contains(says) && !text.contains("p%40ss"), "{text}");
    }
}
