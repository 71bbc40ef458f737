//! Every metric: its name, type, unit, help and labels. Adding one: a variant, its specification, and its values in
//! [`super::collect`]; the reference follows.

use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

/// One family of metrics.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// Name without unit and without the suffix that its type adds.
    pub stem: &'static str,
    /// What kind of value it is.
    pub kind: Type,
    /// Unit, which is part of the name.
    pub unit: Option<&'static str>,
    /// What it says.
    pub help: &'static str,
    /// Its labels, in order.
    pub labels: &'static [Label],
}

/// Kinds of value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// Only grows while the daemon runs.
    Counter,
    /// Goes up and down.
    Gauge,
    /// How often a value fell under each of a row of bounds.
    Histogram,
    /// Always 1; what it says is in its labels.
    Info,
}

impl Type {
    /// The word in the exposition.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Info => "info",
        }
    }

    pub(super) const fn encoded(self) -> MetricType {
        match self {
            Self::Counter => MetricType::Counter,
            Self::Gauge => MetricType::Gauge,
            Self::Histogram => MetricType::Histogram,
            Self::Info => MetricType::Info,
        }
    }
}

macro_rules! labels {
    ($($variant:ident, $name:literal, $bound:literal;)*) => {
        /// Labels, each with what bounds its values.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Label {
            $(#[doc = $bound] $variant,)*
        }

        impl Label {
            /// All of them.
            pub const ALL: &'static [Label] = &[$(Label::$variant,)*];

            /// Its name.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// What its values are, and what bounds them.
            pub const fn bound(self) -> &'static str {
                match self {
                    $(Self::$variant => $bound,)*
                }
            }
        }
    };
}

labels! {
    Action, "action", "an action of the registry";
    Check, "check", "a check of the service";
    Cpu, "cpu", "number of a CPU of this machine";
    Direction, "direction", "`received` or `sent`";
    Detector, "detector", "a detector of the registry";
    Device, "device", "name of a disk below `/dev`, 64 at most";
    Figure, "figure", "what a check measures, with its unit, as the check's documentation lists it";
    Guard, "guard", "a guard of the policy";
    Limit, "limit", "`receive_buffer`, `receive_memory` or `send_memory`";
    Listener, "listener", "an address that a service of the configuration listens on";
    Objective, "objective", "`latency` or `errors`";
    Operation, "operation", "`read`, `write`, `flush` or `other` (discards, zeroes, what is asked of the device itself)";
    Outcome, "outcome", "`fixed`, `no_effect`, `worse`, `failed`, `refused`, `would_have` or `unknown`";
    Probe, "probe", "a kernel probe of the registry";
    Program, "program", "function name of a kernel program";
    Reason, "reason", "a reason of the running kernel (`enum skb_drop_reason`, in lower case) or `subsystem`";
    Wait, "wait", "what a task waits for: `io`, `lock`, `sleep`, or `stopped` by a signal or debugger";
    Table, "table", "`process` or `cgroup`";
    Rcode, "rcode", "code of a DNS answer: `NOERROR`, `SERVFAIL`, `NXDOMAIN`, ..., 16 at most";
    Rule, "rule", "the name of a `[[remedy]]`; the 1,024 used last";
    Service, "service", "a service of the configuration";
    Signal, "signal", "a probe's name, `sample`, `check`, `service`, `effect`, `person` or `loss`";
    State, "state", "a state of an incident (`open`, `acting`, ...) or of a service (`STARTING`, `HEALTHY`, `DEGRADED`, `DOWN`, `STOPPED`, `UNKNOWN`)";
    Version, "version", "the daemon's version";
}

macro_rules! metrics {
    ($($variant:ident, $kind:ident, $stem:literal, $unit:expr, [$($label:ident),*], $help:literal;)*) => {
        /// Every family of metrics, in the order of the page.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Metric {
            $(#[doc = $help] $variant,)*
        }

        impl Metric {
            /// All of them.
            pub const ALL: &'static [Metric] = &[$(Metric::$variant,)*];

            /// What it is.
            pub const fn spec(self) -> Spec {
                match self {
                    $(Self::$variant => Spec {
                        stem: $stem,
                        kind: Type::$kind,
                        unit: $unit,
                        help: $help,
                        labels: &[$(Label::$label),*],
                    },)*
                }
            }
        }
    };
}

