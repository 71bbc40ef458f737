//! Questions to DNS servers that stay without an answer, and what was counted of all others.
//!
//! The programs keep each question until its answer; [`DnsWatch::sweep`] tells of those that have waited too long. Such a question
//! stays for a while, so that a late answer is known as one. Whoever loads the probe must sweep, or its table fills up.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aya::Ebpf;
use aya::maps::{Array, HashMap, MapData, MapError, PerCpuArray};
use monitor_common::probes::dns_query::{
    DnsTotals, PENDING, PENDING_WORDS, TOTALS_WORDS, UNANSWERED,
};
use monitor_common::{Event, Kind};

use super::counters::{sum, take_array, take_map};
use super::programs::Programs;
use super::ring::decode;
use crate::model::Time;
use crate::model::kernel_view::DnsFigures;

/// How often to sweep.
pub const SWEEP: Duration = Duration::from_secs(1);
/// How long after that a late answer is still known as one.
const LATE: Duration = Duration::from_secs(10);
/// Questions beyond which those that were told make room at once.
const CROWDED: usize = PENDING as usize / 2;
/// Bytes of a [`monitor_common::probes::dns_query::Pending`] before its event.
const BEFORE_EVENT: usize = 8;
/// `BPF_EXIST`
const EXISTING: u64 = 2;

pub(super) struct Maps {
    pending: HashMap<MapData, u64, [u64; PENDING_WORDS]>,
    outstanding: Array<MapData, u64>,
    swept: Array<MapData, u64>,
    totals: PerCpuArray<MapData, [u64; TOTALS_WORDS]>,
}

impl Maps {
    pub(super) fn take(object: &mut Ebpf) -> Result<Self, MapError> {
        Ok(Self {
            pending: take_map(object, "DNS_PENDING")?.try_into()?,
            outstanding: take_map(object, "DNS_OUTSTANDING")?.try_into()?,
            swept: take_map(object, "DNS_SWEPT")?.try_into()?,
            totals: take_array(object, "DNS_TOTALS")?,
        })
    }
}

struct State {
    maps: Maps,
    swept: u64,
    unanswered: u64,
    /// Answers cannot be read here, which was said.
    blind: bool,
}

/// Sweeps and counts. All clones are of the same table.
#[derive(Clone)]
pub struct DnsWatch {
    state: Arc<Mutex<State>>,
    programs: Programs,
    timeout: Duration,
}

impl std::fmt::Debug for DnsWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DnsWatch")
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl DnsWatch {
    pub(super) fn new(maps: Maps, programs: Programs, timeout: Duration) -> Self {
        let state = State {
            maps,
            swept: 0,
            unanswered: 0,
            blind: false,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            programs,
            timeout,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells of every question that has waited for longer than the time for it, once. Two system calls when none waits.
    pub fn sweep(&self, now: Time, mut each: impl FnMut(Event)) {
        let mut state = self.lock();
        if state.is_calm() {
            return;
        }
        // Without its programs, no answer would be seen.
        let told = self.programs.is_attached(Kind::DnsQuery) && !state.is_blind();
        let keys = state.maps.pending.keys().flatten();
        let keys: Vec<u64> = keys.take(2 * PENDING as usize).collect();
        let crowded = keys.len() > CROWDED;
        for key in keys {
            let Ok(words) = state.maps.pending.get(&key, 0) else {
                // Answered meanwhile.
                continue;
            };
            let Some(Event::DnsQuery(mut query)) = event(&words) else {
                state.remove(key);
                continue;
            };
            let waited = now.since(Time::from_kernel(query.header.time_ns));
            if waited < self.timeout {
                continue;
            }
            if query.outcome == UNANSWERED {
                if waited >= self.timeout + LATE || crowded {
                    state.remove(key);
                }
                continue;
            }
            query.outcome = UNANSWERED;
            let first = if !told || crowded {
                state.remove(key)
            } else {
                state.mark(key, &words)
            };
            if first && told {
                state.unanswered += 1;
                query.latency_ns = u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX);
                query.header.time_ns = u64::try_from(now.nanos()).unwrap_or(0);
                each(Event::DnsQuery(query));
            }
        }
    }

    /// What was counted.
    pub fn figures(&self) -> DnsFigures {
        let state = self.lock();
        DnsFigures {
            answered: state.totals(),
            unanswered: state.unanswered,
        }
    }
}

impl State {
    fn is_calm(&self) -> bool {
        let outstanding = self.maps.outstanding.get(&0, 0);
        outstanding.is_ok_and(|outstanding| outstanding == self.swept)
    }

    /// A card that keeps content apart from headers would make every question look unanswered.
    fn is_blind(&mut self) -> bool {
        if !self.blind && self.totals().unreadable > 0 {
            self.blind = true;
            tracing::warn!(
                "answers of DNS servers cannot be read, since a network card keeps them apart from their headers: questions without an answer are not told"
            );
        }
        self.blind
    }

    fn totals(&self) -> DnsTotals {
        let words = sum(&self.maps.totals, 0);
        let part = |at: usize| words.get(at).copied().unwrap_or(0);
        let latency: [u64; 32] = std::array::from_fn(part);
        DnsTotals {
            rcodes: std::array::from_fn(|at| part(latency.len() + at)),
            latency,
            latency_ns: part(48),
            unreadable: part(49),
        }
    }

    /// Whether it was still there.
    fn remove(&mut self, key: u64) -> bool {
        let removed = self.maps.pending.remove(&key).is_ok();
        if removed {
            self.swept = self.swept.wrapping_add(1);
            if let Err(error) = self.maps.swept.set(0, self.swept, 0) {
                tracing::warn!(%error, "the table of DNS questions cannot be kept");
            }
        }
        removed
    }

    /// Notes that it was told; whether it was still there.
    fn mark(&mut self, key: u64, words: &[u64; PENDING_WORDS]) -> bool {
        let mut bytes = bytes(words);
        let place = BEFORE_EVENT
            + std::mem::offset_of!(monitor_common::probes::dns_query::DnsQuery, outcome);
        if let Some(outcome) = bytes.get_mut(place..place + 2) {
            outcome.copy_from_slice(&UNANSWERED.to_ne_bytes());
        }
        let mut marked = *words;
        for (word, bytes) in marked.iter_mut().zip(bytes.as_chunks().0) {
            *word = u64::from_ne_bytes(*bytes);
        }
        self.maps.pending.insert(key, marked, EXISTING).is_ok()
    }
}

fn bytes(words: &[u64; PENDING_WORDS]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn event(words: &[u64; PENDING_WORDS]) -> Option<Event> {
    decode(bytes(words).get(BEFORE_EVENT..)?)
}
