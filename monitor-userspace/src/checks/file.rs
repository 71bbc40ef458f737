//! `file = { newest = "/backup/*.tar", max_age = "26h" }`: a file is there, as old, as large and with what is in it as expected.
//!
//! Never waits for what is no file: a pipe or a device is seen, and not opened. Reads 64 KiB from the beginning and the end at most, and for
//! `blake3` the whole file, at most `HASHED` bytes, anew only when it has changed.

mod inside;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::Deserialize;

use super::alone::Alone;
use super::pattern::Pattern;
use super::{About, Answer, Asking, Check, Settings, Spec, read};
use crate::config::units::{Bytes, Span};
use crate::host::files::{self, Found};
use crate::model::CheckFailure;
use inside::Kept;

/// See the module.
pub const SPEC: Spec = Spec {
    name: "file",
    summary: "a file is there, as old, as large and with what is in it as expected",
    serving: false,
    short: "path",
    example: "file = { newest = \"/backup/*.tar\", max_age = \"26h\", min_size = \"1MiB\" }",
    read: read::<Settled>,
};

/// Most names of a folder that `newest` looks through.
const NAMES: usize = 100_000;
/// Largest file that is hashed.
const HASHED: u64 = 256 << 20;

/// `file = { ... }`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    /// Which.
    path: Option<PathBuf>,
    /// In its place: the newest of those that match.
    newest: Option<PathBuf>,
    /// It is not to be there.
    absent: bool,
    /// Whether a symbolic link is followed.
    follow: bool,
    /// Time since it was changed, at least and at most.
    min_age: Option<Span>,
    max_age: Option<Span>,
    /// Its length.
    min_size: Option<Bytes>,
    max_size: Option<Bytes>,
    /// It becomes longer at least once in this time.
    grows_within: Option<Span>,
    /// Numeric user and group whose it is.
    uid: Option<u32>,
    gid: Option<u32>,
    /// Its permissions: `0640`.
    mode: Option<String>,
    /// What stands in its first or last 64 KiB.
    contains: Option<Pattern>,
    /// What does not stand there.
    contains_not: Option<Pattern>,
    /// The hash of all that is in it, 64 hexadecimal digits, as `b3sum` shows it.
    blake3: Option<String>,
}

/// The settings, and what is kept.
#[derive(Debug, Deserialize)]
#[serde(from = "File")]
struct Settled {
    file: File,
    kept: Alone<Kept>,
}

impl From<File> for Settled {
    fn from(file: File) -> Self {
        let kept = Alone::default();
        Self { file, kept }
    }
}

impl Settings for Settled {
    fn sensible(self) -> Result<Self, String> {
        self.file.sensible()?;
        Ok(self)
    }
}

impl Check for Settled {
    fn ask<'a>(&'a self, _: &'a About) -> Asking<'a> {
        let file = self.file.clone();
        Box::pin(
            self.kept
                .block(move |kept| file.look(kept).map_err(CheckFailure::Answer)),
        )
    }
}

