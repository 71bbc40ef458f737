//! Passwords: read when they are needed, from where nobody else reads, and never shown.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

/// Longest password, bytes.
const LONGEST: u64 = 4096;

/// The first line of a file. An error says why there is none, and nothing of what stands there.
pub fn first_line(path: &Path) -> Result<Vec<u8>, String> {
    let cannot = |why: String| format!("cannot read the password from {}: {why}", path.display());
    // What is no file may never end, or never begin.
    let found = std::fs::metadata(path).map_err(|error| cannot(error.to_string()))?;
    if !found.is_file() {
        return Err(cannot("it is not a regular file".to_owned()));
    }
    let file = File::open(path).map_err(|error| cannot(error.to_string()))?;
    let mut text = Vec::new();
    let read = file.take(LONGEST + 1).read_to_end(&mut text);
    read.map_err(|error| cannot(error.to_string()))?;
    if text.len() as u64 > LONGEST {
        return Err(cannot(format!("it is longer than {LONGEST} bytes")));
    }
    let line = text.split(|byte| matches!(byte, b'\n' | b'\r')).next();
    match line {
        Some(line) if !line.is_empty() => Ok(line.to_vec()),
        _ => Err(cannot("its first line is empty".to_owned())),
    }
}
