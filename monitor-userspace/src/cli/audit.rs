//! `smart-monitor audit`: who did what, why, and what came of it, from the journal, whether or not the daemon runs.
//!
//! The journal is walked over as often as needed, and what is remembered of it is bounded, however long it is.

mod book;
mod figures;
mod filter;
mod list;
mod row;
mod shadow;
mod summary;
#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;

use super::render::{self, Paint, add};
use crate::config::Config;
use crate::host::clock;
use crate::model::Outcome;
use crate::record::journal::{self, Line, Place, Shape, Stored, Verdict};
use book::Book;
use filter::Filter;

/// Said below the options.
const MORE: &str = "Reads the journal of the state folder, oldest entry first; needs no daemon. Exit code of --verify: 0 when the chain of sums is \
whole (or there is nothing to check), 1 when it is broken or lines before its beginning have no sums, 2 when it cannot be read. What the sums do and do not prove: docs/safety.md.";

/// Who did what, why, and what came of it: the entries of the audit journal, oldest first.
#[derive(Debug, clap::Args)]
#[command(after_help = MORE)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an option of its own"
)]
pub(super) struct Args {
    /// State folder to read; /var/lib/smart-monitor unless given.
    #[arg(long, value_name = "FOLDER")]
    state_dir: Option<PathBuf>,
    /// Only what was written since then: so long ago, such as 24h or 7d, or a time such as 2026-03-01T12:00:00Z.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only what was written before then.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Only what is about this service, process entry of the configuration, process, device or address.
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Only what this rule was asked about or did.
    #[arg(long, value_name = "NAME", conflicts_with = "report")]
    rule: Option<String>,
    /// Only intents and effects of this action.
    #[arg(long, value_name = "NAME", conflicts_with = "report")]
    action: Option<String>,
    /// Only what is about this incident.
    #[arg(long, value_name = "ID", conflicts_with = "report")]
    incident: Option<u64>,
    #[expect(clippy::doc_markdown, reason = "shown by --help as it is")]
    /// Only what came to this: fixed, no_effect, worse, failed, refused, would_have or unknown.
    #[arg(long, value_name = "OUTCOME", value_parser = filter::outcome, conflicts_with = "report")]
    outcome: Option<Outcome>,
    /// Only what this person asked for or allowed.
    #[arg(long, value_name = "PERSON", conflicts_with = "report")]
    by: Option<String>,
    /// Only intents and effects.
    #[arg(long, conflicts_with = "report")]
    acts: bool,
    /// How many to list, the newest; all unless given.
    #[arg(long, value_name = "N", conflicts_with = "report")]
    limit: Option<u64>,
    /// Print JSON: entries as they are stored, one a line; or the whole report.
    #[arg(long)]
    json: bool,
    /// Check the chain of sums over the whole journal.
    #[arg(long, group = "report", conflicts_with_all = ["since", "until", "service"])]
    verify: bool,
    /// With --verify: lines without sums before the chain begins are known to be of an older version, and are no failure.
    #[arg(long, requires = "verify")]
    old: bool,
    /// How often and how fast, for each service, rule and action.
    #[arg(long, group = "report")]
    summary: bool,
    /// What dry runs would have done, and what became of it without.
    #[arg(long, group = "report")]
    shadow: bool,
    /// With --shadow: what is over so soon after it would have been acted on counts as recovered by itself.
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = filter::span, requires = "shadow")]
    within: Duration,
}

