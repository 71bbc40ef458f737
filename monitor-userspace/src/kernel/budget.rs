//! What the kernel programs cost, measured now and then, and what has to go when that is too much.
//!
//! Measuring costs some 20 ns a run itself, so the kernel measures only in windows; between them the last share is taken to go on.
//! Consumes readings of the programs' run time, emits a [`Verdict`] a window. Pure: time is an argument. Leaves out doing it.

use std::collections::BTreeMap;
use std::time::Duration;

use monitor_common::Kind;
use monitor_common::spec::Mode;

use super::programs::ProgramCost;
use super::status::ProbeState;
use crate::model::Time;

/// Windows in a row over the budget after which a probe goes.
const PATIENCE: u32 = 3;
/// A probe comes back only when the whole is then below this share of the budget.
const ROOM: f64 = 0.8;
/// A probe that takes a smaller share of the whole is not worth its loss: the cost is another's, which must stay.
const WORTH: f64 = 0.1;
/// How long a probe stays away the first time; doubled each time.
const REST: Duration = Duration::from_mins(5);
/// Longest rest.
const LONGEST: Duration = Duration::from_hours(4);

/// What one program costs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Estimate {
    /// CPUs it took in the last window: 0.01 is a hundredth of one.
    pub cpus: f64,
    /// Seconds it has run since the daemon started, estimated from the windows.
    pub seconds: f64,
    /// How often, estimated likewise.
    pub runs: f64,
}

/// What follows from a window.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// All is well, or nothing can be done.
    Keep,
    /// This probe costs most and has to go.
    Shed {
        /// Which.
        probe: Kind,
        /// CPUs it took.
        cpus: f64,
        /// CPUs that all took together.
        total: f64,
    },
    /// There is room for it again.
    Restore {
        /// Which.
        probe: Kind,
        /// Its state before.
        state: ProbeState,
    },
}

/// When a window began, and each program's run time (ns) and runs by then.
type Opened = (Time, BTreeMap<String, (u64, u64)>);

#[derive(Debug)]
struct Shed {
    probe: Kind,
    cpus: f64,
    state: ProbeState,
    until: Time,
}

/// See the module.
#[derive(Debug)]
pub struct Meter {
    /// CPUs that all programs may take together.
    budget: f64,
    opened: Option<Opened>,
    /// When the last window was closed.
    closed: Option<Time>,
    estimates: BTreeMap<String, Estimate>,
    over: u32,
    shed: Vec<Shed>,
    rests: BTreeMap<Kind, Duration>,
}

impl Meter {
    /// Nothing measured yet. `budget` is in CPUs.
    pub const fn new(budget: f64) -> Self {
        Self {
            budget,
            opened: None,
            closed: None,
            estimates: BTreeMap::new(),
            over: 0,
            shed: Vec::new(),
            rests: BTreeMap::new(),
        }
    }

    /// A window begins.
    pub fn open(&mut self, now: Time, costs: &[ProgramCost]) {
        let each = costs
            .iter()
            .map(|cost| (cost.name.clone(), (cost.run_time_ns, cost.run_count)));
        self.opened = Some((now, each.collect()));
    }

    /// It ends. `state` says what a probe's state is now, to be given back when it is restored.
    pub fn close(
        &mut self,
        now: Time,
        costs: &[ProgramCost],
        state: impl Fn(Kind) -> Option<ProbeState>,
    ) -> Verdict {
        let Some((opened, before)) = self.opened.take() else {
            return Verdict::Keep;
        };
        let window = now.since(opened).as_secs_f64();
        if window <= 0.0 {
            return Verdict::Keep;
        }
        let period = now.since(self.closed.unwrap_or(opened)).as_secs_f64();
        self.closed = Some(now);
        let mut by_probe: BTreeMap<Kind, f64> = BTreeMap::new();
        for cost in costs {
            let (ns, runs) = before.get(&cost.name).copied().unwrap_or_default();
            let seconds = Duration::from_nanos(cost.run_time_ns.saturating_sub(ns)).as_secs_f64();
            #[expect(clippy::cast_precision_loss, reason = "an estimate")]
            let runs = cost.run_count.saturating_sub(runs) as f64;
            let estimate = self.estimates.entry(cost.name.clone()).or_default();
            estimate.cpus = seconds / window;
            estimate.seconds += estimate.cpus * period;
            estimate.runs += runs / window * period;
            *by_probe.entry(cost.probe).or_default() += estimate.cpus;
        }
        let total: f64 = by_probe.values().sum();
        if total > self.budget {
            self.over += 1;
            return self.shed_costliest(now, &by_probe, total, state);
        }
        self.over = 0;
        let room = self.budget * ROOM - total;
        let back = self
            .shed
            .iter()
            .position(|shed| shed.until <= now && shed.cpus <= room);
        back.map_or(Verdict::Keep, |at| {
            let shed = self.shed.remove(at);
            Verdict::Restore {
                probe: shed.probe,
                state: shed.state,
            }
        })
    }

