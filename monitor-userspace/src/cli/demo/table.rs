//! The live table: redrawn in place on a terminal, one line after the other elsewhere.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use super::story::{Row, Story};

/// Wrap off and on: a line that wraps could not be drawn over.
const NO_WRAP: &str = "\x1b[?7l";
const WRAP: &str = "\x1b[?7h";

/// Where the table goes.
#[derive(Debug)]
pub(super) struct Table {
    silent: bool,
    live: bool,
    colour: bool,
    /// Lines of the current fault that stand on the terminal.
    drawn: usize,
    last: String,
}

impl Table {
    pub(super) fn new(silent: bool) -> Self {
        let live = std::io::stdout().is_terminal()
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self {
            silent,
            live,
            colour: live && std::env::var_os("NO_COLOR").is_none(),
            drawn: 0,
            last: String::new(),
        }
    }

    pub(super) fn header(&mut self) {
        self.print(
            "Each time is the daemon's own, from the step before it: from the signal to its detection, and so on.\n\n",
        );
        let names = ["DETECTED", "DECIDED", "ACTED", "RECOVERED"];
        let header = line(
            "FAULT",
            "SERVICE",
            "SEEN BY",
            &names.map(str::to_owned),
            "OUTCOME",
        );
        self.print(&format!("{header}\n"));
    }

    /// Shows how it stands; on a terminal only.
    pub(super) fn update(&mut self, story: &Story) {
        if self.live {
            self.draw(story);
        }
    }

    /// Shows how it ended.
    pub(super) fn finish(&mut self, story: &Story) {
        self.draw(story);
        self.drawn = 0;
        self.last.clear();
    }

    pub(super) fn summary(&mut self, stories: &[Story], of: usize) {
        let closed: Vec<&Story> = stories.iter().filter(|story| story.closed()).collect();
        let mut text = format!("\nloops closed: {} of {of}\n", closed.len());
        let extremes = |what: &str, time: fn(&Story) -> Option<Duration>| {
            let mut times: Vec<_> = closed
                .iter()
                .filter_map(|story| Some((time(story)?, story.scenario.label)))
                .collect();
            times.sort_unstable();
            let ((least, quick), (most, slow)) = times.first().zip(times.last())?;
            let (least, most) = (human(*least), human(*most));
            Some(format!(
                "{what}: fastest {least} ({quick}), slowest {most} ({slow})\n"
            ))
        };
        text.extend(extremes("signal to action", |story| {
            story.times().map(|times| times.0)
        }));
        text.extend(extremes("signal to recovery", |story| {
            story.times().map(|times| times.1)
        }));
        self.print(&text);
    }

    fn draw(&mut self, story: &Story) {
        let lines = self.lines(story);
        let text = lines.join("\n") + "\n";
        if text == self.last {
            return;
        }
        let back = if self.drawn > 0 {
            format!("\x1b[{}A\r\x1b[0J", self.drawn)
        } else {
            String::new()
        };
        if self.live {
            self.print(&format!("{NO_WRAP}{back}{text}{WRAP}"));
            self.drawn = lines.len();
        } else {
            self.print(&text);
        }
        self.last = text;
    }

    fn lines(&self, story: &Story) -> Vec<String> {
        let rows = story.rows();
        let (label, service) = (story.scenario.label, story.scenario.service);
        let mut lines = Vec::new();
        if rows.is_empty() {
            let outcome = if story.failure.is_some() {
                "not seen"
            } else {
                "..."
            };
            lines.push(line(
                label,
                service,
                "",
                &std::array::from_fn(|_| String::new()),
                outcome,
            ));
        }
        for (index, row) in rows.iter().enumerate() {
            let name = if index == 0 {
                label.to_owned()
            } else if row.nested {
                format!("└ {}", row.detector)
            } else {
                format!("+ {}", row.detector)
            };
            lines.push(self.row(&name, row));
        }
        if let Some(failure) = &story.failure {
            lines.push(format!("  not closed: {failure}"));
        }
        lines
    }

    fn row(&self, name: &str, row: &Row) -> String {
        let laps = row
            .laps
            .map(|lap| lap.map_or_else(|| "-".to_owned(), human));
        let outcome = match (self.colour, row.good) {
            (true, true) => format!("\x1b[32m{}\x1b[0m", row.outcome),
            (true, false) => format!("\x1b[33m{}\x1b[0m", row.outcome),
            (false, _) => row.outcome.clone(),
        };
        line(name, &row.subject, &row.source, &laps, &outcome)
    }

    fn print(&self, text: &str) {
        if !self.silent {
            let mut out = std::io::stdout().lock();
            // A reader that went away (`| head`) is no reason not to clean up after ourselves.
            let _gone = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        }
    }
}

fn line(fault: &str, service: &str, source: &str, laps: &[String; 4], outcome: &str) -> String {
    let [detected, decided, acted, recovered] = laps;
    let text = format!(
        "{fault:<16} {service:<10} {source:<22} {detected:>9} {decided:>9} {acted:>9} {recovered:>9}  {outcome}"
    );
    text.trim_end().to_owned()
}

/// Three figures at most: `85 us`, `12.3 ms`, `1.25 s`.
fn human(time: Duration) -> String {
    let micros = time.as_secs_f64() * 1e6;
    let (value, unit) = match micros {
        m if m < 1e3 => (m, "us"),
        m if m < 1e6 => (m / 1e3, "ms"),
        m => (m / 1e6, "s"),
    };
    let digits = match value {
        v if v < 10.0 && unit != "us" => 2,
        v if v < 100.0 && unit != "us" => 1,
        _ => 0,
    };
    format!("{value:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_figures() {
        for (nanos, text) in [
            (85_400, "85 us"),
            (999_000, "999 us"),
            (12_340_000, "12.3 ms"),
            (2_600_000, "2.60 ms"),
            (1_250_000_000, "1.25 s"),
        ] {
            assert_eq!(human(Duration::from_nanos(nanos)), text);
        }
    }

    #[test]
    fn a_line_has_its_columns_in_place() {
        let laps = ["1", "2", "3", "4"].map(str::to_owned);
        let header = line("FAULT", "SERVICE", "SEEN BY", &laps, "OUTCOME");
        let row = line(
            "└ service_down",
            "auth",
            "kernel: process_exit",
            &laps,
            "fixed",
        );
        let column = |text: &str, what: &str| text.chars().count() - what.chars().count();
        assert_eq!(column(&header, "OUTCOME"), column(&row, "fixed"));
    }
}
