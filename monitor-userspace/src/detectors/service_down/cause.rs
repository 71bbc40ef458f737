//! Why a service's process ended, as far as the kernel told before its end: a signal and its sender, the kernel's own kill for lack of
//! memory, a guard's kill at a memory ceiling. The last of each, of one process a service.

use std::time::Duration;

use monitor_common::Event;
use monitor_common::probes::memory_ceiling::{KILLED, MemoryCeiling};
use monitor_common::probes::oom_kill::OomKill;
use monitor_common::probes::process_exit::{Ending, ending};
use monitor_common::probes::process_signal::ProcessSignal;

use super::signal_name;
use crate::detectors::oom_killed;
use crate::model::{Evidence, ProcessKey, Time};

/// A request to end that came longer before an end with a code is not taken for its cause.
const ASKED_WITHIN: Duration = Duration::from_secs(90);
/// Signals that the kernel sends a process for a fault of its own: ILL, TRAP, BUS, FPE, SEGV, SYS.
const FAULTS: u64 = 1 << 4 | 1 << 5 | 1 << 7 | 1 << 8 | 1 << 11 | 1 << 31;

/// What was told of one process.
#[derive(Debug)]
pub(super) struct Told {
    process: ProcessKey,
    signal: Option<ProcessSignal>,
    oom: Option<OomKill>,
    ceiling: Option<MemoryCeiling>,
}

impl Told {
    /// The process an event tells something of, if it is one of these events.
    pub(super) fn of(event: &Event) -> Option<ProcessKey> {
        let tells = match event {
            Event::ProcessSignal(signal) => signal.result == 0,
            Event::MemoryCeiling(ceiling) => ceiling.verdict == KILLED,
            Event::OomKill(_) => true,
            _ => false,
        };
        tells.then(|| ProcessKey::from_task(event.task()))
    }

    pub(super) const fn nothing(process: ProcessKey) -> Self {
        Self {
            process,
            signal: None,
            oom: None,
            ceiling: None,
        }
    }

    pub(super) fn is_of(&self, process: ProcessKey) -> bool {
        self.process == process
    }

    pub(super) fn take(&mut self, event: &Event) {
        match event {
            Event::ProcessSignal(signal) => self.signal = Some(*signal),
            Event::OomKill(oom) => self.oom = Some(*oom),
            Event::MemoryCeiling(ceiling) => self.ceiling = Some(*ceiling),
            _ => {}
        }
    }

    /// Adds who ended the process, where that is known. `status` is as `wait` gives it.
    pub(super) fn facts(&self, evidence: Evidence, status: Option<u32>, at: Time) -> Evidence {
        let ending = status.map(ending);
        let by_kill = matches!(ending, Some(Ending::Signal(9)) | None);
        if let Some(oom) = &self.oom
            && by_kill
        {
            let evidence = evidence.fact("killed by", "the kernel, for lack of memory");
            return oom_killed::facts(evidence, oom);
        }
        if let Some(ceiling) = &self.ceiling
            && by_kill
        {
            let over = ceiling.used_pages.saturating_sub(ceiling.limit_pages);
            let over = over.saturating_mul(rustix::param::page_size() as u64) / 1024;
            let words = format!("a guard in the kernel, {over} KiB over its memory ceiling");
            return evidence.fact("killed by", words);
        }
        let Some(signal) = &self.signal else {
            return evidence;
        };
        let number = u8::try_from(signal.signal).unwrap_or(u8::MAX);
        let (fact, told) = match ending {
            Some(Ending::Signal(ended_by)) => ("killed by", ended_by == number),
            None => ("killed by", true),
            Some(Ending::Code(_)) => {
                let sent = Time::from_kernel(signal.header.time_ns);
                ("asked to end by", at.since(sent) <= ASKED_WITHIN)
            }
        };
        if !told {
            return evidence;
        }
        evidence.fact(fact, format!("{}, {}", sender(signal), signal_name(number)))
    }
}

fn sender(signal: &ProcessSignal) -> String {
    if signal.sender_pid == signal.task.pid {
        let fault = 1_u64.checked_shl(signal.signal).unwrap_or(0) & FAULTS != 0;
        let words = if fault {
            "by itself (a fault)"
        } else {
            "by itself"
        };
        return words.to_owned();
    }
    let length = signal.sender_comm.iter().position(|byte| *byte == 0);
    let name = signal
        .sender_comm
        .get(..length.unwrap_or(signal.sender_comm.len()));
    let name = String::from_utf8_lossy(name.unwrap_or_default());
    format!("{name} [{}]", signal.sender_pid)
}
