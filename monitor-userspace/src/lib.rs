//! Smart-Monitor: sees trouble in the kernel the moment it happens and repairs it, safely.

pub mod actions;
pub mod api;
pub mod config;
pub mod detectors;
pub mod host;
pub mod kernel;
pub mod metrics;
pub mod model;
pub mod policy;
pub mod simulate;
pub mod verify;
pub mod engine;
pub mod record;
pub mod supervisors;
pub mod checks;
pub mod samplers;
