//! Maintenance windows: times in which nothing is to be done to some names, once or by a schedule.
//!
//! Pure: time zones are loaded when a window is read ([`Window::parse`]), and the wall clock is an argument. An answer holds for
//! an interval, which [`Calendar`] keeps, so that asking at each decision costs two comparisons. A clock that jumps, in either
//! direction, leaves the interval, and the answer is found anew.

use std::iter;
use std::str::FromStr;

use croner::parser::{CronParser, Seconds, Year};
use croner::{Cron, Weekday};
use jiff::civil::date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use serde::{Deserialize, Serialize};

use crate::config::units::Span;

/// Most windows.
pub const MOST: usize = 64;
/// Longest `duration`, and longest time from `from` to `until`, days.
const LONGEST: i64 = 7;
const LONGEST_ONCE: i64 = 31;
/// Longest `schedule`, bytes.
const SCHEDULE: usize = 128;
/// Occurrences that run into each other are followed so far; whoever asks after the last of them follows on.
const MERGED: u32 = 64;
const SECOND: i64 = 1_000_000_000;
const DAY: i64 = 86_400 * SECOND;

/// `[[maintenance]]`, as it is written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Raw {
    /// Its name, for people.
    pub name: String,
    /// Names of services and `[[process]]` entries; `*` for everything.
    pub on: Vec<String>,
    /// Only incidents of this detector; none for all.
    #[serde(default)]
    pub detector: Option<String>,
    /// When it opens again and again: minute, hour, day of the month, month, day of the week (cron).
    #[serde(default)]
    pub schedule: Option<String>,
    /// How long it stays open each time; with `schedule`.
    #[serde(default)]
    pub duration: Option<Span>,
    /// When it opens once (RFC 3339).
    #[serde(default)]
    pub from: Option<String>,
    /// When it closes; with `from`.
    #[serde(default)]
    pub until: Option<String>,
    /// The time zone that `schedule` is meant in (IANA name); none for UTC.
    #[serde(default)]
    pub timezone: Option<String>,
    /// Why, for people.
    #[serde(default)]
    pub reason: String,
}

/// A maintenance window.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// Its name, for people.
    pub name: String,
    /// Names of services and `[[process]]` entries; `*` for everything.
    pub on: Vec<String>,
    /// Only incidents of this detector; none for all.
    pub detector: Option<String>,
    /// Why, for people.
    pub reason: String,
    times: Times,
}

/// When it is open. Wall times in nanoseconds since 1970.
#[derive(Clone, Debug, PartialEq)]
enum Times {
    Once {
        from: i64,
        until: i64,
    },
    Again {
        schedule: Box<Cron>,
        zone: TimeZone,
        duration: i64,
    },
}

impl Window {
    /// Reads a window. The error names it, says what is wrong and what to do. Reads the time zone from the host's files.
    pub fn parse(raw: &Raw) -> Result<Self, String> {
        let times = Times::parse(raw).map_err(|wrong| format!("window `{}`: {wrong}", raw.name))?;
        let name = raw.name.trim();
        if name.is_empty() || name.len() > 64 || name.chars().any(char::is_control) {
            return Err("a window has no name of 1 to 64 characters; give it one".to_owned());
        }
        if raw.on.is_empty() {
            return Err(format!(
                "window `{name}`: `on` is empty; name services or `[[process]]` entries, or \"*\""
            ));
        }
        Ok(Self {
            name: name.to_owned(),
            on: raw.on.clone(),
            detector: raw.detector.clone(),
            reason: raw.reason.clone(),
            times,
        })
    }

    /// Whether it is open at this wall time (nanoseconds since 1970), and the wall time until which that is sure: it changes then, or,
    /// where many occurrences run into each other, is to be asked again. None when it never changes again.
    pub fn at(&self, unix_ns: i64) -> (bool, Option<i64>) {
        match &self.times {
            Times::Once { from, until } => match unix_ns {
                now if now < *from => (false, Some(*from)),
                now if now < *until => (true, Some(*until)),
                _ => (false, None),
            },
            Times::Again {
                schedule,
                zone,
                duration,
            } => again(schedule, zone, *duration, unix_ns),
        }
    }
}

