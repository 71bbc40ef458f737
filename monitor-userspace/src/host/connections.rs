//! TCP connections of a process, and their end (`SOCK_DESTROY` of `sock_diag(7)`, since 4.9 where the kernel has `CONFIG_INET_DIAG_DESTROY`).
//!
//! A connection is the process's when one of its open files is that socket. The kernel compares the socket's cookie, which no other socket
//! ever has: what is ended is what was listed. Only the daemon's own network namespace is looked at.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::netlink::SOCK_DIAG;

use super::network::{Netlink, Request, attribute, number};
use super::signals::Held;
use super::sockets::sockets_of;
use super::{Dropped, HostError, Opened, procfs};
use crate::model::ProcessKey;
use crate::model::connections::{Connection, ConnectionFilter, TcpState};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const TCP: u8 = 6;
/// `INET_DIAG_INFO`: with its `struct tcp_info`.
const INFO: u16 = 2;
/// Bytes of `struct inet_diag_msg`.
const MESSAGE: usize = 72;
/// Where `struct tcp_info` has how long ago data was sent, and received, in milliseconds.
const LAST_SENT: usize = 44;
const LAST_RECEIVED: usize = 52;
/// Most processes that came of one.
const PROCESSES: usize = 4096;

/// A connection, and by what the kernel knows it.
struct Found {
    connection: Connection,
    family: u8,
    /// `struct inet_diag_sockid`: ports, addresses, device and cookie.
    id: Vec<u8>,
    inode: u32,
}

/// Ends those of a process that a filter takes; refuses a process that is another by now. None is ended where there are more than the
/// filter allows.
pub fn destroy(
    process: ProcessKey,
    tree: bool,
    spare: &[&str],
    filter: &ConnectionFilter,
) -> Result<Dropped, HostError> {
    let all = of_process(process, tree, spare, filter)?;
    if all.len() > usize::try_from(filter.at_most).unwrap_or(usize::MAX) {
        return Err(system(
            "end connections",
            io::Error::other(format!(
                "there are {}, and `at_most` is {}: none was touched",
                all.len(),
                filter.at_most
            )),
        ));
    }
    let netlink = open()?;
    let mut dropped = Dropped::default();
    let mut cookies = BTreeSet::new();
    for found in all {
        let request = Request::new(SOCK_DESTROY, 0, &request(found.family, 0, &found.id));
        match netlink.change(request) {
            Ok(()) => {
                cookies.insert(cookie(&found.id));
                dropped.ended.push(found.connection);
            }
            // It has ended by itself.
            Err(error) if Errno::from_io_error(&error) == Some(Errno::NOENT) => {}
            Err(error) => {
                dropped.stopped = Some(failed(error));
                break;
            }
        }
    }
    let after = list(&netlink)?;
    dropped.left = after
        .iter()
        .filter(|it| cookies.contains(&cookie(&it.id)))
        .count();
    Ok(dropped)
}

/// How many there are.
pub fn count(
    process: ProcessKey,
    tree: bool,
    spare: &[&str],
    filter: &ConnectionFilter,
) -> Result<usize, HostError> {
    Ok(of_process(process, tree, spare, filter)?.len())
}

fn of_process(
    process: ProcessKey,
    tree: bool,
    spare: &[&str],
    filter: &ConnectionFilter,
) -> Result<Vec<Found>, HostError> {
    let held = Held::open(process)?;
    if !same_namespace(process.pid) {
        let what = "end connections of another network namespace";
        return Err(HostError::Unable(what));
    }
    let whole = procfs::processes().map_err(|error| system("read /proc", error))?;
    let own_line = procfs::own_line();
    let mut wanted = BTreeSet::from([process.pid]);
    while tree && wanted.len() < PROCESSES {
        let before = wanted.len();
        let children = whole.iter().filter(|stat| wanted.contains(&stat.parent));
        let children: Vec<u32> = children.map(|stat| stat.key.pid).collect();
        wanted.extend(children);
        if wanted.len() == before {
            break;
        }
    }
    let spared = |stat: &procfs::Stat| {
        own_line.contains(&stat.key.pid) || stat.key.pid == 1 || spare.contains(&stat.comm.as_str())
    };
    let mut sockets = BTreeSet::new();
    for pid in &wanted {
        if !own_line.contains(pid) {
            sockets.extend(sockets_of(*pid));
        }
    }
    // One that somebody has open who is never touched is theirs too.
    for stat in whole.iter().filter(|stat| spared(stat)) {
        for socket in sockets_of(stat.key.pid) {
            sockets.remove(&socket);
        }
    }
    // While its pidfd says that it lives, its number has meant no other process.
    if held.wait(Duration::ZERO)? {
        return Err(HostError::Gone(process));
    }
    let netlink = open()?;
    let mut all = list(&netlink)?;
    all.retain(|found| sockets.contains(&found.inode) && filter.takes(&found.connection));
    Ok(all)
}

fn same_namespace(pid: u32) -> bool {
    let of = |who: &str| fs::read_link(format!("/proc/{who}/ns/net")).ok();
    of(&pid.to_string()) == of("self")
}

