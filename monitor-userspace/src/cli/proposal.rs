//! What an incident proposes, in words: for `approve`, `status` and `explain`.

use std::borrow::Cow;
use std::time::Duration;

use super::render::{self, Cell, Style};
use crate::actions::lower_io_priority;
use crate::api::answers::OneIncident;
use crate::config::units::Bytes;
use crate::model::command::Order;
use crate::model::incident::{Step, StepKind};
use crate::model::release::Source;
use crate::model::{
    Cleaning, Enough, Incident, Lift, Plan, ProcessKey, Proposed, Restraint, State, Time, Whole,
};

/// What still waits for a person's word.
pub(super) fn waiting(incident: &Incident, now: Time) -> Option<&Proposed> {
    let proposed = incident.proposed.as_deref()?;
    (!incident.is_over() && proposed.until > now).then_some(proposed)
}

/// Where an incident stands, in a word: what waits for a person's word is told apart from what is merely open.
pub(super) fn state_name(incident: &Incident, now: Time) -> &'static str {
    match waiting(incident, now) {
        Some(_) => "proposed",
        None => incident.state.name(),
    }
}

/// The same for a listing.
pub(super) fn state(incident: &Incident, now: Time) -> Cell {
    let name = state_name(incident, now);
    if waiting(incident, now).is_some() {
        return Cell::styled(name, Style::Bad);
    }
    let style = match incident.state {
        State::Open | State::Acting | State::Verifying => Style::Warning,
        State::Resolved => Style::Good,
        State::Suppressed => Style::Dim,
        State::Escalated => Style::Bad,
    };
    Cell::styled(name, style)
}

/// The words of a step of an incident's story, as they are shown: a rejection says that it is one.
pub(super) fn words<'a>(incident: &Incident, step: &'a Step) -> Cow<'a, str> {
    let same = |other: &Step| other.what == StepKind::Rejected && other.detail == step.detail;
    // The incident is a person's from then on, which is said in the same words.
    let rejection = step.what == StepKind::Rejected
        || (step.what == StepKind::Escalated && incident.steps.iter().any(same));
    match step.detail.split_once(": by ") {
        Some((action, who)) if rejection => format!("{action}: rejected by {who}").into(),
        _ => step.detail.as_str().into(),
    }
}

/// What was last said about an incident: that somebody has seen it is no news, and a proposal that nobody can allow any more does not
/// say how to allow it.
pub(super) fn last_word(incident: &Incident, now: Time) -> String {
    let mut steps = incident.steps.iter().rev();
    let Some(step) = steps.find(|step| step.what != StepKind::Acknowledged) else {
        return String::new();
    };
    let words = words(incident, step);
    if step.what == StepKind::Proposed && waiting(incident, now).is_none() {
        return proposal_alone(&words).to_owned();
    }
    words.into_owned()
}

/// Why a person was asked, without until when and how to answer.
pub(super) fn proposal_alone(words: &str) -> &str {
    words.rsplit_once("; within ").map_or(words, |(why, _)| why)
}