fn again(schedule: &Cron, zone: &TimeZone, duration: i64, now: i64) -> (bool, Option<i64>) {
    let after = |at| {
        let next = schedule.find_next_occurrence(&zoned(at, zone)?, false);
        next.ok().and_then(|next| nanos(next.timestamp()))
    };
    let last = zoned(now, zone).and_then(|now| schedule.find_previous_occurrence(&now, true).ok());
    let last = last.and_then(|last| nanos(last.timestamp()));
    let ending = |start: i64| start.saturating_add(duration);
    let Some(mut last) = last.filter(|last| now < ending(*last)) else {
        return (false, after(now));
    };
    for _ in 0..MERGED {
        match after(last) {
            Some(next) if next <= ending(last) => last = next,
            _ => break,
        }
    }
    (true, Some(ending(last)))
}

fn zoned(unix_ns: i64, zone: &TimeZone) -> Option<Zoned> {
    let time = Timestamp::from_nanosecond(i128::from(unix_ns)).ok()?;
    Some(time.to_zoned(zone.clone()))
}

fn nanos(time: Timestamp) -> Option<i64> {
    i64::try_from(time.as_nanosecond()).ok()
}

impl Times {
    fn parse(raw: &Raw) -> Result<Self, String> {
        match (&raw.schedule, &raw.from) {
            (Some(schedule), None) => {
                if raw.until.is_some() {
                    return Err(
                        "`until` goes with `from`; a `schedule` has a `duration`".to_owned()
                    );
                }
                let duration = raw.duration.ok_or(
                    "`schedule` needs a `duration`, such as \"2h\": how long it stays open",
                )?;
                let zone = zone(raw.timezone.as_deref().unwrap_or("UTC"))?;
                Self::again(schedule, duration, zone)
            }
            (None, Some(from)) => {
                for (key, given) in [
                    ("duration", raw.duration.is_some()),
                    ("timezone", raw.timezone.is_some()),
                ] {
                    if given {
                        return Err(format!(
                            "`{key}` goes with `schedule`; with `from`, both ends are written with their offset from UTC"
                        ));
                    }
                }
                let until = raw.until.as_deref().ok_or("`from` needs an `until`")?;
                Self::once(from, until)
            }
            (Some(_), Some(_)) => {
                Err("it has both `schedule` and `from`; make two windows of it".to_owned())
            }
            (None, None) => Err(
                "it says no time; give it `schedule` and `duration`, or `from` and `until`"
                    .to_owned(),
            ),
        }
    }

    fn once(from: &str, until: &str) -> Result<Self, String> {
        let read = |key: &str, text: &str| {
            let time = Timestamp::from_str(text).ok().and_then(nanos);
            time.ok_or_else(|| {
                format!(
                    "`{key}` is `{text}`; write a time as \"2026-03-29T01:00:00Z\" or \"2026-03-29T03:00:00+02:00\""
                )
            })
        };
        let (start, end) = (read("from", from)?, read("until", until)?);
        if end <= start {
            return Err(format!("`until` ({until}) is not after `from` ({from})"));
        }
        if end.saturating_sub(start) > LONGEST_ONCE * DAY {
            return Err(format!(
                "it is open for more than {LONGEST_ONCE} days; is the year right? If it is, use several windows"
            ));
        }
        Ok(Self::Once {
            from: start,
            until: end,
        })
    }

    fn again(text: &str, duration: Span, zone: TimeZone) -> Result<Self, String> {
        let longest = LONGEST * DAY;
        let length = i64::try_from(duration.0.as_nanos()).ok();
        let length = length.filter(|length| (1..=longest).contains(length));
        let duration = length.ok_or_else(|| {
            format!(
                "`duration` is {duration}; it must be more than nothing, and at most {LONGEST} days"
            )
        })?;
        let example = "write minute, hour, day of the month, month and day of the week, such as \"30 2 * * SUN\"";
        if text.len() > SCHEDULE || !text.is_ascii() || text.split_whitespace().count() != 5 {
            return Err(format!("`schedule` is `{text}`; {example}"));
        }
        let parser = CronParser::builder()
            .seconds(Seconds::Disallowed)
            .year(Year::Disallowed)
            .build();
        let schedule = parser.parse(text).map_err(|error| {
            let error = error.to_string();
            let error = error.trim_end_matches('.');
            format!("`schedule` is `{text}`: {error}; {example}")
        })?;
        if !comes_about(&schedule) {
            return Err(format!(
                "`schedule` is `{text}`, which never comes about; is there such a day?"
            ));
        }
        Ok(Self::Again {
            schedule: Box::new(schedule),
            zone,
            duration,
        })
    }
}

