//! Loads the object, then its probes one by one, each for itself.
//!
//! The task iterator comes first: what it says of this very process is compared with what is known of it, and a member that
//! reads wrong turns off every probe that relies on it, before any other is attached.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use aya::maps::{Map, MapError, RingBuf};
use aya::programs::tp_btf::BtfTracePointLink;
use aya::programs::{BtfTracePoint, Iter, Program, ProgramError};
use aya::{Btf as Types, Ebpf, EbpfLoader};
use monitor_common::Kind;
use monitor_common::counters::{SENDING_CALLS, settings};
use monitor_common::offsets::{ABSENT, REGISTERS_SYSCALL};
use monitor_common::probes::service_latency;
use monitor_common::spec::{Attach, Mode, ProbeSpec};

use super::bench::BenchLoad;
use super::btf::Btf;
use super::cgroups::{self, CgroupWatch};
use super::counters::{CounterReader, Maps, take_map};
use super::dns::{self, DnsWatch};
use super::drops::DropReasons;
use super::guards::{self, Guards};
use super::offsets::Offsets;
use super::programs::{Loaded, Programs};
use super::snapshot::Snapshot;
use super::status::{ProbeState, ProbeStatus};
use super::{Kernel, KernelError, KernelLog, OBJECT, Options, Ring, Rings, rights};

mod prove;
mod refusal;

/// See [`Kernel::load`].
pub(super) fn load(options: &Options) -> Result<Kernel, KernelError> {
    if OBJECT.is_empty() {
        return Err(KernelError::NoObject);
    }
    rights::check()?;
    let btf = Btf::of_kernel()?;
    let mut offsets = Offsets::of(&btf, &options.break_offsets);
    if btf
        .enumerator("bpf_func_id", "BPF_FUNC_task_pt_regs")
        .is_none()
    {
        // The helper that finds a task's registers came with 5.15.
        offsets.forget(&REGISTERS_SYSCALL);
    }
    let types = Types::from_sys_fs().map_err(aya::EbpfError::from)?;
    let reasons = DropReasons::of(&btf);
    let object = load_object(options, &btf, &offsets, &reasons)?;
    let mut loader = Loader {
        options,
        btf,
        types,
        offsets,
        reasons,
        object,
        snapshot: None,
        links: BTreeMap::new(),
        wrong: None,
    };
    // The iterator first, even when it is disabled: the self-check reads through it.
    let snapshot_state = loader.start(Kind::TaskSnapshot);
    loader.check_itself();
    let wanted = |kind: &&Kind| options.bench || kind.spec().mode != Mode::Bench;
    let probes: Vec<ProbeStatus> = Kind::ALL
        .iter()
        .filter(wanted)
        .map(|kind| {
            let state = match kind {
                Kind::TaskSnapshot => loader.after_check(*kind, snapshot_state.clone()),
                kind => loader.after_check(*kind, ProbeState::off("", "")),
            };
            ProbeStatus {
                kind: *kind,
                state,
                without: loader.offsets.without(kind.spec()),
            }
        })
        .collect();
    loader.finish(probes)
}

