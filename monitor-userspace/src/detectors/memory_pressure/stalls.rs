//! Services whose processes stall for lack of memory, by the alarms of their own cgroups.
//!
//! Raised by an alarm. Over when no alarm came for the detector's `window` and the average falls, or is nothing; or when the service
//! has another process, or none.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::units::Span;
use crate::model::{Evidence, Finding, Severity, Subject, Time, World};

/// One reading of a service's pressure, hundredths of a per cent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    pub(super) at: Time,
    pub(super) some_avg10: u32,
    pub(super) full_avg10: u32,
    pub(super) alarm: bool,
}

#[derive(Clone, Copy, Debug)]
struct Stalled {
    alarm: Time,
    some_avg10: u32,
}

/// Those that stall now: no more than the configuration has services.
#[derive(Debug, Default)]
pub(super) struct Stalls {
    stalled: BTreeMap<String, Stalled>,
}

/// An alarm counts no longer than this: the sampler reads on for as long at least.
const LONGEST: Duration = Duration::from_secs(10);

fn percent(hundredths: u32) -> String {
    format!("{:.2}%", f64::from(hundredths) / 100.0)
}

impl Stalls {
    pub(super) fn has(&self, service: &str) -> bool {
        self.stalled.contains_key(service)
    }

    /// The service was started anew, or runs no longer. Whether it stalled.
    pub(super) fn forget(&mut self, service: &str) -> bool {
        self.stalled.remove(service).is_some()
    }

    pub(super) fn read(
        &mut self,
        service: &str,
        now: Reading,
        window: Span,
        world: &World,
    ) -> Option<Finding> {
        let known = world.services.get(service)?;
        let subject = Subject::service(service);
        let before = self.stalled.get(service).copied();
        if now.alarm {
            let alarm = now.at;
            let some_avg10 = now.some_avg10;
            self.stalled
                .insert(service.to_owned(), Stalled { alarm, some_avg10 });
            let evidence = Evidence::at(now.at)
                .fact(
                    "its processes stalled for memory (avg10)",
                    percent(now.some_avg10),
                )
                .fact("all of them at once (avg10)", percent(now.full_avg10));
            let evidence = match known.process {
                Some(process) => evidence.about(process, service),
                None => evidence,
            };
            return before.is_none().then_some(Finding::Raised {
                subject,
                severity: Severity::Warning,
                evidence,
            });
        }
        let before = before?;
        let falls = now.some_avg10 < before.some_avg10 || now.some_avg10 == 0;
        if falls && now.at.since(before.alarm) >= window.0.min(LONGEST) {
            self.stalled.remove(service);
            let because = format!(
                "its processes wait for memory no longer: {} (avg10), falling",
                percent(now.some_avg10)
            );
            return Some(Finding::Cleared {
                subject,
                seen: now.at,
                because,
            });
        }
        let some_avg10 = now.some_avg10;
        let alarm = before.alarm;
        self.stalled
            .insert(service.to_owned(), Stalled { alarm, some_avg10 });
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Service;

    fn reading(second: i64, some_avg10: u32, alarm: bool) -> Reading {
        Reading {
            at: Time::from_nanos(second * 1_000_000_000),
            some_avg10,
            full_avg10: 0,
            alarm,
        }
    }

    #[test]
    fn an_alarm_raises_it_once_and_only_quiet_clears_it() {
        let mut world = World::default();
        world.services.insert(Service::new("web"));
        let mut stalls = Stalls::default();
        let mut read = |now| stalls.read("web", now, Span::seconds(3), &world);
        assert_eq!(read(reading(0, 0, false)), None, "nothing to clear");
        let raised = read(reading(1, 0, true));
        let warning = matches!(
            raised,
            Some(Finding::Raised {
                severity: Severity::Warning,
                ..
            })
        );
        assert!(warning, "{raised:?}");
        // The average is made every 2 s: nothing in it says nothing yet.
        assert_eq!(read(reading(2, 0, false)), None);
        assert_eq!(read(reading(3, 1500, true)), None, "raised already");
        assert_eq!(read(reading(6, 1600, false)), None, "it does not fall");
        let cleared = read(reading(7, 1200, false));
        assert!(
            matches!(cleared, Some(Finding::Cleared { .. })),
            "{cleared:?}"
        );
        assert_eq!(read(reading(8, 900, false)), None);
    }

    #[test]
    fn a_long_window_waits_no_longer_than_the_sampler_reads() {
        let mut world = World::default();
        world.services.insert(Service::new("web"));
        let mut stalls = Stalls::default();
        let mut read = |now| stalls.read("web", now, Span::seconds(60), &world);
        assert!(read(reading(1, 0, true)).is_some());
        assert_eq!(read(reading(9, 0, false)), None);
        assert!(read(reading(11, 0, false)).is_some());
        assert!(
            stalls
                .read("gone", reading(12, 0, true), Span::seconds(3), &world)
                .is_none()
        );
    }
}
