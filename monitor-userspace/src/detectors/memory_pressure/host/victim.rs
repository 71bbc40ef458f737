//! Whose end would help most and cost least. Pure: candidates and a need in, a choice out.
//!
//! Whose end alone brings enough back goes before those of whom several would have to go. Among them, who grows counts more than who is
//! large. Those to be avoided are last, and those without consent are only named.

use std::cmp::Ordering;

use super::super::{float, mib};
use crate::model::{ProcessKey, Subject};

/// Growth of so many seconds counts like size.
const AHEAD: f64 = 10.0;
/// A service is started anew, so its end costs less.
const RESTARTS: f64 = 1.25;

/// Somebody whose end could be thought of.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Candidate {
    pub(super) subject: Subject,
    /// The process; a service's main process.
    pub(super) process: ProcessKey,
    /// What people call it.
    pub(super) comm: String,
    /// How many processes would end.
    pub(super) processes: u32,
    /// Bytes that it has, shared ones among them.
    pub(super) has: u64,
    /// Bytes that would come back.
    pub(super) relief: u64,
    /// Its page tables were looked at: what is shared is known.
    pub(super) exact: bool,
    /// Bytes a second.
    pub(super) growth: f64,
    pub(super) oom_score_adj: i32,
    /// Share of the last 10 s in which it stalled for memory, hundredths of a per cent; 0 where that is not known.
    pub(super) stalled: u32,
    /// A `[[remedy]]` for this detector names it.
    pub(super) consented: bool,
    /// It is a service.
    pub(super) restarts: bool,
}

/// What the configuration says of whom to choose.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wishes<'a> {
    pub(super) prefer: &'a [String],
    pub(super) avoid: &'a [String],
    /// `MemTotal`: `oom_score_adj` counts in thousandths of it, as it does for the kernel.
    pub(super) total: u64,
}

/// Who should go, and who was thought of too, the best first.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Choice {
    pub(super) victim: Candidate,
    pub(super) why: &'static str,
    pub(super) others: Vec<Candidate>,
}

/// Most others that are told of.
const OTHERS: usize = 4;

impl Candidate {
    fn is_in(&self, names: &[String]) -> bool {
        let known = self.subject.configured_name();
        names
            .iter()
            .any(|name| *name == self.comm || known == Some(name))
    }

    /// The more, the better its end: what comes back and what it would have taken in the next seconds, in bytes.
    pub(super) fn score(&self, total: u64) -> f64 {
        let stalls = 1.0 + f64::from(self.stalled) / 20_000.0;
        let restarts = if self.restarts { RESTARTS } else { 1.0 };
        let told = f64::from(self.oom_score_adj) / 1000.0 * float(total);
        self.growth
            .mul_add(AHEAD, float(self.relief))
            .mul_add(stalls * restarts, told)
    }

    /// Its figures in words.
    pub(super) fn describe(&self, wishes: &Wishes<'_>) -> String {
        let shared = self.has.saturating_sub(self.relief);
        let mut words = format!("{} back", mib(self.relief));
        if shared > 1 << 20 {
            words = format!("{words} of {}", mib(self.has));
        }
        if self.processes > 1 {
            words = format!("{words}, {} processes", self.processes);
        }
        if self.growth >= super::super::MIB {
            words = format!(
                "{words}, grows {:.0} MiB/s",
                self.growth / super::super::MIB
            );
        }
        if !self.exact {
            words.push_str(", shared pages not looked at");
        }
        if self.stalled > 0 {
            words = format!("{words}, stalled {:.2}%", f64::from(self.stalled) / 100.0);
        }
        if self.oom_score_adj != 0 {
            words = format!("{words}, oom_score_adj {}", self.oom_score_adj);
        }
        for (holds, word) in [
            (self.is_in(wishes.prefer), ", preferred"),
            (self.is_in(wishes.avoid), ", to be avoided"),
            (!self.consented, ", no consent"),
        ] {
            if holds {
                words.push_str(word);
            }
        }
        words
    }
}

/// Who should go to bring so many bytes back; none where there is nobody.
pub(super) fn choose(mut all: Vec<Candidate>, need: u64, wishes: &Wishes<'_>) -> Option<Choice> {
    let order = |a: &Candidate, b: &Candidate| -> Ordering {
        b.score(wishes.total).total_cmp(&a.score(wishes.total))
    };
    all.sort_by(order);
    let covers = |candidate: &Candidate| candidate.relief >= need;
    let avoided = |candidate: &Candidate| candidate.is_in(wishes.avoid);
    let preferred = |candidate: &Candidate| candidate.is_in(wishes.prefer);
    let willing = |candidate: &Candidate| candidate.consented && !avoided(candidate);
    let find = |holds: &dyn Fn(&Candidate) -> bool| all.iter().position(holds);
    let sum = |holds: &dyn Fn(&Candidate) -> bool| -> u64 {
        let held = all.iter().filter(|candidate| holds(candidate));
        held.fold(0, |sum, candidate| sum.saturating_add(candidate.relief))
    };
    // A handful of pages is no relief.
    let worth = |candidate: &Candidate| candidate.relief >= need / 16;
    let (at, why) = if let Some(at) = find(&|one| willing(one) && preferred(one) && covers(one)) {
        (at, "it is preferred, and its end suffices")
    } else if let Some(at) = find(&|one| willing(one) && covers(one)) {
        (at, "its end suffices")
    } else if let Some(at) =
        find(&|one| willing(one) && worth(one)).filter(|_| sum(&willing) >= need)
    {
        (
            at,
            "no end of one suffices; of those that do together, it helps most",
        )
    } else if let Some(at) = find(&|one| one.consented && covers(one)) {
        (
            at,
            "it is to be avoided, but the end of nobody else suffices",
        )
    } else if let Some(at) =
        find(&|one| one.consented && worth(one)).filter(|_| sum(&|one| one.consented) >= need)
    {
        (at, "only all that there is consent for suffice together")
    } else if let Some(at) = find(&|one| !one.consented && !avoided(one) && covers(one)) {
        (at, "only its end suffices, and nobody has consented to it")
    } else {
        let at = find(&|one| worth(one))?;
        (at, "nobody's end suffices; it helps most")
    };
    let victim = all.remove(at);
    // Those who may go are of more interest than those who may not.
    all.sort_by_key(|candidate| !candidate.consented);
    all.truncate(OTHERS);
    Some(Choice {
        victim,
        why,
        others: all,
    })
}
