//! Bytes of the kernel's as text: names of processes and paths hold whatever somebody put there.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The bytes of a name, up to its NUL.
pub(super) fn name_of(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// For people, fit for a terminal: what is not printable stands as `\xNN` or `\u{N}`.
pub(super) fn printable(bytes: &[u8]) -> String {
    escaped(bytes, is_unsafe)
}

/// For JSON: what is UTF-8 stays as it is; of other bytes, those that are not stand as `\xNN`.
pub(super) fn exact(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(escaped(bytes, |_| false)),
    }
}

fn escaped(bytes: &[u8], unsafe_too: impl Fn(char) -> bool) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            // A string takes whatever it is given.
            let _ = match c {
                '\\' => write!(text, "\\\\"),
                c if unsafe_too(c) && c.is_ascii() => write!(text, "\\x{:02x}", u32::from(c)),
                c if unsafe_too(c) => write!(text, "\\u{{{:x}}}", u32::from(c)),
                c => write!(text, "{c}"),
            };
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// What must not reach a terminal: control characters, and those that make a line look like another one.
pub(super) fn is_unsafe(c: char) -> bool {
    let hides = matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    c.is_control() || hides
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shown_whatever_they_hold() {
        assert_eq!(name_of(b"sh\0\0junk"), b"sh");
        assert_eq!(name_of(b"0123456789abcdef"), b"0123456789abcdef");
        assert_eq!(printable(b"nginx: worker"), "nginx: worker");
        assert_eq!(printable("grüße".as_bytes()), "grüße");
        assert_eq!(printable(b"a\x1b[2J\xff\\"), "a\\x1b[2J\\xff\\\\");
        assert_eq!(printable("a\u{202e}b".as_bytes()), "a\\u{202e}b");
        assert_eq!(exact(b"a\nb\\"), "a\nb\\");
        assert_eq!(exact(b"a\nb\xfe\\"), "a\nb\\xfe\\\\");
    }
}
