//! From the path of a cgroup to unit, container and pod. Pure, and never a guess: what it does not know, it does not name.
//!
//! Units are read as systemd reads them itself (`cg_path_get_unit`): slices first, then one unit; what lies below belongs to that unit, so a
//! systemd inside a container names no unit of the host. Of containers in containers, the innermost is meant. An id is exactly 64
//! lower-case hexadecimal digits, in a name that a runtime is known to make.
//!
//! Left out: containers under a folder of the administrator's choice with a bare id (`--cgroup-parent` with Docker's `cgroupfs`
//! driver): nothing tells such a folder from any other. Virtual machines (`machine-qemu…`) are no containers.

use crate::model::who::{Container, Place, Pod, Runtime};

/// Deeper than any real tree; what is below is not read.
const DEPTH_MAX: usize = 64;
/// `NAME_MAX`: a longer part is no cgroup's name.
const NAME_MAX: usize = 255;

/// What a path below the root of a cgroup hierarchy tells. Takes what `/proc/PID/cgroup` shows after the second colon, too.
pub fn parse(path: &str) -> Place {
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    let parts: Vec<&str> = path
        .split('/')
        .filter(|part| !part.is_empty())
        .take(DEPTH_MAX)
        .collect();
    let mut place = Place::default();
    units(&parts, &mut place);
    let mut before = Before::default();
    for (index, part) in parts.iter().copied().enumerate() {
        if part.len() > NAME_MAX {
            break;
        }
        let next = parts.get(index + 1).copied();
        let pod = pod(part, &before);
        let container = container(part, next, &before);
        before = Before {
            second_last: before.last,
            last: Some(part),
            first: before.first.or(Some(part)),
            in_pod: pod.is_some(),
        };
        place.pod = pod.or(place.pod);
        place.container = container.or(place.container);
    }
    place
}

/// What stands before a part of the path.
#[derive(Default)]
struct Before<'a> {
    /// The part right before.
    last: Option<&'a str>,
    /// The part before that.
    second_last: Option<&'a str>,
    /// The first part of all.
    first: Option<&'a str>,
    /// The part right before is a pod.
    in_pod: bool,
}

/// Slices, then the unit, then for a user's manager its own slices and unit.
fn units(parts: &[&str], place: &mut Place) {
    let mut parts = parts.iter().copied().map(unescape_name);
    let mut part = parts.next();
    while let Some(slice) = part.filter(|part| is_slice(part)) {
        place.slice = Some(slice.to_owned());
        part = parts.next();
    }
    let Some(unit) = part.filter(|part| is_unit(part)) else {
        return;
    };
    place.unit = Some(unit.to_owned());
    if !is_user_manager(unit) {
        return;
    }
    let mut part = parts.next();
    while part.is_some_and(is_slice) {
        part = parts.next();
    }
    place.user_unit = part.filter(|part| is_unit(part)).map(str::to_owned);
}

/// systemd puts an underscore before names that the kernel could take for files of its own (`cg_escape`).
fn unescape_name(part: &str) -> &str {
    part.strip_prefix('_').unwrap_or(part)
}

fn has_valid_characters(name: &str) -> bool {
    name.len() <= NAME_MAX
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte))
}

fn is_slice(part: &str) -> bool {
    part.strip_suffix(".slice").is_some_and(|name| {
        let dashed = name.starts_with('-') || name.ends_with('-') || name.contains("--");
        !name.is_empty() && !dashed && !name.contains('@') && has_valid_characters(name)
    })
}

/// A unit that can have processes. A template without an instance (`foo@.service`) cannot.
fn is_unit(part: &str) -> bool {
    let Some((name, kind)) = part.rsplit_once('.') else {
        return false;
    };
    let runs = matches!(kind, "service" | "scope" | "socket" | "mount" | "swap");
    let instance = name.split_once('@');
    let whole = instance.is_none_or(|(prefix, rest)| !prefix.is_empty() && !rest.is_empty());
    runs && !name.is_empty() && whole && has_valid_characters(part)
}

