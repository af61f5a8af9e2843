//! What a build is to make: which lock, which name, and whether that is there already. Nothing is changed here.

use std::collections::BTreeSet;
use std::path::Path;

use venvd_app::links::VenvPath;
use venvd_app::{Layout, Settings, VenvName};
use venvd_fs::IoContext;

use super::{Request, kept};
use crate::error::Error;
use crate::interpreter::Interpreter;
use crate::lock::{Format, Inputs, Lock};
use crate::manifest::Head;

/// Where the lock comes from.
#[derive(Debug)]
pub(super) enum Source {
    /// It is there.
    Lock(Lock),
    /// It must be made.
    Make(Inputs),
}

/// What is to be made.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    request: &'a Request,
    interpreter: &'a Interpreter,
    pub(super) source: Source,
}

impl<'a> Plan<'a> {
    /// Finds what to build from. Nothing is changed.
    ///
    /// # Errors
    /// When nothing is named to build, a lock can't be used, or the tag is known to mean something else.
    pub(super) fn make(layout: &Layout, request: &'a Request, interpreter: &'a Interpreter) -> Result<Self, Error> {
        let build = &request.app.build;
        let declared = build.lock.as_ref().map(|lock| layout.on_disk(&**lock));
        let source = match request.lock.clone().or(declared) {
            Some(lock) if request.upgrade => {
                let app = request.app.name.to_string();
                return Err(Error::GivenLock { app, lock });
            }
            Some(path) => Source::Lock(read_lock(&path)?),
            None if build.packages.is_empty() => {
                return Err(Error::Nothing {
                    app: request.app.name.to_string(),
                });
            }
            None => {
                let inputs = Inputs::read(layout, &request.app, interpreter)?;
                let kept = match request.upgrade {
                    true => None,
                    false => kept::find(layout, request, &inputs)?,
                };
                kept.map_or(Source::Make(inputs), Source::Lock)
            }
        };
        Ok(Self {
            request,
            interpreter,
            source,
        })
    }

    /// Returns the venv if it is there already, as far as that can be said without making a lock.
    ///
    /// # Errors
    /// When one with this name is there that was built from something else, or is not sealed.
    pub(super) fn already_there(&self, layout: &Layout, settings: &Settings) -> Result<Option<VenvPath>, Error> {
        match &self.source {
            Source::Lock(lock) => self.already_built(layout, settings, lock),
            Source::Make(_) => Ok(None),
        }
    }

    /// Returns the venv of a lock if it is there already.
    ///
    /// # Errors
    /// As [`Plan::already_there`].
    pub(super) fn already_built(
        &self,
        layout: &Layout,
        settings: &Settings,
        lock: &Lock,
    ) -> Result<Option<VenvPath>, Error> {
        self.already_sealed(layout, &self.name(settings, lock)?, lock)
    }

    /// Returns the venv of a name if it is there already and was built from this lock.
    ///
    /// # Errors
    /// As [`Plan::already_there`].
    pub(super) fn already_sealed(
        &self,
        layout: &Layout,
        name: &VenvName,
        lock: &Lock,
    ) -> Result<Option<VenvPath>, Error> {
        let Some((venv, manifest)) = existing(layout, name)? else {
            return Ok(None);
        };
        if manifest.lock.digest == self.digest(lock) {
            return Ok(Some(venv));
        }
        let differences = self.differences(lock, &manifest)?;
        Err(Error::OtherLock {
            venv: name.clone(),
            differences,
        })
    }

    /// Returns the name of the venv that a lock makes.
    ///
    /// # Errors
    /// When there is no tag, and none can be made.
    pub(super) fn name(&self, settings: &Settings, lock: &Lock) -> Result<VenvName, Error> {
        let app = &self.request.app;
        let tag = match &self.request.tag {
            Some(tag) => tag.clone(),
            None => {
                let package = app
                    .build
                    .packages
                    .first()
                    .map_or(app.name.as_str(), |package| distribution(package));
                let version = lock.version_of(package).ok_or_else(|| Error::NoVersion {
                    package: package.to_owned(),
                })?;
                default_tag(version, settings, &self.digest(lock)).parse()?
            }
        };
        Ok(VenvName::new(app.name.clone(), tag)?)
    }

