//! Places of this host that no configuration may have written to or deleted in: a slip of the pen there would be a catastrophe.

use std::path::{Component, Path, PathBuf};

/// What the system is made of, or what another program alone may change: with all below.
const SYSTEM: &[&str] = &[
    "/bin",
    "/boot",
    "/dev",
    "/efi",
    "/etc",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/nix",
    "/proc",
    "/sbin",
    "/snap",
    "/sys",
    "/usr",
    "/var/lib/containerd",
    "/var/lib/containers",
    "/var/lib/docker",
    "/var/lib/dpkg",
    "/var/lib/kubelet",
    "/var/lib/rpm",
    "/var/lib/snapd",
];

/// Whether it is below a folder of the system, or one itself, or has keys to log in with.
pub(super) fn is_system(path: &Path) -> bool {
    has_keys(path) || path == Path::new("/") || SYSTEM.iter().any(|root| path.starts_with(root))
}

/// Whether it has keys to log in with.
pub(super) fn has_keys(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == ".ssh")
}

/// Whether it is absolute, without `.`, `..`, `//` or a `/` at its end.
pub(super) fn is_plain(path: &Path) -> bool {
    let plain = |part: Component<'_>| matches!(part, Component::RootDir | Component::Normal(_));
    // `components` takes `.` and `//` away.
    let rebuilt: PathBuf = path.components().collect();
    path.is_absolute() && path.components().all(plain) && rebuilt.as_os_str() == path.as_os_str()
}
