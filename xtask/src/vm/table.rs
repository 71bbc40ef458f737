//! What was answered, for a person to read.

use std::io::IsTerminal as _;

use super::kernels::series;
use super::report::{Report, State};

/// In red, where that can be seen.
pub(super) fn red(word: &str) -> String {
    let plain = std::env::var_os("NO_COLOR").is_some() || !std::io::stdout().is_terminal();
    if plain {
        word.to_owned()
    } else {
        format!("\x1b[1;31m{word}\x1b[0m")
    }
}

pub(super) fn verdict(passed: bool) -> String {
    if passed {
        "passed".to_owned()
    } else {
        red("FAILED")
    }
}

/// A row a probe, and what each program cost the verifier.
pub(super) fn print(report: &Report) {
    println!(
        "  {:<18} {:<4} {:<9} {:<6} because",
        "probe", "is", "attached", "event"
    );
    for probe in &report.probes {
        let [is, attached, event, reason] = cells(&probe.state);
        println!(
            "  {:<18} {is:<4} {attached:<9} {event:<6} {reason}",
            probe.name
        );
    }
    let told = report.programs.iter();
    let told = told.filter_map(|(name, cost)| Some(format!("{name} {}", (*cost)?)));
    println!(
        "  instructions that the verifier followed: {}",
        told.collect::<Vec<_>>().join(", ")
    );
    let good = report.scenes.iter().filter(|(_, outcome)| outcome.is_ok());
    println!(
        "  acts on processes and cgroups that held: {} of {}",
        good.count(),
        report.scenes.len()
    );
    if !report.idle.is_empty() {
        println!(
            "  attached, but nothing made them run: {}",
            report.idle.join(", ")
        );
    }
}

fn cells(state: &State) -> [String; 4] {
    match state {
        State::Off { reason } => ["off", "-", "-", reason].map(str::to_owned),
        State::On {
            without,
            attach,
            event,
        } => {
            let word = |result: &Result<(), String>| {
                if result.is_ok() {
                    "yes".to_owned()
                } else {
                    red("NO")
                }
            };
            let mut reasons: Vec<String> = attach.clone().err().into_iter().collect();
            reasons.extend(event.clone().err());
            if !without.is_empty() {
                reasons.push(format!("without {}", without.join(", ")));
            }
            [
                "on".to_owned(),
                word(attach),
                word(event),
                reasons.join("; "),
            ]
        }
    }
}

/// All kernels side by side.
pub(super) fn print_all(reports: &[Report]) {
    let kernels: Vec<&str> = reports
        .iter()
        .map(|report| series(&report.release))
        .collect();
    println!("\n| probe | {} |", kernels.join(" | "));
    println!("| --- |{}", " --- |".repeat(reports.len()));
    let Some(first) = reports.first() else { return };
    for probe in &first.probes {
        let cell = |report: &Report| {
            let same = report.probes.iter().find(|other| other.name == probe.name);
            same.map_or_else(|| "?".to_owned(), |probe| summary(&probe.state))
        };
        let cells: Vec<String> = reports.iter().map(cell).collect();
        println!("| {} | {} |", probe.name, cells.join(" | "));
    }
}

fn summary(state: &State) -> String {
    let word = match state {
        State::Off { .. } => "off",
        State::On {
            attach: Ok(()),
            event: Ok(()),
            ..
        } => "event",
        State::On { .. } => "FAILED",
    };
    word.to_owned()
}
