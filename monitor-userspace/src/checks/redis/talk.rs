//! The protocol of Redis (RESP2), as far as AUTH, SELECT, PING and INFO are answered with it: a text, a number or an error, no lists.

use crate::checks::wire::{Wire, shown, wrong};
use crate::model::CheckFailure;

/// Longest line, and longest text of an answer (INFO has 5 to 20 KiB), bytes.
const LINE: usize = 16 << 10;
const TEXT: usize = 512 << 10;
/// Most that is read of a conversation, bytes.
pub(super) const MOST: usize = 1 << 20;

/// Sends a command and waits for its answer; an error of the server is explained.
pub(super) async fn ask(wire: &mut Wire, command: &[&[u8]]) -> Result<Vec<u8>, CheckFailure> {
    let mut text = format!("*{}\r\n", command.len()).into_bytes();
    for word in command {
        text.extend(format!("${}\r\n", word.len()).into_bytes());
        text.extend_from_slice(word);
        text.extend_from_slice(b"\r\n");
    }
    wire.send(&text).await?;
    let line = wire.line(LINE).await?;
    match line.split_first() {
        Some((b'+' | b':', rest)) => Ok(rest.to_vec()),
        Some((b'-', rest)) => Err(wrong(explained(rest))),
        Some((b'$', rest)) => {
            let length = std::str::from_utf8(rest).ok().and_then(|n| n.parse().ok());
            let length: usize = length.ok_or_else(|| foreign(&line))?;
            if length > TEXT {
                return Err(wrong(format!(
                    "it announces an answer of {length} bytes; at most {TEXT} are read"
                )));
            }
            let mut text = wire.exactly(length + 2).await?;
            text.truncate(length);
            Ok(text)
        }
        _ => Err(foreign(&line)),
    }
}

fn foreign(line: &[u8]) -> CheckFailure {
    wrong(format!(
        "it does not speak as Redis does; it said `{}`",
        shown(line.get(..40).unwrap_or(line)).escape_default()
    ))
}

/// What a server's error means.
pub(super) fn explained(said: &[u8]) -> String {
    let text = shown(said);
    let first = text.split(' ').next().unwrap_or_default();
    let means = match first {
        "LOADING" => "it is still reading its data from the disk",
        "BUSY" => "a script or function keeps it busy and nobody else is served: see SCRIPT KILL",
        "NOAUTH" => "it wants a password: give `password_file` or `password_env`",
        "WRONGPASS" => "the user or the password is wrong",
        "NOPERM" => "the user may not do this: allow it PING and INFO",
        "MISCONF" => {
            "it cannot save to its disk (full, or not writable) and refuses writes until it can"
        }
        "OOM" => "its memory is full (`maxmemory`) and it refuses writes",
        "MASTERDOWN" => "its master is down, and it serves no old data",
        "CLUSTERDOWN" => "its cluster is down",
        "DENIED" => "it takes nobody from there (protected mode)",
        "ERR" if text.contains("max number of clients") => "all of its connections are taken",
        "ERR" if text.contains("AUTH") && text.contains("password") => {
            "it has no password, and one is configured here"
        }
        "ERR" if text.contains("out of range") => "there is no database of this number",
        _ => "it refuses",
    };
    format!("{means} ({text})")
}
