//! The loaded programs: attached and detached while the daemon runs, and what they cost.
//!
//! Owned by [`super::Kernel`] alone, so that dropping it detaches all of them; everybody else holds a [`Programs`], which then does
//! nothing. Leaves out deciding what is attached when.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use aya::Ebpf;
use aya::programs::tp_btf::BtfTracePointLink;
use aya::programs::{BtfTracePoint, Program, ProgramError, ProgramInfo};
use monitor_common::Kind;
use monitor_common::spec::Mode;
use thiserror::Error;

use super::KernelError;
use super::status::{ProbeState, ProbeStatus};

/// The programs and where they are attached.
pub(super) struct Loaded {
    pub(super) object: Ebpf,
    /// Dropping a link detaches its program.
    pub(super) links: BTreeMap<Kind, Vec<BtfTracePointLink>>,
    pub(super) probes: Vec<ProbeStatus>,
    /// Whether a cgroup is watched.
    pub(super) watching: bool,
    /// The kernel measures while it is open.
    pub(super) stats: Option<OwnedFd>,
}

/// What a kernel program has cost since it was loaded. Zeros while run-time statistics are off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramCost {
    /// The program.
    pub name: String,
    /// The probe it belongs to.
    pub probe: Kind,
    /// Nanoseconds in it while the kernel measured, measuring included.
    pub run_time_ns: u64,
    /// How often it ran meanwhile.
    pub run_count: u64,
}

/// What it cost the kernel to prove a program safe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierCost {
    /// The program.
    pub name: String,
    /// The probe it belongs to.
    pub probe: Kind,
    /// Instructions that the verifier followed, of at most a million; none before 5.16, where the kernel does not tell.
    pub instructions: Option<u32>,
}

/// Why a probe is not attached.
#[derive(Debug, Error)]
pub enum SwitchError {
    /// It does not work here, or was switched off.
    #[error("probe {probe} is off: {reason}")]
    Off {
        /// Which.
        probe: &'static str,
        /// Why.
        reason: String,
    },
    /// The kernel refused.
    #[error("probe {probe} does not attach: {source}")]
    Refused {
        /// Which.
        probe: &'static str,
        /// Why.
        source: ProgramError,
    },
    /// The programs are gone: the daemon is ending.
    #[error("the kernel programs are unloaded")]
    Unloaded,
}

/// A handle on the loaded programs. Cheap to clone; does nothing any more once the [`super::Kernel`] is dropped.
#[derive(Clone)]
pub struct Programs {
    loaded: Weak<Mutex<Loaded>>,
}

impl std::fmt::Debug for Programs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Programs").finish_non_exhaustive()
    }
}

