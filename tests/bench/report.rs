//! Samples, their medians and 99th percentiles, and the printing of both.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

/// Durations of one kind.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(Vec<Duration>);

impl Samples {
    pub(crate) fn add(&mut self, sample: Duration) {
        self.0.push(sample);
        self.0.sort_unstable();
    }

    pub(crate) fn extend(&mut self, other: &Self) {
        self.0.extend(&other.0);
        self.0.sort_unstable();
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The least value that this share of all values does not exceed (nearest rank).
    pub(crate) fn quantile(&self, share: f64) -> Option<Duration> {
        self.0.get(nearest_rank(self.0.len(), share)?).copied()
    }

    pub(crate) fn median(&self) -> Option<Duration> {
        self.quantile(0.5)
    }

    /// Each of them less this; at least nothing.
    pub(crate) fn without(&self, part: Duration) -> Self {
        self.0.iter().map(|it| it.saturating_sub(part)).collect()
    }
}

impl FromIterator<Duration> for Samples {
    fn from_iter<T: IntoIterator<Item = Duration>>(samples: T) -> Self {
        let mut all: Vec<Duration> = samples.into_iter().collect();
        all.sort_unstable();
        Self(all)
    }
}

/// Numbers of one kind, one a round: ratios, or amounts in some unit.
#[derive(Clone, Debug, Default)]
pub(crate) struct Values(Vec<f64>);

impl Values {
    /// What is no number (nothing was there to divide by) is left out.
    pub(crate) fn add(&mut self, value: f64) {
        if value.is_finite() {
            self.0.push(value);
            self.0.sort_unstable_by(f64::total_cmp);
        }
    }

    /// As [`Samples::quantile`].
    pub(crate) fn quantile(&self, share: f64) -> Option<f64> {
        self.0.get(nearest_rank(self.0.len(), share)?).copied()
    }

    pub(crate) fn median(&self) -> Option<f64> {
        self.quantile(0.5)
    }
}

impl FromIterator<f64> for Values {
    fn from_iter<T: IntoIterator<Item = f64>>(values: T) -> Self {
        let mut all = Self::default();
        values.into_iter().for_each(|value| all.add(value));
        all
    }
}

/// Where the least value stands, among so many in order, that this share of all does not exceed.
fn nearest_rank(count: usize, share: f64) -> Option<usize> {
    let last = count.checked_sub(1)?;
    let rank = (f64::from(u32::try_from(count).ok()?) * share)
        .ceil()
        .max(1.0);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank"
    )]
    let index = rank as usize - 1;
    Some(index.min(last))
}

/// What the median of [`Values`] should be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    AtMost(f64),
    AtLeast(f64),
}

impl Goal {
    fn verdict(self, value: f64) -> String {
        let (met, sign, goal) = match self {
            Self::AtMost(goal) => (value <= goal, "<=", goal),
            Self::AtLeast(goal) => (value >= goal, ">=", goal),
        };
        format!("  {sign} {goal}: {}", if met { "met" } else { "NOT MET" })
    }

    fn json(self) -> Value {
        match self {
            Self::AtMost(goal) => json!({ "at_most": goal }),
            Self::AtLeast(goal) => json!({ "at_least": goal }),
        }
    }
}

/// Everything that was measured.
#[derive(Debug)]
pub(crate) struct Report {
    json: bool,
    /// How busy the machine was before anything was measured.
    busy: Option<f64>,
    text: String,
    values: Vec<Value>,
}

impl Report {
    pub(crate) fn new(json: bool) -> Self {
        Self {
            json,
            busy: cpu_pressure(),
            text: String::new(),
            values: Vec::new(),
        }
    }

    pub(crate) fn section(&mut self, title: &str) {
        let columns = ["n", "median", "p99", "max"];
        let [n, median, p99, max] = columns;
        let _infallible = writeln!(
            self.text,
            "\n{title:<58} {n:>5} {median:>9} {p99:>9} {max:>9}"
        );
    }

    /// A line of durations, and what its 99th percentile should stay below.
    pub(crate) fn durations(&mut self, name: &str, samples: &Samples, goal: Option<Duration>) {
        let at = |share| samples.quantile(share);
        let show = |value: Option<Duration>| value.map_or_else(|| "-".to_owned(), human);
        let verdict = goal.zip(at(0.99)).map(|(goal, p99)| {
            let met = if p99 < goal { "met" } else { "NOT MET" };
            format!("  p99 < {}: {met}", human(goal))
        });
        let _infallible = writeln!(
            self.text,
            "  {name:<56} {:>5} {:>9} {:>9} {:>9}{}",
            samples.0.len(),
            show(at(0.5)),
            show(at(0.99)),
            show(at(1.0)),
            verdict.unwrap_or_default()
        );
        let nanos = |value: Option<Duration>| {
            value.map(|value| u64::try_from(value.as_nanos()).unwrap_or(u64::MAX))
        };
        self.values.push(json!({
            "name": name,
            "count": samples.0.len(),
            "median_ns": nanos(at(0.5)),
            "p99_ns": nanos(at(0.99)),
            "max_ns": nanos(at(1.0)),
            "goal_p99_ns": nanos(goal),
        }));
    }

