//! Connections of checks that speak a protocol of their own: where to, and how much may come back. Whatever the peer sends, no more than
//! that is read or kept; the time is the check's. Everything ends when it is dropped.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};

use serde::{Deserialize, Deserializer, de};
use tokio::io::{
    AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, ReadBuf,
};
use tokio::net::{TcpStream, UnixStream};

use crate::model::CheckFailure;

/// Longest part of what a peer says that is told on, characters.
const SAID: usize = 200;

/// Where a server listens, written `127.0.0.1:6379` or `unix:/run/redis.sock`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// An address and a port.
    Tcp(SocketAddr),
    /// A socket in the file system.
    Unix(PathBuf),
}

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let place = match text.strip_prefix("unix:") {
            Some(path) if path.starts_with('/') => Some(Self::Unix(path.into())),
            Some(_) => None,
            None => text.parse().ok().map(Self::Tcp),
        };
        place.ok_or_else(|| {
            de::Error::custom(format!(
                "`{text}` is no address: write \"127.0.0.1:1234\" (no name) or \"unix:/path/of/the/socket\""
            ))
        })
    }
}

trait Both: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Both for T {}

/// A connection from which only so much can be read.
pub(super) struct Limited {
    stream: Box<dyn Both>,
    most: usize,
    left: usize,
}

impl std::fmt::Debug for Limited {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Limited")
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}

impl Limited {
    /// Connects; at most so many bytes will be read.
    pub(super) async fn open(place: &Place, most: usize) -> Result<Self, CheckFailure> {
        let stream: io::Result<Box<dyn Both>> = match place {
            Place::Tcp(address) => TcpStream::connect(address).await.map(|s| Box::new(s) as _),
            Place::Unix(path) => UnixStream::connect(path).await.map(|s| Box::new(s) as _),
        };
        let stream = stream.map_err(|error| {
            CheckFailure::Connect(match (place, error.kind()) {
                (Place::Unix(path), io::ErrorKind::WouldBlock) => {
                    format!("the queue of {} is full: it accepts nobody", path.display())
                }
                (Place::Unix(path), _) => format!("{}: {error}", path.display()),
                (Place::Tcp(address), _) => format!("{address}: {error}"),
            })
        })?;
        Ok(Self {
            stream,
            most,
            left: most,
        })
    }
}

impl AsyncRead for Limited {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left == 0 {
            let why = format!("it sent more than {} bytes", self.most);
            return Poll::Ready(Err(io::Error::other(why)));
        }
        let most = self.left.min(into.remaining());
        let mut room = ReadBuf::new(into.initialize_unfilled_to(most));
        let read = Pin::new(&mut self.stream).poll_read(context, &mut room);
        let filled = room.filled().len();
        into.advance(filled);
        self.left -= filled;
        read
    }
}

impl AsyncWrite for Limited {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// A conversation: what is sent, and lines or blocks that come back.
#[derive(Debug)]
pub(super) struct Wire(BufReader<Limited>);

impl Wire {
    /// See [`Limited::open`].
    pub(super) async fn open(place: &Place, most: usize) -> Result<Self, CheckFailure> {
        Ok(Self(BufReader::new(Limited::open(place, most).await?)))
    }

    /// Sends all of it.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), CheckFailure> {
        self.0.write_all(bytes).await.map_err(|e| broken(&e))
    }

    /// Reads so many bytes. Room is made as they come, not as the peer says.
    pub(super) async fn exactly(&mut self, bytes: usize) -> Result<Vec<u8>, CheckFailure> {
        let mut read = Vec::new();
        let mut part = (&mut self.0).take(bytes as u64);
        part.read_to_end(&mut read).await.map_err(|e| broken(&e))?;
        if read.len() == bytes {
            return Ok(read);
        }
        Err(wrong(
            "it closed the connection before its answer was whole",
        ))
    }

    /// Reads a line of at most so many bytes, without its `\r\n` or `\n`.
    pub(super) async fn line(&mut self, most: usize) -> Result<Vec<u8>, CheckFailure> {
        let mut read = Vec::new();
        let mut part = (&mut self.0).take(most as u64);
        let until = part.read_until(b'\n', &mut read).await;
        until.map_err(|e| broken(&e))?;
        if read.pop() != Some(b'\n') {
            return Err(if read.len() + 1 >= most {
                wrong(format!("a line is longer than {most} bytes"))
            } else {
                wrong("it closed the connection before its answer was whole")
            });
        }
        if read.last() == Some(&b'\r') {
            read.pop();
        }
        Ok(read)
    }
}

/// An answer that is not the expected one.
pub(super) fn wrong(why: impl Into<String>) -> CheckFailure {
    CheckFailure::Answer(why.into())
}

/// A connection that broke.
fn broken(error: &io::Error) -> CheckFailure {
    match error.kind() {
        io::ErrorKind::Other => wrong(error.to_string()),
        _ => CheckFailure::Connect(format!("it broke: {error}")),
    }
}

/// What a peer says, as it can be shown: one line, and not long.
pub(super) fn shown(said: &[u8]) -> String {
    let said = said.get(..SAID * 4).unwrap_or(said);
    String::from_utf8_lossy(said)
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(SAID)
        .collect()
}

/// Bytes, as people read them.
pub(super) fn mebibytes(bytes: f64) -> String {
    format!("{:.1} MiB", bytes / 1_048_576.0)
}

#[cfg(test)]
#[path = "wire_tests.rs"]
pub(in crate::checks) mod tests;
