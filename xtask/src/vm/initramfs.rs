//! The machine's file system: a cpio archive of the format `newc`, which the kernel unpacks into memory.
//!
//! Written here, so that no tool is needed and no right to make device nodes.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

const FOLDERS: [&str; 8] = ["bin", "dev", "modules", "proc", "root", "sys", "tmp", "var"];

/// Modules are loaded in the order of their names. The report goes to the second serial line, where no message of the kernel's can come
/// between.
const INIT: &str = r#"#!/bin/busybox sh
export PATH=/bin RUST_BACKTRACE=0
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /tmp
mount -t tracefs tracefs /sys/kernel/tracing
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir /tmp/v1
mount -t cgroup -o none,name=v1 cgroup /tmp/v1
echo "+memory +cpu" >/sys/fs/cgroup/cgroup.subtree_control
ip link set lo up
for module in /modules/*; do
    case $module in
    *.xz) unxz -c "$module" >/tmp/module.ko && insmod /tmp/module.ko ;;
    *) insmod "$module" ;;
    esac || echo "init: $module does not load"
done
stty -F /dev/ttyS1 raw
kernel-matrix --may-oom --report /dev/ttyS1
echo "init: kernel-matrix ended with $?"
poweroff -f
"#;

pub(super) const FOLDER: u32 = 0o040_755;
pub(super) const PROGRAM: u32 = 0o100_755;
pub(super) const TEXT: u32 = 0o100_644;
pub(super) const LINK: u32 = 0o120_777;
const DEVICE: u32 = 0o020_600;
/// What the kernel gives the init as its output, before anything is mounted.
const CONSOLE: (u32, u32) = (5, 1);

/// Writes the archive.
pub(super) fn write(to: &Path, busybox: &Path, program: &Path, modules: &[PathBuf]) -> Result<()> {
    let mut archive = Archive::default();
    for folder in FOLDERS {
        archive.add(folder, FOLDER, &[]);
    }
    archive.console();
    archive.add("init", PROGRAM, INIT.as_bytes());
    let read =
        |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    archive.add("bin/busybox", PROGRAM, &read(busybox)?);
    archive.add("bin/kernel-matrix", PROGRAM, &read(program)?);
    for module in modules {
        let name = module.file_name().unwrap_or_default().to_string_lossy();
        archive.add(&format!("modules/{name}"), PROGRAM, &read(module)?);
    }
    fs::File::create(to)
        .and_then(|mut file| file.write_all(&archive.end()))
        .with_context(|| format!("cannot write {}", to.display()))
}

/// Files of an archive, all of them root's.
#[derive(Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    inode: u32,
}

impl Archive {
    /// A folder, a file, or a link, whose contents are where it leads.
    pub(super) fn add(&mut self, name: &str, mode: u32, contents: &[u8]) {
        self.put(name, mode, (0, 0), contents);
    }

    pub(super) fn console(&mut self) {
        self.put("dev/console", DEVICE, CONSOLE, &[]);
    }

    /// A header of 13 numbers of 8 hexadecimal digits, the name, the contents; each begins at a multiple of 4. See
    /// `Documentation/driver-api/early-userspace/buffer-format.rst` of the kernel.
    fn put(&mut self, name: &str, mode: u32, device: (u32, u32), contents: &[u8]) {
        self.inode += 1;
        let size = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        let (major, minor) = device;
        let fields = [
            self.inode,
            mode,
            0,
            0,
            1,
            0,
            size(contents.len()),
            0,
            0,
            major,
            minor,
            size(name.len() + 1),
            0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes
                .extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(contents);
        self.pad();
    }

    fn pad(&mut self) {
        let length = self.bytes.len().next_multiple_of(4);
        self.bytes.resize(length, 0);
    }

    /// The archive. Another may follow it, and be unpacked over it.
    pub(super) fn end(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, &[]);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_as_the_kernel_reads_it() {
        let mut archive = Archive::default();
        archive.add("a", PROGRAM, b"hello");
        let bytes = archive.end();
        let text = String::from_utf8(bytes).unwrap();
        let header = "07070100000001000081ED0000000000000000000000010000000000000005 00000000 00000000 00000000 00000000 00000002 00000000";
        assert!(text.starts_with(&header.replace(' ', "")), "{text}");
        assert_eq!(text.get(110..126), Some("a\0hello\0\0\x00070701"));
        assert!(text.contains("TRAILER!!!\0"));
        assert_eq!(text.len() % 4, 0);
    }
}
