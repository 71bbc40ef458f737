//! The file, as it is written.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::response::{RawCondition, RawGroup, RawHealer, RawRemedy};
use super::units::{Bytes, Listen, Span};
use crate::model::command::{Reload, StopSignal};
use crate::policy::calendar;
use crate::record::journal;
use crate::{detectors, policy, samplers};

/// All of it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Root {
    /// `[daemon]`
    pub daemon: Daemon,
    /// `[journal]`
    pub journal: journal::Config,
    /// `[kernel]`
    pub kernel: Kernel,
    /// `[samplers.*]`
    pub samplers: samplers::Config,
    /// `[detectors.*]`
    pub detectors: detectors::Config,
    /// `[policy]`
    pub policy: policy::Config,
    /// `[[service]]`
    pub service: Vec<Service>,
    /// `[[process]]`
    pub process: Vec<Process>,
    /// `[[remedy]]`
    pub remedy: Vec<RawRemedy>,
    /// `[[condition]]`
    pub condition: Vec<RawCondition>,
    /// `[[group]]`
    pub group: Vec<RawGroup>,
    /// `[[maintenance]]`
    pub maintenance: Vec<Spanned<calendar::Raw>>,
    /// `[[folder]]`
    pub folder: Vec<super::folder::Raw>,
    /// `[[guard]]`
    pub guard: Vec<super::guard::Raw>,
    /// `[[network]]`
    pub network: Vec<super::network::Raw>,
}

/// `[daemon]`: `state_dir`, `socket`, `http` and `capture_logs` take effect at the next start, not on reload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Daemon {
    /// Folder of the journal.
    pub state_dir: PathBuf,
    /// Unix socket for the command line.
    pub socket: PathBuf,
    /// Address of the exporter and the API; an empty string switches it off.
    pub http: Listen,
    /// What becomes of `kind = "command"` services when the daemon is asked to end: `stop` or `leave`. When it is killed, they stay.
    pub services_on_exit: OnExit,
    /// Time between SIGTERM and SIGKILL for services that are stopped.
    pub stop_grace: Span,
    /// Have `kind = "command"` services write to `logs/NAME.log` in the state folder, so that their last lines stand in incidents; `false`:
    /// to where the daemon writes.
    pub capture_logs: bool,
    /// Where the configuration names no service: find those that run on this host, and observe them, 64 at most. Nothing is ever done to them, and
    /// no check is made of them. `smart-monitor discover` proposes a configuration for them.
    pub discover: bool,
    /// How often it is looked for further ones; 1 second at least.
    pub discover_every: Span,
}

/// See [`Daemon::services_on_exit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnExit {
    /// Stop them.
    Stop,
    /// Leave them running; the next start takes them over.
    Leave,
}

impl Default for Daemon {
    fn default() -> Self {
        Self {
            state_dir: "/var/lib/smart-monitor".into(),
            socket: "/run/smart-monitor/smart-monitor.sock".into(),
            http: Listen(Some(SocketAddr::from(([127, 0, 0, 1], 9464)))),
            services_on_exit: OnExit::Stop,
            stop_grace: Span::seconds(10),
            capture_logs: true,
            discover: true,
            discover_every: Span::seconds(300),
        }
    }
}

/// `[kernel]`: takes effect at the next start, not on reload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Kernel {
    /// Probes that stay off.
    pub disabled: Vec<String>,
    /// Waits for a CPU over this become events.
    pub run_queue_threshold: Span,
    /// Stalls in direct reclaim over this become events.
    pub reclaim_threshold: Span,
    /// Requests to a disk that take, or are held back, this long become events.
    pub block_threshold: Span,
    /// Answers of services that take longer than this become events.
    pub slow_request: Span,
    /// Events of one probe, cgroup and CPU in a second; more are held back and counted. Urgent ones never are.
    pub cgroup_events_per_second: u32,
    /// Processes and threads that a cgroup makes in a second before it is reported.
    pub forks_per_second: u32,
    /// A DNS question without an answer for this long is an event.
    pub dns_timeout: Span,
    /// Let the kernel measure the run time of the programs, for 1 s of every 10 (each run then takes some 20 ns longer).
    pub run_time_stats: bool,
    /// Share of all CPUs that the programs may take together, per cent. Over it, the costliest that is not essential is detached,
    /// until there is room again. Needs `run_time_stats`.
    pub cpu_budget: f64,
    /// Count where services wait beside the CPU: for storage, for locks, asleep. Follows every sleep of their threads.
    pub off_cpu: bool,
    /// See every call of `connect` that fails at once, with its errno; unix sockets too. Makes every system call of the host some 25 ns
    /// longer.
    pub connect_errors: bool,
    /// For tests: probes whose programs the verifier is made to refuse.
    pub refuse: Vec<String>,
    /// For tests: `structure.member`s that are read 8 bytes off, for the self-check to find.
    pub break_offsets: Vec<String>,
}

