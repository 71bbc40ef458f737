//! The kernel's refusals, in words for a person: what, why, and what to do.

use aya::EbpfError;
use aya::programs::ProgramError;
use monitor_common::Kind;

use crate::kernel::btf::BtfError;
use crate::kernel::status::ProbeState;
use crate::kernel::{chain, rights};

/// Lines of the verifier's log that are kept.
const LOG_LINES: usize = 3;
/// Characters of a reason that are kept.
const LOG_CHARS: usize = 400;

pub(super) const FIX_TRACEPOINT: &str =
    "use a kernel that has it (5.14 or later, with CONFIG_BPF_EVENTS and its subsystem built in)";
pub(super) const FIX_NEWER: &str =
    "use kernel 6.8 or later, or a distribution's 6.1 or later that has the change too";
const FIX_RIGHTS: &str =
    "run as root (sudo smart-monitor ...), outside of a container that drops capabilities";
const FIX_REPORT: &str =
    "report it with the output of `smart-monitor doctor`; the other probes go on";

/// Off, because one of its programs was refused.
pub(super) fn describe(error: &ProgramError) -> ProbeState {
    match error {
        ProgramError::LoadError {
            io_error,
            verifier_log,
        } => {
            if let Some(state) = forbidden(io_error) {
                return state;
            }
            let log = last_lines(&verifier_log.to_string());
            let reason = if log.is_empty() {
                format!("the kernel refuses its program: {io_error}")
            } else {
                format!("the kernel's verifier refuses its program: {log}")
            };
            ProbeState::off(reason, FIX_REPORT)
        }
        ProgramError::SyscallError(error) => forbidden(&error.io_error).unwrap_or_else(|| {
            ProbeState::off(
                format!(
                    "its program does not attach ({}): {}",
                    error.call, error.io_error
                ),
                FIX_REPORT,
            )
        }),
        other => ProbeState::off(
            format!("its program does not load: {}", chain(other)),
            FIX_REPORT,
        ),
    }
}

/// Off, because a structure has no such member here.
pub(super) fn missing_member(kind: Kind, missing: &BtfError) -> String {
    match kind {
        Kind::RunQueueLatency => format!(
            "{missing}, so the scheduler's own stamps cannot be read; the way that needs no stamps is not built yet"
        ),
        _ => missing.to_string(),
    }
}

pub(super) const fn fix_for_member(kind: Kind) -> &'static str {
    match kind {
        Kind::RunQueueLatency => {
            "use a kernel built with CONFIG_SCHED_INFO=y and CONFIG_FAIR_GROUP_SCHED=y"
        }
        _ => "use a kernel of 5.8 to 6.18, or report it: later kernels may have moved the member",
    }
}

/// Whether loading failed for want of a permission.
pub(super) fn is_permission(error: &EbpfError) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        let denied = error
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied);
        if denied {
            return true;
        }
        cause = error.source();
    }
    false
}

/// `EPERM` is never the verifier's: a right or a lockdown.
fn forbidden(error: &std::io::Error) -> Option<ProbeState> {
    const EPERM: i32 = 1;
    if error.raw_os_error() != Some(EPERM) {
        return None;
    }
    Some(match rights::lockdown() {
        Some(mode) => ProbeState::off(
            format!("the kernel is locked down (mode {mode}) and forbids its program"),
            "boot with lockdown=integrity or none",
        ),
        None => ProbeState::off(
            "the kernel forbids its program (operation not permitted)",
            FIX_RIGHTS,
        ),
    })
}

/// The end of the verifier's log, where the reason stands, without source lines and statistics.
fn last_lines(log: &str) -> String {
    const SKIPPED: [&str; 6] = [
        ";",
        "processed ",
        "verification time",
        "stack depth",
        "peak_states",
        "mark_read",
    ];
    let mut lines: Vec<&str> = log
        .lines()
        .rev()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !SKIPPED.iter().any(|word| line.starts_with(word)))
        .take(LOG_LINES)
        .collect();
    lines.reverse();
    let text = lines.join("; ");
    let skip = text.chars().count().saturating_sub(LOG_CHARS);
    text.chars().skip(skip).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_log_is_kept_and_its_statistics_are_not() {
        let log = "func#0 @0\n0: R1=ctx()\n; source @ mod.rs:1\n12: (79) r1 = *(u64 *)(r1 +0)\nR1 invalid mem access 'scalar'\n\
                   verification time 80 usec\nstack depth 0\nprocessed 8 insns (limit 1000000)\n\n";
        assert_eq!(
            last_lines(log),
            "0: R1=ctx(); 12: (79) r1 = *(u64 *)(r1 +0); R1 invalid mem access 'scalar'"
        );
        assert_eq!(last_lines(&"x".repeat(5_000)).len(), LOG_CHARS);
    }

    #[test]
    fn forbidden_is_said_in_plain_words() {
        let state = forbidden(&std::io::Error::from_raw_os_error(1));
        let Some(ProbeState::Off { reason, .. }) = state else {
            panic!("off");
        };
        assert!(reason.contains("forbids its program"), "{reason}");
        assert_eq!(forbidden(&std::io::Error::from_raw_os_error(22)), None);
    }
}
