//! `smart-monitor record`: has the running daemon record its signals into a file, shows how far it is, ends it on Ctrl-C. With `--stop` it
//! ends one that goes on without its command.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use hyper::Method;
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

use super::ask::{Daemon, NoAnswer};
use super::render;
use crate::api::answers::Recording;
use crate::api::client::{self, ClientError};
use crate::api::{RECORDING, RECORDING_SIZE, WantedRecording};
use crate::config::units::{Bytes, Span};

/// Record the signals that the running daemon gets into a new file, for `smart-monitor replay`.
///
/// The file holds the configuration that is in force, command lines included; it is made by the daemon, for its user alone.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The new file.
    #[arg(required_unless_present = "stop")]
    file: Option<PathBuf>,
    /// End the recording that is under way, whoever began it.
    #[arg(long, conflicts_with_all = ["file", "time", "size"])]
    stop: bool,
    /// End after this time (`10m`); else at the file's size, or on Ctrl-C.
    #[arg(long = "for", value_name = "TIME", value_parser = span)]
    time: Option<Span>,
    /// End when the file has this size.
    #[arg(long, value_name = "SIZE", value_parser = bytes, default_value_t = Bytes(RECORDING_SIZE))]
    size: Bytes,
    #[command(flatten)]
    daemon: Daemon,
}

fn span(text: &str) -> Result<Span, String> {
    Span::parse(text)
        .filter(|span| span.0 >= Duration::from_secs(1))
        .ok_or_else(|| "write it as 30s, 10m or 2h; a second at least".to_owned())
}

fn bytes(text: &str) -> Result<Bytes, String> {
    Bytes::parse(text).ok_or_else(|| "write it as 64MiB or 2GiB".to_owned())
}

/// See [`Args`].
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let Some(file) = &args.file else {
        return match stop(&args.daemon) {
            Ok(recording) => {
                render::show(&told(&recording))?;
                Ok(ExitCode::SUCCESS)
            }
            Err(why) => why.show(false),
        };
    };
    let wanted = WantedRecording {
        path: std::path::absolute(file)?,
        for_seconds: args.time.map(|time| time.0.as_secs()),
        size: args.size.0,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    match runtime.block_on(record(&args.daemon.socket(), &wanted))? {
        Ok(recording) => {
            render::show(&told(&recording))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => NoAnswer::to_change(error).show(false),
    }
}

/// Ends the one that is under way.
fn stop(daemon: &Daemon) -> Result<Recording, NoAnswer> {
    let current: Recording = daemon.ask(RECORDING).map_err(NoAnswer::to_change)?;
    if let Some(why) = current.over {
        return Err(NoAnswer::Refused(render::clean(&format!(
            "nothing is being recorded; the last recording, {}, has ended: {why}",
            current.file.display()
        ))));
    }
    daemon
        .delete(RECORDING, &Value::Null)
        .map_err(NoAnswer::to_change)
}

async fn record(
    socket: &Path,
    wanted: &WantedRecording,
) -> anyhow::Result<Result<Recording, ClientError>> {
    // Before it begins, so that no end of this command leaves it behind.
    let mut ends = [
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
        signal(SignalKind::hangup())?,
    ];
    let body = serde_json::to_value(wanted)?;
    Ok(follow(socket, &body, &mut ends).await)
}

async fn follow(
    socket: &Path,
    body: &Value,
    ends: &mut [tokio::signal::unix::Signal; 3],
) -> Result<Recording, ClientError> {
    read(client::send_json(socket, Method::POST, RECORDING, body).await?)?;
    let [interrupt, terminate, hangup] = ends;
    let mut every = interval(Duration::from_secs(1));
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let shown = std::io::stderr().is_terminal();
    loop {
        tokio::select! {
            _ = every.tick() => {}
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
            _ = hangup.recv() => break,
        }
        let recording = read(client::get_json(socket, RECORDING).await?)?;
        if recording.over.is_some() {
            return Ok(recording);
        }
        if shown {
            // Nobody may be looking any more.
            let _ = write!(std::io::stderr(), "\r\x1b[K{}", progress(&recording));
        }
    }
    if shown {
        let _ = write!(std::io::stderr(), "\r\x1b[K");
    }
    read(client::send_json(socket, Method::DELETE, RECORDING, &Value::Null).await?)
}

fn read(answer: Value) -> Result<Recording, ClientError> {
    serde_json::from_value(answer).map_err(|error| ClientError::Bad {
        path: RECORDING.to_owned(),
        reason: error.to_string(),
    })
}

fn progress(recording: &Recording) -> String {
    let time = |seconds| render::duration(Duration::try_from_secs_f64(seconds).unwrap_or_default());
    let most = recording
        .most_seconds
        .map(|most| format!(" of {}", time(most)));
    format!(
        "{} signals, {} of {}, {}{}, {} lost",
        recording.signals,
        render::bytes(recording.bytes),
        render::bytes(recording.most_bytes),
        time(recording.seconds),
        most.unwrap_or_default(),
        recording.lost
    )
}

/// What became of it.
fn told(recording: &Recording) -> String {
    #[expect(clippy::cast_precision_loss, reason = "a mean for people")]
    let each = recording.bytes as f64 / recording.signals.max(1) as f64;
    let why = recording.over.as_deref().unwrap_or("its end was not seen");
    render::clean(&format!(
        "{}: {} signals in {:.1} s, {} ({each:.1} bytes a signal), {} lost; ended: {why}",
        recording.file.display(),
        recording.signals,
        recording.seconds,
        render::bytes(recording.bytes),
        recording.lost
    )) + "\n"
}
