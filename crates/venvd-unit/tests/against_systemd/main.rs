//! Random units, drop-ins and search paths, read by us and by real systemds: with its log level at debug,
//! `systemd-analyze verify` shows each unit as it loaded it.
//!
//! Asked is the host's, and those of the roots that machines are made of (Debian 12 and 13). Where none is found the
//! tests say so and pass, unless `VENVD_SYSTEMDS` says how many there must be: `make test` does.
//! `VENVD_RANDOM_UNITS` is the number of units, `VENVD_RANDOM_SEED` gives others.

#[cfg(test)]
mod corners;
#[cfg(test)]
mod lines;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod ours;
#[cfg(test)]
mod random;
#[cfg(test)]
mod spliced;
#[cfg(test)]
mod tree;
#[cfg(test)]
mod trees;
