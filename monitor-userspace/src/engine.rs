//! The core: signals in, orders out. Detectors, incidents, policy and verification, with no I/O and no clock.
//!
//! Owns the incidents and their life. Consumes signals with their times; emits [`Order`]s, which the pipeline carries out in their
//! order. The same signals give the same orders: that is what a replay checks. The one place where the stages of a decision meet.

pub mod book;
mod by_hand;
mod counting;
mod decide;
mod findings;
mod freeze;
mod held;
mod manual;
mod objectives;
mod outcome;
mod people;
mod releases;
mod roots;
mod top;
mod under_way;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use monitor_common::Kind;

use crate::detectors::{self, Detector};
use crate::model::release::Known;
use crate::model::view::{Counts, DetectorView, ServiceView};
use crate::model::way::Way;
use crate::model::{
    Effect, Evidence, Finding, Folder, Identity, Incident, IncidentId, Named, Plan, Service,
    Severity, Signal, Subject, Time, View, World,
};
use crate::policy::{self, ConditionRule, Permit, Policy, Remedy, Rules, Rung};
use book::Book;
pub use decide::BEFORE;
use roots::Learned;

/// An action that has not come back after this and twice its time to show an effect hangs.
const HANGS: Duration = Duration::from_mins(1);

/// What the core is built from.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Detectors.
    pub detectors: detectors::Config,
    /// Limits.
    pub policy: policy::Config,
    /// Consent.
    pub remedies: Vec<Remedy>,
    /// When findings become incidents.
    pub conditions: Vec<ConditionRule>,
    /// Services, as configured.
    pub services: Vec<Service>,
    /// What the configuration says of each name besides what it is.
    pub named: BTreeMap<String, Named>,
    /// `[[process]]`: process name to the entry's name.
    pub groups: BTreeMap<String, String>,
    /// `[[folder]]`
    pub folders: Vec<Folder>,
    /// PIDs that are never acted upon.
    pub protected_pids: Vec<u32>,
    /// Probes that are off, and why.
    pub probes_off: Vec<(Kind, String)>,
    /// `[[network]]` entries.
    pub networks: Vec<Way>,
}

/// What the pipeline is to do, in this order.
#[derive(Debug)]
pub enum Order {
    /// Write this state of an incident into the journal.
    Record(Box<Incident>),
    /// Write into the journal what is known of a service's releases.
    Releases {
        /// The service.
        service: String,
        /// What is known.
        known: Known,
    },
    /// Carry this out, after its intent is in the journal.
    Execute {
        /// Consent to exactly this.
        permit: Permit,
        /// The incident, for the journal; without what was frozen, which stands in the next line about it.
        incident: Box<Incident>,
    },
}

/// An action under way, or waiting for its proof.
#[derive(Debug)]
struct Act {
    action: &'static str,
    rule: String,
    plan: Plan,
    /// How often it is tried before the next rung is.
    attempts: Option<u32>,
    within: Duration,
    /// When what it changed is changed back, after it.
    undo_after: Option<Duration>,
    severity: Severity,
    /// It changes back what an action before it changed.
    undo: bool,
    granted: Time,
    /// It was said that it hangs.
    hangs: bool,
    /// It is not to go on, if it still can be stopped.
    called_off: bool,
    effect: Option<Effect>,
    cleared: Option<(Time, String)>,
    /// When the condition was last seen anew while the act was under way.
    raised: Option<Time>,
    /// When it was last seen to have grown worse.
    grew: Option<Time>,
}

impl Act {
    /// One that a rung of a rule asks for: once, where nothing else is said. `allowed` is the rule's name and the plan.
    fn of(
        action: &'static str,
        rung: &Rung,
        allowed: (&str, Plan),
        severity: Severity,
        granted: Time,
    ) -> Self {
        Self {
            within: rung.verify_within,
            undo_after: rung.undo_after,
            undo: false,
            ..Self::undoing(action, allowed, severity, granted)
        }
    }

    /// One that changes back what an action changed.
    fn undoing(
        action: &'static str,
        (rule, plan): (&str, Plan),
        severity: Severity,
        granted: Time,
    ) -> Self {
        Self {
            action,
            rule: rule.to_owned(),
            plan,
            attempts: None,
            within: Duration::ZERO,
            undo_after: None,
            severity,
            undo: true,
            granted,
            hangs: false,
            called_off: false,
            effect: None,
            cleared: None,
            raised: None,
            grew: None,
        }
    }

    /// Whether something was seen after the host was changed. The finding may arrive before the effect does.
    fn after(&self, seen: Option<Time>) -> bool {
        let acted = self.effect.as_ref().and_then(|effect| effect.acted);
        matches!((seen, acted), (Some(seen), Some(acted)) if seen > acted)
    }