fn load_object(
    options: &Options,
    btf: &Btf,
    offsets: &Offsets,
    reasons: &DropReasons,
) -> Result<Ebpf, KernelError> {
    let nanoseconds =
        |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let run_queue_ns = nanoseconds(options.run_queue_threshold);
    let reclaim_ns = nanoseconds(options.reclaim_threshold);
    let block_ns = nanoseconds(options.block_threshold);
    let first_of_issue = btf
        .tracepoint("block_rq_issue")
        .ok()
        .and_then(|arguments| arguments.first().copied().flatten());
    let after_queue = u32::from(first_of_issue == Some("request_queue"));
    let daemon = std::process::id();
    let tells_group = btf
        .tracepoint("sched_process_exit")
        .map_or(0, |arguments| u32::from(arguments.len() > 1));
    // The number is that of the file's inode.
    let network = rustix::fs::stat("/proc/self/ns/net").map(|file| file.st_ino);
    let network = network.map_or(0, |number| u32::try_from(number).unwrap_or(0));
    let typed_task = btf.enumerator("bpf_func_id", "BPF_FUNC_get_current_task_btf");
    let typed_task = u32::from(typed_task.is_some());
    let drop_arguments = btf
        .tracepoint("kfree_skb")
        .map_or(0, |arguments| u32::try_from(arguments.len()).unwrap_or(0));
    let drop_classes = reasons.classes();
    let refused = Kind::ALL
        .iter()
        .filter(|kind| options.refuse.iter().any(|name| name == kind.name()))
        .fold(0_u32, |bits, kind| bits | 1 << kind.number());
    let segments = u32::from(first_of(btf, service_latency::ARRIVAL) != "sk_data_ready");
    let slow_ns = nanoseconds(options.slow_request);
    let memory_subsystem = btf
        .enumerator("cgroup_subsys_id", "memory_cgrp_id")
        .unwrap_or(ABSENT);
    let globals = offsets.globals();
    let mut loader = EbpfLoader::new();
    // Not one of the globals may be missing, or the two sides disagree.
    for (name, value) in &globals {
        loader.override_global(name, value, true);
    }
    loader
        .override_global(settings::DAEMON_PID, &daemon, true)
        .override_global(settings::RUN_QUEUE_THRESHOLD_NS, &run_queue_ns, true)
        .override_global(settings::RECLAIM_THRESHOLD_NS, &reclaim_ns, true)
        .override_global(settings::BLOCK_THRESHOLD_NS, &block_ns, true)
        .override_global(settings::REQUEST_AFTER_QUEUE, &after_queue, true)
        .override_global(settings::SLOW_REQUEST_NS, &slow_ns, true)
        .override_global(settings::ARRIVALS_ARE_SEGMENTS, &segments, true)
        .override_global(
            settings::CGROUP_EVENTS_PER_SECOND,
            &options.cgroup_events_per_second,
            true,
        )
        .override_global(settings::FORKS_PER_SECOND, &options.forks_per_second, true)
        .override_global(settings::FUTEX, &FUTEX, true)
        .override_global(settings::FUTEX_WAITV, &FUTEX_WAITV, true)
        .override_global(settings::SENDING_CALLS, &SENDING, true)
        .override_global(settings::MEMORY_SUBSYSTEM, &memory_subsystem, true)
        .override_global(settings::EXIT_TELLS_GROUP, &tells_group, true)
        .override_global(settings::CURRENT_TASK_TYPED, &typed_task, true)
        .override_global(settings::DROP_ARGUMENTS, &drop_arguments, true)
        .override_global(settings::DROP_CLASSES, &drop_classes, true)
        .override_global(settings::DAEMON_NETWORK, &network, true)
        .override_global(settings::REFUSED, &refused, true);
    loader
        .load(OBJECT)
        .map_err(|error| match rights::lockdown() {
            Some(mode) if refusal::is_permission(&error) => KernelError::Lockdown { mode },
            _ => error.into(),
        })
}

/// Of tracepoints with `|` between their names, the first that this kernel has; the last, if it has none.
fn first_of<'a>(btf: &Btf, names: &'a str) -> &'a str {
    let mut each = names.split('|');
    let known = each.clone().find(|name| btf.tracepoint(name).is_ok());
    known.or_else(|| each.next_back()).unwrap_or(names)
}

/// Numbers of the system calls that wait for a lock.
#[cfg(target_arch = "x86_64")]
const FUTEX: u32 = 202;
#[cfg(target_arch = "aarch64")]
const FUTEX: u32 = 98;
/// Numbers of the system calls in which a route is looked up for the caller; that of `connect` is the first.
#[cfg(target_arch = "x86_64")]
const SENDING: [u32; SENDING_CALLS] = [42, 44, 46, 307, 1, 20, IO_URING_ENTER];
#[cfg(target_arch = "aarch64")]
const SENDING: [u32; SENDING_CALLS] = [203, 206, 211, 269, 64, 66, IO_URING_ENTER];
/// The same on every architecture.
const IO_URING_ENTER: u32 = 426;
/// The same on every architecture.
const FUTEX_WAITV: u32 = 449;

