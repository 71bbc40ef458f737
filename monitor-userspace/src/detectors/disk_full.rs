//! A file system is full, in bytes or in inodes, or will be soon.
//!
//! Consumes the `disk_space` sample. Raised as critical for a share from `full` (that of the `[[folder]]`, for one of those) and cleared by
//! the same share, a per cent lower; raised as a warning when it fills steadily and would have nothing left within `horizon`, and
//! cleared when it would not within twice that. A disk that a folder of the configuration is on is that folder's matter.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::memory_growth::trend::{Point, Trend};
use super::{Detector, Spec};
use crate::config::units::{Percent, Span};
use crate::model::folder::CLEARS;
use crate::model::{
    Category, DiskRoom, Evidence, Finding, FolderRoom, Room, Sample, Severity, Signal, Subject,
    Time, World,
};

/// See the module.
pub const SPEC: Spec = Spec {
    name: "disk_full",
    summary: "a file system is full, in bytes or inodes, or will be soon",
    category: Category::Data,
    symptom: false,
    needs: &[],
};

/// `[detectors.disk_full]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether to look at all.
    pub enabled: bool,
    /// Share of bytes from which a disk that no `[[folder]]` is on is full.
    pub full: Percent,
    /// The same, of its inodes.
    pub inodes: Percent,
    /// Over which time its growth is looked at.
    pub window: Span,
    /// It is said when it would be full within this time.
    pub horizon: Span,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: true,
            full: Percent(95.0),
            inodes: Percent(95.0),
            window: Span::seconds(600),
            horizon: Span::seconds(3600),
        }
    }
}

/// Points of a whole window.
const POINTS: u32 = 60;
/// Least points that make a trend.
const LEAST: usize = 10;
/// Most file systems and folders that are followed.
const TRACKS: usize = 2048;

#[derive(Debug, Default)]
struct Track {
    points: VecDeque<Point>,
    raised: Option<Severity>,
}

/// What is judged.
struct Seen<'a> {
    subject: Subject,
    place: &'a str,
    room: Room,
    /// Hundredths of a per cent.
    full: u32,
    inodes: u32,
}

/// The detector.
#[derive(Debug)]
pub struct Detect {
    config: Config,
    tracks: BTreeMap<Subject, Track>,
}

impl Detect {
    /// A detector that has seen nothing yet.
    pub const fn new(config: Config) -> Self {
        Self {
            config,
            tracks: BTreeMap::new(),
        }
    }

    fn sample(
        &mut self,
        disks: &[DiskRoom],
        folders: &[FolderRoom],
        at: Time,
        world: &World,
        out: &mut Vec<Finding>,
    ) {
        let taken: BTreeSet<u64> = folders.iter().map(|folder| folder.id.device).collect();
        let free = disks.iter().filter(|disk| !taken.contains(&disk.device));
        let disks = free.map(|disk| Seen {
            subject: subject(&disk.name),
            place: &disk.mount,
            room: disk.room,
            full: hundredths(self.config.full),
            inodes: hundredths(self.config.inodes),
        });
        let folders = folders.iter().filter_map(|seen| {
            let folder = world.folders.get(&seen.name)?;
            Some(Seen {
                subject: Subject::Folder {
                    name: seen.name.clone(),
                },
                place: folder.path.to_str().unwrap_or(&seen.name),
                room: seen.room,
                full: folder.full,
                inodes: folder.inodes,
            })
        });
        let all: Vec<Seen<'_>> = disks.chain(folders).collect();
        self.forget(&all, at, world, out);
        for seen in all {
            if self.tracks.len() >= TRACKS && !self.tracks.contains_key(&seen.subject) {
                continue;
            }
            let mut track = self.tracks.remove(&seen.subject).unwrap_or_default();
            self.judge(&mut track, &seen, at, out);
            self.tracks.insert(seen.subject, track);
        }
    }

