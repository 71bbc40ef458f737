//! The distribution's packages, fetched with an apt state of their own and unpacked, never installed: the system's package
//! lists and installed packages stay as they are, and no root is needed. Signatures are always checked.

mod sources;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, anyhow, bail};

pub(crate) use self::sources::Mirror;
use crate::process::{capture, command};

/// Debian's main archives that this machine's own apt sources name; an error where there is none.
pub(crate) fn mirrors() -> Result<Vec<Mirror>> {
    capture(command("apt-get").arg("--version"))
        .map_err(|error| anyhow!("{error}: only Debian's packages are known here"))?;
    let mirrors = sources::of_machine(Path::new("/etc/apt"));
    if mirrors.is_empty() {
        bail!("no package source of Debian's main archive in this machine's apt configuration");
    }
    Ok(mirrors)
}

/// The suite this machine was installed from.
pub(crate) fn own_suite() -> Result<String> {
    sources::own_suite().context("/etc/os-release names no VERSION_CODENAME")
}

/// What an error may be told with, where its text says that a suite's key is unknown here.
pub(crate) fn advice(reasons: &str) -> &'static str {
    if reasons.contains("NO_PUBKEY") {
        "\n    (a newer `debian-archive-keyring` package holds the keys of newer suites)"
    } else {
        ""
    }
}

/// An apt state of its own, with the package lists of one suite. Its folder holds nothing else, and goes away when it is dropped:
/// the lists are tens of megabytes.
#[derive(Debug)]
pub(crate) struct State {
    folder: PathBuf,
}

impl State {
    /// A fresh one in this folder.
    pub(crate) fn of(folder: &Path, mirror: &Mirror, suite: &str) -> Result<Self> {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        for inner in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(folder.join(inner))?;
        }
        let state = Self {
            folder: folder.to_owned(),
        };
        fs::write(folder.join("status"), "")?;
        fs::write(folder.join("sources.list"), mirror.line(suite))?;
        fs::write(folder.join("apt.conf"), configuration(folder))?;
        capture(state.apt("apt-get").arg("update"))?;
        Ok(state)
    }

    /// What `apt-cache madison` says of a package: its versions.
    pub(crate) fn versions(&self, package: &str) -> Result<String> {
        capture(self.apt("apt-cache").args(["madison", package]))
    }

    /// Names of the packages that this one needs, alternatives included.
    pub(crate) fn depends(&self, package: &str) -> Result<Vec<String>> {
        let mut depends = self.apt("apt-cache");
        depends.args(["depends", "--important", package]);
        let listed = capture(&mut depends)?;
        let name = |line: &str| {
            Some(
                line.trim()
                    .trim_start_matches('|')
                    .split_once("Depends: ")?
                    .1
                    .to_owned(),
            )
        };
        Ok(listed.lines().filter_map(name).collect())
    }

    /// Downloads packages, `name` or `name=version` each; where they are.
    pub(crate) fn download(&self, packages: &[String]) -> Result<Vec<PathBuf>> {
        capture(self.apt("apt-get").arg("download").args(packages))?;
        let found = debs(&self.folder)?;
        if found.is_empty() {
            bail!("apt-get download left no package");
        }
        Ok(found)
    }

    /// Downloads a package and all it needs that this machine does not have; where they are.
    pub(crate) fn download_missing(&self, package: &str) -> Result<Vec<PathBuf>> {
        let found = self.download_needed(&[package], Path::new("/var/lib/dpkg/status"))?;
        if found.is_empty() {
            bail!(
                "apt-get has nothing to download for {package}: is it installed, and not on PATH?"
            );
        }
        Ok(found)
    }

    /// Downloads packages and all that they need, as for a system that has nothing; where they are.
    pub(crate) fn download_whole(&self, packages: &[&str]) -> Result<Vec<PathBuf>> {
        let found = self.download_needed(packages, &self.folder.join("status"))?;
        if found.is_empty() {
            bail!("apt-get left no package of {}", packages.join(" "));
        }
        Ok(found)
    }

    /// `status`: what dpkg says is installed.
    fn download_needed(&self, packages: &[&str], status: &Path) -> Result<Vec<PathBuf>> {
        let mut install = self.apt("apt-get");
        install
            .args([
                "install",
                "--download-only",
                "--no-install-recommends",
                "--yes",
            ])
            .arg("-o")
            .arg(format!("Dir::State::status={}", status.display()))
            .args(["-o", "Debug::NoLocking=1"])
            .args(packages);
        capture(&mut install)?;
        debs(&self.folder.join("cache/archives"))
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = command(program);
        command
            .arg("-q")
            .arg("-c")
            .arg(self.folder.join("apt.conf"))
            .current_dir(&self.folder)
            .env("LC_ALL", "C.UTF-8");
        command
    }
}

impl Drop for State {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            println!("apt: {} is left behind: {error}", self.folder.display());
        }
    }
}

fn debs(folder: &Path) -> Result<Vec<PathBuf>> {
    let is_package = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "deb");
    Ok(fs::read_dir(folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(is_package)
        .collect())
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

/// Unpacks a package into a folder that is there: its whole tree, or what `tar` is told with these arguments.
pub(crate) fn unpack(package: &Path, into: &Path, only: &[&str]) -> Result<()> {
    let mut stream = command("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(package)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start dpkg-deb, which unpacks the package")?;
    let tar = stream.stdout.take().context("dpkg-deb has no output")?;
    let unpacked = command("tar")
        .args(["-x", "--no-same-owner", "-C"])
        .arg(into)
        .args(only)
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
    Ok(())
}
