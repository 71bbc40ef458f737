//! `smart-monitor replay`: recorded signals decided again, as it was and as it would be.

mod dump;
mod line;
mod report;

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::render;
use crate::config::Config;
use crate::record::recording::{Note, ReadError, Reader, What};
use crate::replay::{Choice, Differences, Replay, Summary};
use report::Report;

/// Exit code when a configuration decides differently.
const DIFFERS: u8 = 1;

/// Let the core decide again on recorded signals; with another configuration, see what it would decide differently.
///
/// Nothing is done to the host. Exits with 1 when the two configurations differ, with 2 when something cannot be read.
#[derive(Debug, clap::Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
pub(super) struct Args {
    /// The recording: of `smart-monitor record`, of `smart-monitor run --record`, or lines of JSON.
    file: PathBuf,
    /// Compare with this configuration: only what it decides differently is printed.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Take this configuration for the one that was in force; lines of JSON carry none.
    #[arg(long, value_name = "FILE")]
    was: Option<PathBuf>,
    /// Print lines of JSON.
    #[arg(long)]
    json: bool,
    /// Pass over what is damaged.
    #[arg(long)]
    lenient: bool,
    /// Print the signals as lines of JSON, which can be edited and replayed, and decide nothing.
    #[arg(long, conflicts_with_all = ["config", "was", "json"])]
    dump: bool,
    /// Print the configuration that was in force, and decide nothing.
    #[arg(long, conflicts_with_all = ["config", "was", "json", "dump"])]
    dump_config: bool,
}

/// See [`Args`].
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let of_file = |error| named(&args.file, error);
    let reader = Reader::open(&args.file, args.lenient).map_err(|error| of_file(error.into()))?;
    let mut out = BufWriter::new(io::stdout().lock());
    let done = if args.dump {
        dump::signals(reader, &mut out).map(|()| false)
    } else if args.dump_config {
        dump::config(&reader, &mut out).map(|()| false)
    } else {
        decide(args, reader, &mut out)
    };
    let differs = match done.and_then(|differs| Ok(out.flush().map(|()| differs)?)) {
        // A reader that has gone away (`| head`) is no error.
        Err(error) if is_closed(&error) => false,
        done => done.map_err(of_file)?,
    };
    Ok(if differs {
        ExitCode::from(DIFFERS)
    } else {
        ExitCode::SUCCESS
    })
}

/// With the file that it is about, and every cause said once.
fn named(file: &Path, error: anyhow::Error) -> anyhow::Error {
    let error = match error.downcast::<io::Error>() {
        // Of the recording, a reading's error says so itself.
        Ok(error) => return render::unwritten(&error).into(),
        Err(error) => error,
    };
    match error.downcast::<ReadError>() {
        Ok(error) => anyhow::anyhow!("{}: {error}", file.display()),
        Err(error) => error.context(file.display().to_string()),
    }
}

fn is_closed(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn load(path: Option<&Path>) -> anyhow::Result<Option<Config>> {
    // What it says stands below each other.
    let load = |path| Config::load(path).map_err(|error| anyhow::anyhow!("{}", error.render()));
    path.map(load).transpose()
}

/// Whether the two configurations differ.
fn decide(args: &Args, mut reader: Reader, out: &mut impl Write) -> anyhow::Result<bool> {
    let choice = Choice {
        was: load(args.was.as_deref())?,
        new: load(args.config.as_deref())?,
    };
    let compared = choice.new.is_some();
    anyhow::ensure!(
        reader.header().is_some() || choice.was.is_some(),
        "lines of JSON do not say which configuration was in force: name it with `--was`"
    );
    let bad = |error: crate::config::ConfigError| anyhow::anyhow!("{}", error.render());
    let mut replay = Replay::new(reader.header(), choice).map_err(bad)?;
    let mut report = Report::new(args.json, compared, reader.header());
    let (mut differences, mut summary) = (Differences::default(), Summary::default());
    let (mut decided, began) = (Vec::new(), Instant::now());
    let mut span = None;
    loop {
        let entry = reader.next()?;
        let over = entry.is_none();
        match entry {
            Some(entry) => {
                let (first, _) = span.unwrap_or((entry.now, entry.now));
                span = Some((first, entry.now));
                report.begins(first);
                if let What::Note(note) = &entry.what
                    && let Note::Lost { entries } = note.as_ref()
                {
                    report.lost(out, entry.now, *entries)?;
                }
                replay.feed(entry, &mut decided).map_err(bad)?;
            }
            None => replay.play(&mut decided).map_err(bad)?,
        }
        if !decided.is_empty() {
            for decision in &decided {
                summary.add(decision);
            }
            let decisions = std::mem::take(&mut decided);
            let shown = if compared {
                differences.between(decisions)
            } else {
                differences.news(decisions)
            };
            for decision in &shown {
                report.decision(out, decision)?;
            }
        }
        if over {
            break;
        }
    }
    let took = began.elapsed();
    report.ending(out, &summary, reader.ending(), replay.missed())?;
    let span = span.map_or(Duration::ZERO, |(first, last)| last.since(first));
    render::remark(report::speed(reader.signals(), span, took));
    Ok(compared && report.any())
}
