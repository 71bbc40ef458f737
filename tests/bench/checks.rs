//! What many health checks cost, and how well they keep to their times: HTTP requests to a server of the bench's own.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::cost::{Usage, percent_between, status_kib};
use crate::daemon::{Daemon, Folder};
use crate::report::{Report, progress};

const EXPORTER: &str = "127.0.0.1:19201";
/// Checks of one service: the configuration allows no more names than that needs.
const EACH: usize = 50;
/// Every check is made at least once before it is measured.
const SETTLE: Duration = Duration::from_secs(12);
const KEPT: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\nok\n";

/// So many checks at this interval, for so long.
pub(crate) fn measure(binary: &Path, seconds: u64, report: &mut Report) -> Result<()> {
    for (count, every, keep_alive, cpu, resident) in [
        (1_000, 1, false, Some(5.0), Some(60.0)),
        (1_000, 1, true, Some(5.0), Some(60.0)),
        (10_000, 10, false, None, None),
    ] {
        let over = if keep_alive {
            "connections that are kept"
        } else {
            "a connection each"
        };
        let what = format!("{count} HTTP checks every {every} s, over {over}");
        progress(&format!("checks: {what}"));
        let server = serve(keep_alive)?;
        let folder = Folder::new()?;
        let mut daemon = Daemon::start(binary, &folder, &config(count, every, keep_alive, server))?;
        daemon.wait_until_up(Duration::from_millis(20))?;
        std::thread::sleep(SETTLE);
        let late = Late::of()?;
        let before = Usage::of(&daemon)?;
        std::thread::sleep(Duration::from_secs(seconds.max(2 * every)));
        let after = Usage::of(&daemon)?;
        let late = Late::of()?.since(&late);
        let memory = status_kib(daemon.pid(), "VmRSS:").context("no VmRSS")?;
        daemon.stop()?;

        let (own, programs) = percent_between(&before, &after);
        report.section(&what);
        report.number(
            "CPU of the daemon, idling included",
            own,
            "% of a core",
            cpu,
        );
        if let Some(programs) = programs {
            report.number("CPU of its kernel programs", programs, "% of a core", None);
        }
        report.number("resident memory", memory / 1024.0, "MiB", resident);
        let seconds = after.elapsed_since(&before);
        report.number("checks made", late.count / seconds, "a second", None);
        let goal = Some(50.0);
        report.number(
            "begun late, p99 (bound of its bucket)",
            late.p99() * 1e3,
            "ms",
            goal,
        );
        report.number("left out", late.missed, "checks", Some(0.0));
    }
    Ok(())
}

fn config(count: usize, every: u64, keep_alive: bool, server: SocketAddr) -> String {
    let mut config = vec![format!("[daemon]\nhttp = \"{EXPORTER}\"\n")];
    for service in 0..count.div_ceil(EACH) {
        config.push(format!(
            "[[service]]\nname = \"s{service}\"\nkind = \"none\"\n"
        ));
        let checks = 0..EACH.min(count - service * EACH);
        config.extend(checks.map(|check| {
            format!("[[service.check]]\nname = \"c{check}\"\nhttp = {{ url = \"http://{server}/{check}\", keep_alive = {keep_alive} }}\ninterval = \"{every}s\"\n")
        }));
    }
    config.concat()
}

/// A server that answers each connection once, or as often as it is asked, in threads that end with the bench.
fn serve(keep_alive: bool) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // Who goes away in between is checked again.
            if keep_alive {
                std::thread::spawn(move || stream.and_then(answers));
            } else {
                let _ = stream.and_then(answer);
            }
        }
    });
    Ok(address)
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut request = [0; 1024];
    let _ = stream.read(&mut request)?;
    stream.write_all(ANSWER)
}

fn answers(mut stream: TcpStream) -> std::io::Result<()> {
    let mut request = [0; 1024];
    while stream.read(&mut request)? > 0 {
        stream.write_all(KEPT)?;
    }
    Ok(())
}

/// How late checks were begun, as the exporter says.
struct Late {
    /// Upper bounds, seconds, and how many were at most that late.
    buckets: Vec<(f64, f64)>,
    count: f64,
    missed: f64,
}

impl Late {
    fn of() -> Result<Self> {
        let page = page()?;
        let value = |line: &str| {
            line.rsplit(' ')
                .next()
                .and_then(|it| it.parse::<f64>().ok())
        };
        let one = |name: &str| {
            let found = page.lines().find(|line| line.starts_with(name));
            found.and_then(value).with_context(|| format!("no {name}"))
        };
        let stem = "smart_monitor_check_late_seconds_bucket{le=\"";
        let buckets = page.lines().filter_map(|line| {
            let bound = line.strip_prefix(stem)?.split('"').next()?;
            let bound = bound.parse().unwrap_or(f64::INFINITY);
            Some((bound, value(line)?))
        });
        Ok(Self {
            buckets: buckets.collect(),
            count: one("smart_monitor_check_late_seconds_count")?,
            missed: one("smart_monitor_checks_missed_total")?,
        })
    }

    fn since(&self, before: &Self) -> Self {
        let pairs = self.buckets.iter().zip(&before.buckets);
        Self {
            buckets: pairs.map(|(now, then)| (now.0, now.1 - then.1)).collect(),
            count: self.count - before.count,
            missed: self.missed - before.missed,
        }
    }

    fn p99(&self) -> f64 {
        let enough = |(_, count): &&(f64, f64)| *count >= 0.99 * self.count;
        let bucket = self.buckets.iter().find(enough);
        bucket.map_or(f64::INFINITY, |(bound, _)| *bound)
    }
}

fn page() -> Result<String> {
    let mut stream = TcpStream::connect(EXPORTER)?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    if !text.starts_with("HTTP/1.1 200") {
        bail!("the exporter answers {}", text.lines().next().unwrap_or(""));
    }
    Ok(text)
}
