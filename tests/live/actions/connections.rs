//! `drop_connections` on real sockets: those that are meant are ended, and no others.

use std::io::Read as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use smart_monitor::host::{HostError, connections, procfs};
use smart_monitor::model::ProcessKey;
use smart_monitor::model::connections::{ConnectionFilter, TcpState};
use smart_monitor_tests::{PATIENCE, program, wait_until};

/// Connects so many times to a port, and keeps all of it open.
const CLIENT: &str = r"
import socket, sys, time
port, count = int(sys.argv[1]), int(sys.argv[2])
all = [socket.create_connection(('127.0.0.1', port)) for _ in range(count)]
print('ready', flush=True)
sys.stdin.read()
";

/// Ends with its owner.
struct Client(Child);

impl Client {
    fn new(to: SocketAddr, count: usize) -> Result<Self> {
        let mut python = program("python3");
        python.args(["-c", CLIENT, &to.port().to_string(), &count.to_string()]);
        let mut child = python
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut said = [0; 5];
        child
            .stdout
            .as_mut()
            .context("piped")?
            .read_exact(&mut said)?;
        ensure!(&said == b"ready");
        Ok(Self(child))
    }

    fn key(&self) -> Result<ProcessKey> {
        Ok(procfs::stat(self.0.id()).context("it runs")?.key)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn filter() -> ConnectionFilter {
    ConnectionFilter {
        at_most: 100,
        ..ConnectionFilter::default()
    }
}

fn accept(listener: &TcpListener, count: usize) -> Result<Vec<TcpStream>> {
    (0..count).map(|_| Ok(listener.accept()?.0)).collect()
}

#[test]
fn those_that_are_meant_are_ended_at_both_ends_and_no_others() -> Result<()> {
    let (one, other) = (
        TcpListener::bind("127.0.0.1:0")?,
        TcpListener::bind("127.0.0.1:0")?,
    );
    let client = Client::new(one.local_addr()?, 3)?;
    let bystander = Client::new(one.local_addr()?, 1)?;
    let elsewhere = Client::new(other.local_addr()?, 1)?;
    let mut ends = accept(&one, 4)?;
    let _other_ends = accept(&other, 1)?;
    let mut meant = filter();
    meant.peer_port = Some(one.local_addr()?.port());
    let process = client.key()?;
    ensure!(connections::count(process, false, &[], &meant)? == 3);
    let mut long_idle = meant.clone();
    long_idle.idle = Duration::from_hours(1);
    ensure!(
        connections::destroy(process, false, &[], &long_idle)?
            .ended
            .is_empty()
    );
    let mut few = meant.clone();
    few.at_most = 2;
    let refused = connections::destroy(process, false, &[], &few).expect_err("there are three");
    ensure!(
        refused.to_string().contains("none was touched"),
        "{refused}"
    );
    ensure!(connections::count(process, false, &[], &meant)? == 3);

    let dropped = connections::destroy(process, false, &[], &meant)?;
    ensure!(dropped.ended.len() == 3 && dropped.left == 0, "{dropped:?}");
    ensure!(dropped.stopped.is_none(), "{dropped:?}");
    ensure!(
        dropped
            .ended
            .iter()
            .all(|it| it.state == TcpState::Established)
    );
    ensure!(connections::count(process, false, &[], &meant)? == 0);
    let mut reset = 0;
    for end in &mut ends {
        end.set_read_timeout(Some(Duration::from_millis(100)))?;
        reset += usize::from(
            end.read(&mut [0])
                .is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset),
        );
    }
    ensure!(reset == 3, "{reset} were reset");
    ensure!(connections::count(bystander.key()?, false, &[], &meant)? == 1);
    ensure!(connections::count(elsewhere.key()?, false, &[], &filter())? == 1);
    Ok(())
}

#[test]
fn what_the_other_end_has_closed_is_found_by_its_state() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let client = Client::new(listener.local_addr()?, 2)?;
    let mut ends = accept(&listener, 2)?;
    ends.pop();
    let mut meant = filter();
    meant.states = vec![TcpState::CloseWait];
    let process = client.key()?;
    wait_until(PATIENCE, "it is half closed", || {
        (connections::count(process, false, &[], &meant).ok()? == 1).then_some(())
    })?;
    let dropped = connections::destroy(process, false, &[], &meant)?;
    ensure!(dropped.ended.len() == 1 && dropped.left == 0, "{dropped:?}");
    ensure!(connections::count(process, false, &[], &filter())? == 1);
    Ok(())
}

#[test]
fn those_of_a_process_that_is_spared_and_of_one_that_is_gone_are_left_alone() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let client = Client::new(listener.local_addr()?, 1)?;
    let process = client.key()?;
    let comm = procfs::stat(process.pid).context("it runs")?.comm;
    ensure!(connections::count(process, false, &[&comm], &filter())? == 0);
    let dropped = connections::destroy(process, false, &[&comm], &filter())?;
    ensure!(dropped.ended.is_empty());
    ensure!(connections::count(process, false, &[], &filter())? == 1);
    drop(client);
    let gone = connections::destroy(process, false, &[], &filter()).expect_err("it has ended");
    ensure!(
        matches!(gone, HostError::Gone(_) | HostError::Reused(_)),
        "{gone}"
    );
    Ok(())
}

#[test]
fn without_the_right_to_the_right_is_named() -> Result<()> {
    use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let client = Client::new(listener.local_addr()?, 1)?;
    let process = client.key()?;
    let refused = std::thread::scope(|scope| {
        let without = scope.spawn(|| -> Result<_> {
            let had: CapabilitySets = capabilities(None)?;
            let left = CapabilitySets {
                effective: had.effective - CapabilitySet::NET_ADMIN,
                permitted: had.permitted - CapabilitySet::NET_ADMIN,
                inheritable: had.inheritable,
            };
            set_capabilities(None, left)?;
            Ok(connections::destroy(process, false, &[], &filter()))
        });
        without.join().expect("it ends well")
    })?;
    let dropped = refused?;
    let why = dropped.stopped.context("it was stopped")?.to_string();
    ensure!(
        why.contains("CAP_NET_ADMIN is missing") && dropped.ended.is_empty(),
        "{why}"
    );
    Ok(())
}
