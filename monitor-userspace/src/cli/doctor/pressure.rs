//! Pressure stall information, and the alarms it can set.

use std::fs::OpenOptions;
use std::io::{self, Write};

use super::{Check, Level};

const SECTION: &str = "pressure";
const FILE: &str = "/proc/pressure/memory";

/// A stall and its window, microseconds: what the daemon asks for, and what every kernel since 6.5 gives to anybody.
const SHORT: (u32, u32) = (150_000, 1_000_000);
const LONG: (u32, u32) = (300_000, 2_000_000);

pub(super) fn check(checks: &mut Vec<Check>) {
    match std::fs::read_to_string(FILE) {
        Ok(_) => checks.push(Check::ok(SECTION, "memory pressure", FILE)),
        Err(error) => {
            let detail = format!(
                "{FILE} cannot be read ({error}): memory pressure is seen by its level alone"
            );
            let check = Check::new(SECTION, "memory pressure", Level::Warning, detail);
            checks.push(
                check.fix("boot a kernel with CONFIG_PSI=y, and with psi=1 on its command line"),
            );
            return;
        }
    }
    checks.push(alarm(
        arm(SHORT),
        || arm(LONG),
        rustix::process::geteuid().is_root(),
    ));
}

/// Sets an alarm and takes it back by closing the file.
fn arm((stall, window): (u32, u32)) -> io::Result<()> {
    let mut file = OpenOptions::new().read(true).write(true).open(FILE)?;
    file.write_all(format!("some {stall} {window}\0").as_bytes())
}

fn alarm(short: io::Result<()>, long: impl Fn() -> io::Result<()>, root: bool) -> Check {
    let Err(refused) = short else {
        return Check::ok(SECTION, "pressure alarm", "a window of 1 s is accepted");
    };
    if long().is_ok() {
        let detail = format!(
            "a window of 1 s is refused ({refused}), one of 2 s is accepted: alarms come up to 0.1 s later"
        );
        let level = if root { Level::Warning } else { Level::Unknown };
        return Check::new(SECTION, "pressure alarm", level, detail)
            .fix("short windows need CAP_SYS_RESOURCE");
    }
    if !root {
        let detail = "whether alarms can be set is known only to root";
        return Check::new(SECTION, "pressure alarm", Level::Unknown, detail);
    }
    let detail = format!("refused ({refused}): memory pressure is seen by its level alone");
    Check::new(SECTION, "pressure alarm", Level::Warning, detail)
        .fix("give the container or unit CAP_SYS_RESOURCE")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_window_stands_in_for_a_short_one() {
        let denied = || Err(io::ErrorKind::PermissionDenied.into());
        assert_eq!(alarm(Ok(()), denied, true).level, Level::Ok);
        let long = alarm(denied(), || Ok(()), true);
        assert_eq!(long.level, Level::Warning);
        assert!(long.detail.contains("2 s is accepted"), "{}", long.detail);
        assert_eq!(alarm(denied(), denied, true).level, Level::Warning);
        assert_eq!(alarm(denied(), denied, false).level, Level::Unknown);
    }
}
