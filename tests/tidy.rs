//! Placeholder until the stages exist.
