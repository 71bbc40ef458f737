//! A TCP connection to one of several addresses.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::doing::Doing;
use super::place::Place;
use crate::model::CheckFailure;

/// After which the next address is tried too (RFC 8305).
const NEXT: Duration = Duration::from_millis(250);

/// A connection, and what it took.
#[derive(Debug)]
pub(crate) struct Connected {
    pub(crate) stream: TcpStream,
    /// To look the name up; none for an address.
    pub(crate) dns: Option<Duration>,
    pub(crate) connect: Duration,
}

/// Connects to a place.
pub(crate) async fn to(place: &Place, doing: &Doing) -> Result<Connected, CheckFailure> {
    if place.is_name() {
        doing.now(format!("looking up the name {}", place.host));
    }
    let (addresses, dns) = place.addresses().await?;
    doing.now(format!("connecting to {place}"));
    let began = Instant::now();
    let stream = match addresses.as_slice() {
        [one] => TcpStream::connect(one).await.map_err(|error| (*one, error)),
        several => any(several).await,
    };
    let stream = stream.map_err(|(at, error)| {
        let at = if dns.is_some() {
            format!("{place} ({})", at.ip())
        } else {
            place.to_string()
        };
        CheckFailure::Connect(format!("{at}: {}", reason(&error)))
    })?;
    Ok(Connected {
        stream,
        dns,
        connect: began.elapsed(),
    })
}

/// The first that answers; each is begun when the one before has failed or takes long.
async fn any(addresses: &[SocketAddr]) -> Result<TcpStream, (SocketAddr, io::Error)> {
    let unset = SocketAddr::from(([0, 0, 0, 0], 0));
    let mut failed = (unset, io::Error::from(io::ErrorKind::AddrNotAvailable));
    // Ended with this check.
    let mut tries = JoinSet::new();
    let mut left = addresses.iter().copied();
    let mut more = true;
    loop {
        if let Some(at) = left.next() {
            tries.spawn(async move { (at, TcpStream::connect(at).await) });
        } else {
            more = false;
        }
        let ended = if more {
            match tokio::time::timeout(NEXT, tries.join_next()).await {
                Ok(ended) => ended,
                Err(_) => continue,
            }
        } else {
            tries.join_next().await
        };
        match ended {
            Some(Ok((_, Ok(stream)))) => return Ok(stream),
            Some(Ok((at, Err(error)))) => failed = (at, error),
            Some(Err(_)) => {}
            None => return Err(failed),
        }
    }
}

/// What an error of a socket means, without the number.
pub(crate) fn reason(error: &io::Error) -> String {
    let text = match error.kind() {
        io::ErrorKind::ConnectionRefused => "refused: nobody listens there",
        io::ErrorKind::ConnectionReset => "reset by the other side",
        io::ErrorKind::ConnectionAborted => "aborted",
        io::ErrorKind::BrokenPipe => "closed by the other side while we sent",
        io::ErrorKind::UnexpectedEof => "closed by the other side in the middle",
        io::ErrorKind::HostUnreachable => "no way to the host",
        io::ErrorKind::NetworkUnreachable => "no way to that network",
        io::ErrorKind::TimedOut => "no answer to our packets, the kernel gave up",
        io::ErrorKind::NotFound => "there is no such socket",
        io::ErrorKind::PermissionDenied => "not permitted",
        _ => return error.to_string(),
    };
    text.to_owned()
}
