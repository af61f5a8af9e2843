//! Compiling the sources of a venv, with the system's own Python and nothing of the venv's.
//!
//! The bytes of a bytecode file depend a little on what the process compiled before: `marshal` marks what is referenced
//! more than once, and a string that some earlier module still has counts. So files are compiled in batches that are the
//! same on every host, each in a process that has compiled nothing yet: a fork of one that waits for that. How many run
//! at a time, and in which order, has no say.

use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use rayon::prelude::*;
use venvd_fs::IoContext;

use super::confine::{SETPRIV, UNSHARE};
use super::interrupt::Interrupt;
use super::log::Log;
use crate::error::{Error, Step};
use crate::interpreter::Interpreter;
use crate::manifest::Manifest;

/// What runs in the interpreter.
const DRIVER: &str = include_str!("compile/driver.py");

/// How much source makes a batch, in bytes: a tenth of a second of work or more, beside which a fork does not count.
const BATCH: u64 = 1 << 20;

/// How much of what the driver says an error shows.
const TAIL: usize = 15;

/// A source, and its size.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Source {
    /// Relative to the tree.
    path: String,
    size: u64,
}

/// What to compile, and where to.
struct Work<'a> {
    from: &'a Path,
    to: &'a Path,
    batches: &'a [Vec<Source>],
    interrupt: &'a Interrupt,
}

/// Why there is no bytecode.
#[derive(Debug)]
enum Failure {
    /// The interpreter could not be started, or spoken to.
    Start(io::Error),
    /// It ended before all was done.
    Ended { status: ExitStatus, said: String },
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Start(error)
    }
}

/// Compiles all sources below the venv's site-packages. Those that are no valid Python (templates) stay without
/// bytecode, and are only noted in the log.
///
/// Parsing runs no code of the sources; no environment, working directory, `site` or `.pth` has a say.
pub(super) fn compile(
    tree: &Path,
    interpreter: &Interpreter,
    log: &mut Log,
    interrupt: &Interrupt,
) -> Result<(), Error> {
    log.heading("compile")?;
    let tree = tree.canonicalize().at("look at", tree)?;
    let mut sources = Vec::new();
    find(&tree, &interpreter.site_packages(), &mut sources)?;
    let work = Work {
        from: &tree,
        to: &tree,
        batches: &batches(sources),
        interrupt,
    };
    let compiled = run(&work, interpreter);
    interrupt.check()?;
    match compiled {
        Ok(invalid) => {
            for line in invalid.lines() {
                log.line(line)?;
            }
            Ok(())
        }
        Err(Failure::Start(source)) => Err(confine(source)),
        Err(Failure::Ended { status, said }) => {
            for line in said.lines() {
                log.line(line)?;
            }
            if log.says_full() {
                return Err(crate::space::full(&tree));
            }
            Err(Error::Step {
                step: Step::Compile,
                program: interpreter.path.display().to_string(),
                status: status.to_string(),
                tail: log.tail(),
                log: log.kept().to_owned(),
            })
        }
    }
}

/// Compiles the sources of a sealed venv anew, and returns the bytecode files that are not what comes out: other bytes,
/// one too few or one too many; relative to the venv, sorted.
///
/// `tree` is the venv on disk, `scratch` an empty directory. The sources have to have been compared with the manifest.
/// An interpreter of another patch version than the manifest's may rightly compile to other bytes.
///
/// # Errors
/// When a file can't be read, or the interpreter fails.
pub fn recompile(
    tree: &Path,
    manifest: &Manifest,
    interpreter: &Interpreter,
    scratch: &Path,
) -> Result<Vec<String>, Error> {
    let tree = tree.canonicalize().at("look at", tree)?;
    let scratch = scratch.canonicalize().at("look at", scratch)?;
    let site = format!("{}/", interpreter.site_packages().display());
    let in_site = || manifest.files.iter().filter(|file| file.path.starts_with(&site));
    let sources = in_site().filter(|file| is_source(&file.path)).map(|file| Source {
        path: file.path.clone(),
        size: file.size,
    });
    let work = Work {
        from: &tree,
        to: &scratch,
        batches: &batches(sources.collect()),
        interrupt: &Interrupt::default(),
    };
    run(&work, interpreter).map_err(|failure| match failure {
        Failure::Start(source) => confine(source),
        Failure::Ended { status, said } => {
            let lines: Vec<&str> = said.lines().collect();
            let tail = lines.get(lines.len().saturating_sub(TAIL)..).unwrap_or_default();
            confine(io::Error::other(format!("{status}: {}", tail.join("; "))))
        }
    })?;
    let sealed: Vec<&str> = in_site()
        .map(|file| file.path.as_str())
        .filter(|path| is_bytecode(path))
        .collect();
    let mut different = sealed
        .par_iter()
        .filter_map(|path| compare(&tree.join(path), &scratch.join(path), path).transpose())
        .collect::<Result<Vec<_>, Error>>()?;
    let mut made = Vec::new();
    if scratch.join(interpreter.site_packages()).is_dir() {
        walk(&scratch, &interpreter.site_packages(), &mut |path, _| made.push(path))?;
    }
    let known: std::collections::HashSet<&str> = sealed.into_iter().collect();
    different.extend(made.into_iter().filter(|path| !known.contains(path.as_str())));
    different.sort();
    Ok(different)
}

