//! A condition on a subject, and its life.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Evidence, Outcome, Plan, Severity, Subject, Time};

/// The detector that stands in an incident which a person asked for.
pub const MANUAL: &str = "manual";

/// Number of an incident, counted up over the whole life of a state folder.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct IncidentId(pub u64);

impl fmt::Display for IncidentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Where an incident stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Seen; nothing is being done (yet): no remedy, a guard refused, or a cooldown runs.
    Open,
    /// An action is under way.
    Acting,
    /// The action is done; the signal that raised the incident must now say that it helped.
    Verifying,
    /// The condition is gone.
    Resolved,
    /// Policy has used up what it may do: a person is needed.
    Escalated,
    /// It follows from another incident, which is dealt with first.
    Suppressed,
}

impl State {
    /// All of them, for a bounded set of labels.
    pub const ALL: &'static [State] = &[
        Self::Open,
        Self::Acting,
        Self::Verifying,
        Self::Resolved,
        Self::Escalated,
        Self::Suppressed,
    ];

    /// The word that stands in listings and labels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Acting => "acting",
            Self::Verifying => "verifying",
            Self::Resolved => "resolved",
            Self::Escalated => "escalated",
            Self::Suppressed => "suppressed",
        }
    }
}

/// What kind of trouble it is.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Category {
    /// The host: CPU, memory, processes.
    System,
    /// A service does not run, or does not serve.
    #[default]
    Service,
    /// What is stored: disks and what is on them.
    Data,
    /// Links, routes, names, connections.
    Network,
}

impl Category {
    /// All of them, for a bounded set of labels.
    pub const ALL: &'static [Category] = &[Self::System, Self::Service, Self::Data, Self::Network];

    /// The word that stands in listings and labels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Service => "service",
            Self::Data => "data",
            Self::Network => "network",
        }
    }
}

/// One line of an incident's story.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// When.
    pub at: Time,
    /// What happened.
    pub what: StepKind,
    /// In words.
    pub detail: String,
}

/// What a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepKind {
    /// The deciding signal: when the kernel, a sampler or a check saw it.
    Seen,
    /// A detector raised the incident.
    Detected,
    /// Policy permitted an action.
    Decided,
    /// Policy refused, and why.
    Refused,
    /// The action changed the host: a signal was sent, a process was started.
    Acted,
    /// The action could not be carried out.
    Failed,
    /// The action had no effect within its time.
    Unproven,
    /// The condition is gone, proven by the signal that raised it.
    Recovered,
    /// A person is needed.
    Escalated,
    /// The daemon ended while the incident was open.
    Interrupted,
    /// It was found to follow from another incident.
    Suppressed,
    /// The other incident is over, and this one is not.
    Released,
    /// An action waits for a person's word.
    Proposed,
    /// A person allowed it.
    Approved,
    /// A person forbade it, or nobody said anything in time.
    Rejected,
    /// What an action had changed was changed back.
    Undone,
    /// The condition had gone, and came back before it counted as gone.
    Again,
    /// A person has seen it.
    Acknowledged,
    /// Who runs the service said something of it.
    Told,
}

impl StepKind {
    /// The word that stands in listings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Seen => "seen",
            Self::Detected => "detected",
            Self::Decided => "decided",
            Self::Refused => "refused",
            Self::Acted => "acted",
            Self::Failed => "failed",
            Self::Unproven => "unproven",
            Self::Recovered => "recovered",
            Self::Escalated => "escalated",
            Self::Interrupted => "interrupted",
            Self::Suppressed => "suppressed",
            Self::Released => "released",
            Self::Proposed => "proposed",
            Self::Approved => "approved",
            Self::Rejected => "rejected",
            Self::Undone => "undone",
            Self::Again => "again",
            Self::Acknowledged => "acknowledged",
            Self::Told => "told",
        }
    }
}

/// An action that waits for a person's word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposed {
    /// The action.
    pub action: String,
    /// What exactly; a word given for it allows nothing else.
    pub plan: Plan,
    /// Why a person is asked.
    pub reason: String,
    /// After this, nobody's word counts any more.
    pub until: Time,
}

