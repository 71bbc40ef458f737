//! What loads, what does not and why, and what loading takes with it.

use monitor_common::Kind;
use monitor_common::spec::Mode;
use smart_monitor::kernel::{Kernel, Options, ProbeState};

use super::support::{alone, exit_of, load, shell};

#[test]
fn every_probe_is_on_and_every_program_is_in_the_object() {
    let _alone = alone();
    let mut kernel = load(&Options {
        bench: true,
        ..Options::default()
    });
    assert!(kernel.take_log().is_some(), "the programs' own messages");
    for probe in kernel.probes() {
        assert!(
            probe.state.is_on(),
            "{} is off: {:?}",
            probe.kind.name(),
            probe.state
        );
        assert!(
            probe.without.is_empty(),
            "{} lacks {:?}",
            probe.kind.name(),
            probe.without
        );
    }
    let kinds: Vec<_> = kernel.probes().iter().map(|probe| probe.kind).collect();
    assert_eq!(kinds, Kind::ALL);
    let mut stated: Vec<_> = Kind::ALL
        .iter()
        .flat_map(|kind| kind.spec().programs.iter().map(|program| program.name))
        .collect();
    stated.sort_unstable();
    assert_eq!(kernel.program_names(), stated);
}
#[test]
fn a_refused_program_takes_no_other_with_it() {
    let _alone = alone();
    let refused = Options {
        refuse: vec!["tcp_connect".into()],
        ..Options::default()
    };
    let mut kernel = load(&refused);
    for probe in kernel.probes() {
        match (&probe.state, probe.kind) {
            (ProbeState::Off { reason, fix }, Kind::TcpConnect) => {
                assert!(
                    reason.starts_with("the kernel's verifier refuses its program: "),
                    "{reason}"
                );
                assert!(reason.len() < 600 && !fix.is_empty(), "{reason}");
            }
            (state, kind) => assert!(state.is_on(), "{} is {state:?}", kind.name()),
        }
    }
    let mut rings = kernel.take_rings().expect("the rings");
    let mut child = shell("exit 0");
    child.wait().expect("it ends");
    exit_of(&mut rings, &mut Vec::new(), child.id());
}

#[test]
fn a_member_that_reads_wrong_turns_off_what_relies_on_it() {
    let _alone = alone();
    let broken = Options {
        break_offsets: vec!["task_struct.start_boottime".into()],
        ..Options::default()
    };
    let mut kernel = load(&broken);
    // Those of the benchmarks are off anyway, what has no program reads nothing, and answers are of no process.
    let programs = |kind: Kind| {
        let spec = kind.spec();
        spec.mode != Mode::Bench && !spec.programs.is_empty() && kind != Kind::ServiceLatency
    };
    for probe in kernel.probes().iter().filter(|probe| programs(probe.kind)) {
        let ProbeState::Off { reason, .. } = &probe.state else {
            panic!("{} is on, and reports a wrong start", probe.kind.name())
        };
        assert!(reason.contains("task_struct.start_boottime"), "{reason}");
    }
    assert!(kernel.take_snapshot().is_none());
}

#[test]
fn a_disabled_probe_is_off_and_says_why() {
    let _alone = alone();
    let options = Options {
        disabled: vec!["run_queue_latency".into(), "task_snapshot".into()],
        ..Options::default()
    };
    let mut kernel = load(&options);
    for probe in kernel.probes() {
        let disabled = options
            .disabled
            .iter()
            .any(|name| name == probe.kind.name());
        assert_eq!(probe.state.is_on(), !disabled, "{probe:?}");
    }
    assert!(kernel.take_snapshot().is_none());
}

#[test]
fn the_cost_of_the_programs_is_measured_when_asked() {
    let _alone = alone();
    let kernel = load(&Options {
        stats: true,
        ..Options::default()
    });
    let cost = |kernel: &Kernel| {
        let costs = kernel.counters().program_costs();
        costs
            .into_iter()
            .find(|cost| cost.name == "process_exec")
            .expect("it is loaded")
            .run_count
    };
    shell("exit 0").wait().expect("it ends");
    let measured = cost(&kernel);
    assert!(measured > 0);
    kernel.set_stats(false).expect("off");
    let reader = kernel.counters();
    drop(kernel);
    assert!(reader.program_costs().is_empty(), "the programs are gone");
}