    /// Whether the condition was seen anew after the host was changed.
    fn again(&self) -> bool {
        self.after(self.raised)
    }

    /// How long it may take to come back.
    fn patience(&self) -> Duration {
        HANGS.saturating_add(self.within.saturating_mul(2))
    }
}

/// A finding that has not held for long enough yet.
#[derive(Debug)]
struct Pending {
    due: Time,
    severity: Severity,
    evidence: Evidence,
}

/// A condition that has not been gone for long enough yet.
#[derive(Debug)]
struct Clearing {
    due: Time,
    seen: Time,
    because: String,
}

/// The core.
#[derive(Debug)]
pub struct Engine {
    detectors: Vec<(detectors::Spec, Box<dyn Detector>)>,
    settings: Settings,
    world: World,
    policy: Policy,
    rules: Rules,
    book: Book,
    pending: BTreeMap<(&'static str, Subject), Pending>,
    clearing: BTreeMap<IncidentId, Clearing>,
    acts: BTreeMap<IncidentId, Act>,
    /// Acts that are not to go on, for the pipeline to take, and why.
    called_off: Vec<(IncidentId, String)>,
    /// What people or the configuration say has changed: acts under way are looked at again.
    said_anew: bool,
    /// Incidents whose ladder was tried to its end, and when it is begun anew.
    exhausted: BTreeMap<IncidentId, Time>,
    learned: Learned,
    /// When the last good check of each service was sent.
    answered: BTreeMap<String, Time>,
    /// What counts for the objectives of services that have some.
    windows: BTreeMap<String, Vec<objectives::Windows>>,
    proving: releases::Proving,
    /// When to decide again about an incident.
    retries: BTreeMap<IncidentId, Time>,
    lost: [Option<Time>; Kind::TABLE],
    recent: freeze::Recent,
    top: top::Top,
    halted: Option<String>,
    counts: Counts,
    /// Kept between signals, so that a signal allocates nothing.
    scratch: Vec<Finding>,
    found: Vec<(&'static str, Finding)>,
    changed: bool,
    /// Services of which something changed since they were last shown.
    unshown: BTreeSet<String>,
}

impl Engine {
    /// A core that has seen nothing yet. Numbers of incidents go on from `next`.
    pub fn new(settings: Settings, next: IncidentId) -> Self {
        let mut engine = Self {
            detectors: detectors::build(&settings.detectors),
            policy: Policy::new(settings.policy.clone()),
            settings: Settings::default(),
            world: World::default(),
            rules: Rules::default(),
            book: Book::new(next),
            pending: BTreeMap::new(),
            clearing: BTreeMap::new(),
            acts: BTreeMap::new(),
            called_off: Vec::new(),
            said_anew: false,
            exhausted: BTreeMap::new(),
            learned: Learned::default(),
            answered: BTreeMap::new(),
            windows: BTreeMap::new(),
            proving: releases::Proving::default(),
            retries: BTreeMap::new(),
            lost: [None; Kind::TABLE],
            recent: freeze::Recent::default(),
            top: top::Top::default(),
            halted: None,
            counts: counting::zeros(),
            scratch: Vec::new(),
            found: Vec::new(),
            changed: true,
            unshown: BTreeSet::new(),
        };
        engine.apply(settings);
        engine
    }

    /// Takes new settings. What is under way goes on, and what was seen still counts. An open incident of a detector that is
    /// switched off stays open: nobody can say any more that it is over.
    pub fn reconfigure(&mut self, settings: Settings) {
        let mut before = std::mem::take(&mut self.detectors);
        for (spec, fresh) in detectors::build(&settings.detectors) {
            let known = before.iter().position(|(old, _)| old.name == spec.name);
            let detector = known.map_or(fresh, |at| {
                let (_, mut detector) = before.swap_remove(at);
                detector.reconfigure(&settings.detectors);
                detector
            });
            self.detectors.push((spec, detector));
        }
        self.policy.reconfigure(settings.policy.clone());
        // What was refused may be allowed by now: asked again at the next tick.
        self.ask_all_again(Time::default());
        self.apply(settings);
    }

    fn apply(&mut self, settings: Settings) {
        let before = std::mem::take(&mut self.world.services);
        for service in &settings.services {
            let mut known = before.get(&service.name).unwrap_or(service).clone();
            known.listen.clone_from(&service.listen);
            known.memory_max = service.memory_max;
            known.checked = service.checked;
            if known.kind != service.kind {
                // Said by those who ran it before.
                known.healer = None;
                known.gave_up = None;
                known.unknown = None;
            }
            known.kind.clone_from(&service.kind);
            known.observe_only = service.observe_only;
            known.start_within = service.start_within;
            objectives::apply(&mut known.objectives, &service.objectives);
            world::checks(&mut known.checks, &service.checks);
            known.depends_on.clone_from(&service.depends_on);
            known.command.clone_from(&service.command);
            known.reload.clone_from(&service.reload);
            releases::apply(&mut known.release, service.release.as_deref());
            self.unshown.insert(service.name.clone());
            self.world.services.insert(known);
        }
        self.world.groups.clone_from(&settings.groups);
        let mut networks = std::mem::take(&mut self.world.networks);
        self.world.networks = world::networks(&settings.networks, &mut networks);
        self.world.named.clone_from(&settings.named);
        self.world.expendable = world::expendable(&settings);
        let folders = settings.folders.iter();
        self.world.folders = folders
            .map(|folder| (folder.name.clone(), folder.clone()))
            .collect();
        // Another path may stand under a name that was known.
        self.world.folder_ids.clear();
        let services = &self.world.services;
        self.answered.retain(|name, _| services.contains_key(name));
        objectives::windows(&mut self.windows, services);
        self.proving.apply(services);
        let counted = &mut self.counts.services;
        counted.retain(|name, _| services.contains_key(name));
        for name in services.keys() {
            counted.entry(name.clone()).or_default();
        }
        self.rules = Rules::new(settings.remedies.clone());
        self.world
            .protected_pids
            .clone_from(&settings.protected_pids);
        self.world
            .protected_names
            .clone_from(&settings.policy.protected);
        self.settings = settings;
        self.said_anew = true;
        self.changed = true;
    }

    /// The memory of past actions, for the journal to fill at start.
    pub fn policy_mut(&mut self) -> &mut Policy {
        &mut self.policy
    }

    /// Takes incidents from the journal, so that they can still be listed.
    pub fn remember(&mut self, incidents: Vec<Incident>) {
        for incident in incidents {
            self.show_again(&incident.subject);
            self.counts.forgotten += self.book.insert(incident);
        }
        self.changed = true;
    }

    /// Takes one signal: `at` is when it happened, `now` when it arrived here.
    pub fn observe(&mut self, signal: &Signal, at: Time, now: Time, orders: &mut Vec<Order>) {
        self.count_signal(signal);
        self.recent.take(signal);
        if let Signal::Loss { probe, .. } = signal
            && let Some(lost) = self.lost.get_mut(usize::from(probe.number()))
        {
            *lost = Some(at);
        }
        self.count_for_objectives(signal, at);
        let mut found = std::mem::take(&mut self.found);
        for (spec, detector) in &mut self.detectors {
            detector.observe(signal, at, &self.world, &mut self.scratch);
            found.extend(self.scratch.drain(..).map(|finding| (spec.name, finding)));
        }
        self.update_world(signal, at);
        self.handle(&mut found, now, orders);
        self.found = found;
        match signal {
            Signal::Service { service, change } => {
                self.others_said(service, change, now, orders);
                self.started_again(signal, now, orders);
            }
            Signal::Effect { effect } => self.take_effect(effect, now, orders),
            Signal::Person { by, request } => self.person(by, request, now, orders),
            Signal::Sample { sample } => self.take_release(sample, at, orders),
            _ => {}
        }
        if Self::tells_health(signal) {
            self.prove_releases(now, orders);
        }
    }

    /// Takes a finding of a detector as if that had made it: for tests of policies.
    pub fn find(
        &mut self,
        detector: &str,
        finding: Finding,
        now: Time,
        orders: &mut Vec<Order>,
    ) -> Result<(), String> {
        let spec = detectors::ALL.iter().find(|spec| spec.name == detector);
        let spec = spec.ok_or_else(|| format!("no detector is called {detector}"))?;
        self.take_finding(spec.name, finding, now, orders);
        Ok(())
    }

    /// Time has passed: detectors' windows, cooldowns, verification deadlines.
    pub fn tick(&mut self, now: Time, orders: &mut Vec<Order>) {
        let mut found = std::mem::take(&mut self.found);
        for (spec, detector) in &mut self.detectors {
            detector.tick(now, &self.world, &mut self.scratch);
            found.extend(self.scratch.drain(..).map(|finding| (spec.name, finding)));
        }
        self.handle(&mut found, now, orders);
        self.found = found;
        self.settle(now, orders);
        self.lift(now, orders);
        self.pass_schedules(now);
        self.look_again(now);
        let ids: Vec<IncidentId> = self.acts.keys().copied().collect();
        for id in ids {
            self.judge(id, now, orders);
            self.notice_hanging(id, now, orders);
        }
        let due = self
            .retries
            .iter()
            .filter(|(_, at)| **at <= now)
            .map(|(id, _)| *id);
        for id in due.collect::<Vec<_>>() {
            self.retries.remove(&id);
            self.decide(id, now, orders);
        }
        self.prove_releases(now, orders);
    }

    /// When [`Engine::tick`] has something to do.
    pub fn wake(&self) -> Option<Time> {
        let detectors = self
            .detectors
            .iter()
            .filter_map(|(_, detector)| detector.wake());
        let acts = self.acts.iter().filter_map(|(id, act)| match &act.effect {
            Some(_) if self.clearing.contains_key(id) => None,
            Some(effect) => Some(effect.finished.after(act.within)),
            None => (!act.hangs).then(|| act.granted.after(act.patience())),
        });
        detectors
            .chain(acts)
            .chain(self.retries.values().copied())
            .chain(self.settles())
            .chain(self.proves())
            .chain(self.next_due())
            .chain(self.policy.schedules().wake(self.world.wall_ahead))
            .min()
    }

    /// Windows and silences begin and end.
    fn pass_schedules(&mut self, now: Time) {
        let ahead = self.world.wall_ahead;
        let passed = self.policy.schedules_mut().pass(now, ahead);
        self.changed |= passed;
        self.said_anew |= passed;
    }

    /// The journal cannot be written (or can be again): nothing acts until then.
    pub fn halt(&mut self, reason: Option<String>) {
        if self.halted != reason {
            self.halted = reason;
            self.changed = true;
        }
    }

    /// A record in a ring could not be decoded.
    pub fn note_malformed(&mut self, records: u64) {
        self.counts.malformed += records;
    }

    /// Says who the process is that an incident is about.
    pub fn identify(&mut self, id: IncidentId, who: Identity) {
        self.book
            .change(id, |incident| incident.evidence.who = Some(Box::new(who)));
        self.changed = true;
    }

    /// Whether something changed since the last [`Engine::show`].
    pub const fn changed(&self) -> bool {
        self.changed
    }

    /// Brings a copy up to date.
    pub fn show(&mut self, view: &mut View) {
        self.changed = false;
        self.book.show(&mut view.incidents);
        self.show_services(&mut view.services);
        view.detectors = self
            .detectors
            .iter()
            .map(|(spec, _)| self.describe(spec))
            .collect();
        view.counts.clone_from(&self.counts);
        view.dry_run = self.policy.dry_run();
        view.halted.clone_from(&self.halted);
        let schedules = self.policy.schedules();
        view.silences = schedules.silences().to_vec();
        view.maintenance = schedules.open_windows().map(str::to_owned).collect();
        let rates = self.policy.history().rates();
        view.rates = rates.map(|(way, rate)| (way.to_owned(), rate)).collect();
    }

    /// Those of which something changed, and none that is no longer configured.
    fn show_services(&mut self, shown: &mut BTreeMap<String, ServiceView>) {
        let known = &self.world.services;
        for name in std::mem::take(&mut self.unshown) {
            if let Some(service) = known.get(&name) {
                let state = self.state_of(service);
                let service = service.clone();
                shown.insert(name, ServiceView { service, state });
            }
        }
        if shown.len() > known.len() {
            shown.retain(|name, _| known.contains_key(name));
        }
    }

    /// An incident of this subject has begun or ended: the state of a service follows from that.
    fn show_again(&mut self, subject: &Subject) {
        if let Subject::Service { name } = subject
            && !self.unshown.contains(name)
        {
            self.unshown.insert(name.clone());
        }
    }

    /// Changes a service, which is shown again.
    fn change_service(&mut self, name: &str, change: impl FnOnce(&mut Service)) {
        if self.world.services.change(name, change).is_some() {
            self.unshown.insert(name.to_owned());
            self.changed = true;
        }
    }

    fn describe(&self, spec: &detectors::Spec) -> DetectorView {
        let off = |kind: &Kind| self.settings.probes_off.iter().find(|(off, _)| off == kind);
        let degraded = spec
            .needs
            .iter()
            .find_map(off)
            .map(|(kind, why)| format!("probe {} is off: {why}", kind.name()));
        DetectorView {
            name: spec.name.to_owned(),
            summary: spec.summary.to_owned(),
            degraded,
        }
    }

    /// All incidents that are not over.
    pub fn open_incidents(&self) -> impl Iterator<Item = &Incident> {
        self.book.open()
    }

    /// An incident by number.
    pub fn incident(&self, id: IncidentId) -> Option<&Incident> {
        self.book.get(id)
    }
}
