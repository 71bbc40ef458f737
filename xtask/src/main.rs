//! `cargo xtask`: a file per subcommand.

fn main() {}
