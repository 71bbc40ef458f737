//! Signs of life to a supervisor that asks for them: datagrams of the `sd_notify` protocol to `NOTIFY_SOCKET`, a path or
//! an abstract name (leading `@`). A sign that cannot be sent is lost; a service does not end because nobody listens.

use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Where the signs go.
#[derive(Debug)]
pub(super) struct Notifier {
    to: Option<(UnixDatagram, SocketAddr)>,
}

impl Notifier {
    /// From `NOTIFY_SOCKET`; without it, nothing is ever sent.
    pub(super) fn from_environment() -> Self {
        Self::to(std::env::var_os("NOTIFY_SOCKET").as_deref())
    }

    fn to(name: Option<&OsStr>) -> Self {
        let to = name.and_then(|name| {
            let address = match name.as_bytes() {
                [b'@', name @ ..] => SocketAddr::from_abstract_name(name).ok()?,
                [b'/', ..] => SocketAddr::from_pathname(name).ok()?,
                _ => return None,
            };
            let socket = UnixDatagram::unbound().ok()?;
            // A supervisor that does not read must not stop the service.
            socket.set_nonblocking(true).ok()?;
            Some((socket, address))
        });
        Self { to }
    }

    /// Sends one assignment, such as `WATCHDOG=1`.
    pub(super) fn send(&self, state: &str) {
        if let Some((socket, address)) = &self.to {
            let _lost = socket.send_to_addr(state.as_bytes(), address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_abstract_socket_receives() {
        let name = format!("smart-monitor-simulate-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
        let receiver = UnixDatagram::bind_addr(&address).unwrap();
        Notifier::to(Some(OsStr::new(&format!("@{name}")))).send("READY=1");
        let mut buffer = [0; 64];
        let length = receiver.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"READY=1");
    }

    #[test]
    fn nobody_there_is_no_error() {
        for name in [
            None,
            Some("/nowhere/at/all"),
            Some("@nobody"),
            Some("no path"),
        ] {
            Notifier::to(name.map(OsStr::new)).send("READY=1");
        }
    }
}
