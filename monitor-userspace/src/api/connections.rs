//! Accepts connections and bounds what each may take: headers, time, and how many there are at once.

use std::future::Future;
use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router, middleware};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{sleep, timeout};

use super::people::Peer;
use super::{guard, routes};

/// What clients may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Connections at once, for each listener; further ones wait in the kernel's queue.
    pub(super) connections: usize,
    /// Time for a request's header to arrive, from the end of the answer before it.
    pub(super) header: Duration,
    /// Time that a connection is kept in all: a client that never reads its answer holds a place no longer.
    pub(super) connection: Duration,
    /// Time to finish the answer under way when a connection or the daemon ends.
    pub(super) finish: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 64,
            header: Duration::from_secs(10),
            connection: Duration::from_mins(1),
            finish: Duration::from_secs(2),
        }
    }
}

/// Bytes of a request's header.
const HEADER_BYTES: usize = 8 << 10;

/// A pause after a failed accept (no descriptors left, mostly), so that it is not tried again a million times a second.
const PAUSE: Duration = Duration::from_millis(100);

pub(super) async fn serve(
    socket: Option<(UnixListener, Router)>,
    http: Option<(TcpListener, Router)>,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let (ending, ended) = watch::channel(());
    if let Some((listener, router)) = socket {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::UnixListener::from_std(listener)?;
        tokio::spawn(accept_local(listener, router, limits, ended.clone()));
    }
    if let Some((listener, router)) = http {
        listener.set_nonblocking(true)?;
        let router = if listener.local_addr()?.ip().is_loopback() {
            router
                .layer(middleware::from_fn(guard::reads_and_heartbeats_only))
                .layer(middleware::from_fn(guard::local_hosts_only))
        } else {
            router.layer(middleware::from_fn(guard::reads_only))
        };
        let listener = tokio::net::TcpListener::from_std(listener)?;
        tokio::spawn(accept_http(listener, router, limits, ended.clone()));
    }
    drop(ended);
    shutdown.await;
    ending.send_replace(());
    // Resolves when the last connection has dropped its end.
    let _ = timeout(limits.finish, ending.closed()).await;
    Ok(())
}

async fn accept_local(
    listener: tokio::net::UnixListener,
    router: Router,
    limits: Limits,
    mut ended: watch::Receiver<()>,
) {
    let own = rustix::process::geteuid().as_raw();
    let places = Arc::new(Semaphore::new(limits.connections));
    while let Some(place) = free(&places).await {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = ended.changed() => break,
        };
        let Some((stream, _)) = accepted_or_pause(accepted).await else {
            continue;
        };
        let router = match stream.peer_cred().map(|peer| peer.uid()) {
            Ok(user) => guard::refuse_user(user, own).map_or_else(
                || router.clone().layer(Extension(Peer { user })),
                routes::refusing,
            ),
            Err(error) => routes::refusing(format!("cannot tell who is asking: {error}")),
        };
        tokio::spawn(answer(stream, router, limits, place, ended.clone()));
    }
    // While this listener is open nobody else can have taken the path: it is still ours to remove.
    let address = listener.local_addr().ok();
    if let Some(path) = address.as_ref().and_then(|address| address.as_pathname()) {
        let _ = std::fs::remove_file(path);
    }
}

async fn accept_http(
    listener: tokio::net::TcpListener,
    router: Router,
    limits: Limits,
    mut ended: watch::Receiver<()>,
) {
    let places = Arc::new(Semaphore::new(limits.connections));
    while let Some(place) = free(&places).await {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = ended.changed() => return,
        };
        if let Some((stream, _)) = accepted_or_pause(accepted).await {
            tokio::spawn(answer(stream, router.clone(), limits, place, ended.clone()));
        }
    }
}

async fn free(places: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    Arc::clone(places).acquire_owned().await.ok()
}

async fn accepted_or_pause<T>(accepted: io::Result<T>) -> Option<T> {
    match accepted {
        Ok(connection) => Some(connection),
        Err(error) => {
            tracing::warn!(%error, "cannot accept a connection");
            sleep(PAUSE).await;
            None
        }
    }
}

/// Answers the requests of one connection, until it ends or its time is up.
async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    limits: Limits,
    place: OwnedSemaphorePermit,
    mut ended: watch::Receiver<()>,
) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header)
        .max_buf_size(HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    let done = tokio::select! {
        done = connection.as_mut() => done,
        () = sleep(limits.connection) => finish(connection, limits.finish).await,
        _ = ended.changed() => finish(connection, limits.finish).await,
    };
    if let Err(error) = done {
        tracing::trace!(%error, "a connection ended early");
    }
    drop(place);
}

type Connection<'a, S> =
    std::pin::Pin<&'a mut http1::Connection<TokioIo<S>, TowerToHyperService<Router>>>;

async fn finish<S>(mut connection: Connection<'_, S>, within: Duration) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    connection.as_mut().graceful_shutdown();
    timeout(within, connection).await.unwrap_or(Ok(()))
}
