//! Activations: in which order, what each failure leads to, and what is left of one that was cut off.

mod bad;
mod cut;
mod order;
mod others;
mod states;
