//! `[[folder]]`: folders in which files may be deleted, and how full their file system may become. What would be a catastrophe by a slip
//! of the pen is refused here; what only the host knows (links, mounts) is refused where files are deleted.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

use super::resolve::Mistakes;
use super::response::RawHealer;
use super::units::{Bytes, Percent, Span};
use super::{Config, paths};
use crate::model::Folder;
use crate::model::pattern::{Syntax, has_literal};

/// Most patterns of a folder, and bytes of one.
const PATTERNS: usize = 64;
const PATTERN: usize = 256;

/// Nothing is deleted in these, whatever the patterns; below them it may be, but in places of the system.
const NEVER: &[&str] = &[
    "/", "/home", "/mnt", "/media", "/opt", "/root", "/run", "/srv", "/var", "/var/lib", "/var/run",
];
/// As it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Raw {
    /// Its name: in listings and remedies.
    pub name: Spanned<String>,
    /// Where it is.
    pub path: Spanned<PathBuf>,
    /// Names of files that may be deleted in it: `*`, `?` and `[a-z]` stand for what they do in a shell. Names with a dot at their
    /// beginning only match patterns that have one.
    #[serde(rename = "match")]
    pub patterns: Spanned<Vec<String>>,
    /// Only files that were not written to for so long.
    #[serde(default)]
    pub older_than: Span,
    /// So many of the newest that match stay.
    #[serde(default)]
    pub keep_newest: u32,
    /// Bytes that the matching files may keep.
    pub shrink_to: Option<Bytes>,
    /// Look into the folders inside, too.
    #[serde(default)]
    pub recursive: bool,
    /// Delete files that have another name elsewhere, too: that frees no space.
    #[serde(default)]
    pub hard_links: bool,
    /// Share of its file system's bytes from which it is full.
    #[serde(default = "full")]
    pub full: Spanned<Percent>,
    /// The same, of its inodes.
    #[serde(default = "full")]
    pub inodes: Spanned<Percent>,
    /// Only say what would have been done to it.
    #[serde(default)]
    pub dry_run: bool,
    /// Who else cleans it.
    pub healer: Option<RawHealer>,
}

fn full() -> Spanned<Percent> {
    Spanned::new(0..0, Percent(90.0))
}

/// Takes one.
pub(super) fn folder(raw: &Raw, config: &mut Config, mistakes: &mut Mistakes) {
    let path = raw.path.get_ref();
    let own = [Some(&config.daemon.state_dir), config.file.as_ref()];
    if let Err(why) = place(path, own.into_iter().flatten()) {
        let help = "name the one folder whose files pile up, such as \"/var/log/shop\"".to_owned();
        mistakes.add(&raw.path, why, Some(help));
    }
    patterns(raw, mistakes);
    let share = |percent: &Spanned<Percent>, mistakes: &mut Mistakes| {
        let Percent(value) = *percent.get_ref();
        if !(5.0..=100.0).contains(&value) {
            mistakes.add(percent, "it must be 5% to 100%".to_owned(), None);
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is 0 to 10000 by then"
        )]
        let hundredths = (value.clamp(0.0, 100.0) * 100.0).round() as u32;
        hundredths
    };
    config.folders.push(Folder {
        name: raw.name.get_ref().clone(),
        path: path.clone(),
        patterns: raw.patterns.get_ref().clone(),
        older_than: raw.older_than.0,
        keep_newest: raw.keep_newest,
        shrink_to: raw.shrink_to.map(|size| size.0),
        recursive: raw.recursive,
        hard_links: raw.hard_links,
        full: share(&raw.full, mistakes),
        inodes: share(&raw.inodes, mistakes),
    });
}

/// Whether files may be deleted there at all.
fn place<'a>(path: &Path, own: impl Iterator<Item = &'a PathBuf>) -> Result<(), String> {
    let shown = path.display();
    if !paths::is_plain(path) {
        return Err(format!(
            "`{shown}` is no plain absolute path: it must begin with `/`, without `.`, `..`, `//` or a `/` at its end"
        ));
    }
    if NEVER.iter().any(|root| path == Path::new(root)) || paths::is_system(path) {
        return Err(format!("nothing is ever deleted in `{shown}`"));
    }
    for own in own {
        let own = std::path::absolute(own).unwrap_or_else(|_| own.clone());
        // Nor inside: what is in the state folder is ours alone.
        let inside = path.starts_with(&own);
        if own.starts_with(path) || inside {
            return Err(format!(
                "`{shown}` holds, or is in, {}, which Smart-Monitor itself needs",
                own.display()
            ));
        }
    }
    Ok(())
}