impl File {
    fn sensible(&self) -> Result<(), String> {
        let wrong = |why: &str| Err(why.to_owned());
        let place = match (&self.path, &self.newest) {
            (Some(path), None) => path,
            (None, Some(pattern)) => pattern,
            _ => return wrong("give `path = \"/the/file\"` or `newest = \"/folder/*.tar\"`"),
        };
        if !place.is_absolute() || place.file_name().is_none() {
            return Err(format!(
                "`{}` is no absolute path of a file",
                place.display()
            ));
        }
        let folder = place.parent().unwrap_or(place).to_string_lossy();
        if self.newest.is_some() && folder.contains(['*', '?', '[']) {
            return wrong("only the last part of `newest` can be a pattern");
        }
        let of_one = self.wants_inside() || self.min_age.is_some() || self.max_age.is_some();
        let of_one = of_one || self.min_size.is_some() || self.max_size.is_some();
        if self.absent && (of_one || self.mode.is_some() || self.grows_within.is_some()) {
            return wrong("of a file that is not to be there, nothing else can be said");
        }
        if self
            .min_age
            .zip(self.max_age)
            .is_some_and(|(min, max)| min > max)
        {
            return wrong("`max_age` must not be less than `min_age`");
        }
        if self
            .min_size
            .zip(self.max_size)
            .is_some_and(|(min, max)| min > max)
        {
            return wrong("`max_size` must not be less than `min_size`");
        }
        if self
            .mode
            .as_deref()
            .is_some_and(|mode| octal(mode).is_none())
        {
            return wrong("`mode` is written \"0640\"");
        }
        let hash = |hash: &str| hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit());
        if self.blake3.as_deref().is_some_and(|text| !hash(text)) {
            return wrong("`blake3` is 64 hexadecimal digits, as `b3sum FILE` shows them");
        }
        Ok(())
    }

    fn wants_inside(&self) -> bool {
        self.contains.is_some() || self.contains_not.is_some() || self.blake3.is_some()
    }

    fn look(&self, kept: &mut Kept) -> Result<Answer, String> {
        let path = match self.place()? {
            Some(path) => path,
            None if self.absent => return Ok(Answer::well().saying("there is none")),
            None => {
                let pattern = self.newest.as_deref().unwrap_or(Path::new(""));
                return Err(format!("no file matches {}", pattern.display()));
            }
        };
        let name = path.display();
        let found = match Found::at(&path, self.follow) {
            Ok(_) if self.absent => return Err(format!("{name} is there, and is not to be")),
            Ok(found) => found,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && self.absent => {
                return Ok(Answer::well().saying("it is not there"));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(format!("{name} is not there"));
            }
            Err(error) => return Err(format!("{name} cannot be looked at: {error}")),
        };
        if found.is_link() {
            return Err(format!(
                "{name} is a symbolic link: write the path that it leads to, or `follow = true`"
            ));
        }
        let age = self.age(&found).map_err(|why| format!("{name} {why}"))?;
        self.size(&found, kept)
            .map_err(|why| format!("{name} {why}"))?;
        self.owner(&found).map_err(|why| format!("{name} {why}"))?;
        if self.wants_inside() {
            inside::look(self, &found, kept).map_err(|why| format!("{name}: {why}"))?;
        }
        #[expect(clippy::cast_precision_loss, reason = "figures need no exact bytes")]
        let answer = Answer::well()
            .took("age", age)
            .with("size_bytes", found.length() as f64);
        let changed = Span::seconds(age.as_secs());
        Ok(answer.saying(format!(
            "{name}: {} bytes, changed {changed} ago",
            found.length()
        )))
    }

    /// The file that is meant; none when none matches.
    fn place(&self) -> Result<Option<PathBuf>, String> {
        let Some(pattern) = &self.newest else {
            return Ok(self.path.clone());
        };
        let folder = pattern.parent().unwrap_or(Path::new("/"));
        let names = pattern.file_name().unwrap_or_default().to_string_lossy();
        let (newest, more) = files::newest(folder, &names, NAMES)
            .map_err(|error| format!("{} cannot be read: {error}", folder.display()))?;
        if more {
            return Err(format!(
                "{} has more than {NAMES} names: which is the newest is not known",
                folder.display()
            ));
        }
        Ok(newest)
    }

    fn age(&self, found: &Found) -> Result<Duration, String> {
        let nanos = u32::try_from(found.stat.st_mtime_nsec).unwrap_or(0);
        let changed = u64::try_from(found.stat.st_mtime).unwrap_or(0);
        let changed = SystemTime::UNIX_EPOCH + Duration::new(changed, nanos);
        // One from the future is new.
        let age = SystemTime::now()
            .duration_since(changed)
            .unwrap_or_default();
        let words = Span::seconds(age.as_secs());
        if let Some(most) = self.max_age.filter(|most| age > most.0) {
            return Err(format!("was changed {words} ago, expected at most {most}"));
        }
        if let Some(least) = self.min_age.filter(|least| age < least.0) {
            return Err(format!(
                "was changed {words} ago, expected at least {least}"
            ));
        }
        Ok(age)
    }

    fn size(&self, found: &Found, kept: &mut Kept) -> Result<(), String> {
        let size = found.length();
        if let Some(least) = self.min_size.filter(|least| size < least.0) {
            return Err(format!("has {size} bytes, expected at least {least}"));
        }
        if let Some(most) = self.max_size.filter(|most| size > most.0) {
            return Err(format!("has {size} bytes, expected at most {most}"));
        }
        match self.grows_within {
            Some(within) if kept.unchanged(size) > within.0 => Err(format!(
                "has not become longer than {size} bytes within {within}"
            )),
            _ => Ok(()),
        }
    }

    fn owner(&self, found: &Found) -> Result<(), String> {
        let (uid, gid) = (found.stat.st_uid, found.stat.st_gid);
        if let Some(wanted) = self.uid.filter(|wanted| *wanted != uid) {
            return Err(format!("belongs to user {uid}, expected {wanted}"));
        }
        if let Some(wanted) = self.gid.filter(|wanted| *wanted != gid) {
            return Err(format!("belongs to group {gid}, expected {wanted}"));
        }
        let mode = found.stat.st_mode & 0o7777;
        match self.mode.as_deref().and_then(octal) {
            Some(wanted) if wanted != mode => {
                Err(format!("has the mode {mode:04o}, expected {wanted:04o}"))
            }
            _ => Ok(()),
        }
    }
}

fn octal(text: &str) -> Option<u32> {
    let digits = text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    let mode = u32::from_str_radix(text, 8).ok()?;
    (digits && text.len() >= 3 && mode <= 0o7777).then_some(mode)
}

#[cfg(test)]
mod tests;
