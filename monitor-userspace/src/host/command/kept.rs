//! What is kept of an output: its beginning, its end, and how long it was.

use std::collections::VecDeque;
use std::fmt::{self, Write};

/// Bytes that are kept of the beginning, and as many of the end.
const PART: usize = 8 << 10;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    first: Vec<u8>,
    last: VecDeque<u8>,
    /// How many bytes there were in all.
    pub bytes: u64,
}

impl Kept {
    /// Takes what comes next.
    pub fn take(&mut self, bytes: &[u8]) {
        self.bytes = self
            .bytes
            .saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        let room = PART.saturating_sub(self.first.len()).min(bytes.len());
        let (first, rest) = bytes.split_at(room);
        self.first.extend_from_slice(first);
        let end = rest.get(rest.len().saturating_sub(PART)..).unwrap_or(rest);
        self.last.extend(end);
        let over = self.last.len().saturating_sub(PART);
        self.last.drain(..over);
    }

    /// Its beginning: the whole of what is not longer than 8 KiB.
    pub fn beginning(&self) -> &[u8] {
        &self.first
    }

    /// Bytes between its beginning and its end, which are not kept.
    pub fn left_out(&self) -> u64 {
        let kept = self.first.len() + self.last.len();
        self.bytes
            .saturating_sub(u64::try_from(kept).unwrap_or(u64::MAX))
    }
}

/// On one line: control characters and what is no UTF-8 are escaped as in source code (`\n`, `\u{1b}`, `\xff`).
impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last: Vec<u8> = self.last.iter().copied().collect();
        match self.left_out() {
            // In one piece, so that no character is cut in two.
            0 => escape(&[self.first.as_slice(), &last].concat(), f),
            some => {
                escape(&self.first, f)?;
                write!(f, " [... {some} bytes left out ...] ")?;
                escape(&last, f)
            }
        }
    }
}

fn escape(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() || turns_text(character) {
                write!(f, "{}", character.escape_default())?;
            } else {
                f.write_char(character)?;
            }
        }
        for byte in chunk.invalid() {
            write!(f, "\\x{byte:02x}")?;
        }
    }
    Ok(())
}

/// Characters that make a terminal show others in another order, or are themselves not to be seen.
fn turns_text(character: char) -> bool {
    matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_and_the_end_are_kept_however_it_comes() {
        let whole: Vec<u8> = (0..100_000_u32).map(|n| b'a' + (n % 26) as u8).collect();
        for piece in [1, 7, 4096, 8192, 50_000, 100_000] {
            let mut kept = Kept::default();
            for part in whole.chunks(piece) {
                kept.take(part);
            }
            assert_eq!(kept.bytes, 100_000);
            assert_eq!(kept.first, whole[..PART], "pieces of {piece}");
            assert!(kept.last.iter().eq(&whole[100_000 - PART..]), "{piece}");
            assert_eq!(kept.left_out(), 100_000 - 2 * 8192);
            let text = kept.to_string();
            assert!(text.contains(" [... 83616 bytes left out ...] "));
        }
    }

    #[test]
    fn what_is_no_text_is_escaped() {
        let mut kept = Kept::default();
        kept.take(b"caf\xc3");
        kept.take(b"\xa9\n\x1b[31m\0\xff\xfe\xe2\x80\xae");
        assert_eq!(
            kept.to_string(),
            "caf\u{e9}\\n\\u{1b}[31m\\u{0}\\xff\\xfe\\u{202e}"
        );
        assert_eq!((kept.bytes, kept.left_out()), (17, 0));
    }
}