fn patterns(raw: &Raw, mistakes: &mut Mistakes) {
    let all = raw.patterns.get_ref();
    let mut wrong = |why: String| {
        let help = "for example `match = [\"*.log.*\", \"core.*\"]`".to_owned();
        mistakes.add(&raw.patterns, why, Some(help));
    };
    if all.is_empty() || all.len() > PATTERNS {
        wrong(format!("`match` needs 1 to {PATTERNS} patterns"));
    }
    for pattern in all {
        if pattern.is_empty() || pattern.len() > PATTERN || pattern.contains(['/', '\0']) {
            wrong(format!(
                "`{pattern}` matches no file's name: it must have 1 to {PATTERN} bytes, and no `/`"
            ));
        }
        let literal = has_literal(pattern, Syntax::Files);
        if literal.is_none() {
            wrong(format!("a `[` in `{pattern}` has no `]` after it"));
        }
        if literal == Some(false) && raw.recursive && raw.older_than.0.is_zero() {
            wrong(format!(
                "`{pattern}` with `recursive = true` and no `older_than` would delete everything"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(lines: &str) -> Option<String> {
        let text = format!("[[folder]]\nname = \"logs\"\n{lines}\n");
        let parsed = Config::parse(&text, Path::new("/etc/smart-monitor/smart-monitor.toml"));
        parsed.err().map(|error| error.to_string())
    }

    #[test]
    fn places_where_a_slip_would_be_a_catastrophe_are_refused() {
        for path in [
            "/",
            "/etc",
            "/etc/nginx",
            "/usr",
            "/usr/share/doc",
            "/bin",
            "/lib",
            "/lib64",
            "/boot",
            "/home",
            "/var",
            "/var/lib",
            "/proc/self",
            "/usr/local",
            "/usr/local/bin",
            "/nix/store",
            "/snap/core",
            "/root",
            "/root/.ssh",
            "/home/shop/.ssh/old",
            "/var/lib/dpkg/info",
            "/var/lib/docker/containers",
            "/var/lib/containerd",
            "/var/lib/kubelet/pods",
            "logs",
            "./logs",
            "/var/log/../lib",
            "/var//log",
            "/var/log/",
            "/var/lib/smart-monitor",
            "/var/log/.",
        ] {
            let said = error(&format!("path = \"{path}\"\nmatch = [\"*.log\"]"));
            assert!(said.is_some(), "{path}");
        }
        for path in [
            "/var/log",
            "/var/lib/shop",
            "/home/shop/logs",
            "/root/dumps",
            "/libs",
        ] {
            assert_eq!(
                error(&format!("path = \"{path}\"\nmatch = [\"*.log\"]")),
                None
            );
        }
        let state =
            "match = [\"*\"]\npath = \"/srv/own\"\n[daemon]\nstate_dir = \"/srv/own/state\"";
        let said = error(state).expect("it holds the state folder");
        assert!(said.contains("/srv/own/state"), "{said}");
    }

    #[test]
    fn patterns_that_say_nothing_or_everything_are_refused() {
        let at = "path = \"/var/log/shop\"";
        for wrong in [
            "match = []",
            "match = [\"a/b\"]",
            "match = [\"\"]",
            "match = [\"*\"]\nrecursive = true",
            "match = [\"[!a]*\", \"a*\"]\nrecursive = true",
            "match = [\"[^~]*\"]\nrecursive = true",
            "match = [\"[\"]",
            "",
        ] {
            assert!(error(&format!("{at}\n{wrong}")).is_some(), "{wrong}");
        }
        for good in [
            "match = [\"*\"]",
            "match = [\"*\"]\nrecursive = true\nolder_than = \"24h\"",
        ] {
            assert_eq!(error(&format!("{at}\n{good}")), None);
        }
        assert!(error(&format!("{at}\nmatch = [\"a*\"]\nfull = \"3%\"")).is_some());
        assert!(error(&format!("{at}\nmatch = [\"a*\"]\nfull = \"101%\"")).is_some());
    }

    #[test]
    fn a_folder_has_the_name_of_no_other_subject() {
        let text = "path = \"/var/log/shop\"\nmatch = [\"*.1\"]\n[[process]]\nname = \"logs\"\ncomm = [\"x\"]";
        let said = error(text).expect("the name is used twice");
        assert!(said.contains("used twice"), "{said}");
    }
}
