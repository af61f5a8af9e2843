//! What two apps can't share.

use std::path::{Path, PathBuf};

use venvd_app::App;

use super::Planner;
use crate::Error;
use crate::place::Place;

impl Planner<'_> {
    /// Refuses what only one of the apps that are on can have.
    pub(super) fn check_shared(&self) -> Result<(), Error> {
        let others = self.declared.apps.values();
        let mut others = others.filter(|other| other.enabled && other.name != self.app.name);
        others.try_for_each(|other| {
            self.check_shared_config(other)?;
            self.check_shared_programs(other)
        })
    }

    fn check_shared_config(&self, other: &App) -> Result<(), Error> {
        let (Some(ours), Some(theirs)) = (self.config(), &other.rootwrap) else {
            return Ok(());
        };
        let real = |path: &Path| self.layout.trusted(path).unwrap_or_else(|_| path.to_path_buf());
        if real(ours) != real(&theirs.config) {
            return Ok(());
        }
        Err(Error::SharedConfig {
            app: self.app.name.clone(),
            other: other.name.clone(),
            config: PathBuf::from(ours),
            definitions: [self.app.source.clone(), other.source.clone()],
        })
    }

    fn check_shared_programs(&self, other: &App) -> Result<(), Error> {
        let Some(user) = self.app.user.as_ref().filter(|user| other.user.as_ref() == Some(*user)) else {
            return Ok(());
        };
        for (place, command) in Place::of_commands(self.layout, self.app) {
            if other.sudo.all().any(|theirs| theirs.program == command.program) {
                return Err(Error::SharedProgram {
                    place,
                    other: other.name.clone(),
                    definition: other.source.clone(),
                    user: user.clone(),
                    program: command.program.clone(),
                });
            }
        }
        Ok(())
    }
}
