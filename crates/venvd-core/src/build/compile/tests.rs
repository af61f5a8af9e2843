use super::*;
use std::collections::BTreeMap;
use std::fs;

const SITE: &str = "lib/python3.11/site-packages";

fn interpreter() -> Interpreter {
    Interpreter::probe(Path::new("/usr/bin/python3")).unwrap()
}

/// Copies packages of the standard library to where a venv has its own, and returns the tree.
fn tree(interpreter: &Interpreter, packages: &[&str]) -> tempfile::TempDir {
    let tree = tempfile::tempdir().unwrap();
    let site = tree.path().join(interpreter.site_packages());
    fs::create_dir_all(&site).unwrap();
    for package in packages {
        let status = Command::new("cp")
            .arg("-r")
            .arg(interpreter.stdlib.join(package))
            .arg(&site)
            .status()
            .unwrap();
        assert!(status.success());
    }
    let script = "find \"$0\" -name __pycache__ -prune -exec rm -r {} +";
    let status = Command::new("sh")
        .args(["-c", script])
        .arg(tree.path())
        .status()
        .unwrap();
    assert!(status.success());
    tree
}

fn sources(tree: &Path, interpreter: &Interpreter) -> Vec<Source> {
    let mut sources = Vec::new();
    find(tree, &interpreter.site_packages(), &mut sources).unwrap();
    sources
}

fn bytecode(tree: &Path, interpreter: &Interpreter) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    walk(tree, &interpreter.site_packages(), &mut |path, _| {
        if is_bytecode(&path) {
            let content = fs::read(tree.join(&path)).unwrap();
            found.insert(path, content);
        }
    })
    .unwrap();
    found
}

fn run_all(from: &Path, to: &Path, batches: &[Vec<Source>]) -> Result<String, Failure> {
    let work = Work {
        from,
        to,
        batches,
        interrupt: &Interrupt::default(),
    };
    run(&work, &interpreter())
}

#[test]
fn bytecode_is_that_of_py_compile_in_whatever_order() {
    let interpreter = interpreter();
    let tree = tree(
        &interpreter,
        &[
            "email",
            "asyncio",
            "json",
            "unittest",
            "xml",
            "argparse.py",
            "typing.py",
        ],
    );
    let mut plan = batches(sources(tree.path(), &interpreter));
    assert!(plan.len() > 5, "{}", plan.len());
    assert_eq!(run_all(tree.path(), tree.path(), &plan).unwrap(), "");
    let made = bytecode(tree.path(), &interpreter);
    assert_eq!(made.len(), plan.iter().map(Vec::len).sum::<usize>());

    // The other way around, and all in another grouping.
    let other = tempfile::tempdir().unwrap();
    plan.reverse();
    run_all(tree.path(), other.path(), &plan).unwrap();
    assert!(made == bytecode(other.path(), &interpreter));
    let one: Vec<Source> = plan.concat();
    let other = tempfile::tempdir().unwrap();
    run_all(tree.path(), other.path(), &[one]).unwrap();
    assert!(made == bytecode(other.path(), &interpreter));

    // And as Python's own tool makes it, each file in a process of its own, as far as there is time.
    let script = "import py_compile, sys\n\
                  for path in sys.argv[3:]:\n    \
                  py_compile.compile(sys.argv[1] + '/' + path, sys.argv[2], '/venv/' + path, True,\n        \
                  invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)\n    \
                  sys.stdout.buffer.write(open(sys.argv[2], 'rb').read())";
    for (path, content) in made.iter().step_by(8) {
        let tag = format!(".{}.pyc", interpreter.cache_tag);
        let source = path.replace("__pycache__/", "").replace(&tag, ".py");
        let output = Command::new(&interpreter.path)
            .args(["-I", "-S", "-c", script])
            .args([tree.path(), &other.path().join("py_compile")])
            .arg(&source)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        assert!(output.stdout == *content, "{path}");
    }
}

#[test]
fn a_second_compile_finds_what_is_not_its_own() {
    let interpreter = interpreter();
    let tree = tree(&interpreter, &["json"]);
    let site = tree.path().join(interpreter.site_packages());
    fs::write(site.join("template.py"), "class ${name}: pass\n").unwrap();
    fs::write(site.join("x.py.py"), "").unwrap();
    let plan = batches(sources(tree.path(), &interpreter));
    let said = run_all(tree.path(), tree.path(), &plan).unwrap();
    assert!(
        said.contains("template.py: SyntaxError: ") && said.lines().count() == 1,
        "{said}"
    );
    assert!(
        site.join(format!("__pycache__/x.py.{}.pyc", interpreter.cache_tag))
            .exists()
    );

    let list = |manifest: &mut Manifest| {
        manifest.files.clear();
        walk(tree.path(), Path::new("lib"), &mut |path, size| {
            let example = crate::manifest::tests::example().files.remove(0);
            manifest.files.push(crate::manifest::File { path, size, ..example });
        })
        .unwrap();
    };
    let different = |manifest: &Manifest| {
        let scratch = tempfile::tempdir().unwrap();
        recompile(tree.path(), manifest, &interpreter, scratch.path()).unwrap()
    };
    let mut manifest = crate::manifest::tests::example();
    list(&mut manifest);
    assert_eq!(different(&manifest), Vec::<String>::new());

    let cached = |name: &str| format!("{name}.{}.pyc", interpreter.cache_tag);
    let cache = site.join("json/__pycache__");
    let mut content = fs::read(cache.join(cached("tool"))).unwrap();
    *content.last_mut().unwrap() ^= 1;
    fs::write(cache.join(cached("tool")), content).unwrap();
    fs::write(cache.join(cached("extra")), "").unwrap();
    fs::remove_file(cache.join(cached("scanner"))).unwrap();
    list(&mut manifest);
    let cache = format!("{}/json/__pycache__", interpreter.site_packages().display());
    let expected = ["extra", "scanner", "tool"].map(|name| format!("{cache}/{}", cached(name)));
    assert_eq!(different(&manifest), expected);
}

#[test]
fn batches_depend_on_neighbours_only() {
    let source = |name: &str, size: u64| Source {
        path: format!("{SITE}/{name}"),
        size,
    };
    let nova = [
        source("nova/a.py", BATCH),
        source("nova/b.py", 1),
        source("nova/x/c.py", 5),
    ];
    let names = |sources: Vec<Source>| {
        let mut names: Vec<Vec<String>> = batches(sources)
            .into_iter()
            .map(|batch| batch.into_iter().map(|source| source.path).collect())
            .collect();
        names.retain(|batch: &Vec<String>| batch[0].contains("nova/"));
        names
    };
    let alone = names(nova.to_vec());
    assert_eq!(alone.len(), 2);
    assert_eq!(alone[0], [format!("{SITE}/nova/a.py")]);
    let mut more = vec![
        source("six.py", 3),
        source("aaa/b.py", 9),
        source("novac/z.py", 2),
        source("zz.py", 1),
    ];
    more.extend(nova.into_iter().rev());
    assert_eq!(names(more), alone);
}

#[test]
fn what_ends_the_compiler_is_told() {
    let tree = tempfile::tempdir().unwrap();
    let missing = Source {
        path: format!("{SITE}/missing.py"),
        size: 1,
    };
    match run_all(tree.path(), tree.path(), &[vec![missing]]) {
        Err(Failure::Ended { said, .. }) => {
            assert!(
                said.contains("missing.py") && said.contains("a compiler ended with 1"),
                "{said}"
            );
        }
        other => panic!("{other:?}"),
    }
}
