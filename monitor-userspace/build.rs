//! Embeds the kernel programs that `cargo xtask build` left under the target folder.
//!
//! Without them (a plain `cargo build` on a machine with no eBPF toolchain) the binary still builds; it then says at
//! start that it holds no kernel programs, and how to build them.

use std::path::{Path, PathBuf};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default());
    // target/[triple/]profile/build/package-hash/out: the target folder is one of the ancestors.
    let object = out
        .ancestors()
        .map(|up| up.join("ebpf/smart-monitor.bpf.o"));
    let found = object.clone().find(|path| path.is_file());
    let embedded = out.join("smart-monitor.bpf.o");
    match found {
        Some(path) => {
            println!("cargo:rerun-if-changed={}", path.display());
            embed(&embedded, std::fs::read(&path));
        }
        None => embed(&embedded, Ok(Vec::new())),
    }
}

fn embed(into: &Path, bytes: std::io::Result<Vec<u8>>) {
    if let Err(error) = bytes.and_then(|bytes| std::fs::write(into, bytes)) {
        println!("cargo:warning=cannot embed the kernel programs: {error}");
        std::process::exit(1);
    }
}
