//! The `smart-monitor` command: parse, build, run.

fn main() {}
