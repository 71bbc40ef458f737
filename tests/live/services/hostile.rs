//! Servers that would take the memory and the time of whoever asks them: bounded, told in words, and no trouble for other checks.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use smart_monitor_tests::{Daemon, Simulated, Site, binary, program};

/// Other tests, and what builds them, are no reason to leave a service alone.
const BUSY: &str = "[policy]\nbusy_cpu = \"1000%\"\nbusy_io = \"1000%\"\n";

/// A server of the test's own, each connection on a thread. Its threads end with it.
struct Server {
    at: SocketAddr,
    asked: Arc<AtomicUsize>,
    ends: Arc<AtomicBool>,
    accepts: Option<JoinHandle<()>>,
}

impl Server {
    fn new(serve: fn(TcpStream)) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let at = listener.local_addr()?;
        let ends = Arc::new(AtomicBool::new(false));
        let asked = Arc::new(AtomicUsize::new(0));
        let (ending, counts) = (Arc::clone(&ends), Arc::clone(&asked));
        let accepts = std::thread::spawn(move || {
            let mut served = Vec::new();
            for stream in listener.incoming().filter_map(Result::ok) {
                if ending.load(Ordering::Relaxed) {
                    break;
                }
                counts.fetch_add(1, Ordering::Relaxed);
                served.push(std::thread::spawn(move || serve(stream)));
            }
            // The daemon that was served is gone by now, and they see that.
            for thread in served {
                let _ended = thread.join();
            }
        });
        Ok(Self {
            at,
            asked,
            ends,
            accepts: Some(accepts),
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        let _wakes = TcpStream::connect(self.at);
        let _ended = self.accepts.take().map(JoinHandle::join);
    }
}

/// Writes until the other end has gone, or a GiB is written.
fn flood(mut stream: TcpStream, head: &[u8]) {
    let block = vec![b'x'; 64 << 10];
    let mut good = stream.write_all(head).is_ok();
    for _ in 0..(1 << 30) / block.len() {
        good = good && stream.write_all(&block).is_ok();
    }
}

fn endless_body(mut stream: TcpStream) {
    let _request = stream.read(&mut [0; 1024]);
    flood(stream, b"HTTP/1.1 200 OK\r\n\r\n");
}

fn banner(stream: TcpStream) {
    flood(stream, b"");
}

/// Takes what it is sent, and says nothing.
fn stall(mut stream: TcpStream) {
    while stream.read(&mut [0; 1024]).is_ok_and(|read| read > 0) {}
}

/// Answers every question with its number and rubbish, and once more with another number.
struct Rubbish {
    at: SocketAddr,
    ends: Arc<AtomicBool>,
    answers: Option<JoinHandle<()>>,
}

impl Rubbish {
    fn new() -> Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        let at = socket.local_addr()?;
        let ends = Arc::new(AtomicBool::new(false));
        let ending = Arc::clone(&ends);
        let answers = std::thread::spawn(move || {
            let mut packet = [0; 512];
            while let Ok((_, from)) = socket.recv_from(&mut packet) {
                if ending.load(Ordering::Relaxed) {
                    break;
                }
                // All of it is a question, an answer, and pointers to itself.
                let mut answer = [0xc0; 4096];
                answer[..2].copy_from_slice(&[!packet[0], packet[1]]);
                let _gone = socket.send_to(&answer, from);
                answer[..4].copy_from_slice(&[packet[0], packet[1], 0x81, 0x80]);
                let _gone = socket.send_to(&answer, from);
            }
        });
        Ok(Self {
            at,
            ends,
            answers: Some(answers),
        })
    }
}

impl Drop for Rubbish {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        let wakes = UdpSocket::bind("127.0.0.1:0");
        let _sent = wakes.map(|it| it.send_to(b"end", self.at));
        let _ended = self.answers.take().map(JoinHandle::join);
    }
}

/// A port whose queue is full: the kernel drops every further SYN, as a firewall would.
struct BlackHole {
    at: SocketAddr,
    _listener: TcpListener,
    _queued: Vec<TcpStream>,
}

impl BlackHole {
    fn new() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        rustix::net::listen(&listener, 0)?;
        let at = listener.local_addr()?;
        let mut queued = Vec::new();
        let brief = std::time::Duration::from_millis(200);
        while let Ok(stream) = TcpStream::connect_timeout(&at, brief) {
            queued.push(stream);
            ensure!(queued.len() < 10, "its queue does not become full");
        }
        Ok(Self {
            at,
            _listener: listener,
            _queued: queued,
        })
    }
}

