use super::*;
use crate::manifest::Link;
use std::os::unix::fs::PermissionsExt;

const PACKAGES: &str = "/usr/lib/python3/dist-packages";

/// A host with packages of its own, and a venv's tree.
struct Fixture {
    directory: tempfile::TempDir,
    interpreter: Interpreter,
}

impl Fixture {
    fn new(files: &[(&str, &str)]) -> Self {
        let interpreter = Interpreter::probe(Path::new("/usr/bin/python3")).unwrap();
        let fixture = Self {
            directory: tempfile::tempdir().unwrap(),
            interpreter,
        };
        fs::create_dir_all(fixture.site()).unwrap();
        fs::create_dir_all(fixture.root().join(PACKAGES)).unwrap();
        for (name, text) in files {
            fixture.write(name, text);
        }
        fixture
    }

    fn root(&self) -> Root {
        Root::at(self.directory.path().join("root"))
    }

    fn tree(&self) -> PathBuf {
        self.directory.path().join("tree")
    }

    fn site(&self) -> PathBuf {
        self.tree().join(self.interpreter.site_packages())
    }

    fn path(&self, name: &str) -> PathBuf {
        let name = name.replace("SO", &format!("{}.so", self.interpreter.soabi));
        self.root().join(PACKAGES).join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn host(&self) -> Host<'_> {
        Host::at(&self.interpreter, self.root(), &["/usr/local/nothing", PACKAGES])
    }

    fn link(&self, names: &[&str]) -> Result<Vec<HostModule>, Error> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let own = [Distribution {
            name: "own".into(),
            version: "1".into(),
        }];
        self.host().link(&self.tree(), &names, &own)
    }

    /// Returns the links of one module, below site-packages.
    fn links(&self, name: &str) -> Vec<String> {
        let site = format!("{}/", self.interpreter.site_packages().display());
        let linked = self.link(&[name]).unwrap().remove(0);
        let soabi = format!("{}.so", self.interpreter.soabi);
        let short = |link: &String| link.strip_prefix(&site).unwrap().replace(&soabi, "SO");
        linked.links.iter().map(short).collect()
    }
}

#[test]
fn exactly_a_module_and_its_extensions_are_linked() {
    let fixture = Fixture::new(&[
        (
            "libvirt.py",
            "try:\n    import libvirtmod\nexcept ImportError:\n    raise\nimport os, helper\n",
        ),
        ("libvirtmod.SO", ""),
        ("libvirt_qemu.py", ""),
        ("libvirtmod_qemu.SO", ""),
        ("helper.py", ""),
        ("evil.pth", "import os; os.mkdir('/tmp/never')\n"),
        (
            "selinux/__init__.py",
            "if __package__:\n    from . import _selinux\nelse:\n    import _selinux\n",
        ),
        ("selinux/_selinux.SO", ""),
        ("selinux/audit2why.SO", ""),
        ("_selinux.SO", ""),
        ("rbd.SO", ""),
        ("space/part/__init__.py", ""),
    ]);
    assert_eq!(fixture.links("libvirt"), ["libvirt.py", "libvirtmod.SO"]);
    assert_eq!(fixture.links("selinux"), ["_selinux.SO", "selinux"]);
    assert_eq!(fixture.links("rbd"), ["rbd.SO"]);
    assert_eq!(fixture.links("space.part"), ["space/part"]);
    let target = fs::read_link(fixture.site().join("libvirt.py")).unwrap();
    assert_eq!(target, fixture.path("libvirt.py"));
    assert!(fixture.site().join("space").is_dir() && !fixture.site().join("space").is_symlink());
    let mut names: Vec<_> = fs::read_dir(fixture.site())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names.len(), 6, "{names:?}");
}

#[test]
fn a_module_that_contains_itself_has_an_end() {
    let fixture = Fixture::new(&[("loops/__init__.py", "")]);
    symlink(".", fixture.path("loops/again")).unwrap();
    assert_eq!(fixture.links("loops"), ["loops"]);
}

#[test]
fn what_does_not_fit_is_refused() {
    let fixture = Fixture::new(&[
        ("old.py", "import oldmod\n"),
        ("oldmod.cpython-27-x86_64-linux-gnu.so", ""),
        ("older.cpython-27-x86_64-linux-gnu.so", ""),
        ("package/__init__.py", ""),
        ("package/_x.cpython-27-x86_64-linux-gnu.so", ""),
        ("own.py", ""),
        ("twin.py", ""),
        ("open.py", ""),
        ("tree/__init__.py", ""),
        ("tree/open.py", ""),
    ]);
    fs::write(fixture.site().join("twin.SO".replace("SO", "abi3.so")), "").unwrap();
    for name in ["open.py", "tree/open.py"] {
        fs::set_permissions(fixture.path(name), fs::Permissions::from_mode(0o666)).unwrap();
    }
    for (name, reason) in [
        ("absent", "is not among the packages"),
        (
            "old",
            "oldmod.cpython-27-x86_64-linux-gnu.so\", which is for another python",
        ),
        ("older", "which is for another python"),
        ("package", "_x.cpython-27"),
        ("own", "is in the lock too, as own 1"),
        ("twin", "something of its own"),
        ("open", "not safe"),
        ("tree", "not safe"),
    ] {
        let error = fixture.link(&[name]).unwrap_err();
        assert_eq!(error.code(), "host-module");
        assert!(error.to_string().contains(reason), "{name}: {error}");
    }
}

#[test]
fn what_has_changed_since_is_found() {
    let fixture = Fixture::new(&[
        ("one.py", "import onemod\n"),
        ("onemod.SO", ""),
        ("two/__init__.py", ""),
    ]);
    let mut manifest = crate::manifest::tests::example();
    manifest.host_modules = fixture.link(&["one", "two"]).unwrap();
    let links = manifest.host_modules.iter().flat_map(|module| &module.links);
    manifest.links.extend(links.map(|link| Link {
        path: link.clone(),
        target: fs::read_link(fixture.tree().join(link)).unwrap(),
    }));
    let problems = || -> Vec<String> {
        let problems = fixture.host().check(&manifest).unwrap();
        problems.into_iter().map(|problem| problem.message).collect()
    };
    assert_eq!(problems(), Vec::<String>::new());

    fs::set_permissions(fixture.path("onemod.SO"), fs::Permissions::from_mode(0o777)).unwrap();
    assert!(problems()[0].contains("can be written by others"), "{:?}", problems());
    fs::rename(
        fixture.path("onemod.SO"),
        fixture.path("onemod.cpython-27-x86_64-linux-gnu.so"),
    )
    .unwrap();
    assert!(problems()[0].contains("another python"), "{:?}", problems());
    fs::remove_file(fixture.path("one.py")).unwrap();
    fs::remove_file(fixture.path("onemod.cpython-27-x86_64-linux-gnu.so")).unwrap();
    assert!(
        problems()[0].contains("one is not among the packages"),
        "{:?}",
        problems()
    );
    fs::remove_dir_all(fixture.path("two")).unwrap();
    fixture.write("two.py", "");
    let said = problems();
    assert!(said.iter().any(|message| message.contains("two")), "{said:?}");
    assert_eq!(said.len(), 3, "{said:?}");
}
