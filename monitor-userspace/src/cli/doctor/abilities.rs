//! What of the actions can be done here.

use super::{Check, Level};
use crate::actions;
use crate::host::abilities;

const SECTION: &str = "actions";

pub(super) fn check(checks: &mut Vec<Check>) {
    let rows = actions::rows(&abilities::read());
    let able = rows.iter().filter(|row| row.unable.is_none()).count();
    let detail = format!(
        "{able} of {} actions can be done here; smart-monitor catalogue says which",
        rows.len()
    );
    // What is missing is mostly the software that an action is about. The daemon may have rights that this user has not.
    let level = if able == rows.len() || rustix::process::geteuid().is_root() {
        Level::Ok
    } else {
        Level::Unknown
    };
    checks.push(Check::new(SECTION, "able", level, detail));
}
