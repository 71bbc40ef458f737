//! Ctrl-C: asked to end, the stream shows what it has and sums up; when it cannot (nobody reads its output), it is ended.

use std::io;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// How long the stream may take to end.
const PATIENCE: Duration = Duration::from_secs(1);
/// As a shell says of what SIGINT has ended.
const EXIT_INTERRUPTED: i32 = 130;

/// Listens for SIGINT, SIGTERM and SIGHUP from now on; readable once one of them has come.
pub(super) fn listen() -> io::Result<UnixStream> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut signals = runtime.block_on(async { Signals::install() })?;
    let (told, teller) = UnixStream::pair()?;
    let listening = std::thread::Builder::new().name("signals".to_owned());
    listening.spawn(move || {
        runtime.block_on(async {
            signals.next().await;
            drop(teller);
            tokio::select! {
                () = signals.next() => {}
                () = tokio::time::sleep(PATIENCE) => {}
            }
        });
        std::process::exit(EXIT_INTERRUPTED);
    })?;
    Ok(told)
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn install() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}
