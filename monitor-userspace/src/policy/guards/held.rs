//! What the daemon must not start when it starts itself: no incident has asked for that, so no guard was.

use super::{limits, people};
use crate::model::{Incident, Time};
use crate::policy::{Policy, target};

impl Policy {
    /// Why this action, which would be done without an incident, is left undone; none when nothing stands in its way. `incident` is
    /// the one that its being undone will open. Only what outlives the daemon is asked: silences, and after a
    /// crash of it targets that were given up.
    pub fn held(
        &self,
        action: &str,
        incident: &Incident,
        crashed: bool,
        now: Time,
    ) -> Option<String> {
        let (config, history) = (&self.config, &self.history);
        let target = target(action, incident);
        people::silenced(&self.schedules, incident, now)
            .and_then(|()| {
                if crashed {
                    limits::given_up(config, history, &target, incident.opened, now)
                } else {
                    Ok(())
                }
            })
            .err()
            .map(|refused| refused.reason)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::units::Span;
    use crate::model::{Evidence, IncidentId, Outcome, Severity, Silence, Subject};
    use crate::policy::Config;

    const ACTION: &str = "restart_service";

    fn at(seconds: u64) -> Time {
        Time::default().after(Duration::from_secs(seconds))
    }

    fn down(name: &str, opened: Time) -> Incident {
        Incident::new(
            IncidentId(1),
            "service_down",
            Subject::service(name),
            Severity::Critical,
            Evidence::at(opened),
            opened,
        )
    }

    fn held(policy: &Policy, name: &str, seconds: u64) -> Option<String> {
        policy.held(ACTION, &down(name, at(seconds)), true, at(seconds))
    }

    /// Two actions on `web` reach the limit, at 100 s and 110 s.
    fn given_up() -> Policy {
        let mut policy = Policy::new(Config {
            limit: 2,
            half_open_after: Span::seconds(1000),
            ..Config::default()
        });
        for seconds in [100, 110] {
            assert_eq!(held(&policy, "web", seconds), None);
            policy.remember(ACTION, "rule", &down("web", at(seconds)), at(seconds));
        }
        policy
    }

    #[test]
    fn what_was_given_up_is_held_until_its_next_try_is_due() {
        let mut policy = given_up();
        let reason = held(&policy, "web", 111).expect("it is held");
        assert!(reason.starts_with("given up after 2 actions"), "{reason}");
        assert!(held(&policy, "web", 1109).is_some());
        assert_eq!(held(&policy, "web", 1110), None, "one more try");
        assert_eq!(held(&policy, "database", 111), None, "another one");
        let other = policy.held("lower_priority", &down("web", at(111)), true, at(111));
        let ordered = policy.held(ACTION, &down("web", at(111)), false, at(111));
        assert_eq!(ordered, None, "who starts the daemon wants it to be tried");
        assert_eq!(other, None, "another action");
        // That try counts, and did not help: held anew.
        policy.remember(ACTION, "rule", &down("web", at(1110)), at(1110));
        assert!(held(&policy, "web", 1111).is_some());
    }

    #[test]
    fn what_stayed_well_since_is_not_held() {
        let mut policy = given_up();
        let incident = down("web", at(110));
        policy.judged(ACTION, "rule", &incident, Outcome::Fixed, at(112));
        assert!(
            held(&policy, "web", 711).is_some(),
            "not for `backoff_reset` yet"
        );
        assert_eq!(held(&policy, "web", 712), None);
    }

    #[test]
    fn a_silence_holds_whom_it_names_until_it_ends() {
        for (on, detector, holds) in [
            ("web", None, true),
            ("*", None, true),
            ("web", Some("service_down"), true),
            ("web", Some("memory_pressure"), false),
            ("database", None, false),
        ] {
            let mut policy = Policy::new(Config::default());
            let added = policy.schedules_mut().add(Silence {
                id: 7,
                on: on.to_owned(),
                detector: detector.map(str::to_owned),
                until: at(50),
                by: "ann".to_owned(),
                reason: "moving house".to_owned(),
            });
            assert!(added);
            let reason = holds.then(|| "silence 7 by ann: moving house".to_owned());
            assert_eq!(held(&policy, "web", 49), reason, "{on} {detector:?}");
            assert_eq!(held(&policy, "web", 50), None, "it has ended");
        }
    }
}
