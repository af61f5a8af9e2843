//! Trees that somebody else filled: nothing outside them is ever reached.
