//! What a recording holds, as text.

use std::io::Write;

use anyhow::Context;

use crate::cli::render;
use crate::record::recording::{Reader, Recorded, What};

/// The signals, a line of JSON each. What is not a signal has no line, and is counted on standard error.
pub(super) fn signals(mut reader: Reader, out: &mut impl Write) -> anyhow::Result<()> {
    let mut others = 0_u64;
    while let Some(entry) = reader.next()? {
        let (at, now) = (entry.at, entry.now);
        match entry.what {
            What::Signal(signal) => {
                serde_json::to_writer(&mut *out, &Recorded { at, now, signal })
                    .map_err(std::io::Error::from)?;
                out.write_all(b"\n")?;
            }
            What::Note(_) => others += 1,
        }
    }
    if others > 0 {
        render::remark(format_args!(
            "left out: {others} notes for a replay (of acts, of incidents' numbers, of configurations)"
        ));
    }
    for line in super::report::reading(reader.ending()) {
        render::remark(line);
    }
    Ok(())
}

/// The configuration that was in force at the beginning.
pub(super) fn config(reader: &Reader, out: &mut impl Write) -> anyhow::Result<()> {
    let header = reader
        .header()
        .context("lines of JSON do not say which configuration was in force")?;
    let text = header.in_force.config.as_deref();
    let text = text.context("no configuration was in force: everything was as by default")?;
    out.write_all(text.as_bytes())?;
    Ok(())
}