fn is_user_manager(unit: &str) -> bool {
    let uid = unit
        .strip_prefix("user@")
        .and_then(|rest| rest.strip_suffix(".service"));
    uid.is_some_and(|uid| uid.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The class of service whose pods lie right below kubelet's root.
const GUARANTEED: &str = "guaranteed";

/// The classes that have a folder of their own.
fn is_qos(part: &str) -> bool {
    matches!(part, "burstable" | "besteffort")
}

/// A pod's own folder, of either of kubelet's cgroup drivers.
fn pod(part: &str, before: &Before<'_>) -> Option<Pod> {
    // What a runtime made of a path for systemd begins with the slice: see `by_colons`.
    let part = part.split(':').next()?;
    if let Some(name) = part.strip_suffix(".slice") {
        // [PREFIX-]kubepods[-QOS]-podUID.slice, with underscores for the dashes of the UID.
        let (rest, uid) = name.rsplit_once("-pod")?;
        let uid = uid.replace('_', "-");
        let mut words = rest.rsplit('-');
        let last = words.next()?;
        let (qos, root) = if is_qos(last) {
            (last, words.next()?)
        } else {
            (GUARANTEED, last)
        };
        return (root == "kubepods" && is_pod_uid(&uid)).then(|| new_pod(&uid, qos));
    }
    let uid = part.strip_prefix("pod").filter(|uid| is_pod_uid(uid))?;
    let qos = match before.last? {
        "kubepods" => GUARANTEED,
        qos if is_qos(qos) && before.second_last == Some("kubepods") => qos,
        _ => return None,
    };
    Some(new_pod(uid, qos))
}

fn new_pod(uid: &str, qos: &str) -> Pod {
    Pod {
        uid: uid.to_owned(),
        qos: Some(qos.to_owned()),
    }
}

/// A UUID, or the 32 digits that kubelet gives to a pod of a manifest file.
fn is_pod_uid(uid: &str) -> bool {
    let dashes: &[usize] = if uid.len() == 36 {
        &[8, 13, 18, 23]
    } else {
        &[]
    };
    let fits = |(at, byte)| {
        if dashes.contains(&at) {
            byte == b'-'
        } else {
            is_hex_digit(byte)
        }
    };
    matches!(uid.len(), 32 | 36) && uid.bytes().enumerate().all(fits)
}

fn is_hex_digit(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)
}

/// The only thing that is ever taken for an id.
fn hex_id(text: &str) -> Option<&str> {
    (text.len() == 64 && text.bytes().all(is_hex_digit)).then_some(text)
}

fn container(part: &str, next: Option<&str>, before: &Before<'_>) -> Option<Container> {
    let (runtime, id) = by_prefix(part)
        .or_else(|| by_colons(part))
        .or_else(|| by_parent(part, before))
        .map(|(runtime, id)| (runtime, id.to_owned()))
        .or_else(|| by_name(part, next, before))?;
    Some(Container { runtime, id })
}

/// `docker-ID.scope` and its like: the runtimes' systemd drivers, and what CRI-O and Podman always do. The names of their monitors
/// (`crio-conmon-ID`, `libpod-conmon-ID`) leave more than an id behind the prefix.
fn by_prefix(part: &str) -> Option<(Runtime, &str)> {
    const SCOPES: [(&str, Runtime); 3] = [
        ("docker-", Runtime::Docker),
        ("cri-containerd-", Runtime::Containerd),
        ("nerdctl-", Runtime::Containerd),
    ];
    const ANY: [(&str, Runtime); 3] = [
        ("libpod-payload-", Runtime::Podman),
        ("libpod-", Runtime::Podman),
        ("crio-", Runtime::CriO),
    ];
    fn find<'a>(name: &'a str, table: &[(&str, Runtime)]) -> Option<(Runtime, &'a str)> {
        let mut known = table.iter();
        known.find_map(|(prefix, runtime)| {
            let id = name.strip_prefix(prefix).and_then(hex_id)?;
            Some((*runtime, id))
        })
    }
    match part.strip_suffix(".scope") {
        Some(name) => find(name, &SCOPES).or_else(|| find(name, &ANY)),
        None => find(part, &ANY),
    }
}

