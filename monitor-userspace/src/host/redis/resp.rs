//! The protocol of Redis (RESP2), as far as it is needed: a list of texts there, one value back. Whatever the other side sends, memory and
//! time are bounded.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

/// Bounds of an answer: bytes of a line, of a text, of all of it; values in it; lists within lists.
const LINE: usize = 16 << 10;
const TEXT: usize = 1 << 20;
const ANSWER: usize = 16 << 20;
const VALUES: usize = 100_000;
const DEPTH: u32 = 4;
/// Bytes that are read at once.
const CHUNK: usize = 16 << 10;

/// What a server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Text(Vec<u8>),
    Error(Vec<u8>),
    Integer(i64),
    Array(Vec<Value>),
    Nothing,
}

trait Stream: Read + Write + std::fmt::Debug {
    fn wait_at_most(&self, time: Duration) -> io::Result<()>;
}

impl Stream for TcpStream {
    fn wait_at_most(&self, time: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(time))?;
        self.set_write_timeout(Some(time))
    }
}

impl Stream for UnixStream {
    fn wait_at_most(&self, time: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(time))?;
        self.set_write_timeout(Some(time))
    }
}

/// A connection, with the time at which all of it must be over.
#[derive(Debug)]
pub(super) struct Connection {
    stream: Box<dyn Stream>,
    until: Instant,
    buffer: Vec<u8>,
    /// What of the buffer was taken.
    taken: usize,
    /// Bytes and values that the present answer may still have.
    bytes: usize,
    values: usize,
}

impl Connection {
    pub(super) fn open(address: &str, until: Instant) -> Result<Self, String> {
        let stream: io::Result<Box<dyn Stream>> = match address.strip_prefix("unix:") {
            Some(path) => unix(path).map(|stream| Box::new(stream) as _),
            None => tcp(address, until).map(|stream| Box::new(stream) as _),
        };
        Ok(Self {
            stream: stream.map_err(|error| format!("cannot connect: {error}"))?,
            until,
            buffer: Vec::new(),
            taken: 0,
            bytes: 0,
            values: 0,
        })
    }

    /// Sends a command and waits for its answer.
    pub(super) fn ask(&mut self, command: &[&[u8]]) -> Result<Value, String> {
        let mut text = format!("*{}\r\n", command.len()).into_bytes();
        for word in command {
            text.extend(format!("${}\r\n", word.len()).into_bytes());
            text.extend_from_slice(word);
            text.extend_from_slice(b"\r\n");
        }
        let mut left = text.as_slice();
        while !left.is_empty() {
            self.hurry()?;
            let sent = self.stream.write(left).map_err(|error| said(&error))?;
            left = left.get(sent..).unwrap_or_default();
        }
        (self.bytes, self.values) = (ANSWER, VALUES);
        self.value(0)
    }

    fn value(&mut self, depth: u32) -> Result<Value, String> {
        self.values = self
            .values
            .checked_sub(1)
            .ok_or("its answer has no end: too many values")?;
        let line = self.line()?;
        let (kind, rest) = line.split_first().ok_or("its answer is an empty line")?;
        Ok(match kind {
            b'+' => Value::Text(rest.to_vec()),
            b'-' => Value::Error(rest.to_vec()),
            b':' => Value::Integer(number(rest)?),
            b'$' => match usize::try_from(number(rest)?) {
                Ok(length) if length <= TEXT => Value::Text(self.text(length)?),
                Ok(length) => return Err(format!("a text of {length} bytes is more than {TEXT}")),
                Err(_) => Value::Nothing,
            },
            b'*' if depth < DEPTH => match usize::try_from(number(rest)?) {
                Ok(length) if length <= self.values => {
                    // What it says is not believed before it is there.
                    let mut all = Vec::new();
                    for _ in 0..length {
                        all.push(self.value(depth + 1)?);
                    }
                    Value::Array(all)
                }
                Ok(length) => return Err(format!("a list of {length} is more than {VALUES}")),
                Err(_) => Value::Nothing,
            },
            b'*' => return Err("its answer has too many lists in lists".to_owned()),
            other => {
                return Err(format!(
                    "it does not speak as Redis does: an answer begins with `{}`",
                    other.escape_ascii()
                ));
            }
        })
    }

    fn line(&mut self) -> Result<Vec<u8>, String> {
        let mut looked = 0;
        loop {
            let there = self.buffer.get(self.taken..).unwrap_or_default();
            let from = there.get(looked..).unwrap_or_default();
            if let Some(end) = from.iter().position(|byte| *byte == b'\n') {
                let line = there.get(..looked + end).unwrap_or_default();
                let line = line
                    .strip_suffix(b"\r")
                    .ok_or("a line ends without a carriage return")?;
                let line = line.to_vec();
                self.take(looked + end + 1)?;
                return Ok(line);
            }
            looked = there.len();
            if looked > LINE {
                return Err(format!("a line is longer than {LINE} bytes"));
            }
            self.more()?;
        }
    }

    fn text(&mut self, length: usize) -> Result<Vec<u8>, String> {
        let end = length + 2;
        while self.buffer.len() - self.taken < end {
            self.more()?;
        }
        let there = self.buffer.get(self.taken..).unwrap_or_default();
        let (text, rest) = there.split_at_checked(length).ok_or("a text is cut off")?;
        if !rest.starts_with(b"\r\n") {
            return Err("a text is longer than it says".to_owned());
        }
        let text = text.to_vec();
        self.take(end)?;
        Ok(text)
    }

    fn take(&mut self, bytes: usize) -> Result<(), String> {
        self.taken += bytes;
        self.bytes = self
            .bytes
            .checked_sub(bytes)
            .ok_or_else(|| format!("its answer is longer than {ANSWER} bytes"))?;
        Ok(())
    }

    fn more(&mut self) -> Result<(), String> {
        self.hurry()?;
        self.buffer.drain(..self.taken);
        self.taken = 0;
        let had = self.buffer.len();
        self.buffer.resize(had + CHUNK, 0);
        let room = self.buffer.get_mut(had..).unwrap_or_default();
        let read = self.stream.read(room);
        self.buffer
            .truncate(had + read.as_ref().copied().unwrap_or(0));
        match read {
            Ok(0) => Err("it closed the connection".to_owned()),
            Err(error) => Err(said(&error)),
            Ok(_) => Ok(()),
        }
    }

    /// What is left of the time, for the next read or write.
    fn hurry(&self) -> Result<(), String> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(LATE.to_owned());
        }
        let set = self.stream.wait_at_most(left.max(Duration::from_millis(1)));
        set.map_err(|error| format!("cannot set a time limit: {error}"))
    }
}

const LATE: &str = "it did not answer in time (`within`)";

fn said(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => LATE.to_owned(),
        _ => format!("the connection is broken: {error}"),
    }
}

fn number(text: &[u8]) -> Result<i64, String> {
    let parsed = std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse().ok());
    parsed.ok_or_else(|| "its answer has no number where there must be one".to_owned())
}

fn tcp(address: &str, until: Instant) -> io::Result<TcpStream> {
    let address: SocketAddr = address.parse().map_err(io::Error::other)?;
    let left = until.saturating_duration_since(Instant::now());
    TcpStream::connect_timeout(&address, left.max(Duration::from_millis(1)))
}

/// Where the listener's queue is full, `connect` would wait for ever: this does not.
fn unix(path: &str) -> io::Result<UnixStream> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}