/// Whether there is a minute, an hour and a day that it means; `,` alone reads as none. After 28 years, days of the month and of the week
/// meet again as they did.
fn comes_about(schedule: &Cron) -> bool {
    let pattern = &schedule.pattern;
    let minute = (0..60).any(|minute| matches!(pattern.minute_match(minute), Ok(true)));
    let hour = (0..24).any(|hour| matches!(pattern.hour_match(hour), Ok(true)));
    let days = iter::successors(Some(date(2001, 1, 1)), |day| day.tomorrow().ok());
    let mut days = days.take_while(|day| day.year() < 2029);
    let day = days.any(|day| {
        let [month, of_month] = [day.month(), day.day()].map(|part| u32::from(part.unsigned_abs()));
        let weekday = day.weekday().to_sunday_zero_offset().unsigned_abs();
        let weekday = Weekday::from_days_from_sunday(weekday.into());
        let meant = pattern.day_match(day.year().into(), month, of_month, weekday);
        matches!((pattern.month_match(month), meant), (Ok(true), Ok(true)))
    });
    minute && hour && day
}

fn zone(name: &str) -> Result<TimeZone, String> {
    if name == "UTC" {
        return Ok(TimeZone::UTC);
    }
    TimeZone::get(name).map_err(|_| {
        format!(
            "there is no time zone `{name}` on this host; write one as \"Europe/Berlin\", and install `tzdata` if it is missing"
        )
    })
}

/// All windows, and which of them are open.
#[derive(Clone, Debug, Default)]
pub struct Calendar {
    windows: Vec<Window>,
    /// The last answer; none before the first question.
    known: Option<Known>,
}

/// Calendars are alike when their windows are, whatever they were asked.
impl PartialEq for Calendar {
    fn eq(&self, other: &Self) -> bool {
        self.windows == other.windows
    }
}

/// A window that is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenWindow {
    /// Its name, for people.
    pub name: String,
    /// Whom it is for.
    pub on: Vec<String>,
    /// Only incidents of this detector; none for all.
    pub detector: Option<String>,
    /// The wall time until which that is sure (nanoseconds since 1970); none when it never closes.
    pub until: Option<i64>,
}

/// What is open from the first wall time until before the second.
#[derive(Clone, Debug)]
struct Known {
    from: i64,
    until: Option<i64>,
    open: Vec<OpenWindow>,
}

impl Known {
    fn holds_at(&self, unix_ns: i64) -> bool {
        self.from <= unix_ns && self.until.is_none_or(|until| unix_ns < until)
    }
}

impl Calendar {
    /// All windows of a configuration; the error says which are too many or alike.
    pub fn new(windows: Vec<Window>) -> Result<Self, String> {
        if windows.len() > MOST {
            return Err(format!(
                "there are {} windows, of {MOST} at most",
                windows.len()
            ));
        }
        for (index, window) in windows.iter().enumerate() {
            let mut before = windows.iter().take(index);
            if before.any(|before| before.name == window.name) {
                return Err(format!(
                    "two windows are called `{}`; give each a name of its own",
                    window.name
                ));
            }
        }
        Ok(Self {
            windows,
            known: None,
        })
    }

    /// All windows, in the order of the file.
    pub fn windows(&self) -> &[Window] {
        &self.windows
    }

    /// Those that are open at this wall time (nanoseconds since 1970), in the order of the file.
    pub fn open(&mut self, unix_ns: i64) -> &[OpenWindow] {
        let known = self.known.take().filter(|known| known.holds_at(unix_ns));
        let known = known.unwrap_or_else(|| self.look(unix_ns));
        &self.known.insert(known).open
    }

    /// The wall time at which the last answer of [`Calendar::open`] ends; none when it never does, and before the first question.
    pub fn next_change(&self) -> Option<i64> {
        self.known.as_ref().and_then(|known| known.until)
    }

    fn look(&self, unix_ns: i64) -> Known {
        let mut known = Known {
            from: unix_ns,
            until: None,
            open: Vec::new(),
        };
        for window in &self.windows {
            let (open, until) = window.at(unix_ns);
            if open {
                known.open.push(OpenWindow {
                    name: window.name.clone(),
                    on: window.on.clone(),
                    detector: window.detector.clone(),
                    until,
                });
            }
            known.until = [known.until, until].into_iter().flatten().min();
        }
        known
    }
}

#[cfg(test)]
mod tests;
