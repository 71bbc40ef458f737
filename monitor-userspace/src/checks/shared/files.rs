//! Reads files for checks: bounded, off the thread that everything waits for, and never the same one twice at a time.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::alone::one_of;
use crate::model::CheckFailure;

/// Runs something that may wait for the file system that this is on: one of a dead network file system takes for ever, also after its
/// check gave up.
pub(super) async fn off_thread<T: Send + 'static>(
    path: &Path,
    call: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let name = path.display().to_string();
    let called = one_of(name, move || call().map_err(CheckFailure::Answer)).await;
    called.map_err(|failure| match failure {
        CheckFailure::Answer(why) | CheckFailure::Connect(why) => why,
        CheckFailure::Timeout => "its time is up".to_owned(),
    })
}

/// A whole file of at most so many bytes. Pipes and devices are refused and not waited for.
pub(super) fn read(path: &Path, most: u64) -> Result<Vec<u8>, String> {
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::CLOEXEC;
    let mut opening = OpenOptions::new();
    opening.read(true).custom_flags(flags.bits().cast_signed());
    let file = opening.open(path).map_err(|error| error.to_string())?;
    let meta = file.metadata().map_err(|error| error.to_string())?;
    if !meta.is_file() {
        return Err("it is no file".to_owned());
    }
    let mut content = Vec::new();
    let read = file.take(most + 1).read_to_end(&mut content);
    let read = read.map_err(|error| error.to_string())?;
    if u64::try_from(read).unwrap_or(u64::MAX) > most {
        return Err(format!(
            "it has more than the {most} bytes that are read at most"
        ));
    }
    Ok(content)
}
