//! Keys whose meaning is fixed but which nothing acts upon yet.

use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error};

/// A value that is read and validated as a `T`, and then refused.
///
/// Ignoring it would be worse: a definition that asks for a bundle must not be activated without it.
#[derive(Debug, Clone)]
pub(crate) struct Later<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Later<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer)?;
        Err(D::Error::custom(
            "not supported yet by this version of venvd; remove it",
        ))
    }
}
