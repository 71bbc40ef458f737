//! The service that is killed, and the client that waits for it: it connects again and again, until a new process answers.

use std::fs::OpenOptions;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use smart_monitor::host::Opened as _;

use crate::daemon::{Folder, program};
use crate::report::Samples;
use crate::service::hold;

/// Between two attempts to connect.
const GLANCE: Duration = Duration::from_micros(200);
/// One that takes longer is not the service: a connection that its predecessor left in its queue.
const STALE: Duration = Duration::from_secs(1);
/// How long a supervisor may take to start it again.
const AGAIN_WITHIN: Duration = Duration::from_secs(30);
/// How old a process must be before it is killed: some call one unstable that ran for less than a second.
const OLD: Duration = Duration::from_millis(1500);

/// The service: notes its start, and tells everybody its process ID. Ends when the bench is gone.
pub(crate) fn be(listen: SocketAddr, starts: &Path) -> ExitCode {
    match serve(listen, starts) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench service at {listen}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(listen: SocketAddr, starts: &Path) -> io::Result<()> {
    let mut noted = OpenOptions::new().append(true).open(starts)?;
    noted.write_all(b".")?;
    let listener = TcpListener::bind(listen)?;
    let starts = starts.to_owned();
    std::thread::spawn(move || {
        while starts.exists() {
            std::thread::sleep(Duration::from_secs(1));
        }
        std::process::exit(0);
    });
    let own = std::process::id().to_string();
    for connection in listener.incoming() {
        // Who goes away in between asks again.
        let _gone = connection.and_then(|mut client| client.write_all(own.as_bytes()));
    }
    Ok(())
}

/// One such service: where it listens, and the file with a byte for each of its starts.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) listen: SocketAddr,
    starts: PathBuf,
}

impl Place {
    pub(super) fn new(folder: &Folder, name: &str, port: u16) -> Result<Self> {
        let starts = folder.file(&format!("{name}.starts"));
        std::fs::write(&starts, "")?;
        let listen = ([127, 0, 0, 1], port).into();
        Ok(Self { listen, starts })
    }

    /// Its command line.
    pub(super) fn command(&self) -> Result<Vec<String>> {
        let own = std::env::current_exe()?.display().to_string();
        let (listen, starts) = (self.listen.to_string(), self.starts.display().to_string());
        let rest = ["serve", "--listen", &listen, "--starts", &starts];
        Ok(std::iter::once(own)
            .chain(rest.map(str::to_owned))
            .collect())
    }

    fn starts(&self) -> Result<u64> {
        Ok(std::fs::metadata(&self.starts)?.len())
    }

    /// Who answers a new connection.
    fn answer(&self) -> Option<u32> {
        let mut stream = TcpStream::connect_timeout(&self.listen, STALE).ok()?;
        stream.set_read_timeout(Some(STALE)).ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        text.parse().ok()
    }

    /// Waits until somebody else than this process answers.
    pub(super) fn another(&self, old: Option<u32>) -> Result<u32> {
        let begin = Instant::now();
        loop {
            match self.answer().filter(|pid| Some(*pid) != old) {
                Some(pid) => return Ok(pid),
                None => std::thread::sleep(GLANCE),
            }
            let waited = begin.elapsed();
            let listen = self.listen;
            ensure!(
                waited < AGAIN_WITHIN,
                "nobody serves at {listen} after {waited:?}"
            );
        }
    }

    /// How long it takes from its `exec` to its first answer when nobody else has a part in that.
    pub(super) fn start_up(&self) -> Result<Duration> {
        let words = self.command()?;
        let (first, rest) = words.split_first().context("no command")?;
        let mut start = program(first);
        start.args(rest).stdin(Stdio::null());
        // Comes back when `exec` has succeeded.
        let mut child = start.spawn()?;
        let begin = Instant::now();
        let answered = self.another(None);
        let took = begin.elapsed();
        child.kill()?;
        child.wait()?;
        answered.map(|_| took)
    }
}

/// What was measured of a service under somebody.
#[derive(Debug, Default)]
pub(super) struct Figures {
    /// From the kill to the first answer of the next process.
    pub(super) again: Samples,
    /// Deaths after which it was not started exactly once.
    pub(super) wrong: u32,
}

/// A service that somebody keeps running.
#[derive(Debug)]
pub(super) struct Kept {
    place: Place,
    pid: u32,
    since: Instant,
    /// Starts so far, as they should be.
    starts: u64,
}

impl Kept {
    /// Waits until it is there.
    pub(super) fn find(place: &Place) -> Result<Self> {
        let pid = place.another(None)?;
        Ok(Self {
            place: place.clone(),
            pid,
            since: Instant::now(),
            starts: place.starts()?,
        })
    }

    /// Kills it as soon as it is old enough, and waits until it serves again.
    pub(super) fn kill(&mut self, figures: &mut Figures) -> Result<()> {
        std::thread::sleep(OLD.saturating_sub(self.since.elapsed()));
        self.count(figures)?;
        let held = hold(self.pid)?;
        let killed = Instant::now();
        held.kill()?;
        // Where nobody else is the parent of orphans, we are.
        held.wait(AGAIN_WITHIN)?;
        held.reap();
        self.pid = self.place.another(Some(self.pid))?;
        self.since = Instant::now();
        figures.again.add(self.since.duration_since(killed));
        self.starts += 1;
        Ok(())
    }

    /// After the last kill: a second start would come by then.
    pub(super) fn settle(&mut self, figures: &mut Figures) -> Result<()> {
        std::thread::sleep(OLD.saturating_sub(self.since.elapsed()));
        self.count(figures)
    }

    fn count(&mut self, figures: &mut Figures) -> Result<()> {
        let starts = self.place.starts()?;
        figures.wrong += u32::from(starts != self.starts);
        self.starts = starts;
        Ok(())
    }
}
