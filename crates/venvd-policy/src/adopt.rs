//! A root-owned copy of a rootwrap configuration that others than root can write.
//!
//! Some packages and set-ups give `/etc/APP` to the service's user. A rule that names a `rootwrap.conf` there is refused,
//! since that user could write himself any right. The copy below `/etc/venvd/rootwrap/APP` is what a rule can name
//! instead, once the service calls rootwrap with it.
//!
//! Root reads here what somebody else put there. So it follows no link, takes files of root's and that user's alone, and
//! the copies are root's alone to read, as rootwrap runs as root: nobody gets to see what he could not see before.

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use venvd_app::{App, Layout};
use venvd_fs::beneath::Tree;
use venvd_fs::{IoContext, atomic, report};

use crate::Error;
use crate::apply::lock;
use crate::place::text_of;
use crate::rootwrap::check::{Checker, config_error, no_config};
use crate::rootwrap::conf::Conf;
use crate::sudoers::identity::Identity;

/// The fragment that lets the definition name the copy. Its number leaves room for an administrator's on both sides.
const FRAGMENT: &str = "80-rootwrap.toml";

/// What is to be written, and what is to be done by hand.
#[derive(Debug)]
pub struct Adoption {
    layout: Layout,
    /// The copy of `rootwrap.conf`, as a path of the host.
    pub config: PathBuf,
    /// What the definition named before.
    pub before: PathBuf,
    /// Each file with its contents, as paths of the host: the copies, then the fragment of the definition.
    pub files: Vec<(PathBuf, Vec<u8>)>,
}

/// Decides what to copy. It only reads.
///
/// Filter directories in root's hands alone are not copied: packages keep them up to date.
///
/// # Errors
/// When the app has no rootwrap configuration, or it is not what oslo.rootwrap could read, or was adopted before.
pub fn adopt(layout: &Layout, app: &App) -> Result<Adoption, Error> {
    let Some(rootwrap) = &app.rootwrap else {
        return Err(Error::NoRootwrap { app: app.name.clone() });
    };
    let before: &Path = &rootwrap.config;
    let home = layout.root().on_host(&layout.configuration());
    let home = home.join("rootwrap").join(app.name.as_str());
    if before.starts_with(&home) {
        return Err(Error::Adopted {
            app: app.name.clone(),
            config: before.to_owned(),
        });
    }
    let source = Source::of(layout, app);
    let bytes = source.config(before)?.ok_or_else(|| no_config(&app.name, before))?;
    let text = String::from_utf8(bytes).map_err(|_| Error::Config {
        config: before.to_owned(),
        line: 1,
        reason: "the file is not UTF-8".to_owned(),
    })?;
    let conf = Conf::parse(&text).map_err(|error| config_error(before, error))?;
    let checker = Checker { layout, app };
    checker.absolute(before, &conf)?;
    let mut files = Vec::new();
    let mut directories = Vec::new();
    for directory in conf.filters_path() {
        let directory = Path::new(directory);
        directories.push(if checker.filters(directory).is_ok() {
            directory.to_owned()
        } else {
            let copy = unused(&home, directory, &directories);
            source.filters(directory, &copy, &mut files)?;
            copy
        });
    }
    let directories: Vec<String> = directories.iter().map(|path| path.display().to_string()).collect();
    let text = conf.with_filters_path(&directories);
    let conf = Conf::parse(&text).map_err(|error| config_error(before, error))?;
    let config = home.join("rootwrap.conf");
    files.insert(0, (config.clone(), conf.with_front(&app.name, &[]).into_bytes()));
    files.push((fragment_path(layout, app), fragment(app, before, &config).into_bytes()));
    Ok(Adoption {
        layout: layout.clone(),
        config,
        before: before.to_owned(),
        files,
    })
}

impl Adoption {
    /// Writes the copies and the fragment. Rules and services change with the next `policy apply`, not now.
    ///
    /// # Errors
    /// When a file can't be written.
    pub fn write(&self) -> Result<(), Error> {
        let _lock = lock(&self.layout)?;
        let home = self.config.parent().unwrap_or(&self.config);
        for (path, text) in &self.files {
            let mode = if path.starts_with(home) { 0o600 } else { 0o644 };
            atomic::write(&self.layout.on_disk(path), text, mode)?;
        }
        Ok(())
    }
}

