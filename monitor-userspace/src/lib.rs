//! Smart-Monitor: sees trouble in the kernel the moment it happens and repairs it, safely.
//!
//! One stage a module; ARCHITECTURE.md is the map. `unsafe` is for `kernel` and `host` alone.
#![deny(unsafe_code)]
// They panic where standard output or standard error is closed or full; `cli::render` writes.
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod actions;
pub mod api;
pub mod checks;
pub mod cli;
pub mod config;
pub mod detectors;
pub mod discovery;
pub mod engine;
pub mod host;
pub mod identity;
pub mod kernel;
pub mod metrics;
pub mod model;
pub mod pipeline;
pub mod policy;
pub mod policy_test;
pub mod record;
pub mod replay;
pub mod samplers;
pub mod simulate;
pub mod supervisors;
pub mod verify;
