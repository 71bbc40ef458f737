//! What a server says first, or after something was sent to it: at most [`MOST`] bytes of it are read.

use regex::bytes::Regex;
use serde::{Deserialize, Deserializer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::connect::reason;
use super::doing::Doing;
use crate::model::CheckFailure;

/// Most that is read.
pub(crate) const MOST: usize = 4096;
/// Most that is shown of it.
const SHOWN: usize = 60;
/// Most memory that a regular expression may take, compiled.
const COMPILED: usize = 1 << 18;

/// A regular expression, as configured.
#[derive(Clone, Debug)]
pub(crate) struct Pattern(pub(crate) Regex);

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let mut building = regex::bytes::RegexBuilder::new(&text);
        let built = building
            .size_limit(COMPILED)
            .dfa_size_limit(COMPILED)
            .build();
        let pattern = built.map_err(|why| {
            serde::de::Error::custom(format!("`{text}` is no regular expression: {why}"))
        })?;
        Ok(Self(pattern))
    }
}

/// Sends what is to be sent, and reads until the pattern is found.
pub(crate) async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    send: Option<&str>,
    banner: Option<&Pattern>,
    doing: &Doing,
) -> Result<(), CheckFailure> {
    if let Some(send) = send {
        doing.now(format!("sending {} bytes", send.len()));
        let written = stream.write_all(send.as_bytes()).await;
        written.map_err(|error| CheckFailure::Connect(reason(&error)))?;
    }
    let Some(Pattern(pattern)) = banner else {
        return Ok(());
    };
    let mut read: Vec<u8> = Vec::with_capacity(256);
    doing.now("waiting for what it says: connected, not a byte so far");
    loop {
        let room = u64::try_from(MOST - read.len().min(MOST)).unwrap_or(0);
        let more = (&mut *stream).take(room).read_buf(&mut read).await;
        let more = more.map_err(|error| CheckFailure::Connect(reason(&error)))?;
        if pattern.is_match(&read) {
            return Ok(());
        }
        let shown = excerpt(&read);
        if read.len() >= MOST || more == 0 {
            let what = match (read.len(), more) {
                (0, _) => "it closed the connection and said nothing".to_owned(),
                (_, 0) => format!("it said {shown} and closed the connection"),
                _ => format!("it said {shown}, and {MOST} bytes in all were read"),
            };
            return Err(CheckFailure::Answer(format!(
                "{what}; expected `{pattern}` in it"
            )));
        }
        doing.now(format!("waiting for `{pattern}`: so far it said {shown}"));
    }
}

/// The beginning of what somebody said, fit to be shown.
pub(crate) fn excerpt(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes.get(..bytes.len().min(4 * SHOWN)).unwrap_or(bytes));
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let shown: String = plain.take(SHOWN).collect();
    let cut = text.chars().nth(SHOWN).is_some();
    format!("`{}`{}", shown.trim(), if cut { "…" } else { "" })
}
