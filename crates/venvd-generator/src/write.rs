//! What is planned, put on disk.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::Path;

use venvd_fs::{Error, IoContext};

use crate::plan::Part;
use crate::report::{FILE_NAME, Report};

/// What became of it.
#[derive(Debug, Default)]
pub struct Written {
    /// How many files and links were made.
    pub count: usize,
    /// What could not be made.
    pub errors: Vec<Error>,
}

/// Writes a part of the plan below `directory`; what can't be written does not stop the rest. An empty one writes nothing.
///
/// Systemd has just emptied the directory: a file that is there already is somebody else's, and is left alone
/// (`O_EXCL`, as `generator_open_unit_file()` does). Nothing is synced: the directory is on a tmpfs.
#[must_use]
pub fn write(part: &Part, directory: &Path) -> Written {
    let mut written = Written::default();
    for (path, text) in &part.files {
        written.add(write_file(&directory.join(path), text));
    }
    for (path, target) in &part.links {
        written.add(make_link(&directory.join(path), target));
    }
    written
}

/// Writes the report below `directory`, if there is something to say.
#[must_use]
pub fn write_report(report: &Report, directory: &Path) -> Written {
    let mut written = Written::default();
    if !report.is_empty() {
        let path = directory.join(FILE_NAME);
        written.add(report_text(report, &path).and_then(|text| write_file(&path, &text)));
    }
    written
}

impl Written {
    fn add(&mut self, result: Result<(), Error>) {
        match result {
            Ok(()) => self.count += 1,
            Err(error) => self.errors.push(error),
        }
    }
}

fn report_text(report: &Report, path: &Path) -> Result<String, Error> {
    let mut text = serde_json::to_string_pretty(report).at("describe", path)?;
    text.push('\n');
    Ok(text)
}

fn write_file(path: &Path, text: &str) -> Result<(), Error> {
    make_parent(path).at("make the directory of", path)?;
    let file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(path);
    file.and_then(|file| fill(file, path, text)).at("write", path)
}

/// Writes all or leaves nothing: half a drop-in may reset a list and not fill it again, and an empty unit is a mask.
fn fill(mut file: impl Write, path: &Path, text: &str) -> io::Result<()> {
    let written = file.write_all(text.as_bytes());
    if written.is_err() {
        // That it can't be written is what matters, and is told.
        let _ = fs::remove_file(path);
    }
    written
}

fn make_link(path: &Path, target: &Path) -> Result<(), Error> {
    make_parent(path).at("make the directory of", path)?;
    symlink(target, path).at("make the link", path)
}

fn make_parent(path: &Path) -> io::Result<()> {
    let Some(parent) = path.parent() else { return Ok(()) };
    let mut builder = DirBuilder::new();
    match builder.mode(0o755).create(parent) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => builder.recursive(true).create(parent),
        made => made,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn part() -> Part {
        let mut part = Part::default();
        part.files
            .insert("a.service.d/zz-venvd.conf".to_owned(), "[Unit]\n".to_owned());
        part.links
            .insert("b.target.wants/a.service".to_owned(), PathBuf::from("../a.service"));
        part
    }

    #[test]
    fn writes_files_and_links() {
        let directory = tempfile::tempdir().unwrap();
        let written = write(&part(), directory.path());
        assert_eq!((written.count, written.errors.len()), (2, 0));
        let text = std::fs::read_to_string(directory.path().join("a.service.d/zz-venvd.conf")).unwrap();
        assert_eq!(text, "[Unit]\n");
        let link = std::fs::read_link(directory.path().join("b.target.wants/a.service")).unwrap();
        assert_eq!(link, Path::new("../a.service"));
        assert!(!directory.path().join(FILE_NAME).exists());
    }

    #[test]
    fn never_overwrites_and_carries_on() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("a.service.d")).unwrap();
        let taken = directory.path().join("a.service.d/zz-venvd.conf");
        std::fs::write(&taken, "mine").unwrap();
        let written = write(&part(), directory.path());
        assert_eq!((written.count, written.errors.len()), (1, 1));
        assert_eq!(std::fs::read_to_string(taken).unwrap(), "mine");
    }

    #[test]
    fn half_a_file_is_not_left_behind() {
        /// A file system with room for some bytes.
        struct Full(std::fs::File, usize);
        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                let fits = bytes.len().min(std::mem::take(&mut self.1));
                self.0.write(bytes.get(..fits).unwrap_or_default())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("zz-venvd.conf");
        let text = "[Service]\nExecStart=\nExecStart=/bin/a\n";
        for (room, whole) in [(0, false), ("[Service]\nExecStart=\n".len(), false), (text.len(), true)] {
            let file = Full(std::fs::File::create(&path).unwrap(), room);
            assert_eq!(fill(file, &path, text).is_ok(), whole);
            assert_eq!(path.exists(), whole, "{room}");
        }
    }

    #[test]
    fn an_empty_part_writes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(write(&Part::default(), directory.path()).count, 0);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
