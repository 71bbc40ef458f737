//! Configuration.

pub mod units;
