//! The health checks of services, and what each said last.

use super::super::render::{self, Cell, Column, Paint, Style, Table};
use super::dash;
use crate::api::answers::Status;
use crate::model::Check;

const CHECKS: &[Column] = &[
    Column::left("SERVICE"),
    Column::left("CHECK"),
    Column::left("ASKS"),
    Column::left("STATE"),
    Column::left("SAID LAST"),
];

/// Checks that are listed; those that fail first.
const LISTED: usize = 50;

/// Those of one service, or of all.
pub(super) fn table(status: &Status, only: Option<&str>, paint: Paint) -> String {
    let services = status.view.services.iter();
    let services = services.filter(|(name, _)| only.is_none_or(|only| only == name.as_str()));
    let mut all: Vec<(&String, &String, &Check)> = services
        .flat_map(|(service, row)| {
            let checks = row.service.checks.iter();
            checks.map(move |(name, check)| (service, name, check))
        })
        .collect();
    all.sort_by_key(|(_, _, check)| check.well != Some(false));
    if all.is_empty() {
        return "no checks are configured\n".to_owned();
    }
    let mut table = Table::new(CHECKS);
    for (service, name, check) in all.iter().take(LISTED) {
        let state = match check.well {
            Some(true) => Cell::styled("well", Style::Good),
            Some(false) => Cell::styled("FAILING", Style::Bad),
            None => Cell::styled("not yet", Style::Dim),
        };
        table.row(vec![
            service.as_str().into(),
            name.as_str().into(),
            check.kind.as_str().into(),
            state,
            check.said.as_deref().map_or_else(dash, Into::into),
        ]);
    }
    let mut out = table.render(paint);
    if let Some(more) = all.len().checked_sub(LISTED).filter(|more| *more > 0) {
        let line = format_args!("and {more} more: `smart-monitor status SERVICE`, or `--json`\n");
        render::add(&mut out, line);
    }
    out
}