/// See [`Args`].
pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let named = args.state_dir.clone();
    let folder = named.unwrap_or_else(|| Config::defaults().daemon.state_dir);
    let mut out = io::stdout().lock();
    match audit(
        &folder,
        args,
        clock::unix_nanos(),
        Paint::for_stdout(),
        &mut out,
    ) {
        // A reader that has gone away (`| head`) is no error.
        Err(error) if is_broken_pipe(&error) => Ok(ExitCode::SUCCESS),
        done => done,
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<io::Error>();
    io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn audit(
    folder: &Path,
    args: Args,
    now_unix_ns: i64,
    paint: Paint,
    out: &mut impl Write,
) -> anyhow::Result<ExitCode> {
    let time = |text: Option<String>| {
        text.map(|text| filter::time(&text, now_unix_ns))
            .transpose()
    };
    let filter = Filter {
        since: time(args.since)?,
        until: time(args.until)?,
        service: args.service,
        rule: args.rule,
        action: args.action,
        incident: args.incident,
        outcome: args.outcome,
        by: args.by,
        acts: args.acts,
    };
    let stored = open(folder)?;
    if args.verify {
        return verify(folder, &stored, args.old, args.json, out);
    }
    let (book, unreadable) = Book::read(&stored).with_context(|| cannot_read(folder))?;
    if unreadable > 0 {
        render::remark(format_args!(
            "{unreadable} lines cannot be read, and are passed over; `smart-monitor audit --verify` says where the journal is damaged"
        ));
    }
    if book.dropped > 0 {
        render::remark(format_args!(
            "the journal has more incidents than are looked at together: the oldest {} are left out of what is counted",
            book.dropped
        ));
    }
    if args.summary {
        let summary = summary::of(book.cases(&filter));
        report(&summary, || summary.text(paint), args.json, out)?;
    } else if args.shadow {
        let shadow = shadow::of(book.cases(&filter), args.within);
        report(&shadow, || shadow.text(), args.json, out)?;
    } else {
        let form = if args.json {
            list::Form::Json
        } else {
            list::Form::Table(paint)
        };
        list::list(&stored, book, &filter, args.limit, form, out)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn open(folder: &Path) -> anyhow::Result<Stored> {
    let stored = Stored::open(folder).with_context(|| cannot_read(folder))?;
    // Reading a journal that is not there finds nothing in it, which would look like peace.
    anyhow::ensure!(
        stored.names().next().is_some(),
        "there is no journal in {}; name its folder with --state-dir",
        folder.display()
    );
    Ok(stored)
}

fn cannot_read(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "cannot read the journal in {folder}; name its folder with --state-dir, or run with sudo"
    )
}

/// Hands every line that reads to `each`; how many do not. What is just being written is none of them.
fn walk(stored: &Stored, mut each: impl FnMut(&Line, &[u8]) -> ControlFlow<()>) -> io::Result<u64> {
    let mut unreadable = 0;
    stored.each(|place: Place<'_>, text| {
        if let Ok(line) = serde_json::from_slice(text) {
            return each(&line, text);
        }
        unreadable += u64::from(!(place.shape == Shape::Torn && place.current));
        ControlFlow::Continue(())
    })?;
    Ok(unreadable)
}

fn report(
    report: &impl Serialize,
    text: impl FnOnce() -> String,
    json: bool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    if json {
        serde_json::to_writer_pretty(&mut *out, report).map_err(io::Error::from)?;
        out.write_all(b"\n")?;
    } else {
        out.write_all(text().as_bytes())?;
    }
    out.flush()?;
    Ok(())
}

fn verify(
    folder: &Path,
    stored: &Stored,
    old: bool,
    json: bool,
    out: &mut impl Write,
) -> anyhow::Result<ExitCode> {
    let found = journal::verify(stored).with_context(|| cannot_read(folder))?;
    report(&found, || verified(&found), json, out)?;
    let good = match found.verdict {
        Verdict::Whole => true,
        Verdict::Nothing => !found.torn,
        Verdict::Unchecked => old,
        Verdict::Broken => false,
    };
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn verified(found: &journal::Report) -> String {
    let mut text = String::new();
    for at in &found.breaks {
        add(
            &mut text,
            format_args!("{}:{}: {}\n", at.file, at.line, at.what),
        );
    }
    if found.more_breaks > 0 {
        add(
            &mut text,
            format_args!("and at {} more places\n", found.more_breaks),
        );
    }
    let state = match found.verdict {
        Verdict::Nothing => "nothing to check".to_owned(),
        Verdict::Whole => "whole".to_owned(),
        Verdict::Broken => "BROKEN".to_owned(),
        Verdict::Unchecked => {
            let lines = found.unchecked;
            let carry = if lines == 1 {
                "line carries"
            } else {
                "lines carry"
            };
            format!("NOT CHECKED from its beginning: {lines} {carry} no sum")
        }
    };
    add(
        &mut text,
        format_args!(
            "chain      {state}\nlines      {}\nunchecked  {}",
            found.lines, found.unchecked
        ),
    );
    if found.unchecked > 0 {
        text.push_str(" (an older version wrote them, or they were put there, or their sums were taken; --old takes them for an older version's)");
    }
    if found.generations_gone > 0 {
        add(
            &mut text,
            format_args!(
                "\ngone       {} older generations, which cannot be checked any more",
                found.generations_gone
            ),
        );
    }
    if found.torn {
        text.push_str("\nend        half a line: being written, or cut short; the daemon cuts it off when it starts");
    }
    add(
        &mut text,
        format_args!("\nlast sum   {}\n", found.last.as_deref().unwrap_or("-")),
    );
    text
}
