//! `smart-monitor catalogue`: what can be done about trouble, and what of it this host can do.

use std::process::ExitCode;

use super::ask;
use super::render::{self, Cell, Column, Paint, Style, Table};
use crate::actions;
use crate::api::answers::Actions;
use crate::host::abilities;
use crate::model::abilities::ActionRow;
use crate::model::action::Risk;

/// List the actions: what each does, how much it can destroy, whether it can be undone, and whether this host can do it.
///
/// Needs no daemon, and looks at what this process may do: as root for what the daemon can do as root. What else the daemon is made of
/// (probes, detectors, guards) stands in docs/catalogue.md.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// See [`Args`].
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let actions = actions::rows(&abilities::read());
    if args.json {
        ask::show_json(&Actions { actions })?;
    } else {
        render::show(&text(&actions, Paint::for_stdout()))?;
    }
    Ok(ExitCode::SUCCESS)
}

const COLUMNS: &[Column] = &[
    Column::left("ACTION"),
    Column::left("RISK"),
    Column::left("ON"),
    Column::left("UNDO"),
    Column::left("HERE"),
    Column::left("DOES"),
];

fn text(actions: &[ActionRow], paint: Paint) -> String {
    let mut table = Table::new(COLUMNS);
    for action in actions {
        let style = match action.risk {
            Risk::Restores => Style::Good,
            Risk::Restrains => Style::Warning,
            Risk::Destructive => Style::Bad,
        };
        let here = match &action.unable {
            None => Cell::styled("yes", Style::Good),
            Some(_) => Cell::styled("no", Style::Bad),
        };
        let undo = if action.reversible { "yes" } else { "no" };
        table.row(vec![
            action.name.as_str().into(),
            Cell::styled(action.risk.name(), style),
            action.on.join(", ").into(),
            undo.into(),
            here,
            action.summary.as_str().into(),
        ]);
    }
    let mut out = table.render(paint);
    for action in actions {
        if let Some(why) = &action.unable {
            let line = format!(
                "{} cannot be done here: {why} (it needs {})",
                action.name, action.needs
            );
            out.push('\n');
            for line in render::wrap(&render::clean(&line), render::WIDTH) {
                render::add(
                    &mut out,
                    format_args!("{}\n", paint.apply(Style::Warning, &line)),
                );
            }
        }
    }
    out.push_str("\nto have one done: `sudo smart-monitor act ACTION SUBJECT --dry-run`, then without --dry-run\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_done_here_says_why_and_what_it_needs() {
        let row = |name: &str, unable: Option<&str>| ActionRow {
            name: name.to_owned(),
            summary: format!("does {name}"),
            risk: Risk::Restrains,
            on: vec!["service".to_owned(), "process".to_owned()],
            reversible: true,
            needs: "a tool".to_owned(),
            unable: unable.map(str::to_owned),
        };
        let rows = [
            row("calm", None),
            row("mend", Some("there is no tool: install it")),
        ];
        let shown = text(&rows, Paint::none());
        let lines: Vec<_> = shown.lines().collect();
        assert!(
            lines[1].starts_with("calm    restrains  service, process  yes   yes"),
            "{shown}"
        );
        assert!(lines[2].contains("yes   no "), "{shown}");
        assert!(
            shown.contains(
                "mend cannot be done here: there is no tool: install it (it needs a tool)\n"
            ),
            "{shown}"
        );
    }
}
