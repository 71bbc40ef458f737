//! `environment_file`: lines `NAME=VALUE`, as shells and systemd write them.
//!
//! A value can stand in single quotes (as it is) or double ones (where `\` takes the next character as it is, and `\n` is a new line).
//! Lines that are empty or begin with `#` or `;` mean nothing; `export ` before a name neither. Nothing is expanded. An error names the
//! line, and nothing that stands in it: it may be a secret.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;

/// Most bytes of a file.
const LONGEST: usize = 256 << 10;

/// Reads a file; an error says what is wrong with it, in words. Waits for nobody, whatever is at the path.
pub fn read(path: &Path) -> Result<Vec<(String, String)>, String> {
    let wrong = |why: String| format!("environment_file {}: {why}", path.display());
    let nonblock = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
    let mut options = File::options();
    let file = options.read(true).custom_flags(nonblock).open(path);
    let file = file.map_err(|error| wrong(error.to_string()))?;
    let about = file.metadata().map_err(|error| wrong(error.to_string()))?;
    if !about.is_file() {
        return Err(wrong("it is no file".to_owned()));
    }
    let mut text = Vec::new();
    let read = file.take(LONGEST as u64 + 1).read_to_end(&mut text);
    read.map_err(|error| wrong(error.to_string()))?;
    if text.len() > LONGEST {
        return Err(wrong(format!("it is longer than {} KiB", LONGEST >> 10)));
    }
    let text = String::from_utf8(text).map_err(|_| wrong("it is no UTF-8".to_owned()))?;
    parse(&text).map_err(wrong)
}

fn parse(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut pairs = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        let wrong = |why: &str| format!("line {}: {why}", number + 1);
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (name, value) = line
            .split_once('=')
            .ok_or_else(|| wrong("it is not NAME=VALUE"))?;
        let letter = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let name = name.trim();
        if name.is_empty()
            || !name.chars().all(letter)
            || name.starts_with(|c: char| c.is_ascii_digit())
        {
            return Err(wrong(
                "a name has letters, digits and `_`, and begins with no digit",
            ));
        }
        let value = unquoted(value.trim()).map_err(wrong)?;
        if value.contains('\0') {
            return Err(wrong("a value cannot have a null in it"));
        }
        pairs.push((name.to_owned(), value));
    }
    Ok(pairs)
}

fn unquoted(value: &str) -> Result<String, &'static str> {
    const OPEN: &str = "a quote is not closed, or something stands after it";
    if let Some(rest) = value.strip_prefix('\'') {
        let inside = rest.strip_suffix('\'').ok_or(OPEN)?;
        return if inside.contains('\'') {
            Err(OPEN)
        } else {
            Ok(inside.to_owned())
        };
    }
    let Some(rest) = value.strip_prefix('"') else {
        return Ok(value.to_owned());
    };
    let mut read = String::new();
    let mut letters = rest.chars();
    loop {
        match letters.next().ok_or(OPEN)? {
            '"' if letters.next().is_none() => return Ok(read),
            '"' => return Err(OPEN),
            '\\' => match letters.next().ok_or(OPEN)? {
                'n' => read.push('\n'),
                other => read.push(other),
            },
            other => read.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read() {
        let text = "# a comment\n\nA=1\nexport B = two words \nC='as $it is\\'\nD=\"a \\\"b\\\" \\\\ c\\n\"\nE=\nF=a=b#c\r\n;x";
        let read = parse(text).expect("it reads");
        let expected = [
            ("A", "1"),
            ("B", "two words"),
            ("C", "as $it is\\"),
            ("D", "a \"b\" \\ c\n"),
            ("E", ""),
            ("F", "a=b#c"),
        ];
        let expected: Vec<_> = expected
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        assert_eq!(read, expected);
    }

    #[test]
    fn what_is_no_file_is_not_waited_for() {
        let name = format!("smart-monitor-environment-{}.pipe", std::process::id());
        let path = std::env::temp_dir().join(name);
        let mode = rustix::fs::Mode::RUSR;
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, mode).expect("it is made");
        let (say, said) = std::sync::mpsc::channel();
        let pipe = path.clone();
        std::thread::spawn(move || say.send(read(&pipe)));
        let read = said.recv_timeout(std::time::Duration::from_secs(5));
        std::fs::remove_file(path).expect("it goes");
        let why = read.expect("nobody is waited for").expect_err("a pipe");
        assert!(why.ends_with("it is no file"), "{why}");
    }

    #[test]
    fn mistakes_are_named_by_line_and_no_secret_is_said() {
        for line in [
            "hunter2",
            "1A=hunter2",
            "=hunter2",
            "A B=hunter2",
            "A=\"hunter2",
            "A='hunter2",
            "A=\"hunter2\" x",
            "A='hun'ter2'",
            "A=\"hunter2\\\"",
            "A=hunter2\0",
        ] {
            let why = parse(&format!("OK=1\n{line}")).expect_err(line);
            assert!(why.starts_with("line 2: "), "{why}");
            assert!(!why.contains("hunter"), "{why}");
        }
        let folder = std::env::temp_dir();
        assert!(read(&folder).is_err(), "a folder");
        assert!(read(&folder.join("smart-monitor-no-such-file")).is_err());
        let path = folder.join(format!("smart-monitor-environment-{}", std::process::id()));
        std::fs::write(&path, vec![b'#'; LONGEST + 1]).expect("it is written");
        assert!(read(&path).is_err_and(|why| why.contains("longer than 256 KiB")));
        std::fs::write(&path, b"A=\xff").expect("it is written");
        assert!(read(&path).is_err_and(|why| why.contains("no UTF-8")));
        std::fs::remove_file(path).expect("it goes");
    }
}