/// What exactly would be done, in words.
#[expect(clippy::too_many_lines, reason = "an arm for each plan")]
pub(super) fn plan(plan: &Plan) -> String {
    let grace = |grace: &Duration| {
        if grace.is_zero() {
            "SIGKILL at once".to_owned()
        } else {
            format!(
                "SIGTERM, and SIGKILL if it has not left after {}",
                render::duration(*grace)
            )
        }
    };
    let name = |comm: &str, process: &ProcessKey| format!("{comm} [{}]", process.pid);
    match plan {
        Plan::KillProcess {
            process,
            comm,
            term_grace,
            ..
        } => format!("end {}: {}", name(comm, process), grace(term_grace)),
        Plan::RestartService {
            service,
            process,
            term_grace,
            command,
        } => {
            let old = process.map_or_else(String::new, |process| {
                let how = grace(term_grace);
                format!(", after what is left of its process {}: {how}", process.pid)
            });
            let what = match command.as_slice() {
                [] => String::new(),
                words => format!(" as `{}`", words.join(" ")),
            };
            format!("start service {service} anew{what}{old}")
        }
        Plan::StopService {
            service,
            process,
            term_grace,
            ..
        } => {
            let how = process.map_or_else(
                || "it does not run".to_owned(),
                |process| format!("its process {}: {}", process.pid, grace(term_grace)),
            );
            format!("stop service {service} until it is started ({how}); the undo starts it again")
        }
        Plan::StartService { service, command } => {
            format!(
                "start service {service}, which does not run, as `{}`",
                command.join(" ")
            )
        }
        Plan::ReloadService {
            service,
            process,
            how,
        } => format!(
            "have {} read its configuration again: {how}",
            name(service, process)
        ),
        Plan::RunCommand { order, .. } => run(order),
        Plan::CleanFolder { cleaning } => clean(cleaning),
        Plan::FlushRedis { service, flush } => {
            let keys = match &flush.pattern {
                Some(pattern) => format!("at most {} keys that match `{pattern}`", flush.at_most),
                None => "ALL keys".to_owned(),
            };
            format!(
                "delete {keys} in database {} of the Redis server of {service} at {}, for good",
                flush.database, flush.address
            )
        }
        Plan::LowerPriority {
            process,
            comm,
            nice,
        } => format!(
            "let {} wait behind others for the CPU: nice {nice}",
            name(comm, process)
        ),
        Plan::RestorePriority {
            process,
            comm,
            nice,
        } => format!(
            "give {} back the priority that it had ({} threads)",
            name(comm, process),
            nice.len()
        ),
        Plan::SwitchRelease { .. } => release(plan, &grace).unwrap_or_default(),
        Plan::KillCgroup { whole, term_grace } => format!(
            "end everything in the cgroup of {}, {}: {}",
            name(&whole.comm, &whole.process),
            belongings(whole),
            grace(term_grace)
        ),
        Plan::Restrain { whole, restraint } => {
            let who = name(&whole.comm, &whole.process);
            let what = match restraint {
                Restraint::Freeze { by_signal: true } => {
                    return format!("stop {who}, it alone, by SIGSTOP");
                }
                Restraint::Freeze { .. } => format!("freeze {who}"),
                Restraint::Cpu { percent } => format!("give {who} {percent} % of a CPU at most"),
                Restraint::Memory { high } => format!(
                    "have {who} wait for memory beyond {} (memory.high)",
                    Bytes(*high)
                ),
            };
            format!("{what}, with {}", belongings(whole))
        }
        Plan::Release {
            process,
            comm,
            lift,
        } => {
            let who = name(comm, process);
            match lift.as_ref() {
                Lift::File {
                    folder, file, had, ..
                } => format!(
                    "let {who} go: {file} of {} is {had} again",
                    folder.display()
                ),
                Lift::Made { folder, .. } => format!(
                    "let {who} go: what is in {} goes back into the cgroup above it",
                    folder.display()
                ),
                Lift::Continue => format!("let {who} go on (SIGCONT)"),
            }
        }
        Plan::LowerIoPriority {
            process,
            comm,
            ioprio,
        } => format!(
            "let {} wait behind others for disks: {}",
            name(comm, process),
            lower_io_priority::name(*ioprio)
        ),
        Plan::RestoreIoPriority {
            process,
            comm,
            ioprio,
            ..
        } => format!(
            "give {} back the priority for disks that it had ({} threads)",
            name(comm, process),
            ioprio.len()
        ),
        Plan::SetOomScore {
            process,
            comm,
            score,
        } => format!(
            "set the oom_score_adj of {} to {score}",
            name(comm, process)
        ),
        Plan::RestoreOomScore {
            process, comm, had, ..
        } => format!(
            "set the oom_score_adj of {} back to {had}",
            name(comm, process)
        ),
        Plan::SendSignal {
            process,
            comm,
            signal,
            ..
        } => format!("send SIG{signal} to {}", name(comm, process)),
        Plan::RepairNetwork {
            network,
            tries,
            confirm_within,
        } => {
            let tries: Vec<String> = tries.iter().map(ToString::to_string).collect();
            format!(
                "repair network {network}: {}; changed back where packets do not get through within {}",
                tries.join("; or else "),
                render::duration(*confirm_within)
            )
        }
        Plan::RevertNetwork {
            network,
            steps,
            only_if,
        } => {
            let steps: Vec<String> = steps.iter().map(ToString::to_string).collect();
            let only = only_if.as_ref().map_or_else(String::new, |primary| {
                format!(", once {primary} answers again")
            });
            format!("change network {network} back: {}{only}", steps.join(", "))
        }
        Plan::DropConnections {
            process,
            comm,
            filter,
            ..
        } => format!("end TCP connections of {}: {filter}", name(comm, process)),
    }
}

