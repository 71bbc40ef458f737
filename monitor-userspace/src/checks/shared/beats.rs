//! What services sent of themselves last. Outlives a change of the configuration, and no end of the daemon.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::expect::{FIGURES, figure_name, shown};
use crate::model::{Beat, Time};

/// See the module: one a service that has a check for it, so bounded by the configuration.
#[derive(Debug, Default)]
pub struct Beats(Mutex<BTreeMap<String, Heard>>);

/// What is known of a service's heartbeat.
#[derive(Clone, Debug, PartialEq)]
pub struct Heard {
    /// Since when it is waited for.
    pub since: Time,
    /// The last one, and when it came.
    pub last: Option<(Time, Beat)>,
}

impl Beats {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Heard>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on, of these services and no others.
    pub fn expect(&self, services: &BTreeSet<String>, now: Time) {
        let mut known = self.lock();
        known.retain(|name, _| services.contains(name));
        for name in services {
            let anew = Heard {
                since: now,
                last: None,
            };
            known.entry(name.clone()).or_insert(anew);
        }
    }

    /// One has come. An error says why it is not taken.
    pub fn take(&self, service: &str, beat: Beat, now: Time) -> Result<(), String> {
        let mut known = self.lock();
        let heard = known.get_mut(service).ok_or_else(|| {
            let name = shown(service);
            format!("no heartbeat of `{name}` is waited for: `check = {{ heartbeat = \"30s\" }}` in its [[service]] does that")
        })?;
        if beat.figures.len() > FIGURES {
            return Err(format!("a heartbeat has at most {FIGURES} figures"));
        }
        let mut figures: Vec<(String, f64)> = Vec::new();
        for (name, value) in beat.figures {
            let name =
                figure_name(&name).ok_or("the name of a figure needs a letter or a digit")?;
            if !value.is_finite() {
                return Err(format!("the figure `{name}` is no finite number"));
            }
            if figures.iter().any(|(other, _)| *other == name) {
                return Err(format!("two figures are called `{name}`"));
            }
            figures.push((name, value));
        }
        let text = |text: Option<String>| text.map(|text| shown(&text));
        let beat = Beat {
            error: text(beat.error),
            text: text(beat.text),
            figures,
        };
        heard.last = Some((now, beat));
        Ok(())
    }

    /// What is known of this service's.
    pub fn heard(&self, service: &str) -> Option<Heard> {
        self.lock().get(service).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(names: &[&str]) -> Beat {
        let figures = names.iter().map(|name| ((*name).to_owned(), 1.0));
        Beat {
            figures: figures.collect(),
            ..Beat::default()
        }
    }

    #[test]
    fn only_what_is_waited_for_is_taken() {
        let (beats, at) = (Beats::default(), Time::from_nanos);
        assert!(
            beats
                .take("a", Beat::default(), at(1))
                .is_err_and(|why| why.contains("[[service]]"))
        );
        let of = |names: &[&str]| {
            names
                .iter()
                .map(|name| (*name).to_owned())
                .collect::<BTreeSet<_>>()
        };
        beats.expect(&of(&["a", "b"]), at(2));
        beats
            .take("a", figures(&["Queue length"]), at(3))
            .expect("it is waited for");
        beats.expect(&of(&["a"]), at(9));
        let heard = beats.heard("a").expect("it is known");
        assert_eq!(
            heard.since,
            at(2),
            "a change of the configuration forgets nothing"
        );
        assert_eq!(heard.last, Some((at(3), figures(&["queue_length"]))));
        assert_eq!(beats.heard("b"), None);
    }

    #[test]
    fn rubbish_is_refused_and_changes_nothing() {
        let (beats, at) = (Beats::default(), Time::from_nanos(1));
        beats.expect(&BTreeSet::from(["a".to_owned()]), at);
        let many: Vec<String> = (0..17).map(|n| format!("f{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let endless = Beat {
            figures: vec![("a".to_owned(), f64::INFINITY)],
            ..Beat::default()
        };
        for beat in [
            figures(&many),
            figures(&["!"]),
            figures(&["a b", "a-b"]),
            endless,
        ] {
            assert!(beats.take("a", beat, at).is_err());
        }
        assert_eq!(beats.heard("a").and_then(|heard| heard.last), None);
    }
}
