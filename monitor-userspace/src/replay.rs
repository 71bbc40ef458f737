//! Lets the core decide again on recorded signals: as it was configured then, and beside it as it would be configured.
//!
//! Consumes the entries of a recording; emits [`Decision`]s. No clock and no host: time is what the recording says, and between two
//! signals passes as the core asks for it. What an action did to the host stands in the recording as a signal. It is given to a run
//! that has the same action under way on the same subject, and to no other; an action that the recording does not have is answered at
//! once with a refusal, since nobody knows what would have become of it. After the first of those the world may have gone another way.

mod difference;
mod ledger;
mod run;
mod summary;

use std::path::Path;

use crate::config::{Config, ConfigError};
use crate::engine::Settings;
use crate::model::{Incident, IncidentId, Time};
use crate::record::recording::{Entry, Header, InForce, Note, What};
pub use difference::Differences;
use ledger::Ledger;
use run::Run;
pub use summary::{Acts, Summary};

/// Most entries that are held back until the next signal.
const HELD: usize = 1024;

/// Which of the two runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// As it was configured when it was recorded.
    Was,
    /// As it would be.
    New,
}

/// One decision of the core.
#[derive(Clone, Debug)]
pub struct Decision {
    /// Whose.
    pub side: Side,
    /// When.
    pub at: Time,
    /// The incident, as it was by then.
    pub incident: Box<Incident>,
    /// The action that was ordered; none where a state of the incident was to be written down.
    pub act: Option<Act>,
}

/// An action that was ordered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Act {
    /// Its name.
    pub action: &'static str,
    /// The `[[remedy]]` that allowed it.
    pub rule: String,
    /// For which incident of the recording it was done; none for what would have been done, and was not.
    pub recorded: Option<IncidentId>,
}

/// What decides in place of what is recorded.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// In place of the configuration that was in force.
    pub was: Option<Config>,
    /// The configuration to compare it with.
    pub new: Option<Config>,
}

/// See the module.
#[derive(Debug)]
pub struct Replay {
    choice: Choice,
    ledger: Ledger,
    was: Run,
    new: Option<Run>,
    /// A signal, and what was written down because of it: those acts are known before it is played.
    held: Vec<Entry>,
}

impl Replay {
    /// Begins. Without a header the recording is one of JSON lines, which names neither incidents nor acts.
    pub fn new(header: Option<&Header>, choice: Choice) -> Result<Self, ConfigError> {
        let old = Header {
            next: IncidentId(1),
            ..Header::default()
        };
        let (names, header) = (header.is_some(), header.unwrap_or(&old));
        let was = settings(&header.in_force, choice.was.as_ref())?;
        let new = choice.new.as_ref();
        let new = new.map(|config| config_settings(&header.in_force, config));
        Ok(Self {
            ledger: Ledger::new(names),
            was: Run::new(Side::Was, was, header.next),
            new: new.map(|settings| Run::new(Side::New, settings, header.next)),
            choice,
            held: Vec::new(),
        })
    }

    /// Takes the next entry. What is decided appears with the entry after it, or at the end.
    pub fn feed(&mut self, entry: Entry, decided: &mut Vec<Decision>) -> Result<(), ConfigError> {
        match &entry.what {
            What::Signal(_) => self.play(decided)?,
            What::Note(note) => match note.as_ref() {
                Note::Incident {
                    incident,
                    detector,
                    subject,
                } => {
                    self.ledger.name(*incident, detector, subject);
                    return Ok(());
                }
                Note::Act { incident, action } => {
                    self.ledger.ordered(*incident, action);
                    return Ok(());
                }
                _ if self.held.len() >= HELD => self.play(decided)?,
                _ => {}
            },
        }
        self.held.push(entry);
        Ok(())
    }

    /// Plays what is held back.
    pub fn play(&mut self, decided: &mut Vec<Decision>) -> Result<(), ConfigError> {
        let held = std::mem::take(&mut self.held);
        for entry in &held {
            match &entry.what {
                What::Signal(signal) => {
                    let (at, now) = (entry.at, entry.now);
                    for run in std::iter::once(&mut self.was).chain(&mut self.new) {
                        run.pass_time(now, &mut self.ledger, decided);
                        run.give(signal, at, now, &mut self.ledger, decided);
                    }
                    self.ledger.came(signal);
                }
                What::Note(note) => self.take_note(note)?,
            }
        }
        self.held = held;
        self.held.clear();
        Ok(())
    }

    fn take_note(&mut self, note: &Note) -> Result<(), ConfigError> {
        match note {
            Note::InForce { in_force } => {
                let was = settings(in_force, self.choice.was.as_ref())?;
                self.was.reconfigure(was);
                if let (Some(run), Some(config)) = (&mut self.new, &self.choice.new) {
                    run.reconfigure(config_settings(in_force, config));
                }
            }
            Note::Halt { reason } => {
                for run in std::iter::once(&mut self.was).chain(&mut self.new) {
                    run.halt(reason.clone());
                }
            }
            Note::Lost { .. } | Note::Incident { .. } | Note::Act { .. } | Note::End { .. } => {}
        }
        Ok(())
    }

    /// Acts of the recording that this version, configured as it was, did not decide; none is known of JSON lines.
    pub const fn missed(&self) -> u64 {
        self.ledger.missed()
    }

    /// All incidents of a run at its end; of none when there is no such run.
    pub fn incidents(&mut self, side: Side) -> Vec<Incident> {
        match side {
            Side::Was => self.was.incidents(),
            Side::New => self.new.as_mut().map(Run::incidents).unwrap_or_default(),
        }
    }
}

fn config_settings(in_force: &InForce, config: &Config) -> Settings {
    config.settings(
        in_force.dry_run,
        &in_force.protected_pids,
        &in_force.probes_off,
    )
}

/// What the core was built from.
fn settings(in_force: &InForce, instead: Option<&Config>) -> Result<Settings, ConfigError> {
    if let Some(config) = instead {
        return Ok(config_settings(in_force, config));
    }
    let config = match &in_force.config {
        Some(text) => {
            let unnamed = Path::new("the recorded configuration");
            Config::parse(text, in_force.file.as_deref().unwrap_or(unnamed))?
        }
        None => Config::defaults(),
    };
    Ok(config_settings(in_force, &config))
}
