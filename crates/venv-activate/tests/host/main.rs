//! The program itself, on a small host of its own: a chroot with one app, in a mount namespace that ends with the test.
//!
//! Needs root and namespaces, as the machine tests do; without root there is nobody to become somebody else.

#![cfg(test)]

mod chroot;
mod commands;
mod identity;
mod own_shell;
mod report;
mod terminal;
mod unit;