/// `SLICE:RUNTIME:ID`: a path for systemd that a runtime without its systemd driver took for a name.
fn by_colons(part: &str) -> Option<(Runtime, &str)> {
    let (rest, id) = part.rsplit_once(':')?;
    let (_, name) = rest.rsplit_once(':')?;
    let runtime = match name {
        "docker" => Runtime::Docker,
        "cri-containerd" | "nerdctl" => Runtime::Containerd,
        "crio" => Runtime::CriO,
        "libpod" => Runtime::Podman,
        _ => return None,
    };
    Some((runtime, hex_id(id)?))
}

/// A bare id, below a folder that says what it is.
fn by_parent<'a>(part: &'a str, before: &Before<'_>) -> Option<(Runtime, &'a str)> {
    let id = hex_id(part)?;
    if before.in_pod {
        return Some((Runtime::Unknown, id));
    }
    let is_first = before.second_last.is_none();
    match before.last? {
        "docker" => Some((Runtime::Docker, id)),
        "k8s.io" => Some((Runtime::Containerd, id)),
        // GitHub's runners; containerd's default namespace.
        "actions_job" if is_first => Some((Runtime::Docker, id)),
        "default" if is_first => Some((Runtime::Containerd, id)),
        // Amazon's agent: /ecs/TASK/ID, or /ecs/CLUSTER/TASK/ID.
        _ if before.first == Some("ecs") => Some((Runtime::Docker, id)),
        _ => None,
    }
}

/// Runtimes whose containers have names.
fn by_name(part: &str, next: Option<&str>, before: &Before<'_>) -> Option<(Runtime, String)> {
    let is_named = |name: &str| !name.is_empty() && name != "." && name != "..";
    // /lxc/NAME, /lxc.payload/NAME, /lxc.payload.NAME, by age.
    let below_lxc =
        before.second_last.is_none() && matches!(before.last, Some("lxc" | "lxc.payload"));
    if below_lxc && is_named(part) {
        return Some((Runtime::Lxc, part.to_owned()));
    }
    if let Some(name) = part
        .strip_prefix("lxc.payload.")
        .filter(|name| is_named(name))
    {
        return Some((Runtime::Lxc, name.to_owned()));
    }
    // The part of nspawn that is outside of its container.
    if next == Some("supervisor") {
        return None;
    }
    if let Some(instance) = part.strip_prefix("systemd-nspawn@") {
        let name = instance.strip_suffix(".service")?;
        return is_named(name).then(|| (Runtime::Nspawn, unescape(name)));
    }
    if before.last == Some("machine.slice") {
        let name = part.strip_prefix("machine-")?.strip_suffix(".scope")?;
        let machine = unescape(name);
        return match libvirt(&machine) {
            Some(("lxc", name)) => Some((Runtime::Lxc, name.to_owned())),
            Some(_) => None,
            None => is_named(&machine).then_some((Runtime::Nspawn, machine)),
        };
    }
    None
}

/// Driver and name of a machine that libvirt registered: `DRIVER-NUMBER-NAME`. All drivers but one make virtual machines.
fn libvirt(machine: &str) -> Option<(&str, &str)> {
    let (driver, rest) = machine.split_once('-')?;
    let (number, name) = rest.split_once('-')?;
    let is_driver = matches!(driver, "qemu" | "lxc" | "xen" | "ch" | "bhyve" | "vbox");
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    (is_driver && is_number && !name.is_empty()).then_some((driver, name))
}

/// systemd's `\xNN`, back to what it stands for. What is not an escape stays.
fn unescape(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    let mut rest = name;
    while let Some((plain, escaped)) = rest.split_once("\\x") {
        text.push_str(plain);
        let byte = escaped
            .get(..2)
            .and_then(|digits| u8::from_str_radix(digits, 16).ok())
            .filter(u8::is_ascii_graphic);
        if let Some(byte) = byte {
            text.push(char::from(byte));
            rest = escaped.get(2..).unwrap_or_default();
        } else {
            text.push_str("\\x");
            rest = escaped;
        }
    }
    text.push_str(rest);
    text
}

#[cfg(test)]
mod tests;
