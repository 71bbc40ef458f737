//! What `replay` prints. The same recording and configurations give the same bytes on standard output.

use std::io::Write;
use std::time::Duration;

use serde_json::json;

use super::line;
use crate::cli::render;
use crate::model::Time;
use crate::record::recording::{Ending, Header};
use crate::replay::{Acts, Decision, Side, Summary};

/// See the module.
#[derive(Debug)]
pub(super) struct Report {
    json: bool,
    compared: bool,
    began: Option<Time>,
    any: bool,
}

/// Said once, where something was decided that was not done.
const ANOTHER_WAY: &str = "what was not done when this was recorded had no effect there: from here on the world may have gone another way";

impl Report {
    pub(super) fn new(json: bool, compared: bool, header: Option<&Header>) -> Self {
        Self {
            json,
            compared,
            began: header.map(|header| Time::from_nanos(header.monotonic_ns)),
            any: false,
        }
    }

    /// Where nothing else says when it began, it began with this signal.
    pub(super) fn begins(&mut self, first: Time) {
        self.began.get_or_insert(first);
    }

    /// Whether there was anything to print.
    pub(super) const fn any(&self) -> bool {
        self.any
    }

    pub(super) fn lost(
        &self,
        out: &mut impl Write,
        now: Time,
        entries: u64,
    ) -> std::io::Result<()> {
        let since = now.since(self.began.unwrap_or(now));
        if self.json {
            let nanos = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
            return writeln!(out, "{}", json!({"since_start_ns": nanos, "lost": entries}));
        }
        let (seconds, micros) = (since.as_secs(), since.subsec_micros());
        writeln!(
            out,
            "{}{seconds:>6}.{micros:06}  {entries} signals are missing here: there was no room for them",
            self.margin(None)
        )
    }

    const fn margin(&self, side: Option<Side>) -> &'static str {
        match (self.compared, side) {
            (false, _) => "",
            (true, None) => "  ",
            (true, Some(Side::Was)) => "- ",
            (true, Some(Side::New)) => "+ ",
        }
    }

    pub(super) fn decision(
        &mut self,
        out: &mut impl Write,
        decision: &Decision,
    ) -> std::io::Result<()> {
        self.any = true;
        let began = self.began.unwrap_or_default();
        if self.json {
            let line = line::json(decision, began, self.compared);
            return writeln!(out, "{line}");
        }
        let margin = self.margin(Some(decision.side));
        writeln!(out, "{margin}{}", line::text(decision, began))
    }

    pub(super) fn ending(
        &self,
        out: &mut impl Write,
        summary: &Summary,
        ending: &Ending,
        missed: u64,
    ) -> std::io::Result<()> {
        let acts = summary.acts(self.compared);
        let would_have: u64 = acts.values().map(|acts| acts.would_have).sum();
        if self.json {
            let rows: Vec<_> = acts
                .iter()
                .map(|((action, subject), acts)| {
                    json!({"action": action, "subject": subject, "acts": acts})
                })
                .collect();
            let line = json!({"summary": {
                "differs": self.compared.then_some(self.any),
                "acts": rows,
                "missed": missed,
                "lost": ending.lost,
                "damaged": ending.damaged,
                "cut_at_byte": ending.cut,
            }});
            return writeln!(out, "{line}");
        }
        if self.compared && !self.any {
            writeln!(out, "nothing is decided differently")?;
        }
        for ((action, subject), acts) in &acts {
            writeln!(out, "{}", self.counted(action, subject, *acts))?;
        }
        if self.compared {
            for (action, (gone, fixed)) in gone(&acts) {
                writeln!(
                    out,
                    "of {gone} {action} that would not be done any more, {fixed} had fixed what they were for"
                )?;
            }
        }
        if would_have > 0 {
            writeln!(out, "{ANOTHER_WAY}")?;
        }
        if missed > 0 {
            writeln!(
                out,
                "{missed} acts of the recording were not decided again: their incidents began before it, or this version decides differently"
            )?;
        }
        for line in reading(ending) {
            writeln!(out, "{line}")?;
        }
        Ok(())
    }

    fn counted(&self, action: &str, subject: &str, acts: Acts) -> String {
        let Acts {
            was,
            new,
            gone,
            would_have,
            ..
        } = acts;
        let mut line = if self.compared {
            format!("{action} of {subject}: {was} as it was, {new} as it would be")
        } else {
            format!("{action} of {subject}: {was}")
        };
        if gone > 0 {
            render::add(&mut line, format_args!(", {gone} not any more"));
        }
        if would_have > 0 {
            render::add(&mut line, format_args!(", {would_have} that were not done"));
        }
        line
    }
}

type Places = std::collections::BTreeMap<(&'static str, String), Acts>;

/// Acts that would not be done any more, by action, and those of them that had helped.
fn gone(acts: &Places) -> std::collections::BTreeMap<&'static str, (u64, u64)> {
    let mut gone = std::collections::BTreeMap::<_, (u64, u64)>::new();
    for ((action, _), acts) in acts.iter().filter(|(_, acts)| acts.gone > 0) {
        let sums = gone.entry(*action).or_default();
        *sums = (sums.0 + acts.gone, sums.1 + acts.gone_fixed);
    }
    gone
}

/// What is to be said of how the file could be read.
pub(super) fn reading(ending: &Ending) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(cut) = ending.cut {
        lines.push(format!(
            "the recording was cut short: read up to {cut}, where what is whole ends"
        ));
    }
    if ending.lost > 0 {
        lines.push(format!(
            "{} signals or notes are missing: there was no room for them when it was recorded",
            ending.lost
        ));
    }
    if ending.damaged > 0 {
        lines.push(format!("passed over, being damaged: {}", ending.damaged));
        lines.extend(ending.damage.iter().map(|place| format!("  {place}")));
    }
    lines
}

/// How fast it went; not for standard output, since it is never the same twice.
pub(super) fn speed(signals: u64, span: Duration, took: Duration) -> String {
    let took = took.as_secs_f64().max(1e-9);
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = signals as f64 / took;
    format!(
        "{signals} signals of {:.1} s replayed in {took:.3} s: {:.0} times as fast, {rate:.0} signals a second",
        span.as_secs_f64(),
        span.as_secs_f64() / took
    )
}