impl Default for Kernel {
    fn default() -> Self {
        Self {
            disabled: Vec::new(),
            run_queue_threshold: Span::millis(20),
            reclaim_threshold: Span::millis(1),
            block_threshold: Span::millis(100),
            slow_request: Span::seconds(1),
            cgroup_events_per_second: 4_000,
            forks_per_second: 1_000,
            dns_timeout: Span::seconds(5),
            run_time_stats: true,
            cpu_budget: 1.0,
            off_cpu: false,
            connect_errors: false,
            refuse: Vec::new(),
            break_offsets: Vec::new(),
        }
    }
}

/// `[[service]]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Its name: in listings, metric labels and remedies.
    pub name: Spanned<String>,
    /// Who starts it.
    pub kind: Spanned<String>,
    /// Program and arguments; a first word of `smart-monitor` is this very binary. Of `kind = "command"` alone.
    pub command: Option<Spanned<Vec<String>>>,
    /// What the kinds of others take: which unit, container, program.
    pub with: Option<Spanned<toml::Table>>,
    /// How long it may take to answer after a start before that is a failure.
    #[serde(default = "start_within")]
    pub start_within: Span,
    /// Added to the daemon's environment.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// File of lines `NAME=VALUE`, read at every start; what `environment` says comes before it.
    pub environment_file: Option<Spanned<PathBuf>>,
    /// Folder it starts in.
    #[serde(alias = "working_directory")]
    pub folder: Option<PathBuf>,
    /// User, by name: with the user's group, and all groups that the user is in.
    pub user: Option<Spanned<String>>,
    /// Group, by name, in place of the user's; needs `user`.
    pub group: Option<Spanned<String>>,
    /// Numeric user id; needs `gid`.
    pub uid: Option<u32>,
    /// Numeric group id; needs `uid`.
    pub gid: Option<Spanned<u32>>,
    /// Permissions that files it makes do not get, octal: "027".
    pub umask: Option<Spanned<String>>,
    /// How much it may use.
    pub limits: Option<Spanned<super::child::Limits>>,
    /// What it is asked to end with.
    pub stop_signal: Option<Spanned<StopSignal>>,
    /// How long it may take for that before it is killed.
    pub stop_timeout: Option<Span>,
    /// How much is kept of what it writes.
    pub log: Option<Spanned<super::child::Log>>,
    /// Addresses it listens on: failed connections to them are its trouble.
    #[serde(default)]
    pub listen: Vec<SocketAddr>,
    /// Resident memory over which it is in trouble.
    pub memory_max: Option<Bytes>,
    /// Its health check, or all of them.
    pub check: Option<Spanned<toml::Value>>,
    /// What it is meant to keep towards those who use it.
    pub objectives: Option<Spanned<super::objective::Raw>>,
    /// Names of services, and addresses, without which it does not work.
    #[serde(default)]
    pub depends_on: Vec<Spanned<String>>,
    /// How it is told to read its configuration again.
    pub reload: Option<Spanned<Reload>>,
    /// Only say what would have been done to it.
    #[serde(default)]
    pub dry_run: bool,
    /// Never do anything to it, whatever rules and people say: it is only observed. Of kinds that others run.
    #[serde(default)]
    pub observe_only: bool,
    /// Who else repairs it.
    pub healer: Option<RawHealer>,
    /// Where its releases are.
    pub release: Option<super::release::Raw>,
}

const fn start_within() -> Span {
    Span::seconds(60)
}

/// `[[process]]`: processes that are not services of ours, by name, so that remedies can name them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// The entry's name.
    pub name: Spanned<String>,
    /// Process names (`comm`, at most 15 bytes).
    pub comm: Vec<Spanned<String>>,
    /// Only say what would have been done to them.
    #[serde(default)]
    pub dry_run: bool,
    /// Who else repairs them.
    pub healer: Option<RawHealer>,
}
