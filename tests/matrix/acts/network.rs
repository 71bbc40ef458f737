//! Connections over the loopback device.

use std::net::TcpStream;

use anyhow::{Result, bail};
use monitor_common::Event;
use smart_monitor::kernel::Kernel;
use smart_monitor_tests::free_port;

use crate::stage::Stage;

/// A connection to a port that nobody listens on.
pub(super) fn tcp_connect(stage: &mut Stage) -> Result<()> {
    const ECONNREFUSED: u32 = 111;
    let refused = |_: &mut Kernel| {
        let peer = free_port()?;
        if TcpStream::connect(peer).is_ok() {
            bail!("somebody listens on {peer}");
        }
        Ok(peer)
    };
    stage.see(refused, |peer, event| {
        matches!(event, Event::TcpConnect(connect)
            if connect.peer() == *peer && connect.error == ECONNREFUSED && connect.task.pid == std::process::id())
    })
}