/// What goes with a process, in words.
fn belongings(whole: &Whole) -> String {
    match whole.cgroup_id {
        0 => "all its descendants".to_owned(),
        id => format!("all in its service's cgroup (number {id})"),
    }
}

/// What switching a release would do, in words; none where the plan is none of those.
fn release(plan: &Plan, grace: &dyn Fn(&Duration) -> String) -> Option<String> {
    let Plan::SwitchRelease {
        service,
        from,
        to,
        forward,
        how,
        process,
        ran,
        term_grace,
        command,
    } = plan
    else {
        return None;
    };
    let way = if *forward { "go forward" } else { "go back" };
    let mut words = format!(
        "{way} from release {from} of {service} to {to} ({})",
        place(&how.source)
    );
    let mut add = |text: &str, command: &[String]| {
        if !command.is_empty() {
            words += text;
            words += " `";
            words += &command.join(" ");
            words += "`";
        }
    };
    if !*forward {
        add(", if its schema check allows it:", &how.schema_check);
        add(", if its backup check allows it:", &how.backup_check);
    }
    add(", build it with", &how.build);
    add(", then start it anew as", command);
    if let Some(process) = ran {
        words += ", unless its process ";
        words += &process.pid.to_string();
        words += " has run that release all along";
    }
    if let Some(process) = process {
        words += ", after what is left of its process ";
        words += &process.pid.to_string();
        words += ": ";
        words += &grace(term_grace);
    }
    Some(words)
}

/// Where releases are changed.
fn place(source: &Source) -> String {
    match source {
        Source::Git { path } => format!("`git checkout` in {}", path.display()),
        Source::Symlink { path, .. } => format!("the link {}", path.display()),
        Source::Container { path, image, .. } => {
            format!("the tag of {image} in {}", path.display())
        }
        Source::Command { switch, .. } => format!("`{}`", switch.join(" ")),
    }
}

/// A command, word for word, and what it is kept to.
fn run(order: &Order) -> String {
    let mut parts = vec![format!(
        "run {:?} for at most {}",
        order.command,
        render::duration(order.timeout)
    )];
    parts.push(match order.user {
        Some((user, group)) => format!("as user {user} and group {group} with no capability"),
        None => "as the daemon's user with all its rights".to_owned(),
    });
    parts.extend(order.confined.as_ref().map(|confined| {
        let (read, write) = (&confined.read, &confined.write);
        format!("reading {read:?} and changing {write:?} and no other files")
    }));
    parts.extend(order.no_network.then(|| "without a network".to_owned()));
    let folder = order.folder.as_ref();
    parts.extend(folder.map(|folder| format!("in {}", folder.display())));
    if !order.environment.is_empty() {
        parts.push(format!("with {:?}", order.environment));
    }
    parts.join(", ")
}

/// What a cleaning may delete, and when it ends.
fn clean(cleaning: &Cleaning) -> String {
    let rules = &cleaning.folder;
    let mut which = format!("files that match {}", rules.patterns.join(", "));
    if rules.recursive {
        which.push_str(", in folders inside too");
    }
    if !rules.older_than.is_zero() {
        which.push_str(", not written to for ");
        which.push_str(&render::duration(rules.older_than));
    }
    if rules.keep_newest > 0 {
        which.push_str(", but the newest ");
        which.push_str(&rules.keep_newest.to_string());
    }
    let share = |hundredths: u32| format!("{}.{:02} %", hundredths / 100, hundredths % 100);
    let mut until = match cleaning.enough {
        Enough::All => "until none is left".to_owned(),
        Enough::Room { full, inodes } => format!(
            "until its file system is below {} of its bytes and {} of its inodes",
            share(full),
            share(inodes)
        ),
    };
    if let Some(size) = rules.shrink_to {
        until.push_str(", or they take no more than ");
        until.push_str(&Bytes(size).to_string());
    }
    let bytes = cleaning
        .at_most_bytes
        .map_or_else(String::new, |bytes| format!(" and {}", Bytes(bytes)));
    format!(
        "delete in {}, the oldest first and for good: {which}; {until}; at most {} files{bytes}, listed before",
        rules.path.display(),
        cleaning.at_most
    )
}

/// The time that is left for a word.
pub(super) fn left(proposed: &Proposed, now: Time) -> String {
    render::duration(proposed.until.since(now))
}

