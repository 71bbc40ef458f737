//! What speaks at a port: one request that every HTTP server takes, and what comes back of it. Others refuse it, and show by that what they
//! are; nothing is changed by it.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long all of it may take.
const WITHIN: Duration = Duration::from_secs(1);
/// Most that is read, bytes.
const MOST: usize = 4096;
/// Without a `Host`, which Redis takes for an attack and writes to its log.
const REQUEST: &[u8] = b"GET / HTTP/1.0\r\n\r\n";

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Speaks {
    /// HTTP, and answers with this status.
    Http(u16),
    /// TLS.
    Tls,
    /// The protocol of Redis.
    Redis,
    /// Something else: how it begins.
    Other(String),
    /// It takes the connection, and says nothing.
    Nothing,
    /// It takes no connection, and why.
    Refuses(String),
}

/// Asks.
pub(super) fn ask(at: SocketAddr) -> Speaks {
    let until = Instant::now() + WITHIN;
    let mut stream = match TcpStream::connect_timeout(&at, WITHIN) {
        Ok(stream) => stream,
        Err(error) => return Speaks::Refuses(error.to_string()),
    };
    let mut said = Vec::new();
    let sent = stream.set_write_timeout(Some(WITHIN));
    if sent.and_then(|()| stream.write_all(REQUEST)).is_ok() {
        // What came before it broke off counts.
        let _ = take(&mut stream, until, &mut said);
    }
    read(&said)
}

fn take(stream: &mut TcpStream, until: Instant, said: &mut Vec<u8>) -> io::Result<()> {
    let mut buffer = [0; MOST];
    while said.len() < MOST {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        stream.set_read_timeout(Some(left))?;
        let count = stream.read(&mut buffer)?;
        said.extend_from_slice(buffer.get(..count).unwrap_or_default());
        // The end of a refusal says why.
        let enough = matches!(read(said), Speaks::Http(status) if status != 400);
        if count == 0 || enough {
            break;
        }
    }
    Ok(())
}

fn read(said: &[u8]) -> Speaks {
    let said = said.get(..said.len().min(MOST)).unwrap_or_default();
    let text = String::from_utf8_lossy(said);
    if said.is_empty() {
        return Speaks::Nothing;
    }
    // A record of TLS: an alert.
    if said.starts_with(&[0x15, 3]) {
        return Speaks::Tls;
    }
    if ["-ERR ", "-NOAUTH ", "-DENIED "]
        .iter()
        .any(|start| text.starts_with(start))
    {
        return Speaks::Redis;
    }
    let status = text
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.get(2..5)?.parse().ok());
    match status {
        // So servers tell that they want TLS: "The plain HTTP request was sent to HTTPS port" and the like.
        Some(400) if text.contains("HTTPS") || text.contains("SSL-enabled") => Speaks::Tls,
        Some(status) => Speaks::Http(status),
        None => {
            let line = text.lines().next().unwrap_or_default();
            Speaks::Other(line.chars().filter(|c| !c.is_control()).take(60).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_shows_who_it_is() {
        for (said, is) in [
            (&b""[..], Speaks::Nothing),
            (b"HTTP/1.1 200 OK\r\n\r\n", Speaks::Http(200)),
            (b"HTTP/1.0 404 ", Speaks::Http(404)),
            (b"HTTP/1.1 400 Bad Request\r\n\r\nbad", Speaks::Http(400)),
            (
                b"HTTP/1.1 400 Bad Request\r\n\r\n<p>The plain HTTP request was sent to HTTPS port",
                Speaks::Tls,
            ),
            (b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n", Speaks::Tls),
            (&[0x15, 3, 1, 0, 2, 2, 70], Speaks::Tls),
            (b"-ERR wrong number of arguments for 'get' command\r\n", Speaks::Redis),
            (b"SSH-2.0-OpenSSH_9\x1b[31m\r\n", Speaks::Other("SSH-2.0-OpenSSH_9[31m".to_owned())),
            (b"HTTP/1.", Speaks::Other("HTTP/1.".to_owned())),
            (b"HTTP/1.\xff\xff\xff\xff", Speaks::Other("HTTP/1.\u{fffd}\u{fffd}\u{fffd}\u{fffd}".to_owned())),
        ] {
            assert_eq!(read(said), is, "{:?}", String::from_utf8_lossy(said));
        }
        assert!(matches!(read(&vec![b'x'; 100_000]), Speaks::Other(line) if line.len() == 60));
    }

    #[test]
    fn who_never_answers_is_left_in_time() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let at = listener.local_addr().expect("its address");
        assert_eq!(ask(at), Speaks::Nothing);
        drop(listener);
        assert!(matches!(ask(at), Speaks::Refuses(_)));
    }
}
