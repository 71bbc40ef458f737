//! The distribution's `rust-src` package, fetched with an apt state of its own: the system's package lists and
//! installed packages stay as they are, and no root is needed. Signatures are always checked.

mod sources;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, anyhow, bail};

use self::sources::Mirror;
use crate::process::{capture, command};

/// Suites that may hold the right version, the likeliest first; the machine's own suite is mostly far too old.
/// forky has 1.97 and keeps it once it is released.
const SUITES: [&str; 4] = ["forky", "testing", "unstable", "experimental"];

/// Unpacks the `library` folder of Rust 1.`minor` into `into`.
pub(super) fn rust_src(folder: &Path, minor: u32, into: &Path) -> Result<()> {
    capture(command("apt-get").arg("--version"))
        .map_err(|error| anyhow!("{error}: only Debian's packages are known here"))?;
    let mirrors = sources::of_machine(Path::new("/etc/apt"));
    if mirrors.is_empty() {
        bail!("no package source of Debian's main archive in this machine's apt configuration");
    }
    let mut reasons = String::new();
    for mirror in &mirrors {
        for suite in SUITES {
            match fetch(&folder.join("apt"), mirror, suite, minor) {
                Ok(package) => return unpack(&package, minor, into),
                Err(error) => write!(reasons, "\n    {suite}: {error:#}")?,
            }
        }
    }
    let advice = if reasons.contains("NO_PUBKEY") {
        "\n    (a newer `debian-archive-keyring` package holds the keys of newer suites)"
    } else {
        ""
    };
    bail!("no suite of this machine's mirror has rust-src 1.{minor}:{reasons}{advice}")
}

/// The downloaded package.
fn fetch(state: &Path, mirror: &Mirror, suite: &str, minor: u32) -> Result<PathBuf> {
    if state.exists() {
        fs::remove_dir_all(state)?;
    }
    for folder in ["lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(state.join(folder))?;
    }
    fs::write(state.join("status"), "")?;
    fs::write(state.join("sources.list"), mirror.line(suite))?;
    fs::write(state.join("apt.conf"), configuration(state))?;
    capture(apt(state, "apt-get").arg("update"))?;
    let versions = capture(apt(state, "apt-cache").args(["madison", "rust-src"]))?;
    let version = pick(&versions, minor).with_context(|| match versions.split('|').nth(1) {
        Some(other) => format!("its rust-src is {}", other.trim()),
        None => "it has no rust-src".to_owned(),
    })?;
    println!("setup: rust-src: downloading {version} from suite {suite} (46 MB)");
    capture(
        apt(state, "apt-get")
            .arg("download")
            .arg(format!("rust-src={version}")),
    )?;
    let is_package = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "deb");
    fs::read_dir(state)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(is_package)
        .context("apt-get download left no package")
}

fn apt(state: &Path, program: &str) -> Command {
    let mut command = command(program);
    command
        .arg("-q")
        .arg("-c")
        .arg(state.join("apt.conf"))
        .current_dir(state)
        .env("LC_ALL", "C.UTF-8");
    command
}

/// Read after the machine's own configuration, whose proxies stay in force.
fn configuration(state: &Path) -> String {
    let state = state.display();
    format!(
        r#"Dir::Etc::sourcelist "{state}/sources.list";
Dir::Etc::sourceparts "-";
Dir::State "{state}";
Dir::State::status "{state}/status";
Dir::Cache "{state}/cache";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowWeakRepositories "false";
APT::Get::AllowUnauthenticated "false";
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
"#
    )
}

/// The version of the wanted minor, from `apt-cache madison`: `rust-src | 1.97.1+dfsg1-1 | mirror suite/main ...`.
fn pick(madison: &str, minor: u32) -> Option<&str> {
    let wanted = format!("1.{minor}.");
    madison
        .lines()
        .filter_map(|line| line.split('|').nth(1))
        .map(str::trim)
        .find(|version| version.starts_with(&wanted))
}

/// Only `library` is unpacked: the whole package is 450 MB.
fn unpack(package: &Path, minor: u32, into: &Path) -> Result<()> {
    let partial = into.with_extension("partial");
    for folder in [&partial, into] {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
    }
    fs::create_dir_all(&partial)?;
    let mut stream = command("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(package)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start dpkg-deb, which unpacks the package")?;
    let tar = stream.stdout.take().context("dpkg-deb has no output")?;
    let unpacked = command("tar")
        .args([
            "-x",
            "--no-same-owner",
            "--strip-components=4",
            "--wildcards",
            "-C",
        ])
        .arg(&partial)
        .arg("./usr/src/rustc-*/library")
        .stdin(tar)
        .status()
        .context("cannot start tar, which unpacks the package")?;
    let read = stream.wait()?;
    if !(unpacked.success() && read.success()) {
        bail!(
            "cannot unpack {}: dpkg-deb {read}, tar {unpacked}",
            package.display()
        );
    }
    fs::write(partial.join("minor"), minor.to_string())?;
    fs::rename(&partial, into)?;
    // The lists and the package are 65 MB, and of no more use.
    if let Some(state) = package.parent() {
        fs::remove_dir_all(state)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn picks_the_minor_version() {
        let text = " rust-src | 1.98.0+dfsg1-1 | http://mirror.example/debian sid/main amd64 Packages\n \
                    rust-src | 1.97.1+dfsg1-1 | http://mirror.example/debian forky/main amd64 Packages\n";
        assert_eq!(pick(text, 97), Some("1.97.1+dfsg1-1"));
        assert_eq!(pick(text, 9), None);
        assert_eq!(pick("", 97), None);
    }
}