/// A line of `/proc/PID/status` in bytes.
fn memory(daemon: &Daemon, what: &str) -> Result<u64> {
    let pid = daemon.process()?.pid;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(what));
    let words = line.context("no such line")?.split_whitespace().nth(1);
    Ok(words.context("no figure")?.parse::<u64>()? << 10)
}

/// What `status --json` says of a check, once that is so.
fn said(site: &Site, name: &str) -> Option<String> {
    let mut command = program(binary().ok()?);
    command.args(["status", "--json", "--socket"]);
    let output = command.arg(site.socket()).output().ok()?;
    let status: Value = serde_json::from_slice(&output.stdout).ok()?;
    let check = status.pointer(&format!("/view/services/hostile/service/checks/{name}"))?;
    let bad = check.get("well")? == false;
    bad.then(|| check.get("said")?.as_str().map(str::to_owned))?
}

#[test]
fn five_hostile_servers_cost_little_and_hold_up_no_other_check() -> Result<()> {
    let site = Site::new()?;
    let (body, chatter, silent) = (
        Server::new(endless_body)?,
        Server::new(banner)?,
        Server::new(stall)?,
    );
    let (rubbish, hole) = (Rubbish::new()?, BlackHole::new()?);
    let good = Simulated::new("good")?;
    site.configure(&(BUSY.to_owned() + &good.toml()))?;
    let mut daemon = site.start()?;
    let process = daemon.healthy("good")?;
    let before = memory(&daemon, "VmRSS")?;

    let checks = [
        (
            "body",
            format!(
                "http = {{ url = \"http://{}/\", body = \"never\" }}",
                body.at
            ),
            "of which no more is read",
        ),
        (
            "banner",
            format!(
                "tcp = {{ address = \"{}\", banner = \"^220 \" }}",
                chatter.at
            ),
            "4096 bytes in all were read",
        ),
        (
            "tls",
            format!(
                "tls = {{ address = \"{}\", server_name = \"shop.test\" }}",
                silent.at
            ),
            "in the TLS handshake with shop.test",
        ),
        (
            "dns",
            format!(
                "dns = {{ name = \"shop.test\", server = \"{}\" }}",
                rubbish.at
            ),
            "cannot be read",
        ),
        ("hole", format!("tcp = \"{}\"", hole.at), "connecting to"),
    ];
    let tables = checks.iter().map(|(name, check, _)| {
        format!("[[service.check]]\nname = \"{name}\"\n{check}\ninterval = \"1s\"\ntimeout = \"900ms\"\nfailures = 1\n")
    });
    let hostile = "\n[[service]]\nname = \"hostile\"\nkind = \"none\"\n".to_owned();
    site.configure(&(BUSY.to_owned() + &good.toml() + &hostile + &tables.collect::<String>()))?;
    daemon.signal(rustix::process::Signal::HUP)?;
    for (name, _, words) in checks {
        let mut last = None;
        let found = daemon.wait_for("status --json gives the reason", |_| {
            last = said(&site, name);
            last.as_ref()?.contains(words).then_some(())
        });
        found.with_context(|| format!("{name} says {last:?}, not `{words}`"))?;
    }
    let servers = [&body, &chatter, &silent];
    daemon.wait_for("each was asked five times", |_| {
        let asked = servers.map(|server| server.asked.load(Ordering::Relaxed));
        asked.iter().all(|times| *times >= 5).then_some(())
    })?;
    let grown = memory(&daemon, "VmHWM")?.saturating_sub(before);
    ensure!(grown < 64 << 20, "it grew by {} MiB", grown >> 20);
    let late = |le: &str| daemon.metric("smart_monitor_check_late_seconds_bucket", le);
    let (soon, all) = (late("le=\"0.1\"")?, late("le=\"+Inf\"")?);
    ensure!(all > 25.0, "{all} checks");
    ensure!(soon / all > 0.9, "{soon} of {all} were begun in time");
    ensure!(
        daemon.service("good") == Some(process),
        "the other is as it was"
    );
    let all = daemon.incidents()?;
    let others = all.iter().any(|it| it.subject.to_string().contains("good"));
    ensure!(!others, "{all:#?}");
    ensure!(daemon.stop()?.success(), "an orderly end");
    Ok(())
}
