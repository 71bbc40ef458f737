//! The host runs out of memory. Three ways to see that:
//!
//! - less than `least` is available (and of the swap, where there is one, less than `least_swap` is free): at once;
//! - less than `available_min`, and what is left is used up `exhaust_within` at the speed of the last samples;
//! - less than `available_min`, the kernel's pressure trigger fired within `window`, and what is left is not growing (level and trend
//!   together: a trigger alone also fires for I/O, a level alone for a cache that could be dropped).
//!
//! One victim at a time: see `victim` for whom, `ledger` for what would come back. The next is named when the last is gone and its memory
//! is not enough, or did not come back within `relief_within`; or when it does not go.

mod ledger;
#[cfg(test)]
mod tests;
mod trend;
mod victim;

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Config, MIB, float, mib};
use crate::model::{
    Claims, Evidence, Finding, MemoryShare, ProcessKey, ProcessUsage, Severity, Subject, Time,
    World,
};
use ledger::Ledger;
use trend::Trend;
use victim::{Choice, Wishes, choose};

/// One that was named and does not go is passed over after this.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most that are named and not gone at a time.
const MOST: usize = 8;

/// Memory of the host, bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory {
    pub(super) total: u64,
    pub(super) available: u64,
    pub(super) swap_total: u64,
    pub(super) swap_free: u64,
}

/// Somebody who was named.
#[derive(Debug)]
struct Named {
    subject: Subject,
    process: Option<ProcessKey>,
    at: Time,
    gone: Option<Time>,
    /// With so much available, it is over.
    enough: u64,
}

/// Why the host is in trouble.
struct Trouble {
    enough: u64,
    since: Time,
    facts: Vec<(&'static str, String)>,
}

/// What is known of the host's memory and of who takes it.
#[derive(Debug, Default)]
pub(super) struct Host {
    ledger: Ledger,
    trend: Trend,
    memory: Option<Memory>,
    triggered: Option<(Time, u32, u32)>,
    /// Services that stall, by the alarm of their own cgroup.
    stalled: BTreeMap<String, u32>,
    named: Vec<Named>,
}

impl Host {
    /// The kernel's alarm.
    pub(super) fn triggered(&mut self, at: Time, some_avg10: u32, full_avg10: u32) {
        self.triggered = Some((at, some_avg10, full_avg10));
    }

    pub(super) fn processes(&mut self, table: &[ProcessUsage], at: Time) {
        self.ledger.processes(table, at);
        self.look_for_the_named(at);
    }

    pub(super) fn claims(&mut self, claims: &Claims, at: Time) {
        self.ledger.claims(claims, at);
        self.look_for_the_named(at);
    }

    pub(super) fn shares(&mut self, shares: &[MemoryShare]) {
        self.ledger.shares(shares);
    }

    pub(super) fn service_stalls(&mut self, service: &str, some_avg10: u32, world: &World) {
        if some_avg10 > 0 && world.services.contains_key(service) {
            self.stalled.insert(service.to_owned(), some_avg10);
        } else {
            self.stalled.remove(service);
        }
    }

    /// A process has ended; its memory may take a little longer.
    pub(super) fn ended(&mut self, process: ProcessKey, at: Time) {
        for named in &mut self.named {
            if named.process == Some(process) && named.gone.is_none() {
                named.gone = Some(at);
            }
        }
    }

    fn look_for_the_named(&mut self, at: Time) {
        for named in &mut self.named {
            let gone = |process| self.ledger.is_gone(process, named.at);
            if named.gone.is_none() && named.process.is_some_and(gone) {
                named.gone = Some(at);
            }
        }
    }

    /// A reading of the host's memory.
    pub(super) fn memory(
        &mut self,
        now: Memory,
        at: Time,
        config: &Config,
        world: &World,
        out: &mut Vec<Finding>,
    ) {
        let shrinking = self
            .memory
            .is_none_or(|before| now.available <= before.available);
        self.memory = Some(now);
        self.trend
            .push(at, now.available.saturating_add(now.swap_free));
        self.clear(now.available, at, config, out);
        let Some(trouble) = self.trouble(now, shrinking, at, config) else {
            return;
        };
        let waits = |named: &Named| match named.gone {
            Some(gone) => at.since(gone) < config.relief_within.0,
            None => at.since(named.at) < PATIENCE,
        };
        if self.named.len() >= MOST || self.named.iter().any(waits) {
            return;
        }
        self.name(now, &trouble, at, config, world, out);
    }

    /// Whoever was named for what is over, or is gone without that being enough.
    fn clear(&mut self, available: u64, at: Time, config: &Config, out: &mut Vec<Finding>) {
        self.named.retain(|named| {
            let over = |gone| at.since(gone) >= config.relief_within.0;
            let because = if available >= named.enough {
                format!("{} of memory are available", mib(available))
            } else if named.gone.is_some_and(over) {
                format!(
                    "that process is gone; the host is still short of memory ({} available)",
                    mib(available)
                )
            } else {
                return true;
            };
            out.push(Finding::Cleared {
                subject: named.subject.clone(),
                seen: at,
                because,
            });
            false
        });
    }