/// Returns the path if the two files are not the same.
fn compare(sealed: &Path, made: &Path, path: &str) -> Result<Option<String>, Error> {
    let content = match std::fs::read(made) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some(path.to_owned())),
        content => content.at("read", made)?,
    };
    let same = std::fs::read(sealed).at("read", sealed)? == content;
    Ok((!same).then(|| path.to_owned()))
}

fn is_source(path: &str) -> bool {
    // `.py` alone is nothing that could be imported.
    path.ends_with(".py") && !path.ends_with("/.py")
}

fn is_bytecode(path: &str) -> bool {
    path.ends_with(".pyc") && path.contains("/__pycache__/")
}

fn confine(source: io::Error) -> Error {
    Error::Confine {
        step: Step::Compile,
        action: "run the compiler".to_owned(),
        source,
    }
}

fn find(tree: &Path, site: &Path, sources: &mut Vec<Source>) -> Result<(), Error> {
    walk(tree, site, &mut |path, size| {
        if is_source(&path) {
            sources.push(Source { path, size });
        }
    })
}

/// Tells `found` every regular file below a directory, relative to the tree, and its size.
fn walk(tree: &Path, relative: &Path, found: &mut dyn FnMut(String, u64)) -> Result<(), Error> {
    let directory = tree.join(relative);
    for entry in std::fs::read_dir(&directory).at("list", &directory)? {
        let entry = entry.at("list", &directory)?;
        let path = relative.join(entry.file_name());
        let metadata = entry.metadata().at("look at", &entry.path())?;
        if metadata.is_dir() {
            walk(tree, &path, found)?;
        } else if metadata.is_file() {
            found(path.to_string_lossy().into_owned(), metadata.len());
        }
    }
    Ok(())
}

/// Parts sources into batches, the largest first. What is in a batch with a source depends on nothing but what else is
/// in the same directory of site-packages, so mostly on its distribution alone.
fn batches(mut sources: Vec<Source>) -> Vec<Vec<Source>> {
    sources.sort();
    let size = |batch: &[Source]| batch.iter().map(|source| source.size).sum::<u64>();
    let mut batches: Vec<Vec<Source>> = Vec::new();
    for source in sources {
        match batches.last_mut() {
            Some(batch) if size(batch) < BATCH && batch.first().is_some_and(|first| top(first) == top(&source)) => {
                batch.push(source);
            }
            _ => batches.push(vec![source]),
        }
    }
    batches.sort_by_cached_key(|batch| std::cmp::Reverse(size(batch)));
    batches
}

/// Returns the path up to the name in site-packages: `lib/python3.11/site-packages/nova`.
fn top(source: &Source) -> &str {
    let end = source.path.match_indices('/').nth(3).map(|(position, _)| position);
    end.and_then(|end| source.path.get(..end)).unwrap_or(&source.path)
}

/// Compiles batches of sources below `from` to bytecode below `to`; returns what is said of those that are no Python.
fn run(work: &Work<'_>, interpreter: &Interpreter) -> Result<String, Failure> {
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    // In a PID namespace, so that no compiler outlives a killed build. An ordinary user may have one in one of his own.
    let own: &[&str] = if nix::unistd::geteuid().is_root() {
        &[]
    } else {
        &["--user", "--map-current-user"]
    };
    let mut child = Command::new(SETPRIV)
        .args(["--pdeathsig", "KILL", "--", UNSHARE])
        .args(own)
        .args(["--pid", "--fork"])
        .args(["--kill-child=KILL", "--"])
        .arg(&interpreter.path)
        // Warnings of old escapes are the package's affair, and writing them takes time.
        .args(["-s", "-S", "-W", "ignore", "-c", DRIVER])
        .args([work.from, work.to])
        .arg(jobs.to_string())
        .env_clear()
        .env("LC_ALL", "C.UTF-8")
        // Until Python 3.11, the order of a set that is a constant depends on it.
        .env("PYTHONHASHSEED", "0")
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let input = child.stdin.take();
    let (output, errors) = (child.stdout.take(), child.stderr.take());
    let panicked = |_| Err(io::Error::other("a thread that speaks to it panicked"));
    let (status, sent, said, complained) = std::thread::scope(|scope| {
        let sender = scope.spawn(move || input.map_or(Ok(()), |input| send(input, work.batches)));
        let said = scope.spawn(move || output.map_or(Ok(String::new()), hear));
        let complained = scope.spawn(move || errors.map_or(Ok(String::new()), hear));
        let status = work.interrupt.wait(&mut child, Child::kill);
        (
            status,
            sender
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("the sender panicked"))),
            said.join().unwrap_or_else(panicked),
            complained.join().unwrap_or_else(panicked),
        )
    });
    let status = status?;
    if !status.success() {
        // Then it is no wonder if it did not read all.
        return Err(Failure::Ended {
            status,
            said: complained?,
        });
    }
    sent?;
    Ok(said?)
}

fn hear(mut pipe: impl Read) -> io::Result<String> {
    let mut said = Vec::new();
    pipe.read_to_end(&mut said)?;
    Ok(String::from_utf8_lossy(&said).into_owned())
}

fn send(input: std::process::ChildStdin, batches: &[Vec<Source>]) -> io::Result<()> {
    let mut input = io::BufWriter::new(input);
    for batch in batches {
        for (index, source) in batch.iter().enumerate() {
            // Neither is in a name: the copy refused control characters.
            input.write_all(if index == 0 { b"" } else { b"\t" })?;
            input.write_all(source.path.as_bytes())?;
        }
        input.write_all(b"\n")?;
    }
    input.flush()
}

#[cfg(test)]
mod tests;
