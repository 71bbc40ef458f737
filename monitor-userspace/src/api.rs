//! What the daemon shows: a Unix socket for its own command line, and HTTP for scrapers and people.
//!
//! Consumes the [`View`], the kernel half through [`KernelView`], and the exporter; emits JSON and metrics, what people ask the core for
//! ([`People`]), what is to be recorded ([`Recordings`]), and what services say of themselves ([`Beat`](crate::model::Beat)). Of these HTTP takes the
//! last alone, on loopback: else it is read-only. Requests are
//! bounded in size, time and number, so that no client can hold the daemon.
//! The socket answers root and the daemon's own user only; HTTP on loopback refuses foreign host names, since a web page can
//! point its own name at 127.0.0.1. Leaves out authentication for anything beyond loopback.

pub mod answers;
pub mod bind;
pub mod client;
mod connections;
mod guard;
mod heartbeats;
mod people;
mod recording;
mod routes;

use std::fmt;
use std::future::Future;
use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex};

use connections::Limits;

use crate::metrics::{Exporter, Own};
use crate::model::{KernelView, View};

pub use bind::{BindError, bind_http, bind_socket};
pub use heartbeats::{BeatStatus, BeatTaken, NewBeat, PATH as HEARTBEATS, TakeBeat};
pub use people::{Acts, Asked, Find, HandOver, Names, People, Rows, Subjects};
pub use recording::{
    PATH as RECORDING, Recordings, SIZE as RECORDING_SIZE, Wanted as WantedRecording,
};

/// Where the daemon's socket is, unless `--socket` or `SMART_MONITOR_SOCKET` says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/smart-monitor/smart-monitor.sock";

/// Reasons, asked for at each request; empty when all is well.
pub type Reasons = dyn Fn() -> Vec<String> + Send + Sync;

/// What the server shows; the pipeline fills it.
pub struct Sources {
    /// The core's state.
    pub view: Arc<Mutex<View>>,
    /// The kernel half.
    pub kernel: Arc<dyn KernelView>,
    /// What the daemon itself costs.
    pub own: Arc<Own>,
    /// What only the pipeline knows to be wrong; a halted core and a kernel half without probes are seen without it.
    pub unhealthy: Box<Reasons>,
    /// What only the pipeline knows to be less than it should be: it observes and acts all the same.
    pub limitations: Box<Reasons>,
    /// What people ask for.
    pub people: People,
    /// Recordings of signals.
    pub recordings: Arc<dyn Recordings>,
    /// Takes what a service sends of itself.
    pub take_beat: Box<TakeBeat>,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").finish_non_exhaustive()
    }
}

/// Answers requests until `shutdown` is ready, then lets the answers under way finish for a moment.
///
/// Runs on any tokio runtime, a single-threaded one too; the listeners come from [`bind_socket`] and [`bind_http`]. Fails only
/// before the first request, when a listener cannot be handed to the runtime.
pub async fn serve(
    sources: Arc<Sources>,
    socket: Option<UnixListener>,
    http: Option<TcpListener>,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let exporter = Exporter::new(
        Arc::clone(&sources.view),
        Arc::clone(&sources.kernel),
        Arc::clone(&sources.own),
    );
    let shown = routes::Shown {
        sources,
        exporter: Arc::new(exporter),
    };
    let socket = socket.map(|listener| (listener, routes::for_socket(shown.clone())));
    let http = http.map(|listener| (listener, routes::for_http(shown)));
    connections::serve(socket, http, Limits::default(), shutdown).await
}

#[cfg(test)]
mod tests;
