//! No program of its own: see [`crate::emit::has_share`].
