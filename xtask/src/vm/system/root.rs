//! The file system of a machine with systemd: packages unpacked and never configured, since that would run their programs here, and on top
//! of them what a configured system has and the machine needs.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::Programs;
use crate::apt;
use crate::paths::Paths;
use crate::vm::initramfs::{Archive, FOLDER, LINK, PROGRAM, TEXT};
use crate::vm::kernels::Debian;
use crate::vm::packages::{from_mirrors, once};

/// What the scenes need, by its packages; with all that these need, 20 MB to download and 50 MB of memory.
const PACKAGES: [&str; 4] = ["systemd", "systemd-sysv", "dbus", "redis-server"];

/// Folders that packages take for granted.
const FOLDERS: [&str; 11] = [
    "dev",
    "proc",
    "sys",
    "run",
    "tmp",
    "root",
    "var/tmp",
    "var/log/redis",
    "var/lib/redis",
    "usr/local",
    "usr/local/bin",
];
/// Since Debian 12 these are links, which no package makes.
const MERGED: [&str; 4] = ["bin", "sbin", "lib", "lib64"];
/// Nobody reads them in the machine.
const LEFT_OUT: [&str; 6] = [
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/i18n",
    "usr/lib/systemd/catalog",
    "usr/lib/x86_64-linux-gnu/gconv",
];

/// What busybox stands in for.
const TOOLS: [&str; 8] = ["sh", "sleep", "cat", "kill", "touch", "mkdir", "rm", "echo"];

/// Units of an ordinary system that have nothing to do in the machine, or cannot.
const MASKED: [&str; 18] = [
    "dev-hugepages.mount",
    "getty.target",
    "ldconfig.service",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-debug.mount",
    "systemd-firstboot.service",
    "systemd-hwdb-update.service",
    "systemd-journal-catalog-update.service",
    "systemd-logind.service",
    "systemd-modules-load.service",
    "systemd-random-seed.service",
    "systemd-sysusers.service",
    "systemd-tmpfiles-clean.timer",
    "systemd-tmpfiles-setup.service",
    "systemd-tmpfiles-setup-dev.service",
    "systemd-tmpfiles-setup-dev-early.service",
    "systemd-update-done.service",
    "systemd-update-utmp.service",
];

const USERS: &str = "root:x:0:0:root:/root:/bin/sh
messagebus:x:100:100::/nonexistent:/usr/sbin/nologin
redis:x:101:101::/var/lib/redis:/usr/sbin/nologin
user:x:1000:1000::/tmp:/bin/sh
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
";
const GROUPS: &str = "root:x:0:
tty:x:5:
adm:x:4:
systemd-journal:x:102:
messagebus:x:100:
redis:x:101:
user:x:1000:
nogroup:x:65534:
";

/// The machine is over when the program is, however that ends.
const SCENES: &str = "[Unit]
Description=Scenes of Smart-Monitor
After=multi-user.target
SuccessAction=poweroff-immediate
FailureAction=poweroff-immediate

[Service]
Type=exec
ExecStart=/usr/local/bin/system-scenes --report /dev/ttyS1
EnvironmentFile=/etc/scenes.env
StandardOutput=append:/dev/ttyS0
StandardError=append:/dev/ttyS0
OOMScoreAdjust=-1000
";

/// Where systemd looks for what an administrator says of units.
const UNITS: &str = "etc/systemd/system";

/// The archive of what the packages hold; made once.
pub(super) fn base(paths: &Paths, debian: &Debian) -> Result<PathBuf> {
    let suite = debian.suite;
    let folder = paths.vm().join("systems").join(suite);
    once(&folder, |partial| {
        let whole = partial.join("whole");
        from_mirrors(paths, suite, |state| {
            if whole.exists() {
                fs::remove_dir_all(&whole)?;
            }
            println!("  downloading {} of suite {suite}", PACKAGES.join(" "));
            for name in MERGED {
                fs::create_dir_all(whole.join("usr").join(name))?;
                std::os::unix::fs::symlink(format!("usr/{name}"), whole.join(name))?;
            }
            for package in state.download_whole(&PACKAGES)? {
                // A package of the time before would put a folder in the place of the link.
                apt::unpack(&package, &whole, &["--keep-directory-symlink"])?;
            }
            Ok(())
        })?;
        let mut archive = Archive::default();
        add(&mut archive, &whole, &whole)?;
        fs::write(partial.join("archive"), archive.end())?;
        Ok(fs::remove_dir_all(whole)?)
    })?;
    Ok(folder.join("archive"))
}