/// What an action changed and nobody has changed back yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The action.
    pub action: String,
    /// The `[[remedy]]` that allowed it.
    pub rule: String,
    /// What changes it back.
    pub undo: Plan,
    /// When that is done; none for when a person asks for it.
    pub due: Option<Time>,
    /// How often it was tried in vain.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub tries: u32,
}

/// A condition on a subject, with its evidence and its story so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    /// Its number.
    pub id: IncidentId,
    /// The detector that raised it.
    pub detector: String,
    /// What kind of trouble it is.
    #[serde(default)]
    pub category: Category,
    /// What it is about.
    pub subject: Subject,
    /// How bad it is (the worst so far).
    pub severity: Severity,
    /// Where it stands.
    pub state: State,
    /// The grounds on which it was raised.
    pub evidence: Evidence,
    /// When it was raised.
    pub opened: Time,
    /// When it ended.
    pub closed: Option<Time>,
    /// The incident whose action brought this one about, if one did.
    pub caused_by: Option<IncidentId>,
    /// Result of the last action on it.
    pub outcome: Option<Outcome>,
    /// How many actions were taken on it.
    pub actions: u32,
    /// The `[[remedy]]` that was last asked about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// How far up that remedy's ladder it is, from 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rung: u32,
    /// Actions of this rung that did not help.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub tries: u32,
    /// The incident that this one follows from, while that one is not over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suppressed_by: Option<IncidentId>,
    /// What waits for a person's word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proposed: Option<Box<Proposed>>,
    /// What a person forbade, or left unanswered: it is not proposed again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected: Option<Box<Plan>>,
    /// How often the condition went and came back before it counted as gone.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub flaps: u32,
    /// The person who has seen it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged_by: Option<String>,
    /// What was done about it and is still in force: a limit, a pause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Box<Held>>,
    /// Its story, oldest first; at most [`Incident::STEPS`] lines, the first ones and the last ones.
    pub steps: Vec<Step>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Incident {
    /// One that was just raised.
    pub fn new(
        id: IncidentId,
        detector: &str,
        subject: Subject,
        severity: Severity,
        evidence: Evidence,
        opened: Time,
    ) -> Self {
        Self {
            id,
            detector: detector.to_owned(),
            category: Category::default(),
            subject,
            severity,
            state: State::Open,
            evidence,
            opened,
            closed: None,
            caused_by: None,
            outcome: None,
            actions: 0,
            rule: None,
            rung: 0,
            tries: 0,
            suppressed_by: None,
            proposed: None,
            rejected: None,
            flaps: 0,
            acknowledged_by: None,
            held: None,
            steps: Vec::new(),
        }
    }

    /// Most lines that a story keeps.
    pub const STEPS: usize = 64;
    /// Most bytes of the words of a step.
    const WORDS: usize = 2048;

    /// Whether it is over.
    pub fn is_over(&self) -> bool {
        self.state == State::Resolved
    }

    /// Adds a line to the story. A story that grows too long loses a line in its middle, not its beginning.
    pub fn step(&mut self, at: Time, what: StepKind, detail: impl Into<String>) {
        let mut detail: String = detail.into();
        if detail.len() > Self::WORDS {
            let cut = detail.floor_char_boundary(Self::WORDS);
            let left_out = detail.len() - cut;
            detail.truncate(cut);
            detail = format!("{detail} [... {left_out} bytes more: in the journal's effect]");
        }
        if self.steps.len() >= Self::STEPS {
            self.steps.remove(Self::STEPS / 2);
        }
        self.steps.push(Step { at, what, detail });
    }

    /// When this kind of step last happened.
    pub fn last(&self, what: StepKind) -> Option<Time> {
        self.steps
            .iter()
            .rev()
            .find(|step| step.what == what)
            .map(|step| step.at)
    }

    /// When this kind of step first happened.
    pub fn first(&self, what: StepKind) -> Option<Time> {
        self.steps
            .iter()
            .find(|step| step.what == what)
            .map(|step| step.at)
    }
}
