//! The HTTP side of a simulated service, and the carrying out of faults.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::Signal as SignalStream;
use tokio::sync::watch;

use super::Options;
use super::fault::{Crash, Fault, Settings};
use super::load::Load;
use super::report;
use super::stats::Stats;

/// Time between the answer to a fault request and the fault: the answer must be on the wire.
const NOTICE: Duration = Duration::from_millis(5);

/// How the listener behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Serving,
    Hanging { deaf: bool },
    Refusing,
}

/// A running service, shared by its tasks.
#[derive(Clone, Debug)]
pub(super) struct Running {
    pub(super) options: Arc<Options>,
    stats: Arc<Mutex<Stats>>,
    faults: Arc<Mutex<Faults>>,
    mode: watch::Sender<Mode>,
}

#[derive(Debug, Default)]
struct Faults {
    load: Load,
    error_ratio: f64,
    /// Share of an error that is due; at one, the next answer is an error.
    error_due: f64,
}

impl Running {
    pub(super) fn new(options: Options) -> Self {
        Self {
            options: Arc::new(options),
            stats: Arc::new(Mutex::new(Stats::new())),
            faults: Arc::default(),
            mode: watch::Sender::new(Mode::Serving),
        }
    }

    pub(super) fn stats(&self) -> MutexGuard<'_, Stats> {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn hangs(&self) -> bool {
        matches!(*self.mode.borrow(), Mode::Hanging { .. })
    }

    /// Returns at a signal that the service is willing to hear.
    pub(super) async fn obeyed(&self, signal: &mut SignalStream) {
        loop {
            signal.recv().await;
            if *self.mode.borrow() != (Mode::Hanging { deaf: true }) {
                return;
            }
        }
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn inject(&self, fault: Fault) -> io::Result<()> {
        match fault {
            Fault::Crash { how } => crash(how),
            Fault::Leak { mib_per_s, max_mib } => self.faults().load.leak(mib_per_s, max_mib)?,
            Fault::Spin { threads } => self.faults().load.spin(threads)?,
            Fault::Hang { deaf } => {
                self.mode.send_replace(Mode::Hanging { deaf });
            }
            Fault::Refuse => {
                self.mode.send_replace(Mode::Refusing);
            }
            Fault::Errors { ratio } => self.faults().error_ratio = ratio,
            Fault::None => {
                let mut faults = self.faults();
                faults.load.stop();
                faults.error_ratio = 0.0;
            }
        }
        Ok(())
    }

    /// Whether this answer is to be an error. Evenly spread, so that a ratio shows without luck.
    fn errs(&self) -> bool {
        let mut faults = self.faults();
        faults.error_due += faults.error_ratio;
        let errs = faults.error_due >= 1.0;
        if errs {
            faults.error_due -= 1.0;
        }
        errs
    }
}

/// Opens the listener. It can be opened again at once after a predecessor's end.
pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// Serves until the process ends.
pub(super) async fn serve(listener: TcpListener, running: Running) {
    let door = Door {
        listener: Some(listener),
        mode: running.mode.subscribe(),
        address: running.options.listen,
    };
    let routes = Router::new()
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .route("/work", get(work))
        .layer(middleware::from_fn_with_state(running.clone(), measure))
        .route("/fault/{kind}", post(fault))
        .layer(middleware::from_fn_with_state(running.clone(), hold))
        .with_state(running);
    let _never = axum::serve(door, routes).await;
}

/// The listener, as the mode has it.
struct Door {
    listener: Option<TcpListener>,
    mode: watch::Receiver<Mode>,
    address: SocketAddr,
}

impl axum::serve::Listener for Door {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let mode = *self.mode.borrow_and_update();
            match (&self.listener, mode) {
                (Some(listener), Mode::Serving) => tokio::select! {
                    // The mode first: a connection that comes after the fault must not be served.
                    biased;
                    _ = self.mode.changed() => {}
                    accepted = listener.accept() => match accepted {
                        Ok(connection) => return connection,
                        // No descriptors left, most likely; trying again at once would burn the CPU.
                        Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                    },
                },
                (_, Mode::Refusing) => {
                    self.listener = None;
                    let _closed = self.mode.changed().await;
                }
                _ => {
                    let _closed = self.mode.changed().await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok(self.address)
    }
}

/// Holds every answer back while the service hangs. One request to a connection: a caller that kept its own would not notice
/// that new ones are refused.
async fn hold(State(running): State<Running>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    if running.hangs() {
        std::future::pending::<()>().await;
    }
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(header::CONNECTION, close);
    response
}

async fn measure(State(running): State<Running>, request: Request, next: Next) -> Response {
    let begin = Instant::now();
    let response = next.run(request).await;
    running
        .stats()
        .request(response.status().as_u16(), begin.elapsed());
    response
}

async fn health(State(running): State<Running>) -> Response {
    Json(report::health(&running.options.name, &mut running.stats())).into_response()
}

async fn metrics(State(running): State<Running>) -> Response {
    let kind = [(
        header::CONTENT_TYPE,
        "text/plain; version=0.0.4; charset=utf-8",
    )];
    (kind, report::metrics(&mut running.stats())).into_response()
}

async fn work(State(running): State<Running>) -> Response {
    // Some tens of microseconds of arithmetic, so that a latency is not only the network's.
    let digest = (0..20_000_u64).fold(0_u64, |digest, n| {
        std::hint::black_box(digest ^ n).rotate_left(5)
    });
    if running.errs() {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        return (status, "error as asked for by /fault/errors\n").into_response();
    }
    format!("{digest:016x}\n").into_response()
}

async fn fault(
    State(running): State<Running>,
    Path(kind): Path<String>,
    Query(settings): Query<Settings>,
) -> Response {
    let fault = match Fault::parse(&kind, &settings) {
        Ok(fault) => fault,
        Err(why) => return (StatusCode::BAD_REQUEST, why + "\n").into_response(),
    };
    tokio::spawn(async move {
        tokio::time::sleep(NOTICE).await;
        if let Err(error) = running.inject(fault) {
            let name = &running.options.name;
            let why = format!("{name}: cannot inject {fault:?}: {error}\n");
            // A closed standard error is no reason to end.
            let _ = io::stderr().write_all(why.as_bytes());
        }
    });
    (StatusCode::ACCEPTED, format!("{kind} follows\n")).into_response()
}

fn crash(how: Crash) {
    match how {
        Crash::Exit => std::process::exit(101),
        Crash::Abort => std::process::abort(),
        Crash::Segv => die_by(rustix::process::Signal::SEGV),
        Crash::Kill => die_by(rustix::process::Signal::KILL),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "to itself: that PID cannot have been used again"
)]
fn die_by(signal: rustix::process::Signal) {
    // The standard library's handler for SIGSEGV takes the first one, and gives up its place to the default.
    for _ in 0..2 {
        let _dead = rustix::process::kill_process(rustix::process::getpid(), signal);
    }
}