    fn shed_costliest(
        &mut self,
        now: Time,
        by_probe: &BTreeMap<Kind, f64>,
        total: f64,
        state: impl Fn(Kind) -> Option<ProbeState>,
    ) -> Verdict {
        if self.over < PATIENCE {
            return Verdict::Keep;
        }
        self.over = 0;
        let optional = by_probe.iter().filter(|(probe, cpus)| {
            let may_go = matches!(probe.spec().mode, Mode::Optional | Mode::Watched);
            may_go && **cpus > total * WORTH
        });
        let costliest = optional.max_by(|a, b| a.1.total_cmp(b.1));
        let Some((probe, cpus, state)) =
            costliest.and_then(|(probe, cpus)| Some((*probe, *cpus, state(*probe)?)))
        else {
            return Verdict::Keep;
        };
        let rest = self.rests.entry(probe).or_insert(REST);
        let until = now.after(*rest);
        *rest = rest.saturating_mul(2).min(LONGEST);
        self.shed.push(Shed {
            probe,
            cpus,
            state,
            until,
        });
        Verdict::Shed { probe, cpus, total }
    }

    /// Whether the last window was over the budget: then the next one is to follow at once.
    pub const fn is_over(&self) -> bool {
        self.over > 0
    }

    /// What each program costs, by name.
    pub const fn estimates(&self) -> &BTreeMap<String, Estimate> {
        &self.estimates
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::from_kernel(1_000_000_000_000).after(Duration::from_secs(seconds))
    }

    fn cost(name: &str, probe: Kind, ms: u64) -> ProgramCost {
        ProgramCost {
            name: name.to_owned(),
            probe,
            run_time_ns: ms * 1_000_000,
            run_count: ms,
        }
    }

    /// A window of a second in which the programs run for so many milliseconds.
    fn window(meter: &mut Meter, second: u64, switch_ms: u64, exit_ms: u64) -> Verdict {
        let costs = |scale: u64| {
            [
                cost("switch", Kind::RunQueueLatency, switch_ms * scale),
                cost("exit", Kind::ProcessExit, exit_ms * scale),
                cost("exec", Kind::ProcessExec, scale),
            ]
        };
        meter.open(at(second), &costs(1));
        let on = |_| {
            Some(ProbeState::On {
                attached: "somewhere".to_owned(),
            })
        };
        meter.close(at(second + 1), &costs(2), on)
    }

    #[test]
    fn the_costliest_that_may_go_goes_after_three_windows_and_comes_back_when_there_is_room() {
        let mut meter = Meter::new(0.02);
        assert_eq!(window(&mut meter, 0, 30, 50), Verdict::Keep);
        assert!(meter.is_over());
        assert_eq!(window(&mut meter, 1, 30, 50), Verdict::Keep);
        let Verdict::Shed { probe, cpus, total } = window(&mut meter, 2, 30, 50) else {
            panic!("the third window in a row");
        };
        assert_eq!(probe, Kind::RunQueueLatency, "exits are essential");
        assert!((cpus - 0.030).abs() < 1e-9 && (total - 0.081).abs() < 1e-9);
        assert_eq!(window(&mut meter, 10, 0, 1), Verdict::Keep, "it rests");
        assert_eq!(
            window(&mut meter, 400, 0, 1),
            Verdict::Keep,
            "what it took before has no room"
        );
        let mut meter = Meter::new(0.05);
        for second in 0..2 {
            assert_eq!(window(&mut meter, second, 30, 50), Verdict::Keep);
        }
        assert!(matches!(
            window(&mut meter, 2, 30, 50),
            Verdict::Shed { .. }
        ));
        assert!(matches!(
            window(&mut meter, 400, 0, 1),
            Verdict::Restore {
                probe: Kind::RunQueueLatency,
                ..
            }
        ));
    }

    #[test]
    fn between_windows_the_last_share_is_taken_to_go_on() {
        let mut meter = Meter::new(1.0);
        window(&mut meter, 0, 10, 0);
        window(&mut meter, 9, 10, 0);
        let switch = meter.estimates().get("switch").expect("measured");
        assert!((switch.cpus - 0.010).abs() < 1e-9);
        assert!((switch.seconds - 0.100).abs() < 1e-9, "{switch:?}");
    }

    #[test]
    fn a_burst_is_no_reason() {
        let mut meter = Meter::new(0.02);
        for second in 0..50 {
            let burst = if second % 3 == 2 { 0 } else { 100 };
            assert_eq!(window(&mut meter, second, burst, 0), Verdict::Keep);
        }
    }
}