    /// Like [`Self::section`], for [`Self::values`].
    pub(crate) fn section_of_values(&mut self, title: &str) {
        let [n, median, quartiles, range] = ["n", "median", "quartiles", "min .. max"];
        let _infallible = writeln!(
            self.text,
            "\n{title:<58} {n:>5} {median:>9} {quartiles:>19} {range:>19}"
        );
    }

    /// A line of numbers, and what their median should be.
    pub(crate) fn values(&mut self, name: &str, values: &Values, unit: &str, goal: Option<Goal>) {
        let Some(median) = values.median() else {
            return self.missing(name, "no round gave a number");
        };
        let at = |share| values.quantile(share).unwrap_or(f64::NAN);
        let verdict = goal.map(|goal| goal.verdict(median));
        let range = |low, high| format!("{} .. {}", figures(low), figures(high));
        let _infallible = writeln!(
            self.text,
            "  {name:<56} {:>5} {:>9} {:>19} {:>19} {unit}{}",
            values.0.len(),
            figures(median),
            range(at(0.25), at(0.75)),
            range(at(0.0), at(1.0)),
            verdict.unwrap_or_default()
        );
        self.values.push(json!({
            "name": name,
            "count": values.0.len(),
            "median": median,
            "quartiles": [at(0.25), at(0.75)],
            "min": at(0.0),
            "max": at(1.0),
            "unit": unit,
            "goal": goal.map(Goal::json),
        }));
    }

    /// A single number, and what it should not be above.
    pub(crate) fn number(&mut self, name: &str, value: f64, unit: &str, goal: Option<f64>) {
        let verdict = goal.map(|goal| {
            let met = if value <= goal { "met" } else { "NOT MET" };
            format!("  <= {goal} {unit}: {met}")
        });
        let _infallible = writeln!(
            self.text,
            "  {name:<56} {value:>9.3} {unit}{}",
            verdict.unwrap_or_default()
        );
        self.values
            .push(json!({ "name": name, "value": value, "unit": unit, "goal": goal }));
    }

    /// What could not be measured, and why.
    pub(crate) fn missing(&mut self, name: &str, why: &str) {
        let _infallible = writeln!(self.text, "  {name}: NOT MEASURED: {why}");
        self.values.push(json!({ "name": name, "missing": why }));
    }

    pub(crate) fn print(&self) {
        let busy = [self.busy, cpu_pressure()]
            .into_iter()
            .flatten()
            .reduce(f64::max);
        if self.json {
            let on = json!({ "machine": machine(), "cpu_pressure_percent": busy });
            println!("{}", json!({ "on": on, "figures": self.values }));
            return;
        }
        println!("{}", machine());
        if let Some(busy) = busy.filter(|share| *share > QUIET) {
            println!(
                "NOT QUIET: tasks waited for a CPU {busy:.0} % of the time; tails are longer than on a quiet machine"
            );
        }
        println!("{}", self.text);
    }
}

/// Says what is being done, where it does not disturb the result.
pub(crate) fn progress(what: &str) {
    eprintln!("bench: {what}");
}

/// From this share of stalls on, per cent, a machine is not quiet.
const QUIET: f64 = 10.0;

/// Share of the last minute in which some task waited for a CPU, per cent; none where the kernel does not tell.
fn cpu_pressure() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/pressure/cpu").ok()?;
    let (_, average) = text.lines().next()?.split_once("avg60=")?;
    average.split(' ').next()?.parse().ok()
}

/// What the figures were measured on.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let uname = rustix::system::uname();
    format!(
        "Linux {} {}, {cores} cores",
        uname.release().to_string_lossy(),
        uname.machine().to_string_lossy()
    )
}

/// A number of any size, short.
fn figures(value: f64) -> String {
    let digits = match value.abs() {
        v if v < 10.0 => 3,
        v if v < 1000.0 => 1,
        _ => 0,
    };
    format!("{value:.digits$}")
}

/// Three figures: `85 us`, `12.3 ms`, `1.25 s`.
pub(crate) fn human(time: Duration) -> String {
    let micros = time.as_secs_f64() * 1e6;
    let (value, unit) = match micros {
        m if m < 1e3 => (m, "us"),
        m if m < 1e6 => (m / 1e3, "ms"),
        m => (m / 1e6, "s"),
    };
    let digits = match value {
        v if v < 10.0 => 2,
        v if v < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let mut samples = Samples::default();
        assert_eq!(samples.median(), None);
        for micros in (1..=200).rev() {
            samples.add(Duration::from_micros(micros));
        }
        assert_eq!(samples.median(), Some(Duration::from_micros(100)));
        assert_eq!(samples.quantile(0.99), Some(Duration::from_micros(198)));
        assert_eq!(samples.quantile(1.0), Some(Duration::from_micros(200)));
    }

    #[test]
    fn what_is_no_number_is_left_out() {
        let values: Values = [3.0, f64::NAN, 1.0, f64::INFINITY, 2.0]
            .into_iter()
            .collect();
        assert_eq!(values.median(), Some(2.0));
        assert_eq!(values.quantile(1.0), Some(3.0));
        assert_eq!(Values::default().median(), None);
    }
}
