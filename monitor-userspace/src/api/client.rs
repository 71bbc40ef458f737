//! Asks a running daemon over its socket. For the command line; tells apart why there is no answer.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::answers::Failure;

/// Time for the whole answer.
const ANSWER: Duration = Duration::from_secs(5);

/// Time for the answer to what changes something: the daemon itself waits for its core that long.
const CHANGE: Duration = Duration::from_secs(8);

/// Largest answer that is read, bytes: far above what the daemon's bounds allow.
const LARGEST: usize = 64 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers on the socket.
    #[error(
        "cannot reach the daemon at {}: is it running? start it with `sudo smart-monitor run`, or name its socket with `--socket`",
        .socket.display()
    )]
    NotRunning {
        /// The socket.
        socket: PathBuf,
    },
    /// The socket is for another user.
    #[error("may not ask the daemon at {}: run the command with sudo", .socket.display())]
    Denied {
        /// The socket.
        socket: PathBuf,
    },
    /// The daemon does not have what was asked for.
    #[error("{message}")]
    NotFound {
        /// What it says.
        message: String,
    },
    /// The daemon answered with an error.
    #[error("the daemon does not do it: {message}")]
    Refused {
        /// What was asked for.
        path: String,
        /// HTTP status.
        code: u16,
        /// What it says.
        message: String,
    },
    /// The answer did not come in time.
    #[error("the daemon at {} did not answer within {} s: it may be overloaded or stopped", .socket.display(), .within.as_secs())]
    Late {
        /// The socket.
        socket: PathBuf,
        /// How long it was waited for.
        within: Duration,
    },
    /// What came is not an answer.
    #[error(
        "cannot understand the answer to {path}: {reason}; are the daemon and this command the same version?"
    )]
    Bad {
        /// What was asked for.
        path: String,
        /// Why.
        reason: String,
    },
}

/// Asks for a path and reads the JSON that comes. A 503 of `/health` is an answer too.
pub async fn get_json(socket: &Path, path: &str) -> Result<Value, ClientError> {
    exchange(socket, Method::GET, path, Bytes::new(), ANSWER).await
}

/// Asks for something to be changed (`POST`, `DELETE`) and reads the JSON that comes.
pub async fn send_json(
    socket: &Path,
    method: Method,
    path: &str,
    body: &Value,
) -> Result<Value, ClientError> {
    let body = Bytes::from(body.to_string());
    exchange(socket, method, path, body, CHANGE).await
}

/// [`get_json`] for callers outside of a runtime.
pub fn get_json_blocking(socket: &Path, path: &str) -> Result<Value, ClientError> {
    block_on(path, get_json(socket, path))
}

/// [`send_json`] for callers outside of a runtime.
pub fn send_json_blocking(
    socket: &Path,
    method: Method,
    path: &str,
    body: &Value,
) -> Result<Value, ClientError> {
    block_on(path, send_json(socket, method, path, body))
}

fn block_on(
    path: &str,
    answer: impl Future<Output = Result<Value, ClientError>>,
) -> Result<Value, ClientError> {
    let bad = |error: io::Error| ClientError::Bad {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(bad)?;
    runtime.block_on(answer)
}

async fn exchange(
    socket: &Path,
    method: Method,
    path: &str,
    body: Bytes,
    within: Duration,
) -> Result<Value, ClientError> {
    match timeout(within, talk(socket, method, path, body)).await {
        Ok(answer) => answer,
        Err(_) => Err(ClientError::Late {
            socket: socket.to_owned(),
            within,
        }),
    }
}

async fn talk(
    socket: &Path,
    method: Method,
    path: &str,
    body: Bytes,
) -> Result<Value, ClientError> {
    let bad = |reason: String| ClientError::Bad {
        path: path.to_owned(),
        reason,
    };
    let broken = |error: hyper::Error| bad(error.to_string());
    let stream = UnixStream::connect(socket)
        .await
        .map_err(|error| unreachable_because(socket, &error))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    // Its error comes out of the request as well.
    let connection = tokio::spawn(connection);
    let changes = method != Method::GET;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "localhost")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(body))
        .map_err(|error| bad(error.to_string()))?;
    let answer = sender.send_request(request).await.map_err(broken)?;
    let code = answer.status();
    let body = Limited::new(answer.into_body(), LARGEST).collect().await;
    connection.abort();
    let body = body.map_err(|error| bad(error.to_string()))?.to_bytes();
    if code.is_success() || (code == StatusCode::SERVICE_UNAVAILABLE && !changes) {
        return serde_json::from_slice(&body).map_err(|error| bad(error.to_string()));
    }
    let message = serde_json::from_slice(&body).map_or_else(
        |_| String::from_utf8_lossy(&body).into_owned(),
        |failure: Failure| failure.error,
    );
    Err(match code {
        StatusCode::NOT_FOUND => ClientError::NotFound { message },
        StatusCode::FORBIDDEN => ClientError::Denied {
            socket: socket.to_owned(),
        },
        code => ClientError::Refused {
            path: path.to_owned(),
            code: code.as_u16(),
            message,
        },
    })
}

fn unreachable_because(socket: &Path, error: &io::Error) -> ClientError {
    let socket = socket.to_owned();
    match error.kind() {
        io::ErrorKind::PermissionDenied => ClientError::Denied { socket },
        // Its queue is full: it does not accept any more.
        io::ErrorKind::WouldBlock => ClientError::Late {
            socket,
            within: ANSWER,
        },
        _ => ClientError::NotRunning { socket },
    }
}
