//! A wait for a CPU in words: how long, why, and who had the CPU meanwhile.

use std::time::Duration;

use monitor_common::probes::run_queue_latency::{Cause, Culprit, RunQueueLatency};

use crate::model::Evidence;

/// Culprits that are named.
const NAMED: usize = 4;

pub(super) fn facts(evidence: Evidence, wait: &RunQueueLatency) -> Evidence {
    let longest = Duration::from_nanos(wait.wait_ns);
    let mut evidence = evidence
        .fact("longest wait", format!("{longest:.1?}"))
        .fact("its main cause", cause(wait.cause()));
    let shares = [
        ("throttled by a quota", wait.throttled_ns),
        ("CPU idle", wait.idle_ns),
        ("not remembered", wait.forgotten_ns),
    ];
    let shares: Vec<String> = shares
        .into_iter()
        .filter(|(_, ns)| *ns > 0)
        .map(|(what, ns)| format!("{} {what}", share(ns, wait.wait_ns)))
        .collect();
    if !shares.is_empty() {
        evidence = evidence.fact("of the longest wait", shares.join(", "));
    }
    let mut held: Vec<String> = wait
        .ranked()
        .iter()
        .filter(|culprit| culprit.held_ns > 0)
        .take(NAMED)
        .map(|culprit| named(wait, culprit))
        .collect();
    if wait.others_ns > 0 {
        held.push(format!("{} others", share(wait.others_ns, wait.wait_ns)));
    }
    if held.is_empty() {
        evidence.fact("CPU held last by", format!("pid {}", wait.previous_pid))
    } else {
        evidence.fact("held by", held.join(", "))
    }
}

fn cause(cause: Cause) -> String {
    let words = match cause {
        Cause::Quota => {
            "its own CPU quota was used up: raise cpu.max of its cgroup, or of the one above that has it"
        }
        Cause::OwnThreads => "other threads of its own process had the CPU",
        Cause::OwnCgroup => "other processes of its own cgroup had the CPU",
        Cause::Neighbour => "processes of other cgroups had the CPU",
        Cause::System => "kernel threads had the CPU",
        Cause::Unknown => "nobody had the CPU, or it is not remembered who",
    };
    format!("{} ({words})", cause.name())
}

fn named(wait: &RunQueueLatency, culprit: &Culprit) -> String {
    let length = culprit.comm.iter().position(|byte| *byte == 0);
    let name = culprit.comm.get(..length.unwrap_or(culprit.comm.len()));
    let name = String::from_utf8_lossy(name.unwrap_or_default());
    let share = share(culprit.held_ns, wait.wait_ns);
    match wait.relation(culprit) {
        Cause::System => format!("{share} {name} (kernel)"),
        Cause::OwnThreads => format!("{share} its own threads"),
        Cause::OwnCgroup => format!("{share} {name} [{}] in its own cgroup", culprit.pid),
        _ => format!(
            "{share} {name} [{}] in cgroup {}",
            culprit.pid, culprit.cgroup_id
        ),
    }
}

/// Of the whole, in per cent; what is measured at different moments may add up to a little more than all.
fn share(part: u64, whole: u64) -> String {
    let percent = u128::from(part) * 100 / u128::from(whole.max(1));
    format!("{} %", percent.min(100))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Time;
    use monitor_common::probes::run_queue_latency::CULPRITS;
    use monitor_common::{Header, Task};

    fn wait(wait_ns: u64) -> RunQueueLatency {
        RunQueueLatency {
            header: Header::of::<RunQueueLatency>(0, 0),
            task: Task {
                pid: 10,
                tid: 11,
                start_time_ns: 0,
                cgroup_id: 5,
                comm: [0; 16],
            },
            wait_ns,
            previous_pid: 7,
            quota: 0,
            previous_comm: [0; 16],
            throttled_ns: 0,
            idle_ns: 0,
            others_ns: 0,
            forgotten_ns: 0,
            culprits: [Culprit::default(); CULPRITS],
        }
    }

    fn culprit(pid: u32, cgroup_id: u64, kernel_thread: u32, held_ns: u64, name: &str) -> Culprit {
        let mut comm = [0; 16];
        for (to, from) in comm.iter_mut().zip(name.bytes()) {
            *to = from;
        }
        Culprit {
            held_ns,
            cgroup_id,
            pid,
            kernel_thread,
            comm,
        }
    }

    fn fact(wait: &RunQueueLatency, name: &str) -> String {
        let evidence = facts(Evidence::at(Time::default()), wait);
        let fact = evidence.facts.into_iter().find(|(known, _)| known == name);
        fact.map(|(_, value)| value).unwrap_or_default()
    }

    #[test]
    fn the_culprits_are_named_largest_first() {
        let mut wait = wait(1_000);
        wait.culprits[0] = culprit(3, 1, 1, 200, "kworker/0:1");
        wait.culprits[1] = culprit(123, 45, 0, 620, "stress-ng");
        wait.culprits[2] = culprit(10, 5, 0, 50, "shop");
        wait.others_ns = 30;
        wait.forgotten_ns = 100;
        assert_eq!(
            fact(&wait, "held by"),
            "62 % stress-ng [123] in cgroup 45, 20 % kworker/0:1 (kernel), 5 % its own threads, 3 % others"
        );
        assert!(fact(&wait, "its main cause").starts_with("neighbour ("));
        assert_eq!(fact(&wait, "of the longest wait"), "10 % not remembered");
    }

    #[test]
    fn a_quota_is_said_in_plain_words() {
        let mut wait = wait(1_000);
        wait.throttled_ns = 900;
        let cause = fact(&wait, "its main cause");
        assert!(
            cause.contains("its own CPU quota") && cause.contains("cpu.max"),
            "{cause}"
        );
        assert_eq!(
            fact(&wait, "of the longest wait"),
            "90 % throttled by a quota"
        );
    }

    #[test]
    fn nothing_is_too_strange() {
        let mut wait = wait(0);
        wait.culprits = [culprit(
            u32::MAX,
            u64::MAX,
            u32::MAX,
            u64::MAX,
            "\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}",
        ); CULPRITS];
        wait.throttled_ns = u64::MAX;
        wait.others_ns = u64::MAX;
        assert!(fact(&wait, "held by").starts_with("100 % "));
        let silent = self::wait(u64::MAX);
        assert_eq!(fact(&silent, "CPU held last by"), "pid 7");
    }
}
