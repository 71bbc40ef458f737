//! `smart-monitor status`: health at a glance.

mod checks;
mod words;

use std::process::ExitCode;
use std::time::Duration;

use super::ask::{self, Daemon, NoAnswer};
use super::render::{self, Cell, Column, Paint, Style, Table};
use super::{held, proposal, silences};
use crate::api::answers::Status;
use crate::host::procfs;
use crate::model::view::ServiceView;
use crate::model::{Answers, Incident, ServiceState, Severity, Subject};

/// Show the health of the daemon and of what it watches.
///
/// The exit code is 0 when all is well, 1 when a service is down, a critical incident is open or the daemon may not act,
/// 2 when the daemon cannot be reached.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only this service, with its health checks.
    #[arg(conflicts_with = "json")]
    service: Option<String>,
    #[command(flatten)]
    daemon: Daemon,
    /// Show the health checks of all services, and what each said last.
    #[arg(long)]
    checks: bool,
    /// Print the daemon's answer as JSON.
    #[arg(long)]
    json: bool,
}

/// Exit code when something needs a look.
const TROUBLE: u8 = 1;

/// Open incidents that are listed; the newest.
const LISTED: usize = 10;

/// See [`Args`].
pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args {
        service,
        daemon,
        checks: all_checks,
        json,
    } = args;
    let mut status: Status = match daemon.ask("/api/v1/status") {
        Ok(status) => status,
        Err(error) => return NoAnswer::from(error).show(json),
    };
    let paint = Paint::for_stdout();
    if let Some(name) = &service {
        if !status.view.services.contains_key(name) {
            let why = format!("there is no service {name:?} in the configuration");
            return NoAnswer::Missing(why).show(false);
        }
        only(&mut status, name);
        let checks = checks::table(&status, Some(name), paint);
        let mut out = services(&status, paint);
        words::of_services(&mut out, &status, paint, true);
        let open = status.view.incidents.values().filter(|one| !one.is_over());
        let open: Vec<_> = open.collect();
        if !open.is_empty() {
            let incidents = incidents(&status, &open, paint);
            render::add(&mut out, format_args!("\n{incidents}"));
        }
        render::show(&format!("{out}\n{checks}"))?;
    } else if json {
        ask::show_json(&status)?;
    } else {
        let mut out = text(&status, paint);
        if all_checks {
            let checks = checks::table(&status, None, paint);
            render::add(&mut out, format_args!("\n{checks}"));
        }
        render::show(&out)?;
    }
    let trouble = Sums::of(&status).trouble() || status.view.halted.is_some();
    Ok(if trouble {
        ExitCode::from(TROUBLE)
    } else {
        ExitCode::SUCCESS
    })
}

/// Leaves out what is not of this service.
fn only(status: &mut Status, name: &str) {
    let view = &mut status.view;
    view.services.retain(|other, _| other == name);
    let subject = Subject::service(name);
    view.incidents
        .retain(|_, incident| incident.subject == subject);
}

/// What the first line says.
struct Sums {
    services: usize,
    down: usize,
    unwell: usize,
    open: usize,
    critical: usize,
}

impl Sums {
    fn of(status: &Status) -> Self {
        let services = || status.view.services.values();
        let open = || {
            status
                .view
                .incidents
                .values()
                .filter(|incident| !incident.is_over())
        };
        Self {
            services: services().count(),
            down: services()
                .filter(|row| row.state == ServiceState::Down)
                .count(),
            unwell: services()
                .filter(|row| row.state != ServiceState::Healthy)
                .count(),
            open: open().count(),
            critical: open()
                .filter(|one| one.severity == Severity::Critical)
                .count(),
        }
    }

    const fn trouble(&self) -> bool {
        self.down > 0 || self.critical > 0
    }

    fn line(&self, paint: Paint) -> String {
        let (word, style) = if self.trouble() {
            ("TROUBLE", Style::Bad)
        } else if self.unwell > 0 || self.open > 0 {
            ("ATTENTION", Style::Warning)
        } else {
            ("ALL WELL", Style::Good)
        };
        let services = match (self.services, self.down, self.unwell) {
            (0, ..) => "no services configured".to_owned(),
            (all, 0, 0) => format!("{}, all healthy", count(all, "service")),
            (all, 0, unwell) => format!("{unwell} of {} not healthy", count(all, "service")),
            (all, down, _) => format!("{down} of {} down", count(all, "service")),
        };
        let incidents = match (self.open, self.critical) {
            (0, _) => "no open incident".to_owned(),
            (open, 0) => count(open, "open incident"),
            (open, critical) => format!("{} ({critical} critical)", count(open, "open incident")),
        };
        format!("{}  {services}; {incidents}\n", paint.apply(style, word))
    }
}

