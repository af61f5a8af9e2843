//! Part of sealing.
