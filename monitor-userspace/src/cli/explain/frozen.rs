//! How the host was when an incident was raised, as text: the last lines of the log, who used most, how busy it was, kernel events.

use crate::cli::events;
use crate::cli::render::{self, Column, Paint, Style, Table, WIDTH};
use crate::model::evidence::Frozen;
use crate::model::{HostLoad, Incident, Time};

use super::story::since;

/// Appends what was frozen; nothing when there is nothing.
pub(super) fn add(out: &mut String, incident: &Incident, paint: Paint) {
    let Some(frozen) = &incident.evidence.frozen else {
        return;
    };
    if !frozen.log.is_empty() {
        heading(out, "last lines of its log", paint);
        for line in &frozen.log {
            indented(out, 2, line);
        }
    }
    if !frozen.events.is_empty() {
        heading(out, "kernel events before it", paint);
        events_of(out, frozen, incident.evidence.seen, paint);
    }
    if let Some(load) = &frozen.load {
        heading(out, "how busy the host was", paint);
        indented(out, 2, &busy(load));
    }
    if !frozen.top.is_empty() {
        heading(out, "processes that used most", paint);
        out.push_str(&top(frozen, paint));
    }
}

fn heading(out: &mut String, text: &str, paint: Paint) {
    let text = paint.apply(Style::Heading, text);
    render::add(out, format_args!("\n{text}\n"));
}

/// A text in lines that begin at a column; the first at the one the output is at, if that is further.
fn indented(out: &mut String, column: usize, text: &str) {
    for line in render::wrap(&render::clean(text), WIDTH - column) {
        let text = format!("{:column$}{line}", "");
        out.push_str(text.trim_end());
        out.push('\n');
    }
}

/// Columns of an event before its words: time to the finding, probe, process.
const BEFORE: usize = 2 + 12 + 2 + 17 + 2 + 25 + 2;

fn events_of(out: &mut String, frozen: &Frozen, seen: Time, paint: Paint) {
    for event in &frozen.events {
        let at = Time::from_kernel(event.time_ns());
        let task = event.task();
        let who = match task.pid {
            0 => "-".to_owned(),
            pid => format!("{} [{pid}]", render::clean(task.comm())),
        };
        let probe = format!("{:<17}", event.kind().name());
        let probe = match events::style(event) {
            Some(style) => paint.apply(style, &probe),
            None => probe,
        };
        let words = render::clean(&events::in_words(event));
        let mut lines = render::wrap(&words, WIDTH - BEFORE).into_iter();
        let first = lines.next().unwrap_or_default();
        let line = format!("  {:>12}  {probe}  {who:<25}  {first}", since(seen, at));
        out.push_str(line.trim_end());
        out.push('\n');
        for line in lines {
            render::add(out, format_args!("{:BEFORE$}{line}\n", ""));
        }
    }
}

/// Load and pressure in a sentence.
fn busy(load: &HostLoad) -> String {
    let share = |hundredths: u32| format!("{:.1} %", f64::from(hundredths) / 100.0);
    let cpus = match load.cpus {
        0 => String::new(),
        1 => " on 1 CPU".to_owned(),
        cpus => format!(" on {cpus} CPUs"),
    };
    format!(
        "load average {:.2}{cpus}; of the last 10 s, some task waited for a CPU in {}, for memory in {} (all tasks: {}), for storage in {} (all: {})",
        f64::from(load.load1) / 100.0,
        share(load.cpu_some),
        share(load.memory_some),
        share(load.memory_full),
        share(load.io_some),
        share(load.io_full),
    )
}

fn top(frozen: &Frozen, paint: Paint) -> String {
    const COLUMNS: &[Column] = &[
        Column::left("PROCESS"),
        Column::right("PID"),
        Column::right("CPU"),
        Column::right("MEMORY"),
    ];
    let mut table = Table::new(COLUMNS);
    for process in &frozen.top {
        table.row(vec![
            process.comm.as_str().into(),
            process.process.pid.to_string().into(),
            format!("{:.1} %", f64::from(process.cpu) / 100.0).into(),
            render::bytes(process.resident).into(),
        ]);
    }
    let text = table.render(paint);
    let lines = text.lines().map(|line| format!("  {line}\n"));
    lines.collect()
}

#[cfg(test)]
mod tests {
    use monitor_common::probes::process_exit::ProcessExit;
    use monitor_common::{Event, Header, Task};

    use super::*;
    use crate::model::evidence::TopProcess;
    use crate::model::{Evidence, IncidentId, ProcessKey, Severity, Subject};

    #[test]
    fn what_was_frozen_is_told_in_words() {
        let task = Task {
            pid: 4242,
            tid: 4242,
            start_time_ns: 1,
            cgroup_id: 7,
            comm: *b"shop\0\0\0\0\0\0\0\0\0\0\0\0",
        };
        let exit = ProcessExit {
            header: Header::of::<ProcessExit>(0, 5_000_000_000),
            task,
            parent_pid: 1,
            status: 3 << 8,
            lifetime_ns: 12_300_000,
        };
        let process = TopProcess {
            process: ProcessKey::from_task(&task),
            comm: "postgres\x1b".to_owned(),
            cpu: 9_870,
            resident: 3 << 30,
        };
        let seen = Time::from_nanos(5_000_000_000);
        let evidence = Evidence::at(Time::from_nanos(6_500_000_000));
        let subject = Subject::service("shop");
        let mut incident = Incident::new(
            IncidentId(1),
            "d",
            subject,
            Severity::Critical,
            evidence,
            seen,
        );
        let mut none = String::new();
        add(&mut none, &incident, Paint::none());
        assert_eq!(none, "");
        incident.evidence.frozen = Some(Box::new(Frozen {
            events: vec![Event::ProcessExit(exit)],
            top: vec![process],
            load: Some(HostLoad {
                cpus: 2,
                load1: 345,
                cpu_some: 1_250,
                ..HostLoad::default()
            }),
            log: vec!["no disk\x1b[2J".to_owned(), "wörd ".repeat(60)],
        }));
        let mut text = String::new();
        add(&mut text, &incident, Paint::none());
        let order = [
            "\nlast lines of its log\n  no disk",
            "\nkernel events before it\n",
            "-1.50 s  process_exit       shop [4242]                exit code 3 after 12.3 ms",
            "\nhow busy the host was\n  load average 3.45 on 2 CPUs; of the last 10 s, some task waited for a CPU in 12.5 %,",
            "\nprocesses that used most\n  PROCESS",
            "4242  98.7 %  3.0 GiB",
        ];
        let at = order.map(|part| text.find(part).unwrap_or_else(|| panic!("{part}:\n{text}")));
        assert!(at.is_sorted(), "{text}");
        assert!(!text.contains('\x1b'), "{text}");
        assert!(
            text.lines().all(|line| line.chars().count() <= WIDTH),
            "{text}"
        );
    }
}