    /// Drops disks that are mounted no longer. A folder that cannot be looked at is not known to be well: it stays.
    fn forget(&mut self, all: &[Seen<'_>], at: Time, world: &World, out: &mut Vec<Finding>) {
        let there: BTreeSet<&Subject> = all.iter().map(|seen| &seen.subject).collect();
        self.tracks.retain(|subject, track| {
            let stays = match subject {
                Subject::Folder { name } => world.folders.contains_key(name),
                other => there.contains(other),
            };
            if !stays && track.raised.is_some() {
                out.push(Finding::Cleared {
                    subject: subject.clone(),
                    seen: at,
                    because: "it is watched no longer".to_owned(),
                });
            }
            stays
        });
    }

    fn judge(&self, track: &mut Track, seen: &Seen<'_>, at: Time, out: &mut Vec<Finding>) {
        let (share, inodes) = (seen.room.share(), seen.room.inodes_share());
        let over = share >= seen.full || inodes >= seen.inodes;
        let below =
            share < seen.full.saturating_sub(CLEARS) && inodes < seen.inodes.saturating_sub(CLEARS);
        let soon = self.full_in(track, seen, at);
        let horizon = self.config.horizon.0;
        match track.raised {
            Some(Severity::Critical) if below => {}
            Some(Severity::Critical) => return,
            _ if over => {
                track.raised = Some(Severity::Critical);
                out.push(raise(seen, Severity::Critical, soon, at));
                return;
            }
            None if soon.is_some_and(|soon| soon <= horizon) => {
                track.raised = Some(Severity::Warning);
                out.push(raise(seen, Severity::Warning, soon, at));
                return;
            }
            Some(_) if soon.is_none_or(|soon| soon > horizon.saturating_mul(2)) => {}
            _ => return,
        }
        // What made room is no part of how it fills.
        track.points.clear();
        track.raised = None;
        out.push(Finding::Cleared {
            subject: seen.subject.clone(),
            seen: at,
            because: filled(&seen.room),
        });
    }

    /// When nothing will be left, if it fills steadily.
    fn full_in(&self, track: &mut Track, seen: &Seen<'_>, at: Time) -> Option<Duration> {
        let window = self.config.window.0;
        let step = (window / POINTS).max(Duration::from_secs(1));
        if track.points.back().is_some_and(|last| at < last.at) {
            track.points.clear();
        }
        if track
            .points
            .back()
            .is_none_or(|last| at.since(last.at) >= step)
        {
            let bytes = seen.room.used;
            track.points.push_back(Point { at, bytes });
        }
        let old = |point: &Point| at.since(point.at) > window;
        while track.points.front().is_some_and(old) {
            track.points.pop_front();
        }
        let first = track.points.front()?;
        let long = at.since(first.at) >= window / 2 && track.points.len() >= LEAST;
        if !long || first.bytes >= seen.room.used {
            return None;
        }
        let trend = Trend::of(track.points.make_contiguous());
        #[expect(
            clippy::cast_precision_loss,
            reason = "a forecast needs no exact bytes"
        )]
        let left = seen.room.available as f64;
        trend.is_steady().then(|| trend.reaches(left)).flatten()
    }
}

fn raise(seen: &Seen<'_>, severity: Severity, soon: Option<Duration>, at: Time) -> Finding {
    let mut evidence = Evidence::at(at)
        .fact("at", seen.place)
        .fact("filled", filled(&seen.room))
        .fact(
            "full from",
            format!(
                "{} of its bytes, {} of its inodes",
                share(seen.full),
                share(seen.inodes)
            ),
        );
    if let Some(soon) = soon {
        evidence = evidence.fact(
            "nothing left in",
            format!("{} min", soon.as_secs().div_ceil(60)),
        );
    }
    Finding::Raised {
        subject: seen.subject.clone(),
        severity,
        evidence,
    }
}

fn filled(room: &Room) -> String {
    let mib = room.available >> 20;
    let bytes = share(room.share());
    format!(
        "{bytes} of its bytes, {mib} MiB left; {} of its inodes",
        share(room.inodes_share())
    )
}

fn share(hundredths: u32) -> String {
    format!("{}.{:02} %", hundredths / 100, hundredths % 100)
}

fn hundredths(percent: Percent) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is at most 10000 by then"
    )]
    let hundredths = (percent.0.clamp(1.0, 100.0) * 100.0).round() as u32;
    hundredths
}

/// The root of a container is on no disk that it could name.
fn subject(name: &str) -> Subject {
    match name {
        "overlay" => Subject::Host,
        name => Subject::Device {
            name: name.to_owned(),
        },
    }
}

impl Detector for Detect {
    fn observe(&mut self, signal: &Signal, at: Time, world: &World, out: &mut Vec<Finding>) {
        if let Signal::Sample {
            sample: Sample::DiskSpace { disks, folders },
        } = signal
        {
            self.sample(disks, folders, at, world, out);
        }
    }

    fn reconfigure(&mut self, config: &super::Config) {
        self.config = config.disk_full.clone();
    }
}
