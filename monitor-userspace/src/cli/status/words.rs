//! What a line of the table has no room for: why nobody can say how a service is, who gave up on it, how it keeps its objectives.

use super::super::render::{self, Paint, Style};
use super::notice;
use crate::api::answers::Status;
use crate::model::objective::percent;
use crate::model::{Objective, Service};

/// Lines of this kind that are shown; the rest is counted.
const SHOWN: usize = 20;

/// Of each service what is amiss; with `all`, how it keeps its objectives too when it does.
pub(super) fn of_services(out: &mut String, status: &Status, paint: Paint, all: bool) {
    let services = status.view.services.values().map(|row| &row.service);
    let lines: Vec<_> = services.flat_map(|service| words(service, all)).collect();
    for (style, line) in lines.iter().take(SHOWN) {
        notice(out, paint, *style, &render::clean(line));
    }
    if let Some(more) = lines.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        let line = format!("and {more} more of this kind: `smart-monitor status SERVICE`");
        notice(out, paint, Style::Dim, &line);
    }
}

fn words(service: &Service, all: bool) -> Vec<(Style, String)> {
    let name = &service.name;
    let mut lines = Vec::new();
    if let Some(why) = &service.unknown {
        let line = format!("{name}: how it is, nobody can say: {why}");
        lines.push((Style::Warning, line));
    }
    if let Some(why) = &service.gave_up {
        lines.push((
            Style::Bad,
            format!("{name}: {} gave up: {why}", service.kind),
        ));
    }
    let kept = service.objectives.iter().filter_map(objective);
    let kept = kept.filter(|(style, _)| all || *style != Style::Dim);
    lines.extend(kept.map(|(style, words)| (style, format!("{name}: {words}"))));
    lines
}

/// How an objective is kept; none while nothing was counted.
fn objective(objective: &Objective) -> Option<(Style, String)> {
    let kept = objective.kept?;
    let (style, word) = if kept.missed {
        (Style::Bad, "MISSED")
    } else if kept.is_many() && kept.bad > objective.promise.allowed() {
        (
            Style::Warning,
            "was not kept all of the time, and is of late",
        )
    } else {
        (Style::Dim, "kept")
    };
    let what = if kept.by_checks { "checks" } else { "requests" };
    let line = format!(
        "objective {word}: {}; {} of {} {what} in the last {:?} were bad, {} may be",
        objective.promise,
        percent(kept.bad),
        kept.counted,
        objective.over,
        percent(objective.promise.allowed()),
    );
    Some((style, line))
}
