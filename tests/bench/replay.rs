//! Recordings: what a signal takes in the file, and how much faster than real time they are decided again.
//!
//! Two of them: the demo's faults, and ten minutes of a busy host, made up, with a thousand kernel events a second.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result};
use monitor_common::{Event, Kind};
use smart_monitor::kernel::decode;
use smart_monitor::model::{ProcessKey, ProcessUsage, Sample, Signal, Time};
use smart_monitor::record::recording::{Entry, Header, InForce, Reader, What, Writer, create};
use smart_monitor::replay::{Choice, Replay};

use crate::daemon::Folder;
use crate::report::{Goal, Report, Values, progress};

const SECOND: i64 = 1_000_000_000;
/// Length of the recording that is made up, seconds.
const LENGTH: i64 = 600;
/// Its kernel events a second.
const EVENTS: i64 = 1_000;
/// Processes in each of its tables, of which there is one a second.
const PROCESSES: u32 = 200;
/// What most events of a busy host are.
const KINDS: [Kind; 5] = [
    Kind::ProcessFork,
    Kind::ProcessExec,
    Kind::ProcessExit,
    Kind::RunQueueLatency,
    Kind::TcpConnect,
];

pub(crate) fn measure(rounds: usize, report: &mut Report) -> Result<()> {
    progress("replay: the demo, and ten minutes of a thousand events a second");
    let folder = Folder::new()?;
    let replays = Path::new(env!("CARGO_MANIFEST_DIR")).join("replay");
    let text = std::fs::read_to_string(replays.join("demo_faults.toml"))?;
    let (demo, busy) = (folder.file("demo.rec"), folder.file("busy.rec"));
    let mut lines = Reader::open(&replays.join("demo_faults.jsonl"), false)?;
    let mut entries = Vec::new();
    while let Some(entry) = lines.next()? {
        entries.push(entry);
    }
    report.section_of_values("replay");
    for (name, path, entries) in [
        (
            "demo",
            &demo,
            Box::new(entries.into_iter()) as Box<dyn Iterator<Item = Entry>>,
        ),
        ("busy host", &busy, Box::new(busy_host()?)),
    ] {
        let each = write(path, &text, entries)?;
        let mut values = Values::default();
        values.add(each);
        report.values(&format!("{name}: size"), &values, "bytes a signal", None);
        let (mut factor, mut rate) = (Values::default(), Values::default());
        for _ in 0..rounds {
            let (signals, span, took) = replay(path)?;
            factor.add(span / took);
            rate.add(signals / took);
        }
        let goal = Some(Goal::AtLeast(1000.0));
        report.values(&format!("{name}: speed"), &factor, "times real time", goal);
        report.values(&format!("{name}: rate"), &rate, "signals a second", None);
    }
    Ok(())
}

/// Bytes a signal.
fn write(path: &Path, config: &str, entries: impl Iterator<Item = Entry>) -> Result<f64> {
    let header = Header {
        in_force: InForce {
            config: Some(config.to_owned()),
            ..InForce::default()
        },
        ..Header::default()
    };
    let mut writer = Writer::new(create(path)?, &header, u64::MAX)?;
    for entry in entries {
        writer.add(&entry)?;
    }
    let (_, totals) = writer.finish(0, Time::default())?;
    #[expect(clippy::cast_precision_loss, reason = "a mean")]
    let each = totals.bytes as f64 / totals.signals as f64;
    Ok(each)
}

/// Signals, seconds that they span, seconds that it took to read and decide them.
fn replay(path: &Path) -> Result<(f64, f64, f64)> {
    let began = Instant::now();
    let mut reader = Reader::open(path, false)?;
    let bad = |error: smart_monitor::config::ConfigError| anyhow::anyhow!("{}", error.render());
    let mut replay = Replay::new(reader.header(), Choice::default()).map_err(bad)?;
    let (mut decided, mut span) = (Vec::new(), None);
    while let Some(entry) = reader.next()? {
        let (first, _) = span.unwrap_or((entry.now, entry.now));
        span = Some((first, entry.now));
        replay.feed(entry, &mut decided).map_err(bad)?;
        decided.clear();
    }
    replay.play(&mut decided).map_err(bad)?;
    let took = began.elapsed().as_secs_f64();
    let (first, last) = span.context("the recording is empty")?;
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    let signals = reader.signals() as f64;
    Ok((signals, last.since(first).as_secs_f64(), took))
}

/// Ten minutes of processes that come and go, wait and connect, and a table of them each second.
fn busy_host() -> Result<impl Iterator<Item = Entry>> {
    let templates = KINDS.map(template);
    let templates: Vec<Event> = templates
        .into_iter()
        .collect::<Option<_>>()
        .context("a record")?;
    let events = (0..LENGTH * EVENTS).flat_map(move |number| {
        let at = Time::from_nanos(SECOND + number * (SECOND / EVENTS));
        let pid = u32::try_from(number % 30_000).unwrap_or(0) + 2;
        let turn = usize::try_from(number).unwrap_or(0);
        let event = templates.get(turn % templates.len()).map(|template| {
            let mut event = *template;
            event.header_mut().time_ns = u64::try_from(at.nanos()).unwrap_or(0);
            let task = event.task_mut();
            (task.pid, task.tid) = (pid, pid);
            task.start_time_ns = u64::try_from(at.nanos()).unwrap_or(0);
            task.cgroup_id = u64::from(pid % 40);
            task.comm = *b"worker\0\0\0\0\0\0\0\0\0\0";
            Signal::Kernel { event }
        });
        let table = (number % EVENTS == 0).then(|| table(number / EVENTS));
        let now = at.after(std::time::Duration::from_millis(1));
        event.into_iter().chain(table).map(move |signal| Entry {
            at,
            now,
            what: What::Signal(signal),
        })
    });
    Ok(events)
}

fn template(kind: Kind) -> Option<Event> {
    let mut bytes = vec![0; kind.size()];
    let size = u32::try_from(kind.size()).ok()?;
    bytes
        .get_mut(..2)?
        .copy_from_slice(&kind.number().to_ne_bytes());
    bytes.get_mut(4..8)?.copy_from_slice(&size.to_ne_bytes());
    decode(&bytes)
}

fn table(second: i64) -> Signal {
    let second = u64::try_from(second).unwrap_or(0);
    let processes = (0..PROCESSES).map(|number| ProcessUsage {
        process: ProcessKey {
            pid: 40_000 + number,
            start_ticks: u64::from(number) * 7,
        },
        comm: format!("server-{number}"),
        cpu_ns: second * 1_000_000 * u64::from(number),
        resident: (64 << 20) + second * 4096,
        major_faults: second,
        run_delay_ns: second * 1000,
        blocked: Vec::new(),
    });
    let sample = Sample::Processes {
        processes: processes.collect(),
    };
    Signal::Sample { sample }
}
