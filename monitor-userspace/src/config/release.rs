//! `[service.release]`: where the releases of a service are, and what is asked before one is rolled back.

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::paths;
use super::resolve::Mistakes;
use super::units::Span;
use crate::model::Releases;
use crate::model::release::Source;

/// The longest that a command of it may take: an act that takes longer counts as one that hangs.
const LONGEST: Duration = Duration::from_mins(10);

/// Folders of the system in which folders of a service's own may be.
const OWN: [&str; 2] = ["/etc", "/usr/local"];

/// As it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Raw {
    /// `git`, `symlink`, `container` or `command`.
    pub kind: Spanned<String>,
    /// Of `git`: the checkout. Of `symlink`: the link. Of `container`: the file with the tag.
    pub path: Option<PathBuf>,
    /// Of `symlink`: the folder that every release is a folder in.
    pub releases: Option<PathBuf>,
    /// Of `container`: the image, without its tag.
    pub image: Option<String>,
    /// Of `container`: ends with 0 when an image is there; `{image}` stands for it with its tag.
    pub inspect: Option<Vec<String>>,
    /// Of `command`: writes the release's name.
    pub current: Option<Vec<String>>,
    /// Of `command`: changes to another one; `{release}` stands for its name.
    pub switch: Option<Vec<String>>,
    /// Run after each change, before the service is started: program and arguments.
    #[serde(default)]
    pub build: Vec<String>,
    /// Must end with 0, or nothing is rolled back: whether an older release can still read the data.
    #[serde(default)]
    pub schema_check: Vec<String>,
    /// Must end with 0, or nothing is rolled back: whether there is a fresh backup.
    #[serde(default)]
    pub backup_check: Vec<String>,
    /// The longest that each of these commands may take.
    #[serde(default = "limit")]
    pub limit: Span,
    /// How long a release must run well before it counts as good.
    #[serde(default = "proven_after")]
    pub proven_after: Span,
}

fn limit() -> Span {
    Span::seconds(60)
}

fn proven_after() -> Span {
    Span::seconds(300)
}

/// What is meant; nothing where it makes no sense, which is said.
pub(super) fn resolve(mut raw: Raw, mistakes: &mut Mistakes) -> Option<Releases> {
    let kind = raw.kind.clone();
    let (limit, proven_after) = (raw.limit.0, raw.proven_after.0);
    let hooks = [&mut raw.build, &mut raw.schema_check, &mut raw.backup_check];
    let [build, schema_check, backup_check] = hooks.map(std::mem::take);
    let wrong = |mistakes: &mut Mistakes, message: String| mistakes.add(&kind, message, None);
    let spans = [("limit", raw.limit), ("proven_after", raw.proven_after)];
    for (key, span) in spans {
        if span.0.is_zero() {
            wrong(mistakes, format!("`{key}` must be more than nothing"));
        }
    }
    if raw.limit.0 > LONGEST {
        wrong(mistakes, "`limit` is at most 10m".to_owned());
    }
    let has = [
        ("path", raw.path.is_some()),
        ("releases", raw.releases.is_some()),
        ("image", raw.image.is_some()),
        ("inspect", raw.inspect.is_some()),
        ("current", raw.current.is_some()),
        ("switch", raw.switch.is_some()),
    ];
    let takes: &[&str] = match raw.kind.get_ref().as_str() {
        "git" => &["path"],
        "symlink" => &["path", "releases"],
        "container" => &["path", "image", "inspect"],
        "command" => &["current", "switch"],
        _ => {
            let known = ["git", "symlink", "container", "command"];
            mistakes.unknown("kind of release", &raw.kind, known);
            return None;
        }
    };
    for (key, _) in has.iter().filter(|(key, has)| *has && !takes.contains(key)) {
        let message = format!("`{key}` is not for releases of kind `{}`", kind.get_ref());
        wrong(mistakes, message);
    }
    let source = match (kind.get_ref().as_str(), raw) {
        (
            "git",
            Raw {
                path: Some(path), ..
            },
        ) => Source::Git { path },
        (
            "symlink",
            Raw {
                path: Some(path),
                releases: Some(releases),
                ..
            },
        ) => Source::Symlink { path, releases },
        (
            "container",
            Raw {
                path: Some(path),
                image: Some(image),
                inspect,
                ..
            },
        ) => Source::Container {
            path,
            image,
            inspect: inspect.unwrap_or_else(|| {
                ["docker", "image", "inspect", "{image}"]
                    .map(str::to_owned)
                    .to_vec()
            }),
        },
        (
            "command",
            Raw {
                current: Some(current),
                switch: Some(switch),
                ..
            },
        ) => Source::Command { current, switch },
        (kind, _) => {
            let needs = takes.iter().filter(|key| **key != "inspect");
            let needs: Vec<String> = needs.map(|key| format!("`{key}`")).collect();
            let message = format!("releases of kind `{kind}` need {}", needs.join(" and "));
            wrong(mistakes, message);
            return None;
        }
    };
    if let Some(why) = senseless(&source) {
        wrong(mistakes, why);
    }
    Some(Releases {
        source,
        build,
        schema_check,
        backup_check,
        limit,
        proven_after,
    })
}

/// What would never work.
fn senseless(source: &Source) -> Option<String> {
    let command = |key: &str, words: &[String], place: &str| {
        if words.first().is_none_or(String::is_empty) {
            return Some(format!("`{key}` is empty"));
        }
        let filled = place.is_empty() || words.iter().any(|word| word.contains(place));
        (!filled).then(|| format!("`{key}` must say {place} where the name of the release goes"))
    };
    match source {
        Source::Git { path } => astray("path", path),
        Source::Symlink { path, releases } => {
            if releases.starts_with(path) {
                return Some("`releases` must not be below `path`, which is a link".to_owned());
            }
            astray("path", path)
                .or_else(|| replaced(path))
                .or_else(|| astray("releases", releases))
        }
        Source::Container { path, inspect, .. } => astray("path", path)
            .or_else(|| replaced(path))
            .or_else(|| command("inspect", inspect, "{image}")),
        Source::Command { current, switch } => {
            command("current", current, "").or_else(|| command("switch", switch, "{release}"))
        }
    }
}

/// Why no releases can be there.
fn astray(key: &str, path: &Path) -> Option<String> {
    let shown = path.display();
    if !path.is_absolute() {
        return Some(format!("`{key}` must be an absolute path"));
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return Some(format!("`{key}` of `{shown}` must be without `..`"));
    }
    let own = OWN.iter().any(|root| {
        let below = path.strip_prefix(root);
        below.is_ok_and(|below| below.components().next().is_some())
    });
    // What one unpacks there by hand is no part of the system.
    let local = ["bin", "sbin", "lib"].map(|part| Path::new("/usr/local").join(part));
    let local = local.iter().any(|root| path.starts_with(root));
    (paths::is_system(path) && (!own || local || paths::has_keys(path))).then(|| {
        format!("`{key}` of `{shown}` is a place of the system: a rollback would change it")
    })
}

/// Why a link or a file cannot be replaced by another one there.
fn replaced(path: &Path) -> Option<String> {
    let shown = path.display();
    let parent = path.parent()?;
    let top = parent == Path::new("/") || OWN.iter().any(|root| parent == Path::new(root));
    top.then(|| {
        format!(
            "`path` of `{shown}` lies among files of the system: use a folder of the service's own"
        )
    })
}

#[cfg(test)]
mod tests;
