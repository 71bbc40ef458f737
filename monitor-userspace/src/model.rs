//! Plain data that the stages hand each other. No I/O, no clock, no behaviour beyond reading itself.
//!
//! Every stage imports `model`; `model` imports no stage.

pub mod abilities;
pub mod action;
mod answers;
mod beat;
pub mod command;
pub mod connections;
pub mod evidence;
pub mod folder;
pub mod identity;
pub mod incident;
pub mod kernel_view;
pub mod memory;
pub mod network;
pub mod objective;
pub mod pattern;
pub mod release;
pub mod restraint;
pub mod service;
mod services;
pub mod signal;
pub mod time;
pub mod view;
pub mod way;
pub mod who;

pub use action::{Effect, EffectResult, Outcome, Plan, Refusal};
pub use answers::{Answers, Uncertain};
pub use beat::Beat;
pub use evidence::{Evidence, Finding, Frozen, Severity, TopProcess};
pub use folder::{Cleaning, Enough, Flush, Folder, FolderId, Room};
pub use identity::{ProcessKey, Subject};
pub use incident::{Category, Held, Incident, IncidentId, Proposed, State, Step};
pub use kernel_view::KernelView;
pub use memory::{CgroupClaim, Claims, MemoryClaim, MemoryShare};
pub use objective::{Kept, Objective, Promise};
pub use release::{Release, Releases};
pub use restraint::{Lift, Restraint, Whole};
pub use service::{
    Check, Dependency, Healer, Named, Network, Relief, Service, ServiceState, World,
};
pub use services::Services;
pub use signal::{
    BLOCKED, BlockedThread, CheckFailure, CheckResult, DiskRoom, Figure, FolderRoom, HostLoad,
    ListenQueue, ProcessUsage, Request, Sample, ServiceSignal, Signal, Silence,
};
pub use time::Time;
pub use view::View;
pub use who::Identity;
