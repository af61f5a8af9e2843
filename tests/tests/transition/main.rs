//! The sudo rights of an app from one venv to the next: nobody misses them, and nobody keeps them.

mod calls;
mod leaving;
