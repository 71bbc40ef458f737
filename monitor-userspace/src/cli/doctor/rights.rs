//! Who asks, and what it may do.

use rustix::thread::CapabilitySet;

use super::{Check, Level};

const SECTION: &str = "rights";

/// A right, what it is for, and whether the daemon can do without.
const RIGHTS: &[(&str, CapabilitySet, &str)] = &[
    (
        "CAP_SYS_ADMIN",
        CapabilitySet::SYS_ADMIN,
        "loads kernel programs and reads the kernel's counters",
    ),
    (
        "CAP_BPF",
        CapabilitySet::BPF,
        "loads kernel programs (CAP_SYS_ADMIN includes it)",
    ),
    (
        "CAP_PERFMON",
        CapabilitySet::PERFMON,
        "attaches them to tracepoints (CAP_SYS_ADMIN includes it)",
    ),
    (
        "CAP_SYS_RESOURCE",
        CapabilitySet::SYS_RESOURCE,
        "sets pressure alarms with short windows, raises limits",
    ),
    (
        "CAP_KILL",
        CapabilitySet::KILL,
        "ends processes of other users",
    ),
];

pub(super) fn check(checks: &mut Vec<Check>) {
    let user = rustix::process::geteuid();
    if user.is_root() {
        checks.push(Check::ok(SECTION, "user", "root"));
    } else {
        let detail = format!(
            "user {}, not root: what needs root is shown as unknown",
            user.as_raw()
        );
        let check = Check::new(SECTION, "user", Level::Warning, detail);
        checks.push(check.fix("sudo smart-monitor doctor"));
    }
    let held = match rustix::thread::capabilities(None) {
        Ok(sets) => sets.effective,
        Err(error) => {
            let detail = format!("cannot be read: {error}");
            checks.push(Check::new(SECTION, "capabilities", Level::Unknown, detail));
            return;
        }
    };
    for (name, right, purpose) in RIGHTS {
        checks.push(one(user.is_root(), held, name, *right, purpose));
    }
}

fn one(root: bool, held: CapabilitySet, name: &str, right: CapabilitySet, purpose: &str) -> Check {
    let split_off = right == CapabilitySet::BPF || right == CapabilitySet::PERFMON;
    if held.contains(right) || (split_off && held.contains(CapabilitySet::SYS_ADMIN)) {
        return Check::ok(SECTION, name, purpose);
    }
    let detail = format!("missing; it {purpose}");
    if !root {
        return Check::new(SECTION, name, Level::Unknown, detail);
    }
    let check = Check::new(SECTION, name, Level::Warning, detail);
    check.fix(if right == CapabilitySet::SYS_RESOURCE {
        "the daemon goes on without: its pressure alarm gets a window of 2 s; give the container or unit the capability"
    } else {
        "give the container or unit the capability"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_right_that_root_lacks_is_a_warning_and_another_users_is_unknown() {
        let none = CapabilitySet::empty();
        let kill = CapabilitySet::KILL;
        assert_eq!(one(true, none, "k", kill, "x").level, Level::Warning);
        assert_eq!(one(false, none, "k", kill, "x").level, Level::Unknown);
        assert_eq!(one(true, kill, "k", kill, "x").level, Level::Ok);
        let admin = CapabilitySet::SYS_ADMIN;
        assert_eq!(
            one(true, admin, "b", CapabilitySet::BPF, "x").level,
            Level::Ok
        );
    }
}
