//! How the commands write for people: tables, times, sizes, colour. Nothing wider than [`WIDTH`] columns on a screen;
//! tables are not cut elsewhere.
//!
//! Names of processes and messages of services come from others: whatever a terminal would obey is taken out of them.

mod table;

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

pub(super) use table::{Cell, Column, Table};

/// Widest line.
pub(super) const WIDTH: usize = 120;

/// How a text stands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// All is well.
    Good,
    /// Worse than it should be.
    Warning,
    /// A person should look.
    Bad,
    /// A heading.
    Heading,
    /// Less important.
    Dim,
}

/// What standard output takes: colours or none, a screen's width or whatever comes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paint {
    colour: bool,
    /// What is too wide for a screen is cut; never in a file or a pipe, where it may be looked for.
    cut: bool,
}

impl Paint {
    /// Colours on a terminal, unless `NO_COLOR` is set or the terminal is a dumb one.
    pub(super) fn for_stdout() -> Self {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let cut = io::stdout().is_terminal();
        Self {
            colour: cut && !set("NO_COLOR") && !dumb,
            cut,
        }
    }

    /// A screen without colours.
    #[cfg(test)]
    pub(super) const fn none() -> Self {
        Self {
            colour: false,
            cut: true,
        }
    }

    /// A file or a pipe.
    #[cfg(test)]
    pub(super) const fn piped() -> Self {
        Self {
            colour: false,
            cut: false,
        }
    }

    /// The text in this style.
    pub(super) fn apply(self, style: Style, text: &str) -> String {
        if !self.colour || text.is_empty() {
            return text.to_owned();
        }
        let code = match style {
            Style::Good => "32",
            Style::Warning => "33",
            Style::Bad => "1;31",
            Style::Heading => "1",
            Style::Dim => "2",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// Writes to standard output. A reader that has gone away (`| head`) is no error; a full disk is.
pub(super) fn show(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(|error| unwritten(&error)),
    }
}

/// Why standard output does not take what is written to it, in words.
pub(super) fn unwritten(error: &io::Error) -> io::Error {
    io::Error::new(
        error.kind(),
        format!("cannot write to standard output: {error}"),
    )
}

/// Writes a line to standard error. Where that takes nothing (closed, or on a full disk), nobody can be told.
pub(super) fn remark(text: impl fmt::Display) {
    ask(format_args!("{text}\n"));
}

/// The same without the end of the line.
pub(super) fn ask(text: impl fmt::Display) {
    // In one piece: others may write to it too.
    let _ = io::stderr().lock().write_all(text.to_string().as_bytes());
}

/// Appends to a text.
pub(super) fn add(out: &mut String, text: fmt::Arguments<'_>) {
    // A string takes whatever it is given.
    let _ = fmt::Write::write_fmt(out, text);
}

/// A duration in one or two units, short enough to be read at a glance: `41 us`, `3.20 ms`, `12 min 5 s`, `3 h 12 min`.
pub(super) fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        _ if time < Duration::from_millis(1) => format!("{} us", time.as_micros()),
        _ if time < Duration::from_secs(1) => figures(time.as_secs_f64() * 1e3, "ms"),
        0..60 => figures(time.as_secs_f64(), "s"),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// Three figures.
fn figures(value: f64, unit: &str) -> String {
    match value {
        ..9.995 => format!("{value:.2} {unit}"),
        ..99.95 => format!("{value:.1} {unit}"),
        _ => format!("{value:.0} {unit}"),
    }
}

/// A size: `18.4 MiB`.
pub(super) fn bytes(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "three figures are shown")]
    let mut value = bytes as f64;
    let mut units = ["B", "KiB", "MiB", "GiB", "TiB"].iter().peekable();
    while let Some(unit) = units.next() {
        if value < 1_024.0 || units.peek().is_none() {
            let small = *unit == "B";
            return if small {
                format!("{bytes} B")
            } else {
                format!("{value:.1} {unit}")
            };
        }
        value /= 1_024.0;
    }
    format!("{bytes} B")
}

/// An instant on the wall clock of this machine, in the given `strftime` form.
pub(super) fn wall(unix_ns: i64, form: &str) -> String {
    Timestamp::from_nanosecond(i128::from(unix_ns)).map_or_else(
        |_| "-".to_owned(),
        |at| at.to_zoned(TimeZone::system()).strftime(form).to_string(),
    )
}

/// The text without what a terminal would obey.
pub(super) fn clean(text: &str) -> String {
    text.chars()
        .map(|letter| {
            if letter.is_control() {
                '\u{fffd}'
            } else {
                letter
            }
        })
        .collect()
}

/// The text in lines of at most `width` columns, broken at spaces where that is possible.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut used = 0;
    for word in text.split_whitespace() {
        for piece in pieces(word, width.max(1)) {
            let length = piece.chars().count();
            if used > 0 && used + 1 + length > width {
                lines.push(std::mem::take(&mut line));
                used = 0;
            }
            if used > 0 {
                line.push(' ');
                used += 1;
            }
            line.push_str(&piece);
            used += length;
        }
    }
    lines.push(line);
    lines
}

/// A word that is wider than the line, cut.
fn pieces(word: &str, width: usize) -> Vec<String> {
    let letters: Vec<char> = word.chars().collect();
    letters
        .chunks(width)
        .map(|piece| piece.iter().collect())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_show_the_unit_that_matters() {
        let cases = [
            (0, "0 us"),
            (41_000, "41 us"),
            (999_999, "999 us"),
            (1_000_000, "1.00 ms"),
            (3_204_000, "3.20 ms"),
            (66_040_000, "66.0 ms"),
            (999_900_000, "1000 ms"),
            (1_000_000_000, "1.00 s"),
            (30_100_000_000, "30.1 s"),
            (725_000_000_000, "12 min 5 s"),
            (11_520_000_000_000, "3 h 12 min"),
            (187_200_000_000_000, "2 d 4 h"),
        ];
        for (nanos, words) in cases {
            assert_eq!(duration(Duration::from_nanos(nanos)), words);
        }
    }

    #[test]
    fn sizes_show_the_unit_that_matters() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1_023), "1023 B");
        assert_eq!(bytes(19_293_798), "18.4 MiB");
        assert_eq!(bytes(u64::MAX), "16777216.0 TiB");
    }

    #[test]
    fn a_terminal_is_not_told_what_to_do_by_a_process_name() {
        assert_eq!(clean("a\x1b[2Jb\nc"), "a\u{fffd}[2Jb\u{fffd}c");
    }

    #[test]
    fn long_texts_are_broken_at_spaces_and_long_words_anywhere() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("abcdefgh i", 3), ["abc", "def", "gh", "i"]);
        assert_eq!(wrap("", 5), [""]);
    }

    #[test]
    fn without_colour_a_text_is_itself() {
        assert_eq!(Paint::none().apply(Style::Bad, "down"), "down");
        let paint = Paint {
            colour: true,
            cut: true,
        };
        assert_eq!(paint.apply(Style::Good, "up"), "\x1b[32mup\x1b[0m");
    }
}