    /// Whether the host is in trouble, and by what.
    fn trouble(&self, now: Memory, shrinking: bool, at: Time, config: &Config) -> Option<Trouble> {
        let low = config.available_min.of(now.total);
        let least = config.least.of(now.total).min(low);
        if now.available >= low {
            return None;
        }
        let least_swap = config.least_swap.of(now.swap_total);
        let no_swap = now.swap_total == 0 || now.swap_free < least_swap;
        let mut facts = vec![("available memory", mib(now.available))];
        if now.swap_total > 0 {
            let of = format!("{} of {}", mib(now.swap_free), mib(now.swap_total));
            facts.push(("free swap", of));
        }
        let pressed = self
            .triggered
            .filter(|(triggered, ..)| at.since(*triggered) <= config.window.0);
        let exhausted = self.trend.exhausted_in(config.exhaust_within.0);
        let (enough, since) = if now.available < least && no_swap {
            facts.push(("least wanted", mib(least)));
            (least, at)
        } else if let Some(exhausted) = exhausted {
            facts.push(("least wanted", mib(low)));
            (low, exhausted.since)
        } else if shrinking && let Some((triggered, ..)) = pressed {
            facts.push(("least wanted", mib(low)));
            (low, triggered)
        } else {
            return None;
        };
        if let Some(exhausted) = exhausted {
            let speed = format!("{:.0} MiB/s", exhausted.speed / MIB);
            facts.push(("it shrinks by", speed));
            let left = format!("{:.0} ms", exhausted.left.as_secs_f64() * 1000.0);
            facts.push(("used up in", left));
        }
        if let Some((_, some, full)) = pressed {
            let percent = |hundredths: u32| format!("{:.2}%", f64::from(hundredths) / 100.0);
            facts.push(("stalled for memory (avg10)", percent(some)));
            facts.push(("all tasks at once (avg10)", percent(full)));
        }
        Some(Trouble {
            enough,
            since,
            facts,
        })
    }

    fn name(
        &mut self,
        now: Memory,
        trouble: &Trouble,
        at: Time,
        config: &Config,
        world: &World,
        out: &mut Vec<Finding>,
    ) {
        let wanted = float(trouble.enough) * (1.0 + config.margin.share());
        let need = wanted - float(now.available);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a cast of a float stays within the type, and memory sizes fit"
        )]
        let need = need.max(0.0) as u64;
        let mut candidates = self.ledger.candidates(world);
        candidates.retain(|one| !self.named.iter().any(|named| named.subject == one.subject));
        for candidate in &mut candidates {
            if let Subject::Service { name } = &candidate.subject {
                candidate.stalled = self.stalled.get(name).copied().unwrap_or(0);
            }
        }
        let wishes = Wishes {
            prefer: &config.prefer,
            avoid: &config.avoid,
            total: now.total,
        };
        let choice = choose(candidates, need, &wishes);
        let consented = choice.as_ref().is_some_and(|one| one.victim.consented);
        // Nobody may end those that were named already: more of that kind is only noise.
        if !consented && !self.named.is_empty() {
            return;
        }
        let evidence = Evidence::at(at).since(trouble.since);
        let facts = trouble.facts.iter();
        let evidence = facts.fold(evidence, |all, (name, value)| all.fact(name, value));
        let evidence = evidence.fact("to come back", mib(need));
        let (subject, evidence) = match choice {
            Some(choice) => explain(evidence, &choice, &wishes),
            None => (Subject::Host, evidence.fact("victim", "none known")),
        };
        self.named.push(Named {
            subject: subject.clone(),
            process: evidence.process,
            at,
            gone: None,
            enough: trouble.enough,
        });
        out.push(Finding::Raised {
            subject,
            severity: Severity::Critical,
            evidence,
        });
    }
}

/// Who was chosen, why, and who else was thought of.
fn explain(evidence: Evidence, choice: &Choice, wishes: &Wishes<'_>) -> (Subject, Evidence) {
    let victim = &choice.victim;
    let who = |comm: &str, process: ProcessKey| format!("{comm} [{}]", process.pid);
    let mut evidence = evidence
        .about(victim.process, &victim.comm)
        .fact("victim", who(&victim.comm, victim.process))
        .fact("its end brings", victim.describe(wishes))
        .fact("its growth", format!("{:.0} MiB/s", victim.growth / MIB))
        .fact("chosen because", choice.why);
    for other in &choice.others {
        let words = format!(
            "{}: {}",
            who(&other.comm, other.process),
            other.describe(wishes)
        );
        evidence = evidence.fact("not", words);
    }
    (victim.subject.clone(), evidence)
}
