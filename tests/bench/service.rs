//! The service that is killed, and the ear that hears it come back. The service says itself, with the kernel's clock, when its
//! `main` began and when it serves, so that nothing has to be polled while the supervisor is at work.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::time::{ClockId, clock_gettime};
use smart_monitor::host::procfs;
use smart_monitor::host::signals::Held;

/// `CLOCK_MONOTONIC`, the clock of the daemon's own times.
pub(crate) fn now() -> Duration {
    Duration::try_from(clock_gettime(ClockId::Monotonic)).unwrap_or_default()
}

/// The service. Ends when the bench is gone.
pub(crate) fn be(report: &Path, listen: SocketAddr) -> ExitCode {
    let begun = now();
    match serve(report, listen, begun) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench service at {listen}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(report: &Path, listen: SocketAddr, begun: Duration) -> io::Result<()> {
    let ear = UnixDatagram::unbound()?;
    let listener = TcpListener::bind(listen)?;
    let (pid, begun, serving) = (std::process::id(), begun.as_nanos(), now().as_nanos());
    ear.send_to(format!("{pid} {begun} {serving}").as_bytes(), report)?;
    let here = report.to_owned();
    std::thread::spawn(move || {
        while here.exists() {
            std::thread::sleep(Duration::from_secs(1));
        }
        std::process::exit(0);
    });
    // A health check connects, sends something or nothing, and leaves.
    for connection in listener.incoming() {
        drop(connection);
    }
    Ok(())
}

/// One start of the service.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Started {
    pub(crate) pid: u32,
    /// When its `main` began: just after `exec`.
    pub(crate) begun: Duration,
    /// When it listened.
    pub(crate) serving: Duration,
}

/// Hears the services start.
#[derive(Debug)]
pub(crate) struct Ear {
    socket: UnixDatagram,
    pub(crate) path: PathBuf,
}

impl Ear {
    pub(crate) fn new(folder: &Path) -> Result<Self> {
        let path = folder.join("ear");
        let socket = UnixDatagram::bind(&path)
            .with_context(|| format!("cannot listen at {}", path.display()))?;
        Ok(Self { socket, path })
    }

    /// The next start.
    pub(crate) fn next(&self, within: Duration) -> Result<Started> {
        self.socket.set_read_timeout(Some(within))?;
        let mut buffer = [0; 128];
        let length = self
            .socket
            .recv(&mut buffer)
            .with_context(|| format!("no service started within {within:?}"))?;
        let text = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned();
        let mut fields = text
            .split(' ')
            .filter_map(|field| field.parse::<u64>().ok());
        let mut field = || fields.next().context("a report that is none");
        Ok(Started {
            pid: u32::try_from(field()?)?,
            begun: Duration::from_nanos(field()?),
            serving: Duration::from_nanos(field()?),
        })
    }
}

/// Holds a process, so that what is killed is what was meant.
pub(crate) fn hold(pid: u32) -> Result<Held> {
    let stat = procfs::stat(pid).with_context(|| format!("pid {pid} is gone"))?;
    Ok(Held::open(stat.key)?)
}

/// Command line of the service.
pub(crate) fn command(ear: &Ear, listen: SocketAddr) -> Result<Vec<String>> {
    let own = std::env::current_exe()?.display().to_string();
    let (ear, listen) = (ear.path.display().to_string(), listen.to_string());
    let rest = ["service", "--report", &ear, "--listen", &listen];
    Ok(std::iter::once(own)
        .chain(rest.map(str::to_owned))
        .collect())
}
