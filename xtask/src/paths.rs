//! Where things are: the repository and the target folder that cargo uses.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

#[derive(Debug)]
pub(crate) struct Paths {
    pub(crate) repo: PathBuf,
    pub(crate) target: PathBuf,
}

impl Paths {
    pub(crate) fn find() -> Result<Self> {
        // Cargo says at run time where the manifest is; the compiled-in place is stale once the checkout has moved.
        let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let repo = manifest
            .parent()
            .context("xtask lies at the root of the file system")?
            .to_owned();
        let exe = std::env::current_exe().context("cannot tell where xtask itself is")?;
        let target = target_of(&exe).unwrap_or_else(|| repo.join("target"));
        Ok(Self { repo, target })
    }

    /// Private tools: bpf-linker, cargo-deny.
    pub(crate) fn tools(&self) -> PathBuf {
        self.target.join("tools")
    }

    /// What `setup` makes besides the tools.
    pub(crate) fn toolchain(&self) -> PathBuf {
        self.target.join("ebpf-toolchain")
    }

    /// What `vm` downloads and writes: kernels, an emulator where the system has none, logs.
    pub(crate) fn vm(&self) -> PathBuf {
        self.target.join("vm")
    }

    /// The object that monitor-userspace's build script embeds.
    pub(crate) fn object(&self) -> PathBuf {
        self.target.join("ebpf").join("smart-monitor.bpf.o")
    }
}

/// The target folder this program was built into. That respects `CARGO_TARGET_DIR`, `--target-dir` and configuration
/// files alike, without asking `cargo metadata` (0.1 s a call).
fn target_of(exe: &Path) -> Option<PathBuf> {
    exe.ancestors()
        .skip(1)
        .find(|up| up.join("CACHEDIR.TAG").is_file())
        .map(Path::to_owned)
}
