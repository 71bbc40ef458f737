//! A symbolic link to the folder of a release.

use std::os::unix::fs::{MetadataExt, lchown, symlink};
use std::path::{Path, PathBuf};

use super::super::HostError;
use super::{beside, cannot, put_in_place};
use crate::model::release::good_name;

/// A link that leads to a release.
pub(super) struct Link<'a> {
    path: &'a Path,
    /// The folder of all releases, with no link in it.
    releases: PathBuf,
    /// What stands in the link before the release's name.
    before: String,
    /// The release: its folder's path below that of all.
    pub(super) release: String,
}

impl<'a> Link<'a> {
    /// Follows the link; it must lead to a folder below that of all releases.
    pub(super) fn read(path: &'a Path, releases: &Path) -> Result<Self, HostError> {
        let found =
            std::fs::symlink_metadata(path).map_err(|error| cannot("read", path, &error))?;
        if !found.is_symlink() {
            return Err(HostError::Release(format!(
                "{} is no symbolic link: nothing says which release it is",
                path.display()
            )));
        }
        let text = std::fs::read_link(path).map_err(|error| cannot("read", path, &error))?;
        let real = |path: &Path| {
            let real = std::fs::canonicalize(path);
            real.map_err(|error| cannot("follow", path, &error))
        };
        let (releases, target) = (real(releases)?, real(path)?);
        let below = target.strip_prefix(&releases).ok();
        let release = below.and_then(Path::to_str).filter(|name| good_name(name));
        let Some(release) = release.filter(|_| target.is_dir()) else {
            return Err(HostError::Release(format!(
                "{} leads to {}, which is no folder below {}",
                path.display(),
                target.display(),
                releases.display()
            )));
        };
        let plain = text.to_str().and_then(|text| {
            let before = text.trim_end_matches('/').strip_suffix(release)?;
            (before.is_empty() || before.ends_with('/')).then(|| before.to_owned())
        });
        let before = plain.ok_or_else(|| {
            HostError::Release(format!(
                "{} says {}, and not the release's own name {release}: what to write for another one is not known",
                path.display(),
                text.display()
            ))
        })?;
        Ok(Self {
            path,
            before,
            release: release.to_owned(),
            releases,
        })
    }

    /// The folder of another release, which must be there, and no link to elsewhere.
    pub(super) fn leading_to(&self, release: &str) -> Result<PathBuf, HostError> {
        let folder = self.releases.join(release);
        let unfit = |why: &str| {
            let folder = folder.display();
            HostError::Unfit(format!("release {release} cannot be used: {folder} {why}"))
        };
        if !good_name(release) {
            return Err(unfit("is no name of a release"));
        }
        let real = std::fs::canonicalize(&folder).map_err(|error| unfit(&error.to_string()))?;
        if real != folder {
            return Err(unfit(&format!("leads to {}", real.display())));
        }
        if !real.is_dir() {
            return Err(unfit("is no folder"));
        }
        Ok(real)
    }

    /// Has the link lead to another release, from one moment to the next; its owner stays. Returns that release's folder.
    pub(super) fn lead_to(&self, from: &str, release: &str) -> Result<PathBuf, HostError> {
        let folder = self.leading_to(release)?;
        if self.release != from {
            return Err(HostError::Release(format!(
                "{} leads to {} by now, not to {from}",
                self.path.display(),
                self.release
            )));
        }
        let own = std::fs::symlink_metadata(self.path);
        let own = own.map_err(|error| cannot("read", self.path, &error))?;
        let ready = beside(self.path);
        let _left_by_an_earlier_run = std::fs::remove_file(&ready);
        symlink(format!("{}{release}", self.before), &ready)
            .and_then(|()| {
                let we = rustix::process::geteuid().as_raw();
                if own.uid() == we {
                    return Ok(());
                }
                lchown(&ready, Some(own.uid()), Some(own.gid()))
            })
            .map_err(|error| cannot("make", &ready, &error))?;
        put_in_place(&ready, self.path)?;
        Ok(folder)
    }
}