    /// Returns the digest of all that decides the venv's content.
    pub(super) fn digest(&self, lock: &Lock) -> String {
        lock.digest(self.interpreter, &self.request.app.build.host_modules)
    }

    fn differences(&self, lock: &Lock, manifest: &Head) -> Result<Vec<String>, Error> {
        let path = Path::new(crate::manifest::PATH);
        let before = Lock::parse(path, manifest.lock.format, manifest.lock.text.clone())?;
        let mut differences = lock.differences(&before);
        let before_modules: BTreeSet<&str> = manifest.host_modules.iter().map(|module| &*module.name).collect();
        let wanted = self.request.app.build.host_modules.iter();
        let modules: BTreeSet<&str> = wanted.map(|name| name.as_str()).collect();
        if before_modules != modules {
            let named = |modules: &BTreeSet<&str>| match modules.is_empty() {
                true => "none".to_owned(),
                false => modules.iter().copied().collect::<Vec<_>>().join(", "),
            };
            let (before, now) = (named(&before_modules), named(&modules));
            differences.push(format!("its host modules were {before}, now they would be {now}"));
        }
        let Interpreter { soabi, platform, .. } = self.interpreter;
        for (before, now) in [(&manifest.python.soabi, soabi), (&manifest.platform, platform)] {
            if before != now {
                differences.push(format!("it was built for {before}, this would be for {now}"));
            }
        }
        if differences.is_empty() {
            differences.push("its digest, made by another version of venvd".to_owned());
        }
        Ok(differences)
    }
}

/// Returns a sealed venv and the head of its manifest, if something has its name.
pub(super) fn existing(layout: &Layout, name: &VenvName) -> Result<Option<(VenvPath, Head)>, Error> {
    let Some(venv) = VenvPath::find(layout, name) else {
        return Ok(None);
    };
    let path = layout.on_disk(venv.path());
    match Head::load(&path) {
        Ok(manifest) => Ok(Some((venv, manifest))),
        Err(error) => Err(Error::NotSealed {
            path,
            reason: venvd_fs::report(&error),
        }),
    }
}

fn read_lock(path: &Path) -> Result<Lock, Error> {
    let text = std::fs::read_to_string(path).at("read the lock", path)?;
    Ok(Lock::parse(path, Format::of(path), text)?)
}

/// Returns the distribution's name in a requirement.
fn distribution(requirement: &str) -> &str {
    let end = requirement.find(|character: char| !character.is_ascii_alphanumeric() && !"-_.".contains(character));
    requirement.split_at(end.unwrap_or(requirement.len())).0
}

fn default_tag(version: &str, settings: &Settings, digest: &str) -> String {
    // An epoch's `!` and a local version's `+` have no place in a tag.
    let version: String = version
        .chars()
        .map(|character| {
            if character.is_ascii_alphanumeric() || "._-".contains(character) {
                character
            } else {
                '_'
            }
        })
        .collect();
    let short = digest.split_at_checked(8).map_or(digest, |(short, _)| short);
    match &settings.deployment {
        Some(deployment) => format!("{version}-{deployment}-{short}"),
        None => format!("{version}-{short}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_made_of_version_deployment_and_digest() {
        let none = Settings::default();
        let some = Settings {
            deployment: Some("prod".parse().unwrap()),
            ..Settings::default()
        };
        for (version, settings, tag) in [
            ("29.2.0", &none, "29.2.0-0123abcd"),
            ("1!2.0+local", &none, "1_2.0_local-0123abcd"),
            ("29.2.0", &some, "29.2.0-prod-0123abcd"),
        ] {
            assert_eq!(default_tag(version, settings, "0123abcdef"), tag);
            assert!(tag.parse::<venvd_app::Tag>().is_ok());
        }
    }

    #[test]
    fn a_requirement_has_a_name() {
        for (requirement, name) in [
            ("nova", "nova"),
            ("nova[x]>=1", "nova"),
            ("oslo.config ~= 2", "oslo.config"),
        ] {
            assert_eq!(distribution(requirement), name);
        }
    }
}
