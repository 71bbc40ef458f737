//! A small service that misbehaves on request: what the demo, the bench and the tests let Smart-Monitor repair.
//!
//! One thread and one HTTP/1.1 listener: `GET /health`, `GET /metrics`, `GET /work`, `POST /fault/KIND`. It calls its peers
//! now and then, and tells a supervisor that asks for it (`NOTIFY_SOCKET`) that it is alive. It needs no privilege and no
//! kernel feature, and hurts nothing but itself: a leak has a bound.
//!
//! Left out on purpose: everything that a real service would keep. There is no state to lose.

mod calls;
pub mod fault;
pub mod fault_client;
mod load;
mod notify;
mod report;
mod server;
mod stats;

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use self::notify::Notifier;
use self::server::Running;

/// What to simulate.
#[derive(Clone, Debug)]
pub struct Options {
    /// Name that the reports carry.
    pub name: String,
    /// Address of the HTTP listener.
    pub listen: SocketAddr,
    /// Services that it depends on.
    pub calls: Vec<Peer>,
    /// Calls to each of them in a second; not above zero means none.
    pub rate: f64,
    /// Time between two signs of life.
    pub heartbeat: Duration,
}

/// A service that this one calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
}

impl FromStr for Peer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, address) = text
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| {
                format!("{text:?} is not NAME=ADDRESS, for example payment=127.0.0.1:9102")
            })?;
        let address = address.parse().map_err(|_| {
            format!("{address:?} is not an address and port, for example 127.0.0.1:9102")
        })?;
        Ok(Self {
            name: name.to_owned(),
            address,
        })
    }
}

/// Why a simulated service cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The listener.
    #[error(
        "service {name} cannot listen on {listen}: {cause}; choose another address with --listen"
    )]
    Listen {
        /// The service.
        name: String,
        /// The address.
        listen: SocketAddr,
        /// The kernel's answer.
        cause: std::io::Error,
    },
    /// The runtime or its signals.
    #[error("service {name} cannot start: {cause}; is the limit of open files or threads reached?")]
    Start {
        /// The service.
        name: String,
        /// The kernel's answer.
        cause: std::io::Error,
    },
}

/// Runs the service until SIGTERM or SIGINT, or until a fault ends it.
pub fn run(options: Options) -> Result<(), Error> {
    let name = options.name.clone();
    let start_error = |cause| Error::Start {
        name: name.clone(),
        cause,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(start_error)?;
    let notifier = Notifier::from_environment();
    runtime.block_on(async {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate()).map_err(start_error)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(start_error)?;
        let listener = server::listen(options.listen).map_err(|cause| Error::Listen {
            name: options.name.clone(),
            listen: options.listen,
            cause,
        })?;
        let running = Running::new(options);
        notifier.send("READY=1");
        tokio::select! {
            () = server::serve(listener, running.clone()) => {}
            () = calls::call_peers(running.clone()) => {}
            () = beat(&running, &notifier) => {}
            () = running.obeyed(&mut terminate) => {}
            _ = interrupt.recv() => {}
        }
        Ok(())
    })?;
    notifier.send("STOPPING=1");
    // Open connections and load threads go with the process; waiting for them would only delay its end.
    runtime.shutdown_background();
    Ok(())
}

/// Shows at every heartbeat that the service is alive, unless it hangs.
async fn beat(running: &Running, notifier: &Notifier) {
    let mut ticks = tokio::time::interval(running.options.heartbeat);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        if running.hangs() {
            continue;
        }
        running.stats().beat();
        notifier.send("WATCHDOG=1");
    }
}

#[cfg(test)]
mod tests {
    use super::Peer;

    #[test]
    fn a_peer_is_a_name_and_an_address() {
        let peer: Peer = "payment=127.0.0.1:9102".parse().unwrap();
        assert_eq!(peer.name, "payment");
        assert_eq!(peer.address.port(), 9102);
        for bad in [
            "",
            "payment",
            "=127.0.0.1:1",
            "payment=",
            "payment=localhost",
        ] {
            assert!(bad.parse::<Peer>().is_err(), "{bad:?} was taken");
        }
    }
}
