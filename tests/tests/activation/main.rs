//! Activations: in which order, what each failure leads to, and what is left of one that was cut off.

mod asleep;
mod bad;
mod buses;
mod cut;
mod order;
mod others;
mod refused;
mod spared;
mod states;
mod stops;
mod together;
