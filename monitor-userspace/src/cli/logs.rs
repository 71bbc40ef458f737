//! `smart-monitor logs`: what a service that the daemon starts has written.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use super::ask::NoAnswer;
use super::stored::Stored;
use crate::host::capture;

/// The last lines that a service of `kind = "command"` has written, and on request those that follow.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Name of the service.
    service: String,
    /// How many lines.
    #[arg(long, short = 'n', value_name = "NUMBER", default_value_t = 20)]
    lines: usize,
    /// Go on with what is written from now on, until interrupted.
    #[arg(long, short)]
    follow: bool,
    #[command(flatten)]
    stored: Stored,
}

/// How often it is looked for more.
const LOOK: Duration = Duration::from_millis(100);
/// How much is read at once.
const PART: u64 = 64 << 10;
/// Most old files that may have come between two looks.
const CAME: usize = 16;

/// See [`Args`].
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@');
    if args.service.is_empty() || !args.service.chars().all(plain) {
        let why = format!("{:?} cannot be the name of a service", args.service);
        return NoAnswer::Missing(why).show(false);
    }
    let folder = capture::folder(&args.stored.folder());
    let path = capture::file(&folder, &args.service);
    let mut out = Out {
        plain: !io::stdout().is_terminal(),
        last: 0,
    };
    let mut place = match Place::of(&path) {
        Ok(place) => place,
        Err(error) => {
            let why = format!(
                "cannot read {}: {error}; the daemon keeps there what services of kind = \"command\" write, unless capture_logs is false; name another state folder with --state-dir, or run with sudo",
                path.display()
            );
            return NoAnswer::Missing(why).show(false);
        }
    };
    let shown = last(&path, args.lines, place.at)
        .and_then(|text| out.write(&text))
        .and_then(|()| {
            if args.follow {
                follow(&path, &mut place, &mut out)
            } else {
                Ok(())
            }
        });
    match shown {
        Ok(()) => Ok(ExitCode::SUCCESS),
        // Who reads has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Err(error) => Err(anyhow::Error::new(error).context(format!("read {}", path.display()))),
    }
}

/// Where lines go.
struct Out {
    /// As they are: nobody's terminal is at the other end.
    plain: bool,
    /// The last byte that went there.
    last: u8,
}

impl Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if self.plain {
            out.write_all(bytes)?;
        } else {
            out.write_all(&shown(self.last, bytes))?;
        }
        self.last = bytes.last().copied().unwrap_or(self.last);
        out.flush()
    }
}

/// What a terminal takes for letters: a service's output could tell it anything. `before` is the byte that it was shown before these.
fn shown(before: u8, bytes: &[u8]) -> Vec<u8> {
    let control = |byte: u8| (byte < 0x20 && !matches!(byte, b'\n' | b'\t')) || byte == 0x7f;
    // U+0080 to U+009F in UTF-8: one of them begins a command as ESC [ does.
    let long_control = |first: u8, second: u8| first == 0xc2 && (0x80..=0x9f).contains(&second);
    let before = std::iter::once(before).chain(bytes.iter().copied());
    let after = bytes.iter().copied().skip(1).chain([0]);
    let around = before.zip(after).zip(bytes.iter().copied());
    let shown = around.map(|((before, after), byte)| {
        let is = control(byte) || long_control(before, byte) || long_control(byte, after);
        if is { b'?' } else { byte }
    });
    shown.collect()
}

/// The last lines, over the files before as far as need be.
fn last(newest: &Path, lines: usize, at: u64) -> io::Result<Vec<u8>> {
    let mut parts: Vec<Vec<u8>> = Vec::new();
    let mut found = 0;
    let all = std::iter::once((newest.to_owned(), at));
    let before = capture::before(newest).into_iter();
    'files: for (path, most) in all.chain(before.map(|path| (path, u64::MAX))) {
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            file => file?,
        };
        let mut end = file.metadata()?.len().min(most);
        while end > 0 {
            let start = end.saturating_sub(PART);
            let mut part = vec![0; usize::try_from(end - start).unwrap_or(0)];
            file.read_exact_at(&mut part, start)?;
            found += part.split(|byte| *byte == b'\n').count() - 1;
            parts.push(part);
            end = start;
            // One more than asked for: the first may have begun before.
            if found > lines {
                break 'files;
            }
        }
    }
    parts.reverse();
    Ok(last_of(parts.concat(), lines))
}

fn last_of(mut text: Vec<u8>, lines: usize) -> Vec<u8> {
    let body = text.strip_suffix(b"\n").unwrap_or(&text);
    let breaks = body.iter().enumerate().rev();
    let mut breaks = breaks.filter(|(_, byte)| **byte == b'\n');
    let begins = match lines.checked_sub(1) {
        None => text.len(),
        Some(before) => breaks.nth(before).map_or(0, |(at, _)| at + 1),
    };
    text.drain(..begins);
    text
}

/// How far a file and those before it were shown.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    /// The newest of those before, by its inode.
    newest: Option<u64>,
    at: u64,
}

impl Place {
    fn of(path: &Path) -> io::Result<Self> {
        Ok(Self {
            newest: newest(path),
            at: File::open(path)?.metadata()?.len(),
        })
    }

