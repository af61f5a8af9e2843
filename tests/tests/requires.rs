//! Whether the distributions of a venv fit each other: venvd's own answer is that of `pip check`, on real venvs whole
//! and broken.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use venvd_core::{Interpreter, requires};
use venvd_tests::tools::Tools;
use venvd_tests::{Os, host, locks, wheels};

const PYTHON: &str = "/usr/bin/python3";

/// An ordinary venv, made by uv from a lock.
struct Venv {
    directory: tempfile::TempDir,
    interpreter: Interpreter,
}

impl Venv {
    fn new(os: Os, lock: &str, interpreter: &Interpreter) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let venv = Self {
            directory,
            interpreter: interpreter.clone(),
        };
        let uv = Tools::ensure()?.uv();
        let run = |arguments: &[&str]| {
            let mut command = Command::new(&uv);
            host::run(
                command
                    .args(["--no-config", "--offline", "--quiet"])
                    .args(arguments)
                    .env("UV_CACHE_DIR", venv.path("cache")),
            )
        };
        let place = venv.path("venv").display().to_string();
        run(&["venv", "--python", PYTHON, &place])?;
        let wheels = wheels::ensure(os)?.display().to_string();
        let lock = locks::path(lock).display().to_string();
        run(&[
            "pip",
            "install",
            "--python",
            &place,
            "--no-index",
            "--find-links",
            &wheels,
            "--no-deps",
            "-r",
            &lock,
        ])?;
        Ok(venv)
    }

    fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    fn site(&self) -> PathBuf {
        self.path("venv").join(self.interpreter.site_packages())
    }

    /// Returns the `METADATA` files, relative to the venv.
    fn metadata(&self) -> Result<Vec<String>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(self.site())? {
            let directory = entry?.file_name().to_string_lossy().into_owned();
            let path = self.interpreter.site_packages().join(&directory).join("METADATA");
            if directory.ends_with(".dist-info") {
                files.push(path.display().to_string());
            }
        }
        Ok(files)
    }

    /// Returns `name version` of each distribution that venvd has something to say of.
    fn ours(&self) -> Result<BTreeSet<String>> {
        let files = self.metadata()?;
        let misfits = requires::check(&self.path("venv"), files.iter().map(String::as_str), &self.interpreter);
        Ok(misfits.iter().map(|misfit| first_two(&misfit.to_string())).collect())
    }

    /// Returns the same of pip.
    fn pips(&self) -> Result<BTreeSet<String>> {
        let output = Command::new(Tools::ensure()?.python())
            .args(["-m", "pip", "--no-input", "--disable-pip-version-check", "--python"])
            .arg(self.path("venv"))
            .arg("check")
            .output()
            .context("can't run pip")?;
        let said = String::from_utf8(output.stdout)?;
        let told: BTreeSet<String> = said
            .lines()
            .filter(|line| !line.starts_with("No broken"))
            .map(first_two)
            .collect();
        assert_eq!(output.status.success(), told.is_empty(), "{said}");
        Ok(told)
    }

    /// Finds the metadata of a distribution.
    fn info(&self, name: &str) -> Result<PathBuf> {
        let directories = fs::read_dir(self.site())?.filter_map(|entry| Some(entry.ok()?.path()));
        directories
            .into_iter()
            .find(|path| {
                let directory = path.file_name().unwrap_or_default().to_string_lossy();
                directory.starts_with(&format!("{name}-")) && directory.ends_with(".dist-info")
            })
            .with_context(|| format!("there is no {name}"))
    }
}

fn first_two(line: &str) -> String {
    line.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

fn add(metadata: &Path, line: &str) -> Result<()> {
    let text = fs::read_to_string(metadata)?;
    fs::write(metadata, text.replacen("\nName:", &format!("\n{line}\nName:"), 1))?;
    Ok(())
}

#[test]
fn says_of_real_venvs_what_pip_check_says() -> Result<()> {
    let interpreter = Interpreter::probe(Path::new(PYTHON))?;
    let Some(os) = Os::ALL.into_iter().find(|os| os.python() == interpreter.minor) else {
        // The committed locks have wheels for the Pythons of these releases alone.
        return Ok(());
    };
    for lock in locks::PLACEMENT.into_iter().chain([locks::CINDER[1]]) {
        let venv = Venv::new(os, lock, &interpreter)?;
        assert_eq!(
            (venv.ours()?, venv.pips()?),
            (BTreeSet::new(), BTreeSet::new()),
            "{lock}"
        );
        fs::remove_dir_all(venv.info("pbr")?)?;
        let stevedore = venv.info("stevedore")?.join("METADATA");
        for line in [
            "Requires-Dist: pbr>=999",
            "Requires-Dist: oslo.config<1",
            "Requires-Dist: nothing; python_version < '3'",
            "Requires-Dist: nothing-either; extra == 'x'",
        ] {
            add(&stevedore, line)?;
        }
        let ours = venv.ours()?;
        assert_eq!(ours, venv.pips()?, "{lock}");
        assert!(ours.iter().any(|said| said.starts_with("stevedore ")), "{ours:?}");
    }
    Ok(())
}