/// Adds all that is in a folder, the names in their order, so that the same packages make the same archive.
fn add(archive: &mut Archive, root: &Path, folder: &Path) -> Result<()> {
    let mut entries = fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let name = path.strip_prefix(root)?.to_string_lossy().into_owned();
        if LEFT_OUT.contains(&name.as_str()) {
            continue;
        }
        let about = entry.metadata()?;
        let rights = about.permissions().mode() & 0o7777;
        if about.is_dir() {
            archive.add(&name, FOLDER & !0o777 | rights, &[]);
            add(archive, root, &path)?;
        } else if about.is_symlink() {
            archive.add(&name, LINK, fs::read_link(&path)?.as_os_str().as_bytes());
        } else {
            let bytes =
                fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            archive.add(&name, TEXT & !0o777 | rights, &bytes);
        }
    }
    Ok(())
}

/// Writes the file system of one boot: the packages, and over them what is ours.
pub(super) fn write(
    to: &Path,
    base: &Path,
    busybox: &Path,
    programs: &Programs,
    only: Option<&str>,
) -> Result<()> {
    let read =
        |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let mut archive = Archive::default();
    for folder in FOLDERS {
        archive.add(folder, FOLDER, &[]);
    }
    // Made by no package, but when it is configured; libraries look for the bus by this way.
    archive.add("var/run", LINK, b"/run");
    archive.console();
    archive.add("usr/bin/busybox", PROGRAM, &read(busybox)?);
    for tool in TOOLS {
        archive.add(&format!("usr/bin/{tool}"), LINK, b"busybox");
    }
    archive.add(
        "usr/local/bin/smart-monitor",
        PROGRAM,
        &read(&programs.daemon)?,
    );
    archive.add(
        "usr/local/bin/system-scenes",
        PROGRAM,
        &read(&programs.scenes)?,
    );
    for (name, text) in [
        ("passwd", USERS),
        ("group", GROUPS),
        ("hostname", "machine\n"),
        ("hosts", "127.0.0.1 localhost machine\n"),
        ("machine-id", "5a6b0d9a4f6e4d0f8c3c1f2b7e9d4a10\n"),
    ] {
        archive.add(&format!("etc/{name}"), TEXT, text.as_bytes());
    }
    let only = format!("SYSTEM_SCENE={}\n", only.unwrap_or_default());
    archive.add("etc/scenes.env", TEXT, only.as_bytes());
    for folder in ["etc/smart-monitor", "etc/systemd", UNITS] {
        archive.add(folder, FOLDER, &[]);
    }
    for unit in MASKED {
        archive.add(&format!("{UNITS}/{unit}"), LINK, b"/dev/null");
    }
    let target = b"/usr/lib/systemd/system/multi-user.target";
    archive.add(&format!("{UNITS}/default.target"), LINK, target);
    archive.add(
        &format!("{UNITS}/smart-monitor.service"),
        TEXT,
        &read(&programs.unit)?,
    );
    archive.add(&format!("{UNITS}/scenes.service"), TEXT, SCENES.as_bytes());
    let wanted = format!("{UNITS}/multi-user.target.wants");
    archive.add(&wanted, FOLDER, &[]);
    archive.add(
        &format!("{wanted}/scenes.service"),
        LINK,
        b"../scenes.service",
    );
    let mut file = File::create(to).with_context(|| format!("cannot write {}", to.display()))?;
    file.write_all(&read(base)?)?;
    Ok(file.write_all(&archive.end())?)
}