struct Loader<'a> {
    options: &'a Options,
    btf: Btf,
    types: Types,
    offsets: Offsets,
    reasons: DropReasons,
    object: Ebpf,
    snapshot: Option<Snapshot>,
    links: BTreeMap<Kind, Vec<BtfTracePointLink>>,
    /// A member that reads wrong, and how.
    wrong: Option<prove::Mismatch>,
}

impl Loader<'_> {
    fn check_itself(&mut self) {
        let Some(snapshot) = self.snapshot.as_mut() else {
            tracing::warn!(
                "the self-check of the kernel programs is left out: task_snapshot does not load"
            );
            return;
        };
        self.wrong = prove::compare(snapshot);
    }

    /// The state of a probe, now that it is known which members read right; starts it if it is not the iterator.
    fn after_check(&mut self, kind: Kind, state: ProbeState) -> ProbeState {
        let spec = kind.spec();
        if self.options.disabled.iter().any(|name| name == spec.name) {
            if kind == Kind::TaskSnapshot {
                self.snapshot = None;
            }
            return ProbeState::off(
                "disabled by the configuration",
                format!("enable {} in the configuration", spec.name),
            );
        }
        if let Some(wrong) = self.wrong.as_ref().filter(|wrong| wrong.concerns(spec)) {
            let reason = wrong.to_string();
            if kind == Kind::TaskSnapshot {
                self.snapshot = None;
            }
            return ProbeState::off(
                reason,
                "report it with the output of `smart-monitor doctor`: the layout found in this kernel's BTF is not the true one",
            );
        }
        if kind == Kind::TaskSnapshot {
            state
        } else {
            self.start(kind)
        }
    }

    /// Loads and attaches all programs of a probe, or none.
    fn start(&mut self, kind: Kind) -> ProbeState {
        let spec = kind.spec();
        if let Some(missing) = self.offsets.missing(spec) {
            return ProbeState::off(
                refusal::missing_member(kind, missing),
                refusal::fix_for_member(kind),
            );
        }
        if let Some(state) = self.unfit_hook(spec) {
            return state;
        }
        let mut hooks = Vec::new();
        for program in spec.programs {
            if matches!(program.attach, Attach::IfThere(name) if self.btf.tracepoint(name).is_err())
            {
                continue;
            }
            match self.prepare(kind, program.name, program.attach) {
                Ok(hook) => hooks.push(hook),
                Err(error) => {
                    self.stop(kind);
                    return refusal::describe(&error);
                }
            }
        }
        let attached = match (hooks.is_empty(), spec.mode) {
            (true, _) => "with every probe".to_owned(),
            (false, Mode::Demand | Mode::Bench) => format!("{}, on demand", hooks.join(", ")),
            (false, Mode::Watched) => format!("{}, while a service is watched", hooks.join(", ")),
            (false, _) => hooks.join(", "),
        };
        ProbeState::On { attached }
    }

    /// Off, when a hook does not exist here or hands over something else than the program expects.
    fn unfit_hook(&self, spec: &ProbeSpec) -> Option<ProbeState> {
        spec.programs.iter().find_map(|program| {
            let Attach::BtfTracepoint {
                name,
                first_argument,
                arguments: wanted,
            } = program.attach
            else {
                return None;
            };
            let name = first_of(&self.btf, name);
            match self.btf.tracepoint(name) {
                Err(error) => Some(ProbeState::off(error.to_string(), refusal::FIX_TRACEPOINT)),
                Ok(arguments) if arguments.len() < wanted => Some(ProbeState::off(
                    format!(
                        "tracepoint {name} of this kernel hands over {} arguments, and not the {wanted} that are needed",
                        arguments.len()
                    ),
                    refusal::FIX_NEWER,
                )),
                Ok(arguments) => {
                    let first = arguments.first().copied().flatten().unwrap_or_default();
                    (!first_argument.is_empty() && first != first_argument).then(|| {
                        ProbeState::off(
                            format!("tracepoint {name} of this kernel does not hand over a {first_argument}"),
                            refusal::FIX_NEWER,
                        )
                    })
                }
            }
        })
    }

    /// Loads a program, and attaches it unless that is left to whoever asks for its probe.
    fn prepare(&mut self, kind: Kind, name: &str, attach: Attach) -> Result<String, ProgramError> {
        let program = self
            .object
            .program_mut(name)
            .ok_or_else(|| ProgramError::InvalidName {
                name: name.to_owned(),
            })?;
        match attach {
            Attach::BtfTracepoint { name, .. } | Attach::IfThere(name) => {
                let name = first_of(&self.btf, name);
                let program: &mut BtfTracePoint = program.try_into()?;
                program.load(name, &self.types)?;
                if matches!(kind.spec().mode, Mode::Essential | Mode::Optional) {
                    let link = program.attach()?;
                    let link = program.take_link(link)?;
                    self.links.entry(kind).or_default().push(link);
                }
                Ok(format!("tp_btf/{name}"))
            }
            Attach::TaskIterator => {
                let program: &mut Iter = program.try_into()?;
                program.load("task", &self.types)?;
                // A handle of its own, which another thread can own. The reader attaches it for each walk.
                let own = Iter::from_program_info(program.info()?, name.to_owned().into())?;
                self.snapshot = Some(Snapshot::new(own));
                Ok("iter/task".to_owned())
            }
        }
    }

    /// Takes back what a half-started probe has attached.
    fn stop(&mut self, kind: Kind) {
        self.links.remove(&kind);
        for program in kind.spec().programs {
            let unloaded = match self.object.program_mut(program.name) {
                Some(Program::BtfTracePoint(program)) => program.unload(),
                _ => Ok(()),
            };
            // A program that was never loaded has nothing to take back.
            if let Err(error) = unloaded
                && !matches!(error, ProgramError::NotLoaded)
            {
                tracing::warn!(program = program.name, %error, "a kernel program cannot be taken back");
            }
        }
    }

    fn finish(mut self, probes: Vec<ProbeStatus>) -> Result<Kernel, KernelError> {
        let rings = Rings {
            urgent: take_ring(&mut self.object, "URGENT")?,
            bulk: take_ring(&mut self.object, "BULK")?,
        };
        let maps = Maps::take(&mut self.object, self.reasons)?;
        let cgroup_maps = cgroups::Maps::take(&mut self.object)?;
        let dns_maps = dns::Maps::take(&mut self.object)?;
        let guard_maps = guards::Maps::take(&mut self.object)?;
        let bench = BenchLoad::take(&mut self.object)?;
        let Map::HashMap(watched) = take_map(&mut self.object, "WATCHED")? else {
            return Err(MapError::InvalidMapType { map_type: 0 }.into());
        };
        let log = KernelLog::take(&mut self.object);
        let loaded = Arc::new(Mutex::new(Loaded {
            object: self.object,
            links: self.links,
            probes,
            watching: false,
            stats: None,
        }));
        let programs = Programs::of(&loaded);
        let kernel = Kernel {
            counters: CounterReader::new(maps, programs.clone()),
            guards: Guards::new(guard_maps, programs.clone()),
            cgroups: CgroupWatch::new(cgroup_maps, programs.clone()),
            dns: DnsWatch::new(dns_maps, programs.clone(), self.options.dns_timeout),
            bench,
            loaded,
            rings: Some(rings),
            snapshot: self.snapshot,
            log,
            watched,
        };
        if self.options.stats {
            kernel.set_stats(true)?;
        }
        Ok(kernel)
    }
}

fn take_ring(object: &mut Ebpf, name: &str) -> Result<Ring, KernelError> {
    Ok(Ring::new(RingBuf::try_from(take_map(object, name)?)?))
}
