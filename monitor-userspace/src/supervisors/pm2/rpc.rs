//! What PM2's daemon is asked over `rpc.sock`, and its answers: a frame of a byte (version 1, number of parts) and the parts, each with
//! four bytes of its length before it; the first is JSON after `j:`, the last names the question.
//!
//! Source of the format: `modules/pm2-axon`, `modules/pm2-axon-rpc` of PM2, and the packages `amp` and `amp-message`.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Value, json};

use super::super::exchange::Exchange;

/// Longest answer that is read, bytes: every application comes with its whole environment.
const MOST: usize = 16 << 20;
/// Most parts of an answer; one has two.
const PARTS: u8 = 4;
/// The question's name. Only one is asked on a connection.
const ID: &str = "smart-monitor:0";
/// Most of a refusal that is told on, characters.
const WORDS: usize = 300;

#[derive(Deserialize)]
struct Reply<T> {
    error: Option<Value>,
    args: Option<Vec<T>>,
}

/// Has a method done, whatever it answers.
pub(super) fn act(
    socket: &Path,
    method: &str,
    argument: &Value,
    within: Duration,
) -> Result<(), String> {
    // The answer may be of any kind: what counts is that it is no refusal.
    let answer: Option<IgnoredAny> = ask(socket, method, argument, within)?;
    tracing::debug!(method, answered = answer.is_some(), "PM2 has done it");
    Ok(())
}

/// Asks, and reads the first value of the answer, where there is one.
pub(super) fn ask<T: DeserializeOwned>(
    socket: &Path,
    method: &str,
    argument: &Value,
    within: Duration,
) -> Result<Option<T>, String> {
    let asked = || {
        let mut exchange = Exchange::open(socket, within)?;
        exchange.send(&question(method, argument)?)?;
        answer(&mut |count| exchange.take(count))
    };
    let json = asked().map_err(|why| format!("PM2 was asked for {method}: {why}"))?;
    read(method, &json)
}

fn question(method: &str, argument: &Value) -> Result<Vec<u8>, String> {
    let call = json!({ "type": "call", "method": method, "args": [argument] });
    let parts = [format!("j:{call}"), format!("s:{ID}")];
    let mut frame = vec![1 << 4 | 2];
    for part in parts {
        let length = u32::try_from(part.len()).map_err(|_| "the question is too long")?;
        frame.extend(length.to_be_bytes());
        frame.extend(part.into_bytes());
    }
    Ok(frame)
}

/// Takes a frame, and gives its JSON.
fn answer(take: &mut dyn FnMut(usize) -> Result<Vec<u8>, String>) -> Result<Vec<u8>, String> {
    let meta = take(1)?.first().copied().unwrap_or_default();
    let (version, parts) = (meta >> 4, meta & 15);
    if version != 1 || !(1..=PARTS).contains(&parts) {
        return Err("the answer is not in PM2's format: is this its rpc.sock?".to_owned());
    }
    let mut left = MOST;
    let mut json = None;
    for _ in 0..parts {
        let length = <[u8; 4]>::try_from(take(4)?).map_err(|_| "the answer has no length")?;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        left = left
            .checked_sub(length)
            .ok_or_else(|| format!("the answer is longer than {MOST} bytes"))?;
        let part = take(length)?;
        if json.is_none() {
            json = part.strip_prefix(b"j:").map(<[u8]>::to_vec);
        }
    }
    json.ok_or_else(|| "the answer has no JSON".to_owned())
}

fn read<T: DeserializeOwned>(method: &str, json: &[u8]) -> Result<Option<T>, String> {
    let reply: Reply<T> = serde_json::from_slice(json)
        .map_err(|error| format!("PM2 was asked for {method}: its answer is not read: {error}"))?;
    if let Some(error) = reply.error {
        let said = error
            .as_str()
            .map_or_else(|| error.to_string(), str::to_owned);
        let said: String = said.chars().take(WORDS).collect();
        return Err(format!("PM2 refuses {method}: {said}"));
    }
    Ok(reply.args.unwrap_or_default().into_iter().next())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(parts: &[&[u8]]) -> Vec<u8> {
        let mut frame = vec![0x10 | u8::try_from(parts.len()).expect("few")];
        for part in parts {
            frame.extend(u32::try_from(part.len()).expect("short").to_be_bytes());
            frame.extend(*part);
        }
        frame
    }

    /// What comes of these bytes, where taking more than there are is the end of the connection.
    fn taken(bytes: &[u8]) -> Result<Vec<u8>, String> {
        let mut rest = bytes;
        answer(&mut |count| {
            let (taken, left) = rest.split_at_checked(count).ok_or("it ended")?;
            rest = left;
            Ok(taken.to_vec())
        })
    }

    #[test]
    fn a_question_is_a_frame_of_two_parts() {
        let found = question("ping", &json!({})).expect("it is short");
        let body = br#"j:{"args":[{}],"method":"ping","type":"call"}"#;
        assert_eq!(found, frame(&[body, b"s:smart-monitor:0"]));
    }

    #[test]
    fn answers_and_refusals_are_read() {
        let json = taken(&frame(&[
            br#"j:{"args":[{"msg":"pong"}]}"#,
            b"s:smart-monitor:0",
        ]));
        let pong: Option<Value> = read("ping", &json.expect("a frame")).expect("it reads");
        assert_eq!(pong, Some(json!({ "msg": "pong" })));
        let none: Option<Value> = read("ping", br#"{"args":[]}"#).expect("it reads");
        assert_eq!(none, None);
        let refused = read::<Value>("stop", br#"{"error":"id unknown","stack":"x"}"#);
        assert_eq!(refused, Err("PM2 refuses stop: id unknown".to_owned()));
        assert!(read::<Vec<u8>>("list", br#"{"args":[{}]}"#).is_err());
    }

    #[test]
    fn rubbish_is_no_answer() {
        let whole = frame(&[br#"j:{"args":[]}"#, b"s:x"]);
        for end in 0..whole.len() {
            assert!(taken(whole.get(..end).expect("within")).is_err(), "{end}");
        }
        let long = [&[0x12][..], &u32::MAX.to_be_bytes(), b"j:"].concat();
        assert!(taken(&long).expect_err("too long").contains("longer than"));
        for meta in [0x00, 0x10, 0x1f, 0x22, b'H'] {
            assert!(
                taken(&[meta, 0, 0, 0, 0])
                    .expect_err("no frame")
                    .contains("format")
            );
        }
        assert!(taken(&frame(&[b"s:a", b"s:b"])).is_err());
        assert!(read::<Value>("x", b"{").is_err());
    }
}
