//! `log = { pattern = "ERROR|FATAL" }`: what was appended to a log since the check before does not match, or not often.
//!
//! Reads what is new, at most `AT_A_TIME` bytes a time; what is more than that is skipped, and said. A file that was moved away is read to its
//! end, and then the one in its place from its beginning; one that was cut is read from its beginning. What stood there before the
//! daemon began is not looked at.

mod follow;

use std::path::PathBuf;
use std::time::Instant;

use serde::Deserialize;

use super::alone::Alone;
use super::expect::shown;
use super::pattern::Pattern;
use super::{About, Answer, Asking, Check, Settings, Spec, read};
use crate::config::units::Span;
use crate::host::capture;
use crate::model::CheckFailure;
use follow::{Followed, Window};

/// See the module.
pub const SPEC: Spec = Spec {
    name: "log",
    summary: "what is appended to a log does not match a pattern",
    serving: false,
    short: "pattern",
    example: "log = { file = \"/var/log/app.log\", pattern = \"ERROR|FATAL\", not = \"retrying\" }",
    read: read::<Log>,
};

/// Most bytes that are read at a time.
const AT_A_TIME: u64 = 1 << 20;

/// `log = { ... }`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Log {
    /// Which file; that which takes what the service writes when none.
    file: Option<PathBuf>,
    /// Whether a symbolic link is followed.
    #[serde(default)]
    follow: bool,
    /// Lines that count.
    pattern: Pattern,
    /// Those of them that do not.
    not: Option<Pattern>,
    /// So many are well.
    #[serde(default)]
    most: u64,
    /// In this time.
    #[serde(default = "minute")]
    within: Span,
    #[serde(skip)]
    kept: Alone<Kept>,
}

fn minute() -> Span {
    Span::seconds(60)
}

#[derive(Default)]
struct Kept {
    followed: Followed,
    window: Window,
    /// The line that matched last.
    last: String,
}

impl Settings for Log {
    fn sensible(self) -> Result<Self, String> {
        if self.file.as_ref().is_some_and(|file| !file.is_absolute()) {
            return Err("`file` is an absolute path".to_owned());
        }
        if self.within.0.is_zero() {
            return Err("`within` is more than 0s".to_owned());
        }
        if self.pattern.0.is_match(b"") {
            return Err(format!("`{}` matches every line", self.pattern.0));
        }
        Ok(self)
    }
}

impl Check for Log {
    fn ask<'a>(&'a self, about: &'a About) -> Asking<'a> {
        Box::pin(async move {
            let captured = about.tools.logs.as_deref();
            let captured = captured.map(|folder| capture::file(folder, &about.service));
            let file = self.file.clone().or(captured).ok_or_else(|| {
                let why = "what the service writes is not kept: name a `file`, or set `[daemon] capture_logs = true`";
                CheckFailure::Answer(why.to_owned())
            })?;
            let (pattern, not) = (self.pattern.clone(), self.not.clone());
            let (follow, within, most) = (self.follow, self.within, self.most);
            let look = move |kept: &mut Kept| {
                let read = kept.followed.read(&file, follow);
                let read = read.map_err(CheckFailure::Answer)?;
                let mut matches = 0;
                for line in read.text.split(|byte| *byte == b'\n') {
                    let counts = pattern.0.is_match(line)
                        && !not.as_ref().is_some_and(|not| not.0.is_match(line));
                    if counts {
                        matches += 1;
                        kept.last =
                            shown(&String::from_utf8_lossy(line.get(..1000).unwrap_or(line)));
                    }
                }
                let now = Instant::now();
                let count = kept.window.add(now, matches, within.0);
                judge(count, (most, within), &kept.last, read.skipped)
            };
            self.kept.block(look).await
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "figures need no exact numbers")]
fn judge(
    count: u64,
    (most, within): (u64, Span),
    last: &str,
    skipped: u64,
) -> Result<Answer, CheckFailure> {
    let left_out = if skipped > 0 {
        format!("; {skipped} bytes were skipped: more is written than is read")
    } else {
        String::new()
    };
    if count > most {
        return Err(CheckFailure::Answer(format!(
            "{count} lines match within {within}, expected at most {most}; the last: {last}{left_out}"
        )));
    }
    Ok(Answer::well()
        .with("matches", count as f64)
        .with("skipped_bytes", skipped as f64)
        .saying(format!("{count} lines match within {within}{left_out}")))
}
