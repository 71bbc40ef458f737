//! A thread waits for something that no signal can interrupt (`D` in `ps`), and does not come back: a dead disk or file server, a
//! lock in the kernel.
//!
//! Consumes process tables: the same thread with the same number of switches has not run in between. Raised after `after` and three
//! tables; cleared when it runs or is gone. A stopped or traced process is not in this state. Where tables fail to come for longer
//! than usual, the time counts anew. The table read from /proc has no threads: then nothing is seen.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use monitor_common::{Event, Kind};
use serde::{Deserialize, Serialize};

use super::{Detector, Spec, subject_of};
use crate::config::units::Span;
use crate::model::{
    BLOCKED, Category, Evidence, Finding, ProcessKey, ProcessUsage, Sample, Severity, Signal,
    Subject, Time, World,
};

/// See the module.
pub const SPEC: Spec = Spec {
    name: "hung_task",
    summary: "a thread waits, and cannot be interrupted, for longer than it should",
    category: Category::System,
    symptom: false,
    needs: &[Kind::TaskSnapshot],
};

/// `[detectors.hung_task]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether to look at all.
    pub enabled: bool,
    /// How long a thread may wait.
    pub after: Span,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: true,
            after: Span::seconds(20),
        }
    }
}

/// Tables in which a thread must have been seen at the same spot.
const SAMPLES: u32 = 3;
/// Most threads that are followed at a time.
const THREADS: usize = 1024;
/// Times between tables that are remembered, to tell a usual one from a gap.
const GAPS: usize = 16;
/// A time between two tables is a gap when it is longer than so many usual ones ...
const GAP_FACTOR: u32 = 3;
/// ... and than this: tables come more often while memory is short.
const GAP_LEAST: Duration = Duration::from_secs(3);

#[derive(Clone, Copy, Debug)]
struct Thread {
    switches: u64,
    since: Time,
    samples: u32,
    /// It has been over the time; it stays so until it runs.
    hung: bool,
}

#[derive(Debug, Default)]
struct Track {
    threads: BTreeMap<u32, Thread>,
    raised: Option<Subject>,
}

/// The detector.
#[derive(Debug)]
pub struct Detect {
    config: Config,
    last: Option<Time>,
    gaps: VecDeque<Duration>,
    tracks: HashMap<ProcessKey, Track>,
    /// Blocked threads of the last table for which there was no room.
    unfollowed: usize,
}

