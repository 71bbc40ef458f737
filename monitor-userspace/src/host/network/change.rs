//! The changes: one step each. What it is done to is compared first; what is so already is left alone, and said to have been so.

use std::io;
use std::time::Duration;

use rustix::io::Errno;

use super::tables::{self, AF_INET, AF_INET6, MAIN, ONLINK, RTN_UNICAST, UP};
use super::wire::{Netlink, Request};
use super::{OTHER, files};
use crate::host::exec::{self, Program};
use crate::host::{HostError, Opened};
use crate::model::network::IpFamily;
use crate::model::way::{Address, Device, FOREVER, NetworkStep, Route};

/// `NLM_F_CREATE`, and with `NLM_F_EXCL` and `NLM_F_REPLACE`.
const CREATE: u16 = 0x400;
const CREATE_NEW: u16 = CREATE | 0x200;
const CREATE_OR_REPLACE: u16 = CREATE | 0x100;
/// `IFA_F_NODAD`: it was ours a moment ago, and is to be of use at once.
const NODAD: u32 = 0x02;
/// How long a command may take.
const COMMAND: Duration = Duration::from_secs(30);

/// Carries out a step; false when it was so already.
pub fn apply(step: &NetworkStep) -> Result<bool, HostError> {
    if has(step)? {
        return Ok(false);
    }
    let changed = match step {
        NetworkStep::Link { device, up } => link(device, *up),
        NetworkStep::Address {
            device,
            address,
            add,
        } => change_address(device, address, *add),
        NetworkStep::Route { route, add, .. } => change_route(route, *add),
        NetworkStep::Neighbour {
            device,
            entry,
            forget,
        } => {
            let state = if entry.permanent {
                tables::NUD_PERMANENT
            } else {
                tables::NUD_STALE
            };
            let (kind, flags) = if *forget {
                (tables::RTM_DELNEIGH, 0)
            } else {
                (tables::RTM_NEWNEIGH, CREATE_OR_REPLACE)
            };
            let request = neighbour(kind, flags, device.index, entry.address, state);
            let request = if *forget {
                request
            } else {
                request.with(tables::NDA_LLADDR, &entry.link)
            };
            Netlink::open().and_then(|netlink| netlink.change(request))
        }
        NetworkStep::File {
            path,
            before,
            after,
        } => files::replace(path, before.as_deref(), after.as_deref()),
        NetworkStep::Command { command } => return run(command).map(|()| true),
    };
    changed.map_err(|error| failed(step, error))?;
    Ok(true)
}

/// Whether it is as a step makes it. An error where what it is done to is not what was meant.
pub fn has(step: &NetworkStep) -> Result<bool, HostError> {
    match step {
        NetworkStep::Command { .. } => Ok(false),
        NetworkStep::File {
            path,
            before,
            after,
        } => {
            let found = files::read(path);
            if found == *after {
                return Ok(true);
            }
            if found == *before {
                return Ok(false);
            }
            Err(other(format!(
                "{} has been written to since",
                path.display()
            )))
        }
        NetworkStep::Link { device, .. }
        | NetworkStep::Address { device, .. }
        | NetworkStep::Route { device, .. }
        | NetworkStep::Neighbour { device, .. } => {
            on_device(step, device).map_err(|error| failed(step, error))?
        }
    }
}

/// What of a file's step is left to a person where somebody else has changed the file since; none where nobody has.
pub fn left_alone(step: &NetworkStep) -> Option<String> {
    let NetworkStep::File {
        path,
        before,
        after,
    } = step
    else {
        return None;
    };
    let found = files::read(path);
    if found == *before || found == *after {
        return None;
    }
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let by_hand = files::by_hand(&text(&found), &text(before), &text(after));
    Some(format!(
        "{} was changed by somebody else since: left as it is{by_hand}",
        path.display()
    ))
}

fn other(what: String) -> HostError {
    HostError::OtherNetwork(what)
}

fn on_device(step: &NetworkStep, device: &Device) -> io::Result<Result<bool, HostError>> {
    let netlink = Netlink::open()?;
    let found = tables::link(&netlink, device.index, "")?;
    let Some(link) = found.filter(|link| link.device.index == device.index) else {
        return Ok(Err(other(format!("device {device} is gone"))));
    };
    if link.device.name != device.name {
        let now = link.device.name;
        return Ok(Err(other(format!(
            "device {device} is called {now} by now"
        ))));
    }
    Ok(Ok(match step {
        NetworkStep::Link { up, .. } => link.up == *up,
        NetworkStep::Address { address, add, .. } => {
            let all = tables::addresses(&netlink, device.index)?;
            all.iter().any(|it| it.prefix == address.prefix) == *add
        }
        NetworkStep::Route { route, add, .. } => {
            let all = tables::routes(&netlink, device.index)?;
            all.iter().any(|it| it.same(route)) == *add
        }
        NetworkStep::Neighbour { entry, forget, .. } => {
            let found = tables::neighbour(&netlink, device.index, entry.address)?;
            let known = found.filter(|it| !it.entry.link.is_empty());
            match known {
                None => *forget,
                Some(known) if known.entry == *entry => !*forget,
                // It is believed to be elsewhere by now: nothing to forget, and nothing that must be believed again.
                Some(_) => true,
            }
        }
        NetworkStep::File { .. } | NetworkStep::Command { .. } => false,
    }))
}

