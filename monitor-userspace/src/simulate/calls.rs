//! Calls to the peers: a new TCP connection and one `GET /work` each, at a steady rate. What fails is the service's own error.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::server::Running;

/// A call that takes longer has failed.
const PATIENCE: Duration = Duration::from_millis(250);

/// Calls every peer at the rate, for ever.
pub(super) async fn call_peers(running: Running) {
    let rate = running.options.rate;
    if running.options.calls.is_empty() || !rate.is_normal() || rate <= 0.0 {
        return std::future::pending().await;
    }
    let mut ticks = interval(Duration::from_secs_f64((1.0 / rate).clamp(0.001, 3600.0)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        if running.hangs() {
            continue;
        }
        for peer in &running.options.calls {
            let failed = !matches!(timeout(PATIENCE, call(peer.address)).await, Ok(Ok(true)));
            running.stats().call(failed);
        }
    }
}

/// Whether the peer answered with a status of success.
async fn call(address: SocketAddr) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /work HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut start = [0; 12];
    stream.read_exact(&mut start).await?;
    Ok(start.starts_with(b"HTTP/1.1 2"))
}
