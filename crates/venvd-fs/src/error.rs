use std::error::Error as StdError;
use std::io;
use std::path::{Path, PathBuf};

/// An I/O error with what was attempted and on which path.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {path:?}")]
pub struct Error {
    /// What was attempted, as it reads after "cannot": `read`, `rename to`.
    pub action: &'static str,
    /// The path it was attempted on.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

/// Adds action and path to a bare [`io::Error`], which has neither.
pub trait IoContext<T> {
    /// Wraps the error as "cannot `action` `path`".
    ///
    /// # Errors
    /// The error of `self`, with its context.
    fn at(self, action: &'static str, path: &Path) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> IoContext<T> for Result<T, E> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, Error> {
        self.map_err(|source| Error {
            action,
            path: path.to_owned(),
            source: source.into(),
        })
    }
}

/// Returns an error and all of its causes as one line, outermost first.
#[must_use]
pub fn report(error: &dyn StdError) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let text = inner.to_string();
        // Transparent wrappers say the same twice, and some messages hold their cause in the middle.
        if !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        cause = inner.source();
    }
    line
}
