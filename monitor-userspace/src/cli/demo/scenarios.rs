//! The faults of the demo, and what must come of each.

/// One fault.
#[derive(Debug)]
pub(super) struct Scenario {
    /// What the table calls it.
    pub(super) label: &'static str,
    /// The service that it is injected into.
    pub(super) service: &'static str,
    /// Kind and options of the fault, as `smart-monitor simulate fault` takes them.
    pub(super) kind: &'static str,
    pub(super) settings: &'static [(&'static str, &'static str)],
    /// Detectors that must each raise an incident on the service; all of them must be resolved.
    pub(super) expect: &'static [&'static str],
}

/// All of them, in order. No service has two in a row: it would still be warming up.
pub(super) const ALL: &[Scenario] = &[
    Scenario {
        label: "crash: exit",
        service: "auth",
        kind: "crash",
        settings: &[("how", "exit")],
        expect: &["service_down"],
    },
    Scenario {
        label: "crash: SIGKILL",
        service: "payment",
        kind: "crash",
        settings: &[("how", "kill")],
        expect: &["service_down"],
    },
    Scenario {
        label: "memory leak",
        service: "inventory",
        kind: "leak",
        settings: &[("mib_per_s", "200"), ("max_mib", "512")],
        expect: &["memory_pressure", "service_down"],
    },
    Scenario {
        label: "CPU runaway",
        service: "payment",
        kind: "spin",
        settings: &[("threads", "2")],
        expect: &["runaway_cpu", "service_down"],
    },
    Scenario {
        label: "hang",
        service: "inventory",
        kind: "hang",
        settings: &[],
        expect: &["latency_spike"],
    },
    Scenario {
        label: "refusal",
        service: "auth",
        kind: "refuse",
        settings: &[],
        expect: &["connect_failure"],
    },
];