/// Returns a directory for copies that no other one has: two filter directories may have the same last name.
fn unused(home: &Path, directory: &Path, taken: &[PathBuf]) -> PathBuf {
    let name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let named = (1..).map(|number: u32| match number {
        1 => home.join(&name),
        _ => home.join(format!("{name}-{number}")),
    });
    let mut free = named.filter(|path| !taken.contains(path));
    free.next().unwrap_or_else(|| home.join(&name))
}

/// Whose files may be copied.
#[derive(Debug)]
struct Source<'a> {
    layout: &'a Layout,
    user: Option<u32>,
}

impl<'a> Source<'a> {
    fn of(layout: &'a Layout, app: &App) -> Self {
        let user = app.user.as_ref().and_then(|user| Identity::of(layout, user).uid());
        Self { layout, user }
    }

    /// Opens a directory of the host.
    fn open(&self, path: &Path) -> Result<Option<Tree>, Error> {
        let tree = Tree::open_without_links(self.layout.root(), path).map_err(|error| unadoptable(path, &error))?;
        let Some(tree) = tree else { return Ok(None) };
        let metadata = fs::File::from(tree.directory(Path::new(""))?).metadata();
        self.admit(path, &metadata.at("look at", path)?)?;
        Ok(Some(tree))
    }

    fn config(&self, path: &Path) -> Result<Option<Vec<u8>>, Error> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Ok(None);
        };
        match self.open(parent)? {
            Some(directory) if directory.path().join(name).exists() => self.read(&directory, Path::new(name)).map(Some),
            _ => Ok(None),
        }
    }

    fn read(&self, directory: &Tree, name: &Path) -> Result<Vec<u8>, Error> {
        let path = directory.path().join(name);
        let mut file = directory.file(name).map_err(|error| unadoptable(&path, &error))?;
        let metadata = file.metadata().at("look at", &path)?;
        self.admit(&path, &metadata)?;
        if metadata.nlink() != 1 {
            return Err(Error::Unadoptable {
                path,
                reason: "it has other names elsewhere (hard links)".to_owned(),
            });
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).at("read", &path)?;
        Ok(bytes)
    }

    fn admit(&self, path: &Path, metadata: &fs::Metadata) -> Result<(), Error> {
        let uid = metadata.uid();
        if self.layout.owners().admit(uid) || self.user == Some(uid) {
            return Ok(());
        }
        Err(Error::Unadoptable {
            path: path.to_owned(),
            reason: format!("it belongs to user {uid}, neither root nor the app's user"),
        })
    }

    /// Takes the files `*.filters` of a directory. Rootwrap would read others, too, but no service has any.
    fn filters(&self, from: &Path, to: &Path, files: &mut Vec<(PathBuf, Vec<u8>)>) -> Result<(), Error> {
        let Some(directory) = self.open(from)? else {
            return Ok(());
        };
        let mut names = Vec::new();
        for entry in fs::read_dir(directory.path()).at("list", directory.path())? {
            let entry = entry.at("list", directory.path())?;
            // As rootwrap, what is no file is skipped; and a link, since root would read for whoever made it.
            let is_file = entry.file_type().at("look at", &entry.path())?.is_file();
            let name = PathBuf::from(entry.file_name());
            if is_file && name.extension().is_some_and(|extension| extension == "filters") {
                names.push(name);
            }
        }
        names.sort();
        for name in names {
            let bytes = self.read(&directory, &name)?;
            files.push((to.join(&name), bytes));
        }
        Ok(())
    }
}