const NONE: Option<&str> = None;
const SECONDS: Option<&str> = Some("seconds");
const BYTES: Option<&str> = Some("bytes");

metrics! {
    Build, Info, "smart_monitor_build", NONE, [Version], "The daemon's version";
    Signals, Counter, "smart_monitor_signals", NONE, [Signal], "Inputs to detection";
    Opened, Counter, "smart_monitor_incidents_opened", NONE, [Detector], "Incidents raised";
    Forgotten, Counter, "smart_monitor_incidents_forgotten", NONE, [], "Incidents that were closed to make room for new ones";
    Incidents, Gauge, "smart_monitor_incidents", NONE, [State], "Incidents that the daemon remembers, by where they stand";
    Outcomes, Counter, "smart_monitor_action_outcomes", NONE, [Action, Outcome], "What came of actions";
    Refusals, Counter, "smart_monitor_guard_refusals", NONE, [Guard], "Acts that a guard refused";
    Detection, Histogram, "smart_monitor_detection", SECONDS, [Detector], "Time from the deciding signal to the incident";
    Acting, Histogram, "smart_monitor_action", SECONDS, [Action], "Time from the deciding signal to the first change of the host";
    Recovery, Histogram, "smart_monitor_recovery", SECONDS, [Detector], "Time from the deciding signal to proven recovery";
    Suppressed, Counter, "smart_monitor_incidents_suppressed", NONE, [], "Incidents that were found to follow from another one, and cost no act";
    Proposals, Gauge, "smart_monitor_proposals", NONE, [], "Acts that wait for a person's word";
    Silences, Gauge, "smart_monitor_silences", NONE, [], "Silences in force";
    Maintenance, Gauge, "smart_monitor_maintenance_windows_open", NONE, [], "Maintenance windows that are open";
    RuleSuccess, Gauge, "smart_monitor_rule_success_ratio", NONE, [Rule, Action], "Share of the rule's last actions, at most 32, that proved to have helped";
    ServiceEnded, Counter, "smart_monitor_service_incidents_ended", NONE, [Service], "Incidents of the service that are over";
    ServiceDetect, Counter, "smart_monitor_service_detection", SECONDS, [Service], "Time from the first signal of trouble to its detection, of incidents that are over; by their number it is the mean time to detect";
    ServiceRecover, Counter, "smart_monitor_service_recovery", SECONDS, [Service], "Time from the deciding signal to recovery, of incidents that are over; by their number it is the mean time to recover";
    CheckWell, Gauge, "smart_monitor_check_well", NONE, [Service, Check], "1 when the check was well the last time, 0 when it was not";
    CheckTook, Gauge, "smart_monitor_check", SECONDS, [Service, Check], "Time until the check was answered, or had failed, the last time";
    CheckFigure, Gauge, "smart_monitor_check_figure", NONE, [Service, Check, Figure], "What the check measured the last time";
    CheckLate, Histogram, "smart_monitor_check_late", SECONDS, [], "How late health checks were begun";
    CheckMissed, Counter, "smart_monitor_checks_missed", NONE, [], "Health checks that were left out, since the one before was still under way or the daemon had no time";
    ObjectiveBad, Gauge, "smart_monitor_objective_bad_ratio", NONE, [Service, Objective], "Share of requests, or of checks where the kernel saw no requests, that were too slow or failed in the objective's window";
    ObjectiveMissed, Gauge, "smart_monitor_objective_missed", NONE, [Service, Objective], "1 while the objective is missed";
    ServiceState, Gauge, "smart_monitor_service_state", NONE, [Service, State], "1 for the state that the service is in, 0 for the others";
    ServiceUp, Gauge, "smart_monitor_service_up", NONE, [Service], "1 while the service's main process runs";
    ServiceStarts, Counter, "smart_monitor_service_starts", NONE, [Service], "Starts of the service since the daemon began";
    DetectorDegraded, Gauge, "smart_monitor_detector_degraded", NONE, [Detector], "1 while the detector sees less than it should";
    ProbeOn, Gauge, "smart_monitor_probe_on", NONE, [Probe], "1 while the probe works: its kernel programs are attached, or are ready to be when they are asked for";
    ProbeEvents, Counter, "smart_monitor_probe_events", NONE, [Probe], "Records that the probe handed to the daemon";
    ProbeLost, Counter, "smart_monitor_probe_lost_events", NONE, [Probe, Cpu], "Records that found no room in their ring";
    ProbeSuppressed, Counter, "smart_monitor_probe_suppressed_events", NONE, [Probe], "Records held back by a rate limit";
    ProbeImplausible, Counter, "smart_monitor_probe_implausible", NONE, [Probe], "Measurements that cannot be true and were thrown away";
    RingMalformed, Counter, "smart_monitor_ring_malformed", NONE, [], "Records in a ring that could not be decoded";
    RunQueue, Histogram, "smart_monitor_run_queue_latency", SECONDS, [], "Time a runnable task waited for a CPU, all tasks of the host; the sum is estimated from the buckets";
    ServiceRunQueue, Histogram, "smart_monitor_service_run_queue_latency", SECONDS, [Service], "Time runnable tasks of the service waited for a CPU, all processes of its cgroup; the sum is estimated likewise";
    ServiceWaits, Counter, "smart_monitor_service_off_cpu_waits", NONE, [Service, Wait], "Waits of the service's tasks that were not for a CPU; needs `off_cpu` in `[kernel]`";
    ServiceWaitSeconds, Counter, "smart_monitor_service_off_cpu", SECONDS, [Service, Wait], "Time in them";
    ServiceLatency, Histogram, "smart_monitor_service_latency", SECONDS, [Service], "Time from a request's arrival at the service to the first data of its response, without the network; counted in the kernel";
    ServiceRequests, Counter, "smart_monitor_service_requests", NONE, [Service], "Requests that the service answered, as far as `service_latency` tells them apart";
    ServiceOverlapping, Counter, "smart_monitor_service_requests_overlapping", NONE, [Service], "Of these, those in which more data arrived before the response: pipelining, multiplexing, or requests in parts; with many of them the latency is uncertain";
    ServiceDisplaced, Counter, "smart_monitor_service_requests_displaced", NONE, [Service], "Requests that took the place of one that still waited, which is then not counted";
    ReclaimStalls, Counter, "smart_monitor_direct_reclaim_stalls", NONE, [], "Times a task had to free memory before it was given any";
    ReclaimSeconds, Counter, "smart_monitor_direct_reclaim_stall", SECONDS, [], "Time that tasks spent doing so";
    TcpConnect, Histogram, "smart_monitor_tcp_connect", SECONDS, [], "Time until an outgoing TCP connection was made, all of the host; the sum is estimated likewise";
    TcpConnectFailures, Counter, "smart_monitor_tcp_connect_failures", NONE, [], "Outgoing TCP connections that were not made";
    TcpResets, Counter, "smart_monitor_tcp_resets", NONE, [Direction], "Resets of TCP connections, and of attempts to make one; sent ones only where they answer a packet";
    TcpRetransmits, Counter, "smart_monitor_tcp_retransmits", NONE, [], "TCP segments that were sent again";
    TcpAnswerRetransmits, Counter, "smart_monitor_tcp_synack_retransmits", NONE, [], "Answers to the first packet of a connection that were sent again";
    PacketDrops, Counter, "smart_monitor_packet_drops", NONE, [Reason], "Packets that this host threw away, harmless ones included; needs the probe `packet_drop`";
    SocketOverflows, Counter, "smart_monitor_socket_overflows", NONE, [Limit], "What did not fit into a socket; needs the probe `socket_overflow`";
    ListenQueue, Gauge, "smart_monitor_listen_queue", NONE, [Service, Listener], "Connections that wait for the service to accept them";
    ListenQueueLimit, Gauge, "smart_monitor_listen_queue_limit", NONE, [Service, Listener], "With more than so many waiting, further connections are dropped";
    ListenOverflows, Counter, "smart_monitor_listen_overflows", NONE, [], "Connections that found a listener's queue full, all listeners of the host, since it started";
    ListenDrops, Counter, "smart_monitor_listen_drops", NONE, [], "Packets that listeners dropped, for that or another reason, since the host started";
    BlockLatency, Histogram, "smart_monitor_block_latency", SECONDS, [Device, Operation], "Time that a disk took for a request, from its driver getting it to its end";
    BlockQueued, Histogram, "smart_monitor_block_queued", SECONDS, [Device], "Time that a request was held back before its driver got it";
    BlockBytes, Counter, "smart_monitor_block", BYTES, [Device, Operation], "Bytes of requests to a disk";
    BlockErrors, Counter, "smart_monitor_block_errors", NONE, [Device, Operation], "Requests to a disk that failed";
    BlockInFlight, Gauge, "smart_monitor_block_in_flight", NONE, [Device], "Requests that the disk's driver has";
    BlockUntimed, Counter, "smart_monitor_block_untimed", NONE, [Device], "Requests that are in no histogram, since their beginning was not seen";
    BlockLeftOut, Counter, "smart_monitor_block_left_out", NONE, [], "Requests to disks beyond the first 64, of which nothing else is counted";
    DnsLatency, Histogram, "smart_monitor_dns_latency", SECONDS, [], "Time from the first sending of a DNS question over UDP to the arrival of its answer, all processes of the host";
    DnsAnswers, Counter, "smart_monitor_dns_answers", NONE, [Rcode], "Answers to such questions";
    DnsTimeouts, Counter, "smart_monitor_dns_timeouts", NONE, [], "Such questions that had no answer within `dns_timeout` of `[kernel]`";
    BpfSeconds, Counter, "smart_monitor_bpf_run", SECONDS, [Program], "Run time of a kernel program; measured for 1 s of every 10, estimated between";
    BpfRuns, Counter, "smart_monitor_bpf_runs", NONE, [Program], "Runs of a kernel program; measured and estimated likewise";
    BpfCpus, Gauge, "smart_monitor_bpf_cpu_ratio", NONE, [Program], "CPUs that a kernel program took when it was last measured; 0.01 is a hundredth of one";
    KnownEntries, Gauge, "smart_monitor_identities", NONE, [Table], "Processes and cgroups of which the daemon knows whose they are";
    KnownMissed, Counter, "smart_monitor_identity_events_missed", NONE, [], "Events that came faster than identities could be learnt from them";
    LogsUnread, Counter, "smart_monitor_incident_logs_unread", NONE, [], "Logs of incidents that could not be read, or were not asked for because too many waited";
    KnownEvicted, Counter, "smart_monitor_identities_evicted", NONE, [Table], "Of these, those that had to make room before their time";
    DryRun, Gauge, "smart_monitor_dry_run", NONE, [], "1 while policy only says what it would have done";
    Halted, Gauge, "smart_monitor_halted", NONE, [], "1 while nothing may act, see /health for why";
    ProcessCpu, Counter, "process_cpu", SECONDS, [], "CPU time of the daemon, without its kernel programs";
    ProcessResident, Gauge, "process_resident_memory", BYTES, [], "Resident memory of the daemon";
    ProcessStart, Gauge, "process_start_time", SECONDS, [], "When the daemon started, since the Unix epoch";
}

impl Spec {
    /// The name as queries use it; a histogram's series add `_bucket`, `_sum` and `_count`.
    pub fn name(&self) -> String {
        let unit = self.unit.map(|unit| format!("_{unit}")).unwrap_or_default();
        let suffix = match self.kind {
            Type::Counter => "_total",
            Type::Info => "_info",
            Type::Gauge | Type::Histogram => "",
        };
        format!("{}{unit}{suffix}", self.stem)
    }

    pub(super) fn encoded_unit(&self) -> Option<Unit> {
        self.unit.map(|unit| match unit {
            "seconds" => Unit::Seconds,
            "bytes" => Unit::Bytes,
            other => Unit::Other(other.to_owned()),
        })
    }
}