fn failed(step: &NetworkStep, error: io::Error) -> HostError {
    if Errno::from_io_error(&error) == Some(Errno::PERM) {
        return HostError::Right {
            what: step.to_string(),
            right: "CAP_NET_ADMIN",
        };
    }
    let another = Errno::from_io_error(&error) == Some(Errno::EXIST);
    if another || error.to_string() == OTHER {
        return other(format!("{step}: {OTHER}"));
    }
    HostError::System {
        what: step.to_string(),
        source: error,
    }
}

/// `struct ifinfomsg`
fn link(device: &Device, up: bool) -> io::Result<()> {
    let mut fixed = vec![0; 4];
    fixed.extend(device.index.to_ne_bytes());
    fixed.extend((if up { UP } else { 0 }).to_ne_bytes());
    fixed.extend(UP.to_ne_bytes());
    Netlink::open()?.change(Request::new(tables::RTM_NEWLINK, 0, &fixed))
}

/// `struct ifaddrmsg`
fn change_address(device: &Device, address: &Address, add: bool) -> io::Result<()> {
    let own = address.prefix.address;
    let mut fixed = vec![family(own.is_ipv4()), address.prefix.bits, 0, 0];
    fixed.extend(device.index.to_ne_bytes());
    let (kind, flags) = if add {
        (tables::RTM_NEWADDR, CREATE_NEW)
    } else {
        (tables::RTM_DELADDR, 0)
    };
    let mut request = Request::new(kind, flags, &fixed)
        .address(tables::IFA_LOCAL, own)
        .address(tables::IFA_ADDRESS, own);
    if add && own.is_ipv6() {
        request = request.number(tables::IFA_FLAGS, NODAD);
    }
    if add && address.valid != FOREVER {
        let mut times = Vec::new();
        for number in [address.preferred, address.valid, 0, 0] {
            times.extend(number.to_ne_bytes());
        }
        request = request.with(tables::IFA_CACHEINFO, &times);
    }
    Netlink::open()?.change(request)
}

/// `struct rtmsg`
fn change_route(route: &Route, add: bool) -> io::Result<()> {
    let v4 = route.family == IpFamily::Ipv4;
    let bits = route.to.map_or(0, |to| to.bits);
    // RT_SCOPE_LINK for what is on the wire of IPv4; RT_SCOPE_NOWHERE finds any, to remove it.
    let scope = match (add, v4 && route.via.is_none()) {
        (true, true) => 253,
        (true, false) => 0,
        (false, _) => 255,
    };
    let table = u8::try_from(MAIN).unwrap_or(0);
    let mut fixed = vec![
        family(v4),
        bits,
        0,
        0,
        table,
        route.protocol,
        scope,
        RTN_UNICAST,
    ];
    fixed.extend((if route.onlink { ONLINK } else { 0 }).to_ne_bytes());
    let (kind, flags) = if add {
        (tables::RTM_NEWROUTE, CREATE_NEW)
    } else {
        (tables::RTM_DELROUTE, 0)
    };
    let mut request = Request::new(kind, flags, &fixed).number(tables::RTA_OIF, route.device);
    if let Some(to) = route.to {
        request = request.address(tables::RTA_DST, to.address);
    }
    if let Some(via) = route.via {
        request = request.address(tables::RTA_GATEWAY, via);
    }
    if route.metric != 0 {
        request = request.number(tables::RTA_PRIORITY, route.metric);
    }
    if let Some(source) = route.source.filter(|_| add) {
        request = request.address(tables::RTA_PREFSRC, source);
    }
    Netlink::open()?.change(request)
}

/// `struct ndmsg`
pub(super) fn neighbour(
    kind: u16,
    flags: u16,
    device: u32,
    of: std::net::IpAddr,
    state: u16,
) -> Request {
    let mut fixed = vec![family(of.is_ipv4()), 0, 0, 0];
    fixed.extend(device.to_ne_bytes());
    fixed.extend(state.to_ne_bytes());
    fixed.extend([0, 0]);
    Request::new(kind, flags, &fixed).address(tables::NDA_DST, of)
}

const fn family(v4: bool) -> u8 {
    if v4 { AF_INET } else { AF_INET6 }
}

/// Runs a command of the configuration to its end; what is left of it is ended.
fn run(command: &[String]) -> Result<(), HostError> {
    let program = Program {
        command: command.to_vec(),
        folder: Some("/".into()),
        ..Program::default()
    };
    let held = exec::start(&program, None, None)?;
    let failed = |why: String| HostError::System {
        what: format!("run `{}`", command.join(" ")),
        source: io::Error::other(why),
    };
    if !held.wait(COMMAND)? {
        held.kill()?;
        held.wait(COMMAND)?;
        held.bury();
        return Err(failed(format!("it did not end within {COMMAND:?}")));
    }
    match held.reap() {
        Some(0) => Ok(()),
        status => Err(failed(format!("it ended with wait status {status:?}"))),
    }
}