fn unadoptable(path: &Path, error: &(dyn std::error::Error + 'static)) -> Error {
    Error::Unadoptable {
        path: path.to_owned(),
        reason: report(error),
    }
}

fn fragment_path(layout: &Layout, app: &App) -> PathBuf {
    let directory = layout.definition_directories().last().cloned().unwrap_or_default();
    directory.join(format!("{}.toml.d", app.name)).join(FRAGMENT)
}

fn fragment(app: &App, before: &Path, config: &Path) -> String {
    let named = |argument: &mut String| {
        if Path::new(argument.as_str()) == before {
            *argument = config.display().to_string();
        }
    };
    let commands = app.sudo.commands.iter().cloned().map(|mut command| {
        command.arguments.iter_mut().for_each(named);
        format!("    {:?},\n", text_of(&command))
    });
    let mut text = format!(
        "# By `venvctl policy adopt {}`, in place of {}.\n[rootwrap]\nconfig = {:?}\n",
        app.name,
        before.display(),
        config.display().to_string()
    );
    if !app.sudo.commands.is_empty() {
        text.push_str(&format!("\n[sudo]\ncommands = [\n{}]\n", commands.collect::<String>()));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    use venvd_app::search;
    use venvd_fs::Root;

    use super::*;

    fn host() -> (tempfile::TempDir, Layout) {
        let directory = tempfile::tempdir().unwrap();
        for (path, text) in [
            (
                "etc/venvd/apps/cinder.toml",
                "user = \"cinder\"\n[rootwrap]\nconfig = \"/etc/cinder/rootwrap.conf\"\nshadow = [\"x\"]\n[sudo]\n\
                 commands = [\"cinder-rootwrap /etc/cinder/rootwrap.conf *\", \"other /etc/other\"]\n\
                 unsafe = [\"privsep-helper --config-file /etc/cinder/cinder.conf *\"]\n",
            ),
            (
                "etc/cinder/rootwrap.conf",
                "# mine\n[DEFAULT]\nfilters_path = /etc/cinder/rootwrap.d,/usr/share/cinder/rootwrap,/srv/a/rootwrap.d\n\
                 exec_dirs=/var/lib/venvd/venvs/cinder/1/bin,/sbin\n",
            ),
            (
                "etc/cinder/rootwrap.d/volume.filters",
                "[Filters]\na: CommandFilter, a, root\n",
            ),
            ("etc/cinder/rootwrap.d/.hidden", ""),
            ("etc/cinder/rootwrap.d/id_rsa", ""),
            ("usr/share/cinder/rootwrap/b.filters", "[Filters]\n"),
            ("srv/a/rootwrap.d/c.filters", "[Filters]\n"),
        ] {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        fs::create_dir_all(directory.path().join("run")).unwrap();
        for path in ["etc/cinder", "srv/a"] {
            fs::set_permissions(directory.path().join(path), fs::Permissions::from_mode(0o770)).unwrap();
        }
        symlink(
            "/etc/shadow",
            directory.path().join("etc/cinder/rootwrap.d/evil.filters"),
        )
        .unwrap();
        let layout = Layout::new(Root::at(directory.path()));
        (directory, layout)
    }

    #[test]
    fn copies_what_others_can_write_and_names_the_copy() {
        let (directory, layout) = host();
        let cinder = "cinder".parse().unwrap();
        let app = search::load_app(&layout, &cinder).unwrap();
        adopt(&layout, &app).unwrap().write().unwrap();
        let read = |path: &str| fs::read_to_string(directory.path().join(path)).unwrap();
        assert_eq!(
            read("etc/venvd/rootwrap/cinder/rootwrap.conf"),
            "# mine\n[DEFAULT]\nfilters_path = /etc/venvd/rootwrap/cinder/rootwrap.d,/usr/share/cinder/rootwrap,\
             /etc/venvd/rootwrap/cinder/rootwrap.d-2\nexec_dirs=/sbin\n"
        );
        assert!(read("etc/venvd/rootwrap/cinder/rootwrap.d/volume.filters").contains("a: CommandFilter"));
        assert_eq!(read("etc/venvd/rootwrap/cinder/rootwrap.d-2/c.filters"), "[Filters]\n");
        let copies = fs::read_dir(directory.path().join("etc/venvd/rootwrap/cinder/rootwrap.d")).unwrap();
        assert_eq!(
            copies.count(),
            1,
            "neither hidden files nor links, nor what is no filter"
        );
        for (path, mode) in [
            ("etc/venvd/rootwrap/cinder/rootwrap.conf", 0o600),
            ("etc/venvd/rootwrap/cinder/rootwrap.d/volume.filters", 0o600),
            ("etc/venvd/apps/cinder.toml.d/80-rootwrap.toml", 0o644),
        ] {
            let metadata = fs::metadata(directory.path().join(path)).unwrap();
            assert_eq!(metadata.permissions().mode() & 0o777, mode, "{path}");
        }
        let app = search::load_app(&layout, &cinder).unwrap();
        let rootwrap = app.rootwrap.as_ref().unwrap();
        assert_eq!(
            rootwrap.config.to_str().unwrap(),
            "/etc/venvd/rootwrap/cinder/rootwrap.conf"
        );
        assert_eq!(rootwrap.shadow.len(), 1, "the rest of the definition stays");
        let commands: Vec<String> = app.sudo.all().map(text_of).collect();
        let expected = "cinder-rootwrap /etc/venvd/rootwrap/cinder/rootwrap.conf *";
        let unpinned = "privsep-helper --config-file /etc/cinder/cinder.conf *";
        assert_eq!(commands, [expected, "other /etc/other", unpinned]);
        let checker = Checker {
            layout: &layout,
            app: &app,
        };
        checker.path(&rootwrap.config).unwrap();
        assert!(matches!(adopt(&layout, &app), Err(Error::Adopted { .. })));
    }

    /// A service's user must not get root to read for him.
    #[test]
    fn reads_nothing_that_the_service_user_leads_it_to() {
        type Plant = fn(&Path);
        let cases: [(&str, Plant); 5] = [
            ("links", |host| {
                fs::remove_dir_all(host.join("etc/cinder/rootwrap.d")).unwrap();
                symlink("../../root", host.join("etc/cinder/rootwrap.d")).unwrap();
            }),
            ("links", |host| {
                fs::rename(host.join("srv/a"), host.join("srv/b")).unwrap();
                symlink("b", host.join("srv/a")).unwrap();
            }),
            ("other names", |host| {
                let link = host.join("etc/cinder/rootwrap.d/hard.filters");
                fs::hard_link(host.join("root/key.filters"), link).unwrap();
            }),
            ("user 4711", |host| {
                chown(host.join("srv/a/rootwrap.d"), Some(4711), None).unwrap();
            }),
            ("user 4711", |host| {
                chown(host.join("srv/a/rootwrap.d/c.filters"), Some(4711), None).unwrap();
            }),
        ];
        for (index, (reason, plant)) in cases.into_iter().enumerate() {
            if index > 2 && !nix::unistd::geteuid().is_root() {
                continue;
            }
            let (directory, layout) = host();
            fs::create_dir(directory.path().join("root")).unwrap();
            fs::write(directory.path().join("root/key.filters"), "secret").unwrap();
            plant(directory.path());
            let app = search::load_app(&layout, &"cinder".parse().unwrap()).unwrap();
            let error = adopt(&layout, &app).unwrap_err();
            assert_eq!(error.code(), "policy-unsafe-path", "{error}");
            let report = report(&error);
            assert!(report.contains(reason), "{index}: {report}");
        }
    }

    #[test]
    fn takes_what_is_the_service_users_own() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let (directory, layout) = host();
        fs::write(
            directory.path().join("etc/passwd"),
            "cinder:x:4711:4711::/:/bin/false\n",
        )
        .unwrap();
        for path in [
            "etc/cinder",
            "etc/cinder/rootwrap.conf",
            "etc/cinder/rootwrap.d/volume.filters",
        ] {
            chown(directory.path().join(path), Some(4711), None).unwrap();
        }
        let app = search::load_app(&layout, &"cinder".parse().unwrap()).unwrap();
        assert_eq!(adopt(&layout, &app).unwrap().files.len(), 4);
    }

    #[test]
    fn there_must_be_something_to_adopt() {
        let (directory, layout) = host();
        let cinder = "cinder".parse().unwrap();
        let app = search::load_app(&layout, &cinder).unwrap();
        let config = directory.path().join("etc/cinder/rootwrap.conf");
        fs::write(&config, "[DEFAULT]\nfilters_path=/a, /b\n").unwrap();
        assert!(matches!(adopt(&layout, &app), Err(Error::Relative { .. })));
        fs::remove_file(&config).unwrap();
        assert!(matches!(adopt(&layout, &app), Err(Error::NoConfig { .. })));
        fs::write(directory.path().join("etc/venvd/apps/cinder.toml"), "enabled = true\n").unwrap();
        let app = search::load_app(&layout, &cinder).unwrap();
        assert!(matches!(adopt(&layout, &app), Err(Error::NoRootwrap { .. })));
    }
}
