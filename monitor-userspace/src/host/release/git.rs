//! A checkout of git: the release is the commit.
//!
//! No hooks, no configuration but the repository's own, nothing fetched, nothing asked. git runs as the owner of the checkout.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::HostError;
use super::super::command::{Finished, Order, Runner};
use super::{cannot, ended, shortened};

/// Files in the repository that say that something is under way in it.
const UNDER_WAY: [(&str, &str); 8] = [
    ("index.lock", "another git works in it, or was killed there"),
    ("MERGE_HEAD", "a merge is under way"),
    ("rebase-merge", "a rebase is under way"),
    ("rebase-apply", "a rebase is under way"),
    ("CHERRY_PICK_HEAD", "a cherry-pick is under way"),
    ("REVERT_HEAD", "a revert is under way"),
    ("BISECT_LOG", "a bisection is under way"),
    ("sequencer", "a cherry-pick or revert is under way"),
];

/// A checkout.
pub(super) struct Git<'a> {
    runner: &'a Runner,
    path: &'a Path,
    limit: Duration,
    /// Whom it belongs to, where that is somebody else than the daemon.
    pub(super) user: Option<(u32, u32)>,
}

impl<'a> Git<'a> {
    /// Looks whether there is one.
    pub(super) fn open(
        runner: &'a Runner,
        path: &'a Path,
        limit: Duration,
    ) -> Result<Self, HostError> {
        let folder = std::fs::metadata(path).map_err(|error| cannot("read", path, &error))?;
        let inside = path.join(".git");
        let own = std::fs::symlink_metadata(&inside).map_err(|error| {
            let path = path.display();
            HostError::Release(format!("{path} is no checkout of git: its .git: {error}"))
        })?;
        if own.uid() != folder.uid() {
            return Err(HostError::Unfit(format!(
                "{} belongs to user {} and its .git to user {}: give both to one",
                path.display(),
                folder.uid(),
                own.uid()
            )));
        }
        let we = rustix::process::geteuid().as_raw();
        let user = (we == 0 && folder.uid() != 0).then_some((folder.uid(), folder.gid()));
        Ok(Self {
            runner,
            path,
            limit,
            user,
        })
    }

    fn run(&self, arguments: &[&str]) -> Result<Result<Finished, String>, HostError> {
        let path = self.path.display().to_string();
        let always = [
            "git",
            "--no-pager",
            "-C",
            &path,
            "-c",
            "core.hooksPath=/dev/null",
            "-c",
            "core.fsmonitor=false",
            "-c",
            "submodule.recurse=false",
        ];
        let words = always.iter().chain(arguments);
        let parent = self.path.parent().unwrap_or(self.path);
        let environment = [
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_OPTIONAL_LOCKS", "0"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_NO_LAZY_FETCH", "1"),
            // Not the repository that a damaged one lies in.
            ("GIT_CEILING_DIRECTORIES", &parent.display().to_string()),
            ("LC_ALL", "C"),
        ];
        let order = Order {
            command: words.map(|word| (*word).to_owned()).collect(),
            timeout: self.limit,
            user: self.user,
            environment: environment
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .to_vec(),
            ..Order::default()
        };
        ended(&order, self.runner.run(&order))
    }

    /// Runs git; what it wrote, in one line.
    fn ask(&self, arguments: &[&str]) -> Result<String, HostError> {
        match self.run(arguments)? {
            Ok(finished) => {
                let said = finished.output.to_string();
                Ok(said.strip_suffix("\\n").unwrap_or(&said).to_owned())
            }
            Err(why) => Err(HostError::Release(format!(
                "git {} in {}: {why}",
                arguments.join(" "),
                self.path.display()
            ))),
        }
    }

    /// The commit that is checked out.
    pub(super) fn commit(&self) -> Result<String, HostError> {
        self.ask(&["rev-parse", "--verify", "--quiet", "HEAD^{commit}"])
    }

    /// Refuses a checkout with something in it that is in no commit, or in the midst of something.
    pub(super) fn clean(&self) -> Result<(), HostError> {
        let unfit = |why: String| {
            let path = self.path.display();
            Err(HostError::Unfit(format!("the checkout {path} {why}")))
        };
        let inside = PathBuf::from(self.ask(&["rev-parse", "--absolute-git-dir"])?);
        for (name, why) in UNDER_WAY {
            if std::fs::symlink_metadata(inside.join(name)).is_ok() {
                return unfit(format!(
                    "is in use: {why} ({})",
                    inside.join(name).display()
                ));
            }
        }
        let changes = self.ask(&[
            "status",
            "--porcelain",
            "--untracked-files=no",
            "--ignore-submodules=none",
        ])?;
        if !changes.is_empty() {
            let files = shortened(&changes.replace("\\n", ","));
            return unfit(format!("has changes that are in no commit: {files}"));
        }
        Ok(())
    }

    /// Refuses a commit that is not there, or that would overwrite files that are in no commit, ignored ones too.
    pub(super) fn can_check_out(&self, commit: &str) -> Result<(), HostError> {
        let path = self.path.display();
        let there = format!("{commit}^{{commit}}");
        if let Err(why) = self.run(&["cat-file", "-e", &there])? {
            return Err(HostError::Unfit(format!(
                "commit {commit} is not in {path} any more (a shallow clone, or one that was cleaned up?): {why}"
            )));
        }
        let tree = ["read-tree", "--dry-run", "-m", "-u", "HEAD", commit];
        if let Err(why) = self.run(&tree)? {
            return Err(HostError::Unfit(format!(
                "commit {commit} cannot be checked out in {path}: {why}"
            )));
        }
        self.overwrites_nothing(commit)
    }

    /// git asks this of files that it does not ignore. Where there are too many to be told, the checkout itself finds it out.
    fn overwrites_nothing(&self, commit: &str) -> Result<(), HostError> {
        let options = [
            "diff",
            "--name-only",
            "--no-renames",
            "--diff-filter=A",
            "HEAD",
            commit,
        ];
        let added = self.ask(&options)?;
        let there = |name: &&str| std::fs::symlink_metadata(self.path.join(name)).is_ok();
        let mut added = added.split("\\n").filter(|name| !name.is_empty());
        match added.find(there) {
            Some(name) => Err(HostError::Unfit(format!(
                "commit {commit} would overwrite {name} in {}, which is in no commit now",
                self.path.display()
            ))),
            None => Ok(()),
        }
    }

    /// Checks a commit out, belonging to no branch.
    pub(super) fn check_out(&self, commit: &str) -> Result<(), HostError> {
        let arguments = [
            "checkout",
            "--quiet",
            "--no-overwrite-ignore",
            "--detach",
            commit,
        ];
        self.ask(&arguments)?;
        self.clean()
    }
}
