//! Requests to a disk: a loop device over a file.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use monitor_common::Event;
use smart_monitor::kernel::Kernel;

use crate::stage::Stage;

/// Bytes of the disk.
const SIZE: u64 = 1 << 20;

/// A loop device is read.
pub(super) fn block_io(stage: &mut Stage) -> Result<()> {
    let read = |_: &mut Kernel| {
        let path = std::env::temp_dir().join(format!("kernel-matrix-{}", std::process::id()));
        File::create(&path)
            .and_then(|file| file.set_len(SIZE))
            .context("the disk's file")?;
        let device = run("losetup", &["-f".as_ref()])?;
        let device = Path::new(device.trim());
        run("losetup", &[device.as_ref(), path.as_ref()])?;
        let read = File::open(device).and_then(|mut disk| disk.read_exact(&mut [0; 4096]));
        run("losetup", &["-d".as_ref(), device.as_ref()])?;
        std::fs::remove_file(&path)?;
        read.context("the disk is read")?;
        let name = device.file_name().context("a device without a name")?;
        Ok(name.to_string_lossy().into_owned())
    };
    stage.see(
        read,
        |name, event| matches!(event, Event::BlockIo(request) if request.disk() == name),
    )
}

/// A program that must succeed; what it wrote.
fn run(program: &str, arguments: &[&OsStr]) -> Result<String> {
    let output = smart_monitor_tests::program(program)
        .args(arguments)
        .output();
    let output = output.with_context(|| format!("cannot start {program}"))?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} failed: {told}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
