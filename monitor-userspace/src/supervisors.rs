//! Supervisors: who starts and stops a service. A file each, and a line in `KINDS`.
//!
//! A supervisor tells the pipeline what became of a service through [`Notify`]; it decides nothing.

pub mod command;

use std::fs::File;
use std::os::fd::OwnedFd;

use crate::model::{ProcessKey, ServiceSignal};

/// What a supervisor declares of itself.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// The `kind` in the configuration.
    pub name: &'static str,
    /// What it runs, in one line.
    pub summary: &'static str,
}

/// Every kind of service.
pub const KINDS: &[Spec] = &[command::SPEC];

/// What a supervisor tells. Never lost: an implementation waits rather than drop.
pub trait Notify: Send + Sync + std::fmt::Debug {
    /// What became of a service.
    fn service(&self, service: &str, change: ServiceSignal);

    /// A service's process is to be watched: this file becomes readable when it has ended.
    fn watch(&self, service: &str, process: ProcessKey, pidfd: OwnedFd);

    /// A service that was just started has a cgroup: this file tells how its processes stall for lack of memory. Until the next
    /// [`Notify::service`].
    fn pressure(&self, service: &str, file: File);
}
