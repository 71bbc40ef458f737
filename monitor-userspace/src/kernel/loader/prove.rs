//! Compares what the iterator reads of this very process with what is known of it.

use monitor_common::offsets::{self, Offset};
use monitor_common::probes::task_snapshot::TaskSnapshot;
use monitor_common::spec::ProbeSpec;

use crate::kernel::Snapshot;

/// A tick of `/proc/PID/stat`: `USER_HZ` is 100 on every architecture.
const TICK_NS: u64 = 10_000_000;

/// A member that does not read what is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mismatch {
    member: Offset,
    read: String,
    known: String,
}

impl Mismatch {
    /// Whether this probe relies on the member.
    pub(super) fn concerns(&self, spec: &ProbeSpec) -> bool {
        spec.required().any(|offset| *offset == self.member)
    }
}

impl std::fmt::Display for Mismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            member,
            read,
            known,
        } = self;
        write!(
            f,
            "the self-check failed: {}.{} of this process reads {read} but is {known}",
            member.structure, member.path
        )
    }
}

/// What `/proc` says of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    pid: u32,
    parent_pid: u32,
    start_ticks: u64,
    comm: String,
}

/// Walks the tasks once and compares the record of this process.
pub(super) fn compare(snapshot: &mut Snapshot) -> Option<Mismatch> {
    let Some(known) = Known::of_this_process() else {
        tracing::warn!(
            "the self-check of the kernel programs is left out: /proc/self cannot be read"
        );
        return None;
    };
    let mut tasks = Vec::new();
    if let Err(error) = snapshot.read(&mut tasks) {
        tracing::warn!(%error, "the self-check of the kernel programs is left out: the tasks cannot be read");
        return None;
    }
    mismatch(&tasks, &known)
}

fn mismatch(tasks: &[TaskSnapshot], known: &Known) -> Option<Mismatch> {
    let wrong = |member: Offset, read: &dyn std::fmt::Display, known: &dyn std::fmt::Display| {
        Some(Mismatch {
            member,
            read: read.to_string(),
            known: known.to_string(),
        })
    };
    let by_process = tasks
        .iter()
        .find(|task| task.task.pid == known.pid && task.task.tid == known.pid);
    let Some(found) = by_process else {
        let by_thread = tasks.iter().find(|task| task.task.tid == known.pid);
        let by_group = tasks.iter().find(|task| task.task.pid == known.pid);
        return match (by_thread, by_group) {
            (Some(found), _) => wrong(offsets::TASK_TGID, &found.task.pid, &known.pid),
            (None, Some(found)) => wrong(offsets::TASK_PID, &found.task.tid, &known.pid),
            (None, None) => wrong(offsets::TASK_TGID, &"another process", &known.pid),
        };
    };
    let ticks = found.task.start_time_ns / TICK_NS;
    if ticks.abs_diff(known.start_ticks) > 1 {
        return wrong(
            offsets::TASK_START,
            &format!("{ticks} ticks"),
            &known.start_ticks,
        );
    }
    if found.parent_pid != known.parent_pid {
        return wrong(offsets::TASK_PARENT, &found.parent_pid, &known.parent_pid);
    }
    if found.task.comm() != known.comm {
        return wrong(
            offsets::TASK_COMM,
            &format!("{:?}", found.task.comm()),
            &format!("{:?}", known.comm),
        );
    }
    None
}

impl Known {
    fn of_this_process() -> Option<Self> {
        Self::parse(
            std::process::id(),
            &std::fs::read_to_string("/proc/self/stat").ok()?,
        )
    }

    /// The name stands in brackets and may itself hold brackets and blanks.
    fn parse(pid: u32, stat: &str) -> Option<Self> {
        let (before, after) = stat.rsplit_once(')')?;
        let mut fields = after.split_ascii_whitespace();
        Some(Self {
            pid,
            comm: before.split_once('(')?.1.to_owned(),
            parent_pid: fields.nth(1)?.parse().ok()?,
            start_ticks: fields.nth(17)?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use monitor_common::{Header, Task};

    fn record(pid: u32, tid: u32) -> TaskSnapshot {
        TaskSnapshot {
            header: Header::of::<TaskSnapshot>(0, 0),
            task: Task {
                pid,
                tid,
                start_time_ns: 1_234 * TICK_NS + 5,
                cgroup_id: 0,
                comm: *b"it (is)\0\0\0\0\0\0\0\0\0",
            },
            flags: 0,
            parent_pid: 7,
            cpu_ns: 0,
            run_delay_ns: 0,
            rss_pages: 0,
            anon_pages: 0,
            minor_faults: 0,
            major_faults: 0,
            read_bytes: 0,
            write_bytes: 0,
            state: 0,
            uid: 0,
            switches: 0,
            shmem_pages: 0,
            swap_pages: 0,
            oom_score_adj: 0,
            padding: 0,
        }
    }

    fn known() -> Known {
        let stat = "42 (it (is)) S 7 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 1234 10 20 30";
        Known::parse(42, stat).expect("as documented in proc(5)")
    }

    #[test]
    fn what_agrees_passes() {
        assert_eq!(
            mismatch(&[record(1, 1), record(42, 43), record(42, 42)], &known()),
            None
        );
    }

    #[test]
    fn what_disagrees_is_named() {
        let mut late = record(42, 42);
        late.task.start_time_ns += 3 * TICK_NS;
        let wrong = mismatch(&[late], &known()).expect("a mismatch");
        assert_eq!(wrong.member, offsets::TASK_START);
        let mut named = record(42, 42);
        named.task.comm = [b'x'; 16];
        assert_eq!(
            mismatch(&[named], &known()).expect("a mismatch").member,
            offsets::TASK_COMM
        );
        assert_eq!(
            mismatch(&[record(0, 42)], &known())
                .expect("a mismatch")
                .member,
            offsets::TASK_TGID
        );
        assert_eq!(
            mismatch(&[record(42, 0)], &known())
                .expect("a mismatch")
                .member,
            offsets::TASK_PID
        );
        assert!(mismatch(&[], &known()).is_some());
    }
}
