//! Which incidents the journal has the frozen evidence of. It is most of a line, and never changes but for the log that comes later.

use std::collections::BTreeMap;

use crate::model::{Incident, IncidentId};

/// Most incidents that are remembered; of older ones it is written again.
const MOST: usize = 1024;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Once {
    /// How many lines of its log were written.
    written: BTreeMap<IncidentId, usize>,
}

impl Once {
    /// Takes out what an earlier line has, and counts the rest as written.
    pub(super) fn leave_out(&mut self, incident: &mut Incident) {
        let Some(frozen) = &incident.evidence.frozen else {
            return;
        };
        let lines = frozen.log.len();
        if self.written.insert(incident.id, lines) == Some(lines) {
            incident.evidence.frozen = None;
        }
        while self.written.len() > MOST {
            self.written.pop_first();
        }
    }

    /// It was not written after all.
    pub(super) fn forget(&mut self, id: IncidentId) {
        self.written.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::evidence::Frozen;
    use crate::model::{Evidence, Severity, Subject, Time};

    #[test]
    fn it_is_written_once_and_again_with_its_log() {
        let at = Time::default();
        let mut once = Once::default();
        let mut written = |log: &[&str], forget: bool| {
            let (host, evidence) = (Subject::Host, Evidence::at(at));
            let id = IncidentId(3);
            let mut incident = Incident::new(id, "d", host, Severity::Warning, evidence, at);
            incident.evidence.frozen = Some(Box::new(Frozen {
                log: log.iter().map(|line| (*line).to_owned()).collect(),
                ..Frozen::default()
            }));
            once.leave_out(&mut incident);
            if forget {
                once.forget(id);
            }
            incident.evidence.frozen.is_some()
        };
        let seen = [
            written(&[], true),
            written(&[], false),
            written(&[], false),
            written(&["a"], false),
            written(&["a"], false),
        ];
        assert_eq!(seen, [true, true, false, true, false]);
    }
}