/// Everything that a person needs to know to give a word.
pub(super) fn text(one: &OneIncident, proposed: &Proposed) -> String {
    let incident = &one.incident;
    let facts = incident.evidence.facts.iter();
    let evidence: Vec<_> = facts
        .map(|(name, value)| format!("{name} {value}"))
        .collect();
    let seen = incident.steps.first().map(|step| step.detail.clone());
    let lines = [
        ("action", Some(proposed.action.clone())),
        ("plan", Some(plan(&proposed.plan))),
        ("asked because", Some(proposed.reason.clone())),
        ("seen", seen),
        (
            "evidence",
            (!evidence.is_empty()).then(|| evidence.join("; ")),
        ),
        ("time left", Some(left(proposed, one.clock.time()))),
    ];
    let mut out = format!(
        "incident {}: {}, {} proposes\n",
        incident.id,
        incident.detector,
        render::clean(&incident.subject.to_string())
    );
    for (name, value) in lines {
        let Some(value) = value else { continue };
        let mut name = name;
        for line in render::wrap(&render::clean(&value), render::WIDTH - BEFORE) {
            render::add(&mut out, format_args!("  {name:<13}  {line}\n"));
            name = "";
        }
    }
    out
}

/// Columns before the words.
const BEFORE: usize = 2 + 13 + 2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::answers::Clock;
    use crate::model::{Evidence, IncidentId, Severity, Subject};

    fn proposing(until: Time) -> Incident {
        let mut incident = Incident::new(
            IncidentId(7),
            "service_down",
            Subject::service("auth"),
            Severity::Critical,
            Evidence::at(Time::default()).fact("exit", "status 1\x1b[2J"),
            Time::default(),
        );
        incident.step(Time::default(), StepKind::Seen, "auth [41] has ended");
        incident.proposed = Some(Box::new(Proposed {
            action: "restart_service".to_owned(),
            plan: Plan::RestartService {
                service: "auth".to_owned(),
                process: Some(ProcessKey {
                    pid: 41,
                    start_ticks: 1,
                }),
                term_grace: Duration::from_secs(5),
                command: Vec::new(),
            },
            reason: "the remedy asks first".to_owned(),
            until,
        }));
        incident
    }

    #[test]
    fn who_gives_a_word_sees_for_what_and_how_long() {
        let incident = proposing(Time::from_nanos(250_000_000_000));
        let one = OneIncident {
            clock: Clock {
                monotonic_ns: 10_000_000_000,
                unix_ns: 0,
            },
            causes: Vec::new(),
            suppresses: Vec::new(),
            incident: incident.clone(),
        };
        let proposed = waiting(&incident, one.clock.time()).unwrap();
        assert_eq!(
            text(&one, proposed),
            "incident 7: service_down, service auth proposes\n\
             \x20 action         restart_service\n\
             \x20 plan           start service auth anew, after what is left of its process 41: SIGTERM, and SIGKILL if it has not left\n\
             \x20                after 5.00 s\n\
             \x20 asked because  the remedy asks first\n\
             \x20 seen           auth [41] has ended\n\
             \x20 evidence       exit status 1\u{fffd}[2J\n\
             \x20 time left      4 min 0 s\n"
        );
    }

    #[test]
    fn the_last_word_is_the_last_that_says_something() {
        let mut incident = proposing(Time::from_nanos(5));
        let (before, late) = (Time::from_nanos(4), Time::from_nanos(5));
        let line = "consent: the remedy asks first; within 5m: smart-monitor approve 7";
        incident.step(before, StepKind::Proposed, line);
        incident.step(before, StepKind::Acknowledged, "by root");
        assert_eq!(last_word(&incident, before), line);
        assert_eq!(last_word(&incident, late), "consent: the remedy asks first");
        incident.proposed = None;
        incident.step(before, StepKind::Rejected, "restart_service: by root");
        incident.step(before, StepKind::Escalated, "restart_service: by root");
        for step in incident.steps.iter().rev().take(2) {
            let said = words(&incident, step);
            assert_eq!(said, "restart_service: rejected by root");
        }
        incident.step(before, StepKind::Refused, "limit: by the hour");
        assert_eq!(last_word(&incident, late), "limit: by the hour");
        incident.steps.clear();
        assert_eq!(last_word(&incident, late), "");
    }

    #[test]
    fn what_has_expired_or_is_over_waits_for_nobody() {
        let until = Time::from_nanos(5);
        let mut incident = proposing(until);
        assert!(waiting(&incident, Time::from_nanos(4)).is_some());
        assert!(waiting(&incident, until).is_none());
        incident.state = State::Resolved;
        assert!(waiting(&incident, Time::from_nanos(4)).is_none());
    }
}