fn count(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn text(status: &Status, paint: Paint) -> String {
    let mut out = Sums::of(status).line(paint);
    out.push_str(&running(status));
    let view = &status.view;
    if let Some(reason) = &view.halted {
        let halted = format!("HALTED: nothing is acted on: {}", render::clean(reason));
        notice(&mut out, paint, Style::Bad, &halted);
    }
    if view.dry_run {
        notice(
            &mut out,
            paint,
            Style::Warning,
            "DRY RUN: the daemon only says what it would have done",
        );
    }
    if !view.services.is_empty() {
        render::add(&mut out, format_args!("\n{}", services(status, paint)));
        words::of_services(&mut out, status, paint, false);
    }
    let open: Vec<_> = view
        .incidents
        .values()
        .rev()
        .filter(|one| !one.is_over())
        .collect();
    if !open.is_empty() {
        render::add(
            &mut out,
            format_args!("\n{}", incidents(status, &open, paint)),
        );
    }
    people(&mut out, status, &open, paint);
    less_seen(&mut out, status, paint);
    out
}

fn running(status: &Status) -> String {
    let own = &status.own;
    let share = |seconds: f64| 100.0 * seconds / status.uptime_seconds.max(1.0);
    let kernel = own.bpf_seconds.map_or_else(
        || "not measured".to_owned(),
        |seconds| format!("{:.2} %", share(seconds)),
    );
    format!(
        "smart-monitor {} has run for {}; CPU {:.2} % of a core, kernel programs {kernel}; memory {}\n",
        status.version,
        render::duration(Duration::try_from_secs_f64(status.uptime_seconds).unwrap_or_default()),
        share(own.cpu_seconds),
        render::bytes(own.resident_bytes),
    )
}

fn notice(out: &mut String, paint: Paint, style: Style, text: &str) {
    for line in render::wrap(text, render::WIDTH) {
        out.push_str(&paint.apply(style, &line));
        out.push('\n');
    }
}

const SERVICES: &[Column] = &[
    Column::left("SERVICE"),
    Column::left("STATE"),
    Column::right("PID"),
    Column::right("UP FOR"),
    Column::right("STARTS"),
    Column::right("MEMORY"),
    Column::right("REQ/S"),
    Column::right("P50"),
    Column::right("P99"),
];

/// The last of these, shown once a service was asked something.
const LATENCY: usize = 3;

fn services(status: &Status, paint: Paint) -> String {
    let now = status.clock.time();
    let asked = |row: &ServiceView| row.service.latency.is_some();
    let asked = status.view.services.values().any(asked);
    let columns = SERVICES.len() - if asked { 0 } else { LATENCY };
    let mut table = Table::new(SERVICES.get(..columns).unwrap_or(SERVICES));
    for (name, ServiceView { service, state }) in &status.view.services {
        let style = match state {
            ServiceState::Healthy => Style::Good,
            ServiceState::Starting
            | ServiceState::Degraded
            | ServiceState::Stopped
            | ServiceState::Unknown => Style::Warning,
            ServiceState::Down => Style::Bad,
        };
        // Its memory is read here, and only of the very process that the daemon means.
        let memory = service
            .process
            .and_then(|process| procfs::resident(process).ok());
        let up = service.process.and(service.started);
        let mut row = vec![
            name.into(),
            Cell::styled(state.name(), style),
            service
                .process
                .map_or_else(dash, |process| process.pid.to_string().into()),
            up.map_or_else(dash, |started| render::duration(now.since(started)).into()),
            service.starts.to_string().into(),
            memory.map_or_else(dash, |memory| render::bytes(memory).into()),
        ];
        if asked {
            row.extend(latency(service.latency.as_ref()));
        }
        table.row(row);
    }
    let mut out = table.render(paint);
    let rows = status.view.services.values();
    let observed = rows.filter(|row| row.service.observe_only).count();
    if observed > 0 {
        let said = format!(
            "{observed} of them only observed, never acted upon (`smart-monitor discover` proposes a configuration)"
        );
        render::add(
            &mut out,
            format_args!("{}\n", paint.apply(Style::Dim, &said)),
        );
    }
    out
}

/// Rate and quantiles; a `~` before those that may be wrong.
fn latency(answers: Option<&Answers>) -> [Cell; LATENCY] {
    let Some(answers) = answers else {
        return [dash(), dash(), dash()];
    };
    let quantile = |nanos| {
        if answers.requests == 0 {
            return dash();
        }
        let mark = if answers.uncertain.is_some() { "~" } else { "" };
        let time = render::duration(Duration::from_nanos(nanos));
        format!("{mark}{time}").into()
    };
    let rate = format!("{:.1}", answers.rate());
    [
        rate.into(),
        quantile(answers.p50_ns),
        quantile(answers.p99_ns),
    ]
}

fn dash() -> Cell {
    "-".into()
}

const INCIDENTS: &[Column] = &[
    Column::right("INCIDENT"),
    Column::right("OPEN FOR"),
    Column::left("DETECTOR"),
    Column::left("SUBJECT"),
    Column::left("SEVERITY"),
    Column::left("STATE"),
    Column::left("LAST WORD"),
];

fn incidents(status: &Status, open: &[&Incident], paint: Paint) -> String {
    let now = status.clock.time();
    let mut table = Table::new(INCIDENTS);
    for incident in open.iter().take(LISTED) {
        let (severity, style) = match incident.severity {
            Severity::Critical => ("critical", Style::Bad),
            Severity::Warning => ("warning", Style::Warning),
        };
        table.row(vec![
            incident.id.to_string().into(),
            render::duration(now.since(incident.opened)).into(),
            incident.detector.as_str().into(),
            incident.subject.to_string().into(),
            Cell::styled(severity, style),
            proposal::state(incident, now),
            proposal::last_word(incident, now).into(),
        ]);
    }
    let mut out = table.render(paint);
    if let Some(more) = open.len().checked_sub(LISTED).filter(|more| *more > 0) {
        render::add(
            &mut out,
            format_args!("and {more} more: `smart-monitor incidents`\n"),
        );
    }
    out
}

/// What waits for a person's word, what is in force until it is undone, and what persons have said.
fn people(out: &mut String, status: &Status, open: &[&Incident], paint: Paint) {
    let now = status.clock.time();
    let mut lines = Vec::new();
    for incident in open {
        let id = incident.id;
        if let Some(proposed) = proposal::waiting(incident, now) {
            lines.push((
                Style::Bad,
                format!(
                    "incident {id} proposes {} on {}: `sudo smart-monitor approve {id}` or `reject {id}` ({} left)",
                    proposed.action,
                    incident.subject,
                    proposal::left(proposed, now)
                ),
            ));
        }
    }
    for incident in open {
        if let Some(by) = &incident.acknowledged_by {
            let line = format!("incident {} is acknowledged by {by}", incident.id);
            lines.push((Style::Dim, line));
        }
    }
    let view = &status.view;
    let in_force = view
        .incidents
        .values()
        .filter_map(|it| held::words(it, now));
    lines.extend(in_force.map(|words| (Style::Warning, words)));
    for silence in &view.silences {
        lines.push((Style::Warning, silences::words(silence, &status.clock)));
    }
    for window in &view.maintenance {
        lines.push((Style::Warning, silences::maintenance(window)));
    }
    if !lines.is_empty() {
        out.push('\n');
    }
    for (style, line) in lines {
        notice(out, paint, style, &render::clean(&line));
    }
}

/// Limitations, probes that are off, and detectors that see less for it.
fn less_seen(out: &mut String, status: &Status, paint: Paint) {
    let mut lines = status.limitations.clone();
    for probe in status.probes.iter().filter(|probe| !probe.on) {
        let reason = probe.reason.as_deref().unwrap_or("no reason is known");
        let fix = probe
            .fix
            .as_ref()
            .map(|fix| format!(" ({fix})"))
            .unwrap_or_default();
        lines.push(format!("probe {} is off: {reason}{fix}", probe.name));
    }
    for (name, row) in &status.view.services {
        let answers = row.service.latency.filter(|one| one.uncertain.is_some());
        if let Some(answers) = answers {
            lines.push(format!(
                "latency of {name} is uncertain: in {} of {} exchanges more data arrived before the response (pipelining, multiplexing, requests in parts)",
                answers.overlapping, answers.requests
            ));
        }
    }
    for detector in &status.view.detectors {
        if let Some(reason) = &detector.degraded {
            lines.push(format!(
                "detector {} sees less than it should: {reason}",
                detector.name
            ));
        }
    }
    if !lines.is_empty() {
        out.push('\n');
    }
    for line in lines {
        notice(out, paint, Style::Warning, &render::clean(&line));
    }
}

#[cfg(test)]
mod tests;
