//! Each probe, by loading it.

use monitor_common::Kind;

use super::{Check, Level};
use crate::cli::render::add;
use crate::kernel::{Kernel, KernelError, Options, ProbeState, ProbeStatus};

pub(super) const SECTION: &str = "probes";

pub(super) fn check(checks: &mut Vec<Check>) {
    match Kernel::load(&Options::default()) {
        Ok(kernel) => checks.extend(of(&kernel.probes())),
        Err(error) => checks.push(failed(&error, rustix::process::geteuid().is_root())),
    }
}

fn failed(error: &KernelError, root: bool) -> Check {
    // Another user lacks the rights, as is right; whether root could load them stays open.
    let level = match error {
        KernelError::Rights { .. } if !root => Level::Unknown,
        _ => Level::Problem,
    };
    // Its message ends in what to do.
    let message = error.to_string();
    let (why, fix) = message.rsplit_once(": ").unwrap_or((&message, ""));
    let check = Check::new(SECTION, "all probes", level, why);
    if fix.is_empty() {
        check
    } else {
        check.fix(fix)
    }
}

fn of(probes: &[ProbeStatus]) -> Vec<Check> {
    let none = !probes.iter().any(|probe| probe.state.is_on());
    let checks = probes.iter().map(|probe| match &probe.state {
        ProbeState::On { attached } => {
            let mut detail = format!("on: {attached}");
            if !probe.without.is_empty() {
                let without = probe.without.join(", ");
                add(
                    &mut detail,
                    format_args!("; without {without}, which this kernel lacks"),
                );
            }
            if let Some(unseen) = unseen(probe.kind) {
                add(&mut detail, format_args!("; not seen: {unseen}"));
            }
            Check::ok(SECTION, probe.kind.name(), detail)
        }
        ProbeState::Off { reason, fix } => {
            let level = if none { Level::Problem } else { Level::Warning };
            Check::new(SECTION, probe.kind.name(), level, format!("off: {reason}")).fix(fix)
        }
    });
    checks.collect()
}

/// What one might take it to see, and it does not.
const fn unseen(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::DnsQuery => Some("DNS over TCP, TLS or HTTPS, and servers on other ports than 53"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(kind: Kind, on: bool) -> ProbeStatus {
        let state = if on {
            ProbeState::On {
                attached: "sched_process_exit".to_owned(),
            }
        } else {
            ProbeState::Off {
                reason: "no such tracepoint".to_owned(),
                fix: "boot 5.8".to_owned(),
            }
        };
        ProbeStatus {
            kind,
            state,
            without: Vec::new(),
        }
    }

    #[test]
    fn one_probe_off_is_a_warning_and_all_of_them_a_problem() {
        let some = of(&[probe(Kind::ProcessExit, true), probe(Kind::OomKill, false)]);
        assert_eq!(some[1].level, Level::Warning);
        assert_eq!(some[1].fix.as_deref(), Some("boot 5.8"));
        let none = of(&[probe(Kind::ProcessExit, false)]);
        assert_eq!(none[0].level, Level::Problem);
    }

    #[test]
    fn what_is_not_seen_is_said() {
        let seen = of(&[probe(Kind::DnsQuery, true), probe(Kind::ProcessExit, true)]);
        assert!(seen[0].detail.contains("not seen: DNS over TCP, TLS"));
        assert!(!seen[1].detail.contains("not seen"));
    }

    #[test]
    fn without_root_the_probes_are_unknown() {
        let error = KernelError::Rights {
            missing: "CAP_BPF".to_owned(),
        };
        assert_eq!(failed(&error, false).level, Level::Unknown);
        assert_eq!(failed(&error, true).level, Level::Problem);
        assert!(failed(&error, true).fix.is_some());
        assert_eq!(failed(&KernelError::NoObject, false).level, Level::Problem);
    }
}
