//! Asks a simulated service to misbehave. Blocking, one connection, no dependencies: the demo and the bench use it too.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::fault::Settings;

/// A service that takes longer does not answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why a fault was not injected.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be asked.
    #[error(
        "no simulated service answers at {at}: {cause}; is it running, and not hanging already?"
    )]
    Unreachable {
        /// Where.
        at: SocketAddr,
        /// The kernel's answer.
        cause: io::Error,
    },
    /// It said no.
    #[error("the service at {at} refused: {why}")]
    Refused {
        /// Where.
        at: SocketAddr,
        /// Its words.
        why: String,
    },
}

/// Injects a fault: its name and options are checked by the service.
pub fn inject(at: SocketAddr, kind: &str, settings: &Settings) -> Result<String, Error> {
    let answer = post(at, kind, settings).map_err(|cause| Error::Unreachable {
        at,
        cause: match cause.kind() {
            // How the kernel names a timeout of a socket.
            io::ErrorKind::WouldBlock => io::Error::other("no answer within 2 s"),
            _ => cause,
        },
    })?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    if head.starts_with("HTTP/1.1 2") {
        return Ok(body.trim().to_owned());
    }
    let why = match body.trim() {
        "" => head.lines().next().unwrap_or("no answer").to_owned(),
        why => why.to_owned(),
    };
    Err(Error::Refused { at, why })
}

fn post(at: SocketAddr, kind: &str, settings: &Settings) -> io::Result<String> {
    let query: Vec<String> = settings
        .iter()
        .map(|(key, value)| format!("{}={}", escape(key), escape(value)))
        .collect();
    let mut stream = TcpStream::connect_timeout(&at, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "POST /fault/{}?{} HTTP/1.1\r\nhost: {at}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        escape(kind),
        query.join("&")
    )?;
    let mut answer = Vec::new();
    match stream.take(64 * 1024).read_to_end(&mut answer) {
        // The service is gone already, as it was asked to be.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset && !answer.is_empty() => {}
        other => {
            other?;
        }
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Percent-encodes everything but letters, digits and `-._`.
fn escape(text: &str) -> String {
    use std::fmt::Write as _;
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            let _infallible = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn what_has_a_meaning_in_an_address_is_escaped() {
        assert_eq!(escape("mib_per_s"), "mib_per_s");
        assert_eq!(escape("a b&c/ä"), "a%20b%26c%2F%C3%A4");
    }
}