    /// What has come since, and where that ends; none where the files are just being changed.
    fn since(&self, path: &Path, patient: bool) -> io::Result<Option<(Vec<u8>, Self)>> {
        let came = self.came(path)?;
        let mut at = self.at;
        let mut text = Vec::new();
        if let Some(oldest) = came.first()
            && patient
            && same_beginning(oldest, path)?
        {
            return Ok(None);
        }
        for old in &came {
            let length = File::open(old)?.metadata()?.len();
            text.extend(from(old, at, u64::MAX)?);
            at = at.saturating_sub(length);
        }
        let seen = newest(path);
        let length = std::fs::metadata(path)?.len();
        // Emptied, with nothing kept.
        let at = if length < at { 0 } else { at };
        // The rest comes with the next look.
        let rest = from(path, at, 16 * PART)?;
        if newest(path) != seen || (!came.is_empty() && seen == self.newest) {
            return Ok(None);
        }
        let at = at + rest.len() as u64;
        text.extend(rest);
        Ok(Some((text, Self { newest: seen, at })))
    }

    /// The files that have become old ones since, the oldest first.
    fn came(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let mut came = Vec::new();
        for old in capture::before(path).into_iter().take(CAME) {
            if Some(std::fs::metadata(&old)?.ino()) == self.newest {
                break;
            }
            came.push(old);
        }
        came.reverse();
        Ok(came)
    }
}

fn newest(path: &Path) -> Option<u64> {
    let first = capture::before(path).into_iter().next()?;
    Some(std::fs::metadata(first).ok()?.ino())
}

/// Whether what was copied is not taken away from the file yet.
fn same_beginning(old: &Path, path: &Path) -> io::Result<bool> {
    let begins = |path: &Path| {
        let mut bytes = Vec::new();
        File::open(path)?.take(256).read_to_end(&mut bytes)?;
        Ok::<_, io::Error>(bytes)
    };
    let begins = (begins(old)?, begins(path)?);
    Ok(!begins.0.is_empty() && begins.1.starts_with(&begins.0))
}

fn from(path: &Path, at: u64, most: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(at))?;
    let mut text = Vec::new();
    file.take(most).read_to_end(&mut text)?;
    Ok(text)
}

/// Shows what comes, until somebody ends it.
fn follow(path: &Path, place: &mut Place, out: &mut Out) -> io::Result<()> {
    let mut tries = 0_u32;
    loop {
        match place.since(path, tries < 5) {
            Ok(Some((text, next))) => {
                tries = 0;
                *place = next;
                if !text.is_empty() {
                    out.write(&text)?;
                    continue;
                }
            }
            Ok(None) => tries += 1,
            // Between a file's end and the next one's beginning.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        std::thread::sleep(LOOK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_the_last() {
        for (text, lines, expected) in [
            ("a\nb\nc\n", 2, "b\nc\n"),
            ("a\nb\nc", 2, "b\nc"),
            ("a\nb\n", 5, "a\nb\n"),
            ("a\n", 0, ""),
            ("", 3, ""),
        ] {
            assert_eq!(last_of(text.into(), lines), expected.as_bytes(), "{text:?}");
        }
    }

    #[test]
    fn a_terminal_is_told_nothing_but_letters() {
        assert_eq!(shown(0, b"a\x1b[2Jb\tc\n"), b"a?[2Jb\tc\n");
        let text = "a\u{80}b\u{9b}2Jc\u{9f}";
        assert_eq!(shown(0, text.as_bytes()), b"a??b??2Jc??");
        let text = "\u{a0}©é€ü";
        assert_eq!(shown(0, text.as_bytes()), text.as_bytes());
        // Cut in two.
        assert_eq!(shown(0xc2, b"\x9b2J"), b"?2J");
        assert_eq!(shown(0, b"a\xc2"), b"a\xc2");
        assert!(shown(0xc2, b"").is_empty());
    }

    #[test]
    fn what_comes_is_shown_once_over_the_files() {
        let folder =
            std::env::temp_dir().join(format!("smart-monitor-logs-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("it is made");
        let (path, old) = (folder.join("shop.log"), folder.join("shop.log.1"));
        std::fs::write(&path, "one\ntwo\n").expect("it is written");
        let place = Place::of(&path).expect("it is there");
        std::fs::write(&path, "one\ntwo\nthree\n").expect("it is written");
        let (text, place) = place
            .since(&path, true)
            .expect("it reads")
            .expect("it is whole");
        assert_eq!(text, b"three\n");
        // A file becomes an old one: first it is copied, then it is emptied.
        std::fs::write(&old, "one\ntwo\nthree\nfour\n").expect("it is written");
        std::fs::write(&path, "one\ntwo\nthree\nfour\nfive\n").expect("it is written");
        assert_eq!(place.since(&path, true).expect("it reads"), None);
        std::fs::write(&path, "five\n").expect("it is written");
        let (text, place) = place
            .since(&path, true)
            .expect("it reads")
            .expect("it is whole");
        assert_eq!(text, b"four\nfive\n");
        let (text, _) = place
            .since(&path, true)
            .expect("it reads")
            .expect("it is whole");
        assert!(text.is_empty());
        assert_eq!(
            last(&path, 3, u64::MAX).expect("it reads"),
            b"three\nfour\nfive\n"
        );
        std::fs::remove_dir_all(folder).expect("it goes");
    }
}
