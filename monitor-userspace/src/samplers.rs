//! Samplers: periodic readers. A file each, and a line in `samplers!` below.
//!
//! All run on one thread of their own, so that a slow read never delays the hot path. Each says when it wants to be called next; a
//! file of the kernel (a pressure trigger) may call all of them at once.

use std::os::fd::BorrowedFd;

use crate::config::units::Span;
use crate::kernel::{CgroupWatch, Snapshot};
use crate::model::{Sample, Time};

/// What a sampler declares of itself.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// File stem, and key in `[samplers]`.
    pub name: &'static str,
    /// What it reads, in one line.
    pub summary: &'static str,
}

/// A periodic reader.
pub trait Sampler: Send + std::fmt::Debug {
    /// Reads, and says when to be called next. `pressed`: the host stalls for lack of memory right now.
    fn sample(&mut self, now: Time, pressed: bool, out: &mut Vec<(Time, Sample)>) -> Time;

    /// Whether [`Sampler::sample`] is also wanted at once when memory is short.
    fn wants_pressure(&self) -> bool {
        false
    }

    /// A file whose readiness (`POLLPRI`) means that memory is short.
    fn trigger(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Files whose readiness (`POLLPRI`) is news for this sampler alone: it is told which by [`Sampler::alarmed`], then called.
    fn alarms(&self) -> Vec<BorrowedFd<'_>> {
        Vec::new()
    }

    /// The file at this place of [`Sampler::alarms`] is ready; or broken, and will be for ever. No other call comes between the two.
    fn alarmed(&mut self, _place: usize, _broken: bool) {}

    /// A file whose readiness (`POLLIN`) means that this sampler should look at once.
    fn nudge(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Whether it must not wait behind the others: it gets a thread of its own.
    fn is_urgent(&self) -> bool {
        false
    }

    /// What it cannot do on this host, if anything.
    fn limitation(&self) -> Option<String> {
        None
    }
}

/// What samplers are built from.
#[derive(Debug)]
pub struct Sources {
    /// The task iterator; none where it is off, and `/proc` is read.
    pub snapshot: Option<Snapshot>,
    /// The same once more, for the host's memory.
    pub claims: Option<Snapshot>,
    /// What is little memory, and who has most of it.
    pub shortage: memory::Shortage,
    /// The cgroups with figures of their own; none without a kernel half.
    pub cgroups: Option<CgroupWatch>,
    /// The folders of the configuration.
    pub folders: disk_space::Folders,
    /// Services with a memory ceiling.
    pub ceilings: service_memory::Ceilings,
    /// Services with a cgroup.
    pub pressures: service_pressure::Pressures,
    /// How alarms for memory pressure are set.
    pub arming: memory_pressure::Config,
}

/// A monitor that reads without a pause eats the machine it watches.
fn not_too_often(key: &str, asked: Span, least: Span) -> Result<(), String> {
    if asked < least {
        return Err(format!("`{key}` must be at least {least}"));
    }
    Ok(())
}

macro_rules! samplers {
    ($($name:ident,)*) => {
        $(pub mod $name;)*

        /// Every sampler.
        pub const ALL: &[Spec] = &[$($name::SPEC,)*];

        /// `[samplers.NAME]` tables, each owned by its sampler.
        #[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct Config {
            $(#[doc = concat!("See [`", stringify!($name), "`].")] pub $name: $name::Config,)*
        }

        impl Config {
            /// Whether the host can take it: the first table that asks for too much, and why.
            pub fn resolve(&self) -> Result<(), (&'static str, String)> {
                $(self.$name.resolve().map_err(|why| (stringify!($name), why))?;)*
                Ok(())
            }
        }

        /// Builds all of them.
        pub fn build(config: &Config, mut sources: Sources) -> Vec<Box<dyn Sampler>> {
            vec![$(Box::new($name::Sample::new(&config.$name, &mut sources)),)*]
        }
    };
}

samplers! {
    memory_pressure,
    processes,
    memory,
    memory_shares,
    service_latency,
    service_memory,
    service_pressure,
    listen_queues,
    network,
    load,
    disk_space,
}