impl Detect {
    /// A detector that has seen nothing yet.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            last: None,
            gaps: VecDeque::new(),
            tracks: HashMap::new(),
            unfollowed: 0,
        }
    }

    /// Whether tables failed to come before this one.
    fn is_gap(&mut self, at: Time) -> bool {
        let Some(last) = self.last.replace(at) else {
            return false;
        };
        let gap = at.since(last);
        let usual = self.gaps.iter().max().copied();
        if self.gaps.len() >= GAPS {
            self.gaps.pop_front();
        }
        self.gaps.push_back(gap);
        usual.is_some_and(|usual| gap > usual.saturating_mul(GAP_FACTOR).max(GAP_LEAST))
    }

    fn table(&mut self, table: &[ProcessUsage], at: Time, world: &World, out: &mut Vec<Finding>) {
        let gap = self.is_gap(at);
        let followed: usize = self.tracks.values().map(|track| track.threads.len()).sum();
        let mut room = THREADS.saturating_sub(followed);
        self.unfollowed = 0;
        let mut tracks = HashMap::new();
        for usage in table {
            let before = self.tracks.remove(&usage.process);
            if usage.blocked.is_empty() && before.is_none() {
                continue;
            }
            let mut track = self.follow(before.unwrap_or_default(), usage, at, gap, &mut room);
            let hung = track.threads.values().any(|thread| thread.hung);
            if hung && track.raised.is_none() {
                let subject = subject_of(world, usage.process, &usage.comm);
                out.push(self.raise(&subject, usage, &track, at));
                track.raised = Some(subject);
            } else if !hung && let Some(subject) = track.raised.take() {
                let because = "its threads run again".to_owned();
                out.push(Finding::Cleared {
                    subject,
                    seen: at,
                    because,
                });
            }
            if !track.threads.is_empty() {
                tracks.insert(usage.process, track);
            }
        }
        let gone = std::mem::replace(&mut self.tracks, tracks);
        for subject in gone.into_values().filter_map(|track| track.raised) {
            let because = "the process is gone".to_owned();
            out.push(Finding::Cleared {
                subject,
                seen: at,
                because,
            });
        }
    }

    /// A process's blocked threads after this table.
    fn follow(
        &mut self,
        mut before: Track,
        usage: &ProcessUsage,
        at: Time,
        gap: bool,
        room: &mut usize,
    ) -> Track {
        let mut threads = BTreeMap::new();
        for blocked in &usage.blocked {
            let fresh = Thread {
                switches: blocked.switches,
                since: at,
                samples: 1,
                hung: false,
            };
            let known = before.threads.remove(&blocked.tid);
            let mut thread = match known {
                Some(known) if known.switches == blocked.switches && gap => Thread {
                    hung: known.hung,
                    ..fresh
                },
                Some(known) if known.switches == blocked.switches => Thread {
                    samples: known.samples.saturating_add(1),
                    ..known
                },
                Some(_) => fresh,
                None if *room == 0 => {
                    self.unfollowed += 1;
                    continue;
                }
                None => {
                    *room -= 1;
                    fresh
                }
            };
            thread.hung |=
                thread.samples >= SAMPLES && at.since(thread.since) >= self.config.after.0;
            threads.insert(blocked.tid, thread);
        }
        if usage.blocked.len() >= BLOCKED {
            // The list is full: what is not on it may be blocked all the same.
            before.threads.append(&mut threads);
            threads = before.threads;
        }
        Track {
            threads,
            raised: before.raised,
        }
    }

    fn raise(&self, subject: &Subject, usage: &ProcessUsage, track: &Track, at: Time) -> Finding {
        let hung = || track.threads.iter().filter(|(_, thread)| thread.hung);
        let since = hung().map(|(_, thread)| thread.since).min().unwrap_or(at);
        let tids: Vec<String> = hung().take(8).map(|(tid, _)| tid.to_string()).collect();
        let mut evidence = Evidence::at(at)
            .since(since)
            .about(usage.process, &usage.comm)
            .fact("blocked for", format!("{:.1?}", at.since(since)))
            .fact("threads blocked so long", hung().count())
            .fact("their ids", tids.join(", "))
            .fact("threads of it blocked now", usage.blocked.len());
        if self.unfollowed > 0 {
            evidence = evidence.fact("blocked threads not followed", self.unfollowed);
        }
        let severity = if matches!(subject, Subject::Service { .. }) {
            Severity::Critical
        } else {
            Severity::Warning
        };
        Finding::Raised {
            subject: subject.clone(),
            severity,
            evidence,
        }
    }
}

impl Detector for Detect {
    fn observe(&mut self, signal: &Signal, at: Time, world: &World, out: &mut Vec<Finding>) {
        match signal {
            Signal::Sample {
                sample: Sample::Processes { processes },
            } => self.table(processes, at, world, out),
            Signal::Kernel {
                event: Event::ProcessExit(exit),
            } => {
                let track = self.tracks.remove(&ProcessKey::from_task(&exit.task));
                if let Some(subject) = track.and_then(|track| track.raised) {
                    out.push(Finding::Cleared {
                        subject,
                        seen: Time::from_kernel(exit.header.time_ns),
                        because: "it ended".to_owned(),
                    });
                }
            }
            _ => {}
        }
    }

    fn reconfigure(&mut self, config: &super::Config) {
        self.config = config.hung_task.clone();
    }
}
