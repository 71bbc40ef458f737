//! A command line for people: quoted as a shell would need it, safe for a terminal, bounded. Not meant to be run as it stands.

use std::fmt::Write as _;

/// Characters shown, the ellipsis not counted.
const SHOWN_MAX: usize = 512;

/// Arguments separated by NUL, as `/proc/PID/cmdline` has them, as one line: arguments with blanks or characters that mean something to
/// a shell stand in `'…'`; those with control characters, characters that change the direction of writing, or bytes that are not
/// UTF-8 stand escaped in `$'…'`. After 512 characters an ellipsis.
pub fn render_argv(argv: &[u8]) -> String {
    let mut text = Line::default();
    let argv = argv.strip_suffix(b"\0").unwrap_or(argv);
    if argv.is_empty() {
        return String::new();
    }
    for (index, argument) in argv.split(|byte| *byte == 0).enumerate() {
        if index > 0 {
            text.push_str(" ");
        }
        render_argument(argument, &mut text);
        if text.full {
            break;
        }
    }
    text.done()
}

fn render_argument(argument: &[u8], text: &mut Line) {
    let plain = std::str::from_utf8(argument)
        .ok()
        .filter(|argument| !argument.chars().any(is_unsafe));
    match plain {
        Some(plain) if !plain.is_empty() && plain.chars().all(is_bare) => text.push_str(plain),
        // What stands in single quotes cannot hold one.
        Some(plain) if !plain.contains('\'') => {
            text.push_str("'");
            text.push_str(plain);
            text.push_str("'");
        }
        _ => escape(argument, text),
    }
}

fn escape(argument: &[u8], text: &mut Line) {
    text.push_str("$'");
    for chunk in argument.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\n' => text.push_str("\\n"),
                '\t' => text.push_str("\\t"),
                '\r' => text.push_str("\\r"),
                '\'' | '\\' => {
                    text.push_str("\\");
                    text.push(c);
                }
                c if is_unsafe(c) => text.push_str(&code(c)),
                c => text.push(c),
            }
            if text.full {
                return;
            }
        }
        for byte in chunk.invalid() {
            let mut escaped = String::new();
            let _ = write!(escaped, "\\x{byte:02x}");
            text.push_str(&escaped);
        }
    }
    text.push_str("'");
}

fn code(c: char) -> String {
    let number = u32::from(c);
    if c.is_ascii() {
        format!("\\x{number:02x}")
    } else {
        format!("\\u{number:04x}")
    }
}

/// What a shell takes as it is.
fn is_bare(c: char) -> bool {
    c.is_alphanumeric() || "-_./=:,@%+^".contains(c)
}

/// What must not reach a terminal: control characters, and those that make a line look like another one.
fn is_unsafe(c: char) -> bool {
    let hides = matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    c.is_control() || hides
}

/// Text that stops growing.
#[derive(Default)]
struct Line {
    text: String,
    shown: usize,
    full: bool,
}

impl Line {
    fn push(&mut self, c: char) {
        if self.shown >= SHOWN_MAX {
            self.full = true;
        }
        if !self.full {
            self.text.push(c);
            self.shown += 1;
        }
    }

    fn push_str(&mut self, text: &str) {
        for c in text.chars() {
            self.push(c);
            if self.full {
                return;
            }
        }
    }

    fn done(mut self) -> String {
        if self.full {
            self.text.push('…');
        }
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_as_a_shell_would() {
        for (argv, text) in [
            (&b""[..], ""),
            (b"\0", ""),
            (b"ls\0", "ls"),
            (b"ls\0-l\0/tmp/x=1,2\0", "ls -l /tmp/x=1,2"),
            (b"sh\0-c\0echo $HOME; ls *\0", "sh -c 'echo $HOME; ls *'"),
            (b"a\0\0b\0", "a '' b"),
            (b"a\0\0", "a ''"),
            (b"don't\0", "$'don\\'t'"),
            (b"a\nb\tc\x1b[31m\0", "$'a\\nb\\tc\\x1b[31m'"),
            (b"\xff\xfe ok\0", "$'\\xff\\xfe ok'"),
            ("grüße\0".as_bytes(), "grüße"),
            ("ab\u{202e}cd\0".as_bytes(), "$'ab\\u202ecd'"),
            (b"nginx: worker process", "'nginx: worker process'"),
        ] {
            assert_eq!(render_argv(argv), text, "{argv:?}");
        }
    }

    #[test]
    fn it_is_bounded_and_safe_whatever_it_is_given() {
        let long = render_argv(&vec![b'x'; 100_000]);
        assert_eq!((long.chars().count(), long.ends_with('…')), (513, true));
        let fits = render_argv(&[b'x'; 512]);
        assert_eq!((fits.len(), fits.ends_with('x')), (512, true));
        let mut state = 0x5eed_u64;
        for _ in 0..2_000 {
            let mut argv = Vec::new();
            for _ in 0..(state >> 40) % 700 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                argv.push(state.to_le_bytes()[3]);
            }
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let text = render_argv(&argv);
            assert!(text.chars().count() <= SHOWN_MAX + 1);
            assert!(!text.chars().any(is_unsafe), "{text:?}");
        }
    }
}
