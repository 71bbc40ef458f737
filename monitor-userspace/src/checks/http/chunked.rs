//! A body in chunks (RFC 9112, 7.1), read as it comes.

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Chunked {
    state: State,
    /// Of a chunk: bytes that are still to come.
    left: usize,
    /// Of what is no data: bytes since the last of it.
    line: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Size,
    /// Behind a size: what servers say of a chunk, ignored.
    Extension,
    Data,
    /// The end of line behind data.
    After,
    /// Lines behind the last chunk; an empty one ends all.
    Trailer,
}

/// The longest line that is no data, and all trailers together.
const LINE: usize = 8192;

impl Chunked {
    /// Puts the data in these bytes there; whether that was all of it, or none for what is not in chunks.
    pub(super) fn take(&mut self, mut bytes: &[u8], data: &mut Vec<u8>) -> Option<bool> {
        while let Some((&byte, rest)) = bytes.split_first() {
            if self.state == State::Data {
                let (now, later) = bytes.split_at(self.left.min(bytes.len()));
                data.extend_from_slice(now);
                self.left -= now.len();
                bytes = later;
                if self.left == 0 {
                    self.state = State::After;
                    self.line = 0;
                }
                continue;
            }
            bytes = rest;
            if self.one(byte)? {
                return Some(true);
            }
        }
        Some(false)
    }

    /// A byte that is no data; whether it is the last.
    fn one(&mut self, byte: u8) -> Option<bool> {
        self.line += 1;
        if self.line > LINE {
            return None;
        }
        match (self.state, byte) {
            (State::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = char::from(byte).to_digit(16)?;
                let left = self.left.checked_mul(16)?;
                self.left = left.checked_add(usize::try_from(digit).ok()?)?;
            }
            (State::Size, b';' | b' ' | b'\t' | b'\r') if self.line > 1 => {
                self.state = State::Extension;
            }
            (State::Size | State::Extension, b'\n') if self.line > 1 => {
                self.state = if self.left == 0 {
                    State::Trailer
                } else {
                    State::Data
                };
                // An empty line is one with nothing before its end.
                self.line = 0;
                if self.state == State::Trailer {
                    self.left = 0;
                }
            }
            (State::After, b'\r') if self.line == 1 => {}
            (State::After, b'\n') if self.line <= 2 => {
                self.state = State::Size;
                self.line = 0;
            }
            (State::Trailer, b'\n') => {
                if self.left == 0 {
                    return Some(true);
                }
                self.left = 0;
            }
            // Counts what is in the line.
            (State::Trailer, b'\r') | (State::Extension, _) => {}
            (State::Trailer, _) => self.left += 1,
            _ => return None,
        }
        Some(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str, step: usize) -> Option<(String, bool)> {
        let (mut chunked, mut data, mut ended) = (Chunked::default(), Vec::new(), false);
        for piece in text.as_bytes().chunks(step) {
            ended = chunked.take(piece, &mut data)?;
        }
        Some((String::from_utf8(data).expect("text"), ended))
    }

    #[test]
    fn chunks_are_put_together_however_they_come() {
        let text = "4;a=b\r\nWiki\r\n5\r\npedia\r\n0\r\nx-end: 1\r\n\r\n";
        for step in 1..=text.len() {
            assert_eq!(
                all(text, step),
                Some(("Wikipedia".to_owned(), true)),
                "{step}"
            );
            assert_eq!(all(&text[..20], step).map(|it| it.1), Some(false));
        }
        assert_eq!(all("0\r\n\r\n", 1), Some((String::new(), true)));
    }

    #[test]
    fn what_is_not_in_chunks_is_refused() {
        for text in [
            "hello",
            "\r\n",
            "4\r\nWikix",
            "ffffffffffffffffff\r\n",
            "-1\r\n",
            ";\r\n",
        ] {
            assert_eq!(all(text, 3), None, "{text}");
        }
        assert_eq!(all(&format!("1;{}", "x".repeat(9000)), 100), None);
    }
}
