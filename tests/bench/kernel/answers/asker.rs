//! A client of HTTP over many connections, each with one request at a time, that keeps every answer's time.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::buffer::spare_capacity;
use rustix::event::epoll;

use super::super::pin;
use crate::report::Samples;

struct Asking {
    stream: TcpStream,
    since: Instant,
    got: usize,
}

/// Asks for so long, on this CPU. Every answer must be as long as the first.
pub(crate) fn ask(
    address: SocketAddr,
    path: &str,
    connections: u32,
    cpu: usize,
    time: Duration,
) -> Result<Samples> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: bench\r\nAccept-Encoding: gzip\r\n\r\n");
    // A thread of its own, whose CPU is nobody else's.
    let asking = std::thread::spawn(move || -> Result<Samples> {
        pin(cpu)?;
        run(address, &request, connections, time)
    });
    asking
        .join()
        .ok()
        .context("the client's thread has panicked")?
}

fn run(address: SocketAddr, request: &str, connections: u32, time: Duration) -> Result<Samples> {
    let expected = answer_size(address, request)?;
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut all = Vec::new();
    for number in 0..connections {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let data = epoll::EventData::new_u64(u64::from(number));
        epoll::add(&poll, &stream, data, epoll::EventFlags::IN)?;
        all.push(Asking {
            stream,
            since: Instant::now(),
            got: 0,
        });
    }
    for asking in &mut all {
        asking.ask(request)?;
    }
    let mut times = Vec::new();
    let mut events = Vec::with_capacity(all.len());
    let end = Instant::now() + time;
    while Instant::now() < end {
        epoll::wait(&poll, spare_capacity(&mut events), None)?;
        for event in events.drain(..) {
            let number = usize::try_from(event.data.u64())?;
            let asking = all.get_mut(number).context("a connection of ours")?;
            if let Some(took) = asking.hear(expected)? {
                times.push(took);
                asking.ask(request)?;
            }
        }
    }
    Ok(times.into_iter().collect())
}

impl Asking {
    fn ask(&mut self, request: &str) -> Result<()> {
        self.since = Instant::now();
        self.got = 0;
        self.stream
            .write_all(request.as_bytes())
            .context("cannot ask")
    }

    /// How long the answer took, once it is complete.
    fn hear(&mut self, expected: usize) -> Result<Option<Duration>> {
        let mut buffer = [0; 4_096];
        let got = self.stream.read(&mut buffer).context("cannot hear")?;
        ensure!(got > 0, "the server has hung up");
        self.got += got;
        ensure!(self.got <= expected, "an answer is longer than the first");
        Ok((self.got == expected).then(|| self.since.elapsed()))
    }
}

/// Bytes of an answer, which says itself how long it is, or that it is over.
fn answer_size(address: SocketAddr, request: &str) -> Result<usize> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(request.as_bytes())?;
    let (mut answer, mut part) = (Vec::new(), [0; 4_096]);
    loop {
        let got = stream.read(&mut part)?;
        ensure!(got > 0, "the server has hung up");
        answer.extend(part.iter().take(got));
        let text = String::from_utf8_lossy(&answer).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        ensure!(head.starts_with("HTTP/1.1 200 "), "the server says {head}");
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("Content-Length: "))
            .and_then(|length| length.trim().parse().ok());
        if length == Some(body.len()) || body.ends_with("\r\n0\r\n\r\n") {
            return Ok(answer.len());
        }
    }
}