fn open() -> Result<Netlink, HostError> {
    Netlink::of(Some(SOCK_DIAG)).map_err(|error| system("ask for connections", error))
}

/// Every TCP connection of the namespace that is neither a listener nor all but forgotten (`TIME_WAIT`).
fn list(netlink: &Netlink) -> Result<Vec<Found>, HostError> {
    let states = TcpState::ALL
        .iter()
        .fold(0_u32, |all, state| all | 1 << state.number());
    let mut all = Vec::new();
    for family in [AF_INET, AF_INET6] {
        let fixed = request(family, states, &[]);
        let found = netlink.table(SOCK_DIAG_BY_FAMILY, &fixed, |_, body| connection(body));
        all.extend(found.map_err(|error| system("list connections", error))?);
    }
    Ok(all)
}

/// `struct inet_diag_req_v2`
fn request(family: u8, states: u32, id: &[u8]) -> Vec<u8> {
    let mut bytes = vec![family, TCP, 1 << (INFO - 1), 0];
    bytes.extend(states.to_ne_bytes());
    bytes.extend(id);
    bytes.resize(56, 0);
    bytes
}

/// `struct inet_diag_msg`
fn connection(body: &[u8]) -> Option<Found> {
    let &[family, state, ..] = body else {
        return None;
    };
    let state = TcpState::ALL.iter().find(|it| it.number() == state)?;
    let end = |port: usize, address: usize| {
        let port = body.get(port..port + 2)?;
        let address: [u8; 16] = body.get(address..address + 16)?.try_into().ok()?;
        let address = if family == AF_INET {
            let [a, b, c, d, ..] = address;
            IpAddr::from([a, b, c, d])
        } else {
            IpAddr::from(address)
        };
        let port = u16::from_be_bytes(port.try_into().ok()?);
        Some(SocketAddr::new(address, port))
    };
    let info = attribute(body.get(MESSAGE..)?, INFO);
    let ago = |at| info.and_then(|info| number(info, at)).unwrap_or(0);
    let idle = ago(LAST_SENT).min(ago(LAST_RECEIVED));
    Some(Found {
        connection: Connection {
            local: end(4, 8)?,
            peer: end(6, 24)?,
            state: *state,
            idle: Duration::from_millis(u64::from(idle)),
        },
        family,
        id: body.get(4..52)?.to_vec(),
        inode: number(body, 68)?,
    })
}

/// The last two words of `struct inet_diag_sockid`.
fn cookie(id: &[u8]) -> (Option<u32>, Option<u32>) {
    (number(id, 40), number(id, 44))
}

fn failed(error: io::Error) -> HostError {
    match Errno::from_io_error(&error) {
        Some(Errno::PERM | Errno::ACCESS) => HostError::Right {
            what: "end connections".to_owned(),
            right: "CAP_NET_ADMIN",
        },
        Some(Errno::OPNOTSUPP) => HostError::Unable(
            "end connections: its kernel was built without CONFIG_INET_DIAG_DESTROY",
        ),
        _ => system("end a connection", error),
    }
}

fn system(what: &str, source: io::Error) -> HostError {
    HostError::System {
        what: what.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn both_ends_of_a_connection_of_this_host_are_found_with_their_state() {
        for local in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(local).expect("a free port");
            let address = listener.local_addr().expect("its address");
            let client = TcpStream::connect(address).expect("it listens");
            let (server, _) = listener.accept().expect("it is there");
            let mine = client.local_addr().expect("its address");
            let all = list(&open().expect("the kernel answers")).expect("it lists");
            let find = |local, peer| {
                let mut all = all.iter();
                all.find(|it| it.connection.local == local && it.connection.peer == peer)
            };
            let here = find(mine, address).expect("the client's end");
            assert_eq!(here.connection.state, TcpState::Established);
            assert!(sockets_of(std::process::id()).contains(&here.inode));
            let there = find(address, mine).expect("the server's end");
            assert_ne!(cookie(&here.id), cookie(&there.id));
            drop(server);
        }
    }

    #[test]
    fn the_daemons_own_connections_are_never_among_them() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let _client = TcpStream::connect(listener.local_addr().expect("its address"));
        let own = procfs::stat(std::process::id()).expect("we run").key;
        let filter = ConnectionFilter {
            at_most: 1000,
            ..ConnectionFilter::default()
        };
        assert_eq!(count(own, true, &[], &filter).expect("it can be listed"), 0);
        let other = ProcessKey {
            start_ticks: own.start_ticks + 1,
            ..own
        };
        let refused = destroy(other, false, &[], &filter).expect_err("it is another");
        assert!(matches!(refused, HostError::Reused(_)), "{refused}");
    }

    #[test]
    fn what_ends_early_is_no_connection() {
        for length in 0..MESSAGE {
            let mut bytes = vec![0; length];
            if let Some(state) = bytes.get_mut(1) {
                *state = 1;
            }
            assert!(connection(&bytes).is_none(), "{length}");
        }
    }
}
