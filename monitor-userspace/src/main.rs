//! The `smart-monitor` command: parse, run.

use std::process::ExitCode;

fn main() -> ExitCode {
    smart_monitor::cli::main()
}
