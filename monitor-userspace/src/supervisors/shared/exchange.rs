//! A question and its answer over a Unix socket, which together take no longer than they may: for those who must never wait for ever.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

/// See the module.
#[derive(Debug)]
pub(super) struct Exchange {
    stream: UnixStream,
    within: Duration,
    until: Instant,
}

impl Exchange {
    /// Connects. Does not wait: whoever listens there and has left too many waiting already is as good as away.
    pub(super) fn open(path: &Path, within: Duration) -> Result<Self, String> {
        let opened = || -> io::Result<UnixStream> {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
            connect(&socket, &SocketAddrUnix::new(path)?)?;
            let stream = UnixStream::from(socket);
            stream.set_nonblocking(false)?;
            Ok(stream)
        };
        let stream = opened().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                let path = path.display();
                format!("nobody listens at {path}: it does not run, or has its socket elsewhere")
            }
            io::ErrorKind::WouldBlock => {
                let path = path.display();
                format!("whoever listens at {path} takes no more connections: it hangs")
            }
            _ => format!("cannot connect to {}: {error}", path.display()),
        })?;
        Ok(Self {
            stream,
            within,
            until: Instant::now() + within,
        })
    }

    /// Sends all of this.
    pub(super) fn send(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        while !bytes.is_empty() {
            let left = self.left()?;
            let sent = self.stream.set_write_timeout(Some(left));
            match sent.and_then(|()| self.stream.write(bytes)) {
                Ok(sent) => bytes = bytes.get(sent..).unwrap_or_default(),
                Err(error) => self.bear(&error)?,
            }
        }
        Ok(())
    }

    /// Takes exactly so many bytes.
    pub(super) fn take(&mut self, count: usize) -> Result<Vec<u8>, String> {
        // Grows with what comes: a length that was only said costs nothing.
        let mut taken = Vec::new();
        while taken.len() < count {
            if self.more(&mut taken, count)? == 0 {
                let came = taken.len();
                return Err(format!("the answer ended after {came} of {count} bytes"));
            }
        }
        Ok(taken)
    }

    /// Takes all that comes until the other side closes, of which there may be so much.
    pub(super) fn take_all(&mut self, most: usize) -> Result<Vec<u8>, String> {
        let mut taken = Vec::new();
        while self.more(&mut taken, most + 1)? != 0 {
            if taken.len() > most {
                return Err(format!("the answer is longer than {most} bytes"));
            }
        }
        Ok(taken)
    }

    /// Adds what there is, until there are so many bytes. How many were added: 0 when there will be no more.
    fn more(&mut self, taken: &mut Vec<u8>, until: usize) -> Result<usize, String> {
        let mut buffer = [0; 16 << 10];
        let want = until.saturating_sub(taken.len()).min(buffer.len());
        let buffer = buffer.get_mut(..want).unwrap_or_default();
        loop {
            let left = self.left()?;
            let ready = self.stream.set_read_timeout(Some(left));
            match ready.and_then(|()| self.stream.read(buffer)) {
                Ok(count) => {
                    taken.extend_from_slice(buffer.get(..count).unwrap_or_default());
                    return Ok(count);
                }
                Err(error) => self.bear(&error)?,
            }
        }
    }

    fn left(&self) -> Result<Duration, String> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(format!("no answer within {:?}", self.within));
        }
        Ok(left)
    }

    /// Interrupted, or waited out: whoever goes on looks at the time first.
    fn bear(&self, error: &io::Error) -> Result<(), String> {
        match error.kind() {
            io::ErrorKind::Interrupted => Ok(()),
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => self.left().map(|_| ()),
            _ => Err(format!("the connection broke: {error}")),
        }
    }
}
