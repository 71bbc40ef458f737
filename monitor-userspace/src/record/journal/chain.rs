//! The chain of sums: every line says in its end what BLAKE3 makes of the sum before it and of its own bytes.
//!
//! So a line that was changed, removed, inserted or moved is found, and its place with it. There is no key: whoever may write the file can
//! compute the whole chain anew. What shows that is a sum which was noted elsewhere.

use std::fmt;
use std::str::FromStr;

/// The first 128 bits of BLAKE3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sum([u8; 16]);

/// What stands between a line's own bytes and its sum.
const BEFORE: &[u8] = b",\"sum\":\"";
/// Hexadecimal digits of a sum.
const DIGITS: usize = 32;
/// What ends a line with a sum.
const AFTER: &[u8] = b"\"}";

impl Sum {
    /// What the very first line follows.
    pub(super) const NONE: Self = Self([0; 16]);

    /// The sum of a line with these bytes (up to where its sum begins) that follows a line with this sum.
    #[must_use]
    pub(super) fn then(self, bytes: &[u8]) -> Self {
        let mut sum = [0; 16];
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.0).update(bytes);
        hasher.finalize_xof().fill(&mut sum);
        Self(sum)
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl FromStr for Sum {
    type Err = ();

    /// From 32 digits, as they are written: small letters.
    fn from_str(text: &str) -> Result<Self, ()> {
        let written = |digit: u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
        if text.len() != DIGITS || !text.bytes().all(written) {
            return Err(());
        }
        let sum = u128::from_str_radix(text, 16).map_err(|_| ())?;
        Ok(Self(sum.to_be_bytes()))
    }
}

/// Adds a JSON object to a text as a line with its sum, which is returned.
pub(super) fn add(text: &mut Vec<u8>, object: &[u8], before: Sum) -> Sum {
    let own = object.strip_suffix(b"}").unwrap_or(object);
    let sum = before.then(own);
    text.extend_from_slice(own);
    text.extend_from_slice(BEFORE);
    text.extend_from_slice(sum.to_string().as_bytes());
    text.extend_from_slice(AFTER);
    text.push(b'\n');
    sum
}

/// A line's own bytes and its sum; none when it has no sum.
pub(super) fn split(line: &[u8]) -> Option<(&[u8], Sum)> {
    let line = line.strip_suffix(AFTER)?;
    let (rest, digits) = line.split_at_checked(line.len().checked_sub(DIGITS)?)?;
    let own = rest.strip_suffix(BEFORE)?;
    let sum = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some((own, sum))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_takes_its_sum_along_and_gives_it_back() {
        let mut text = Vec::new();
        let first = add(&mut text, b"{\"a\":1}", Sum::NONE);
        let line = text.strip_suffix(b"\n").expect("a line");
        assert_eq!(split(line), Some((&b"{\"a\":1"[..], first)));
        let json: serde_json::Value = serde_json::from_slice(line).expect("it is JSON");
        assert_eq!(json["sum"], first.to_string());
        assert_ne!(first, Sum::NONE.then(b"{\"a\":2"), "of its bytes");
        assert_ne!(first, first.then(b"{\"a\":1"), "and of what came before");
    }

    #[test]
    fn it_is_blake3_and_others_can_compute_it() {
        // `(head -c 16 /dev/zero; printf abc) | b3sum | head -c 32` says so too.
        let mut bytes = [0; 19];
        bytes[16..].copy_from_slice(b"abc");
        let expected = blake3::hash(&bytes).to_hex();
        assert_eq!(Sum::NONE.then(b"abc").to_string(), expected[..32]);
    }

    #[test]
    fn what_has_no_sum_has_none() {
        let digits = "0123456789abcdef0123456789abcdef";
        let with = |digits: &str| format!("{{\"a\":1,\"sum\":\"{digits}\"}}");
        assert!(split(with(digits).as_bytes()).is_some());
        for bad in [
            String::new(),
            "{}".to_owned(),
            "{\"a\":1}".to_owned(),
            with(&digits[1..]),
            with(&digits.to_uppercase()),
            with(&digits.replace('0', "+")),
            with(&digits.replace("01", "é")),
            format!("\"{digits}\"}}"),
        ] {
            assert_eq!(split(bad.as_bytes()), None, "{bad}");
        }
    }
}
