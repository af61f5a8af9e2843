//! Building, sealing, finding again and removing venvs, from wheels made by hand; as root, below a temporary directory.

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod locks;
#[cfg(test)]
mod reproducible;
#[cfg(test)]
mod sdists;
#[cfg(test)]
mod sealing;
#[cfg(test)]
mod sharing;
#[cfg(test)]
mod support;
