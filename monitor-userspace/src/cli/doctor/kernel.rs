//! What the kernel has.

use std::path::Path;

use super::{Check, Level};

const SECTION: &str = "kernel";

/// A kernel version, major and minor.
type Version = (u32, u32);

/// The oldest that the probes load on.
const OLDEST: Version = (5, 8);

/// `process_mrelease` is there since.
const RELEASES_MEMORY: Version = (5, 15);

pub(super) fn check(checks: &mut Vec<Check>) {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    let version = parse(&release);
    checks.push(match version {
        Some(version) if version < OLDEST => {
            let detail = format!("{release}: too old, the probes need 5.8");
            Check::new(SECTION, "version", Level::Problem, detail).fix("boot a newer kernel")
        }
        Some(_) => Check::ok(SECTION, "version", &*release),
        None => Check::new(
            SECTION,
            "version",
            Level::Unknown,
            format!("{release}: not understood"),
        ),
    });
    checks.push(types());
    checks.push(tracefs(&mounts()));
    checks.push(cgroups(&mounts()));
    checks.push(pidfd());
    checks.push(match version {
        Some(version) if version < RELEASES_MEMORY => {
            let detail = "not in this kernel (since 5.15): memory of a killed process comes back when it has ended by itself";
            Check::new(SECTION, "process_mrelease", Level::Warning, detail)
        }
        _ => Check::ok(SECTION, "process_mrelease", "memory of a killed process comes back at once"),
    });
}

fn parse(release: &str) -> Option<Version> {
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn types() -> Check {
    const FILE: &str = "/sys/kernel/btf/vmlinux";
    if Path::new(FILE).exists() {
        return Check::ok(SECTION, "types (BTF)", FILE);
    }
    let detail =
        format!("{FILE} is not there: the probes cannot find their way in the kernel's structures");
    let check = Check::new(SECTION, "types (BTF)", Level::Problem, detail);
    check.fix("boot a kernel with CONFIG_DEBUG_INFO_BTF=y (every current distribution's), with /sys mounted")
}

fn mounts() -> String {
    std::fs::read_to_string("/proc/self/mounts").unwrap_or_default()
}

/// Mount points of a file system type.
fn mounted<'a>(mounts: &'a str, kind: &'a str) -> impl Iterator<Item = &'a str> {
    mounts.lines().filter_map(move |line| {
        let mut fields = line.split(' ').skip(1);
        let at = fields.next()?;
        (fields.next()? == kind).then_some(at)
    })
}

fn tracefs(mounts: &str) -> Check {
    let detail = mounted(mounts, "tracefs")
        .next()
        .unwrap_or("not mounted; the probes do without");
    Check::ok(SECTION, "tracefs", detail)
}

fn cgroups(mounts: &str) -> Check {
    let unified = mounted(mounts, "cgroup2").next();
    let old = mounted(mounts, "cgroup").count();
    match (unified, old) {
        (Some(at), 0) => Check::ok(SECTION, "cgroups", format!("v2 at {at}")),
        (Some(at), old) => Check::ok(
            SECTION,
            "cgroups",
            format!("v2 at {at}, beside {old} controllers of v1"),
        ),
        (None, 0) => Check::new(
            SECTION,
            "cgroups",
            Level::Warning,
            "none mounted: events tell no cgroup",
        )
        .fix("mount -t cgroup2 none /sys/fs/cgroup"),
        (None, _) => Check::new(
            SECTION,
            "cgroups",
            Level::Warning,
            "v1 only: events tell no cgroup",
        )
        .fix("boot with systemd.unified_cgroup_hierarchy=1, or mount cgroup2 somewhere"),
    }
}

fn pidfd() -> Check {
    let own = rustix::process::getpid();
    match rustix::process::pidfd_open(own, rustix::process::PidfdFlags::empty()) {
        Ok(_) => Check::ok(
            SECTION,
            "pidfd",
            "a process is held fast from decision to signal",
        ),
        Err(error) => {
            let detail =
                format!("refused ({error}): no process can be ended safely, and none will be");
            let check = Check::new(SECTION, "pidfd", Level::Warning, detail);
            check.fix("allow pidfd_open in the container's seccomp profile")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_compare_by_number() {
        assert_eq!(parse("6.18.44-fc-v509"), Some((6, 18)));
        assert_eq!(parse("5.8"), Some((5, 8)));
        assert!(parse("5.10.0-35-amd64") > Some(OLDEST));
        assert_eq!(parse("next"), None);
    }

    #[test]
    fn both_generations_of_cgroups_are_seen() {
        let both = "cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n";
        assert_eq!(cgroups(both).level, Level::Ok);
        assert!(cgroups(both).detail.contains("1 controllers of v1"));
        assert_eq!(
            cgroups("cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\n").level,
            Level::Warning
        );
        assert_eq!(cgroups("").level, Level::Warning);
    }
}
