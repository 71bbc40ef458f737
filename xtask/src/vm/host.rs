//! The same program on the running kernel.

use std::path::Path;

use anyhow::{Result, anyhow};

use super::report::Report;
use crate::process::{capture_within, command};
use crate::rights::{self, Rights};

/// Many times what it takes.
const LIMIT: std::time::Duration = std::time::Duration::from_mins(5);

pub(super) fn run(program: &Path) -> Result<Report> {
    let rights =
        rights::available()?.ok_or_else(|| anyhow!("it needs root, and there is no sudo here"))?;
    let mut command = match rights {
        Rights::Root => command(program),
        Rights::Sudo(sudo) => {
            let mut raised = command(sudo);
            raised.arg("--").arg(program);
            raised
        }
    };
    command.env("RUST_BACKTRACE", "0");
    Report::parse(&capture_within(&mut command, LIMIT)?)
}