pub(super) fn lock(loaded: &Mutex<Loaded>) -> MutexGuard<'_, Loaded> {
    loaded.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Programs {
    pub(super) fn of(loaded: &Arc<Mutex<Loaded>>) -> Self {
        Self {
            loaded: Arc::downgrade(loaded),
        }
    }

    /// Every probe as it is now; empty once the programs are unloaded.
    pub fn probes(&self) -> Vec<ProbeStatus> {
        let loaded = self.loaded.upgrade();
        loaded.map_or_else(Vec::new, |loaded| lock(&loaded).probes.clone())
    }

    /// Whether the probe's programs are attached now.
    pub fn is_attached(&self, kind: Kind) -> bool {
        let loaded = self.loaded.upgrade();
        loaded.is_some_and(|loaded| lock(&loaded).links.contains_key(&kind))
    }

    /// Attaches all programs of a probe, or none; nothing changes for one that is attached already.
    pub fn attach(&self, kind: Kind) -> Result<(), SwitchError> {
        let loaded = self.loaded.upgrade().ok_or(SwitchError::Unloaded)?;
        let mut loaded = lock(&loaded);
        if loaded.links.contains_key(&kind) {
            return Ok(());
        }
        let probe = kind.name();
        let state = loaded.probes.iter().find(|status| status.kind == kind);
        if let Some(ProbeState::Off { reason, .. }) = state.map(|status| &status.state) {
            let reason = reason.clone();
            return Err(SwitchError::Off { probe, reason });
        }
        let refused = |source| SwitchError::Refused { probe, source };
        let mut links = Vec::new();
        for spec in kind.spec().programs {
            if let Some(Program::BtfTracePoint(program)) = loaded.object.program_mut(spec.name) {
                links.push(attach(program).map_err(refused)?);
            }
        }
        loaded.links.insert(kind, links);
        Ok(())
    }

    /// Detaches all programs of a probe; they stay loaded.
    pub fn detach(&self, kind: Kind) {
        if let Some(loaded) = self.loaded.upgrade() {
            let links = lock(&loaded).links.remove(&kind);
            // Outside of the lock: it waits until no CPU runs them any more.
            drop(links);
        }
    }

    /// Attaches what is to be attached while a cgroup is watched, or detaches it. What is off stays off.
    pub(super) fn set_watching(&self, watching: bool) -> Result<(), SwitchError> {
        let Some(loaded) = self.loaded.upgrade() else {
            return Ok(());
        };
        let kinds: Vec<Kind> = {
            let mut loaded = lock(&loaded);
            loaded.watching = watching;
            let on = loaded.probes.iter().filter(|probe| probe.state.is_on());
            on.map(|probe| probe.kind)
                .filter(|kind| kind.spec().mode == Mode::Watched)
                .collect()
        };
        for kind in kinds {
            if watching {
                self.attach(kind)?;
            } else {
                self.detach(kind);
            }
        }
        Ok(())
    }

    /// Detaches a probe that costs too much; it counts as off for this reason until [`Self::restore`].
    pub fn shed(&self, kind: Kind, reason: &str, fix: &str) {
        self.detach(kind);
        self.set_state(kind, ProbeState::off(reason, fix));
    }

    /// Undoes [`Self::shed`].
    pub fn restore(&self, kind: Kind, state: ProbeState) -> Result<(), SwitchError> {
        self.set_state(kind, state);
        let loaded = self.loaded.upgrade();
        let attached = match kind.spec().mode {
            Mode::Essential | Mode::Optional => true,
            Mode::Watched => loaded.is_some_and(|loaded| lock(&loaded).watching),
            Mode::Demand | Mode::Bench => false,
        };
        if attached {
            self.attach(kind)?;
        }
        Ok(())
    }

    fn set_state(&self, kind: Kind, state: ProbeState) {
        if let Some(loaded) = self.loaded.upgrade() {
            let mut loaded = lock(&loaded);
            if let Some(status) = loaded.probes.iter_mut().find(|status| status.kind == kind) {
                status.state = state;
            }
        }
    }

    /// What each loaded program has cost, by name.
    pub fn costs(&self) -> Vec<ProgramCost> {
        self.each(|name, probe, info| ProgramCost {
            name,
            probe,
            run_time_ns: u64::try_from(info.run_time().as_nanos()).unwrap_or(u64::MAX),
            run_count: info.run_count(),
        })
    }

    /// What each loaded program cost the verifier, by name.
    pub fn verifier_costs(&self) -> Vec<VerifierCost> {
        self.each(|name, probe, info| VerifierCost {
            name,
            probe,
            instructions: info.verified_instruction_count(),
        })
    }

    /// Asks the kernel about each loaded program, in the order of their names.
    fn each<T>(&self, ask: impl Fn(String, Kind, ProgramInfo) -> T) -> Vec<T> {
        let Some(loaded) = self.loaded.upgrade() else {
            return Vec::new();
        };
        let loaded = lock(&loaded);
        let mut programs: Vec<(&str, Kind)> = loaded
            .probes
            .iter()
            .flat_map(|status| {
                let programs = status.kind.spec().programs.iter();
                programs.map(|program| (program.name, status.kind))
            })
            .collect();
        programs.sort_unstable();
        let told = programs.into_iter().filter_map(|(name, probe)| {
            let info = loaded.object.program(name)?.info().ok()?;
            Some(ask(name.to_owned(), probe, info))
        });
        told.collect()
    }

    /// Starts or stops measuring what the programs cost, of all programs on the host. What was measured stays.
    pub fn set_stats(&self, on: bool) -> Result<(), KernelError> {
        let Some(loaded) = self.loaded.upgrade() else {
            return Ok(());
        };
        let mut loaded = lock(&loaded);
        if on && loaded.stats.is_none() {
            let fd = aya::sys::enable_stats(aya::sys::Stats::RunTime)
                .map_err(|error| KernelError::Stats(error.io_error))?;
            loaded.stats = Some(fd);
        } else if !on {
            loaded.stats = None;
        }
        Ok(())
    }
}

fn attach(program: &mut BtfTracePoint) -> Result<BtfTracePointLink, ProgramError> {
    let link = program.attach()?;
    program.take_link(link)
}
