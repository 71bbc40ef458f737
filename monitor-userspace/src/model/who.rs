//! Who did something, in the words of whoever runs the machine: unit, container, pod, user, command line.
//!
//! Plain data. `identity` finds it out; stories, the API and the command line show it.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::ProcessKey;

/// Characters of a container's id that people are shown, as `docker ps` does.
const SHORT_ID: usize = 12;

/// What made a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Runtime {
    /// Docker.
    Docker,
    /// Podman.
    Podman,
    /// containerd without Docker: Kubernetes' CRI plugin, nerdctl, ctr.
    Containerd,
    /// CRI-O.
    CriO,
    /// LXC, LXD, Incus.
    Lxc,
    /// systemd-nspawn, or another machine registered with systemd-machined.
    Nspawn,
    /// A container of a Kubernetes pod, where the path names no runtime (kubelet's `cgroupfs` driver).
    Unknown,
}

impl Runtime {
    /// The word that stands in listings and labels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::Containerd => "containerd",
            Self::CriO => "cri-o",
            Self::Lxc => "lxc",
            Self::Nspawn => "nspawn",
            Self::Unknown => "container",
        }
    }
}

/// A container.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Container {
    /// What made it.
    pub runtime: Runtime,
    /// Its full id, 64 hexadecimal digits; its name where the runtime has only names ([`Runtime::Lxc`], [`Runtime::Nspawn`]).
    pub id: String,
}

impl Container {
    /// The id as people are shown it: twelve digits, or the whole name.
    pub fn short_id(&self) -> &str {
        match self.runtime {
            Runtime::Lxc | Runtime::Nspawn => &self.id,
            _ => self.id.get(..SHORT_ID).unwrap_or(&self.id),
        }
    }
}

/// A Kubernetes pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Pod {
    /// Its UID, as `kubectl get pod -o yaml` writes it. For a pod of a manifest file on the node, the hash that kubelet gave it.
    pub uid: String,
    /// Its class of service: `guaranteed`, `burstable` or `besteffort`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qos: Option<String>,
}

/// What the path of a cgroup tells. Units are those of the host's systemd, never of one inside a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Place {
    /// The systemd unit: `nginx.service`, `session-3.scope`, `user@1000.service`. Escapes such as `\x2d` stay as systemd writes them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// The innermost systemd slice that the unit is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slice: Option<String>,
    /// The unit of a user's own systemd, below `user@UID.service`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_unit: Option<String>,
    /// The innermost container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
    /// The Kubernetes pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<Pod>,
}

impl Place {
    /// Whether it names a unit or a container (a slice alone tells nobody who it was).
    pub fn is_known(&self) -> bool {
        self.unit.is_some() || self.container.is_some() || self.pod.is_some()
    }

    /// Short text for people: `pod UID/container 3f2a9c0b1d2e`, `docker 3f2a9c0b1d2e`, `user@1000.service/foo.service`,
    /// `nginx.service`, `system.slice`; none when nothing is known.
    pub fn describe(&self) -> Option<String> {
        let mut text = String::new();
        if let Some(pod) = &self.pod {
            let _ = write!(text, "pod {}", pod.uid);
            if let Some(container) = &self.container {
                let _ = write!(text, "/container {}", container.short_id());
            }
        } else if let Some(container) = &self.container {
            let _ = write!(
                text,
                "{} {}",
                container.runtime.name(),
                container.short_id()
            );
        } else {
            text.push_str(self.unit.as_ref().or(self.slice.as_ref())?);
            if let Some(user_unit) = &self.user_unit {
                let _ = write!(text, "/{user_unit}");
            }
        }
        Some(text)
    }
}

/// A process, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Which.
    pub key: ProcessKey,
    /// Its parent's process id; after the parent's end, whoever took it over.
    pub parent_pid: u32,
    /// The user id that it runs as (real), in the host's user namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Its name: 15 bytes at most, longer for kernel threads.
    pub comm: String,
}

/// Everything that is known of who did something.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Identity {
    /// The process, if this very one was seen (never another one that has its PID).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// Unit, container, pod.
    pub place: Place,
    /// Path of the cgroup below the root of its hierarchy, with a leading slash.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// The user's name in the host's `/etc/passwd`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The command line, fit for a terminal: quoted like a shell's, escaped, cut with an ellipsis. None when it is unknown, and for
    /// kernel threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub argv: Option<String>,
}

impl Identity {
    /// Short text for people, the most telling thing first: pod, container, unit, cgroup, process; `unknown` when there is none.
    pub fn describe(&self) -> String {
        let place = self.place.describe();
        let cgroup = || self.cgroup.clone().filter(|path| path != "/");
        let process = || {
            let who = self.process.as_ref()?;
            Some(format!("{} [{}]", who.comm, who.key.pid))
        };
        let described = place.or_else(cgroup).or_else(process);
        described.unwrap_or_else(|| "unknown".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(runtime: Runtime, id: &str) -> Container {
        let id = id.to_owned();
        Container { runtime, id }
    }

    #[test]
    fn the_most_telling_thing_is_said() {
        let id = "3f2a9c0b1d2e".repeat(6)[..64].to_owned();
        let mut identity = Identity::default();
        assert_eq!(identity.describe(), "unknown");
        identity.process = Some(Process {
            key: ProcessKey {
                pid: 7,
                start_ticks: 1,
            },
            parent_pid: 1,
            uid: Some(0),
            comm: "sh".to_owned(),
        });
        identity.cgroup = Some("/".to_owned());
        assert_eq!(identity.describe(), "sh [7]");
        identity.cgroup = Some("/mine".to_owned());
        assert_eq!(identity.describe(), "/mine");
        identity.place.slice = Some("user-1000.slice".to_owned());
        assert_eq!(identity.describe(), "user-1000.slice");
        identity.place.unit = Some("user@1000.service".to_owned());
        assert_eq!(identity.describe(), "user@1000.service");
        identity.place.user_unit = Some("foo.service".to_owned());
        assert_eq!(identity.describe(), "user@1000.service/foo.service");
        identity.place.container = Some(container(Runtime::Docker, &id));
        assert_eq!(identity.describe(), "docker 3f2a9c0b1d2e");
        identity.place.container = Some(container(Runtime::Lxc, "a-rather-long-name"));
        assert_eq!(identity.describe(), "lxc a-rather-long-name");
        identity.place.container = Some(container(Runtime::Containerd, &id));
        identity.place.pod = Some(Pod {
            uid: "u".to_owned(),
            qos: None,
        });
        assert_eq!(identity.describe(), "pod u/container 3f2a9c0b1d2e");
    }

    #[test]
    fn what_is_not_known_is_not_written() {
        let empty = serde_json::to_string(&Identity::default()).expect("it serializes");
        assert_eq!(empty, r#"{"place":{}}"#);
        let back: Identity = serde_json::from_str("{}").expect("it reads");
        assert_eq!(back, Identity::default());
    }
}
