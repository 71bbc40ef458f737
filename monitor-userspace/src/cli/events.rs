//! `smart-monitor events`: what the kernel programs see, as it happens, one line an event.
//!
//! Loads kernel programs of its own, only those that are asked for: it needs no daemon, changes nothing of one that runs, and
//! is gone with the last of them when it ends.

mod changes;
mod describe;
mod filter;
mod json;
mod line;
mod names;
mod output;
mod resolve;
#[cfg(test)]
mod samples;
mod select;
mod stop;
mod stream;
mod text;
mod words;

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use monitor_common::probes::run_queue_latency::WATCHED_CGROUPS;
use monitor_common::{Event, Kind};

use super::render::Paint;
use crate::host::clock;
use crate::host::rtnetlink::Watch;
use crate::kernel::{Kernel, Options, ProbeState};
use filter::{Cgroup, Filter};
use line::{Clock, Columns, TimeForm};
use output::{Output, say};
use resolve::Resolver;
use stream::{Form, Stream, Tally, Until};

/// What an event tells, for a person; nothing is looked up on this host.
pub(super) fn in_words(event: &Event) -> String {
    describe::what(event, &mut Resolver::none())
}

pub(super) use describe::style;

/// Said below the options.
const MORE: &str = "Needs root, and no daemon. Ctrl-C ends it. Events go to standard output; notices (a probe that is off, events that \
were lost or held back) and the summary in the end go to standard error. The fields of JSON: docs/events.md.";

/// Watch kernel events as they happen: programs started and ended, signals, connections, DNS, packets thrown away, waits for a CPU, slow
/// disks, lack of memory, cgroups; and changes of this namespace's network.
#[derive(Debug, clap::Args)]
#[command(after_help = MORE)]
pub(super) struct Args {
    /// Only events of this probe; more than one may be named. `off_cpu` needs --cgroup or --pid, and
    /// `service_latency` needs --cgroup;
    /// `connect_error` makes every system call of the host some 25 ns longer meanwhile.
    #[arg(long, short, value_name = "NAME", value_delimiter = ',')]
    probe: Vec<String>,
    /// Only events that this process has a part in: its own, signals it sent, children it made.
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
    /// The same, by the name of the process.
    #[arg(long, value_name = "NAME")]
    comm: Option<String>,
    /// Only events in this cgroup (v2) and those below it.
    #[arg(long, value_name = "PATH|ID")]
    cgroup: Option<String>,
    /// Only events in this systemd unit.
    #[arg(long, value_name = "UNIT", conflicts_with = "no_resolve")]
    unit: Option<String>,
    /// Only events in the container whose id begins so.
    #[arg(long, value_name = "ID", conflicts_with = "no_resolve")]
    container: Option<String>,
    /// How long a wait must be to be an event, such as 5ms: of `run_queue_latency` and `off_cpu` (20ms without it), of
    /// `direct_reclaim` (1ms), of `block_io` (100ms) and of `service_latency` (1s).
    #[arg(long, value_name = "TIME", value_parser = span)]
    threshold: Option<Duration>,
    /// Of what can fail (exits, connections, DNS questions, requests to disks), only what did; without --probe, nothing else.
    #[arg(long)]
    failed: bool,
    /// End after so many events.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End after so long, such as 10s.
    #[arg(long, value_name = "TIME", value_parser = span)]
    duration: Option<Duration>,
    /// How times are shown; JSON always has them in UTC.
    #[arg(long, value_enum, default_value = "clock")]
    time: TimeForm,
    /// Do not find out units, containers and users: cgroups by number, users by id.
    #[arg(long)]
    no_resolve: bool,
    /// Print JSON, one object a line.
    #[arg(long)]
    json: bool,
}

/// A length of time above zero.
fn span(text: &str) -> Result<Duration, String> {
    let signed: Option<jiff::SignedDuration> = text.trim().parse().ok();
    signed
        .and_then(|signed| Duration::try_from(signed).ok())
        .filter(|time| !time.is_zero())
        .ok_or_else(|| "not a length of time such as 500us, 5ms, 10s or 1m".to_owned())
}

/// See [`Args`].
pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let (mut kinds, network) = select::asked(&args.probe, args.failed)?;
    check_threshold(&args, &kinds)?;
    let cgroup = args.cgroup.as_deref().map(Cgroup::named).transpose()?;
    anyhow::ensure!(
        cgroup.is_some() || !kinds.contains(&Kind::ServiceLatency),
        "service_latency follows the connections of a cgroup's services: say of which with --cgroup PATH"
    );
    let follows = |kind: &Kind| matches!(kind, Kind::OffCpu | Kind::ServiceLatency);
    let watched = if kinds.iter().any(follows) {
        watched(cgroup.as_ref(), args.pid)?
    } else {
        Vec::new()
    };
    let options = options(&kinds, args.threshold);
    // Its message holds its causes.
    let mut kernel = Kernel::load(&options).map_err(|error| anyhow::anyhow!("{error}"))?;
    for id in watched {
        kernel.cgroups().watch(id)?;
    }
    leave_out_what_is_off(&kernel, &mut kinds);
    let network = network.then(watch_network).flatten();
    if kinds.is_empty() && network.is_none() {
        say("none of the probes that are asked for works here: nothing to watch");
        return Ok(ExitCode::FAILURE);
    }
    for kind in [Kind::OffCpu, Kind::ConnectError] {
        if kinds.contains(&kind) {
            kernel.programs().attach(kind)?;
        }
    }
    let rings = kernel.take_rings();
    let rings = rings.ok_or_else(|| anyhow::anyhow!("the rings are taken already"))?;
    let stream = Stream {
        rings,
        counters: kernel.counters(),
        dns: kernel.dns(),
        resolver: if args.no_resolve {
            Resolver::none()
        } else {
            Resolver::of_host()
        },
        form: if args.json {
            Form::Json
        } else {
            let screen = std::io::stdout().is_terminal();
            let mut names: Vec<_> = kinds.iter().map(|kind| kind.name()).collect();
            names.extend(network.as_ref().map(|_| changes::NAME));
            Form::Lines(Columns::new(&names, screen, Paint::for_stdout()))
        },
        clock: Clock::measure(args.time),
        until: Until {
            count: args.count,
            deadline: args.duration.map(|time| clock::now().after(time)),
            stop: stop::listen()?,
        },
        filter: Filter {
            pid: args.pid,
            comm: args.comm,
            cgroup,
            unit: args.unit.map(filter::unit),
            container: args.container,
            failed: args.failed,
            unasked: unasked(&kinds),
        },
        network,
        out: Output::stdout(),
        tally: Tally::default(),
    };
    stream.run()
}

/// Bytes of news that may wait.
const NEWS: usize = 1 << 20;

/// None, and a notice, where it is refused.
fn watch_network() -> Option<Watch> {
    let watch = Watch::open(NEWS);
    let refused = |error: &std::io::Error| say(&format!("{} is off: {error}", changes::NAME));
    watch.inspect_err(refused).ok()
}

fn check_threshold(args: &Args, kinds: &[Kind]) -> anyhow::Result<()> {
    let waits = [
        Kind::RunQueueLatency,
        Kind::OffCpu,
        Kind::DirectReclaim,
        Kind::BlockIo,
        Kind::ServiceLatency,
    ];
    anyhow::ensure!(
        args.threshold.is_none() || waits.iter().any(|kind| kinds.contains(kind)),
        "--threshold is about run_queue_latency, off_cpu, direct_reclaim, block_io and service_latency, and none of them is asked for"
    );
    Ok(())
}

/// Probes that are not asked for, and without which one that is would know less: a connection is told why it failed by those that see its
/// packets and its listener.
fn unasked(kinds: &[Kind]) -> Vec<Kind> {
    let mut more = vec![Kind::PacketDrop, Kind::ListenOverflow];
    more.retain(|kind| kinds.contains(&Kind::TcpConnect) && !kinds.contains(kind));
    more
}

/// Everything else stays off, so that the kernel does no more than is asked for.
fn options(kinds: &[Kind], threshold: Option<Duration>) -> Options {
    let default = Options::default();
    let more = unasked(kinds);
    let unwanted = |kind: &&Kind| {
        **kind != Kind::EventThrottle && !kinds.contains(kind) && !more.contains(kind)
    };
    Options {
        disabled: (Kind::ALL.iter().filter(unwanted))
            .map(|kind| kind.name().to_owned())
            .collect(),
        run_queue_threshold: threshold.unwrap_or(default.run_queue_threshold),
        reclaim_threshold: threshold.unwrap_or(default.reclaim_threshold),
        block_threshold: threshold.unwrap_or(default.block_threshold),
        slow_request: threshold.unwrap_or(default.slow_request),
        ..default
    }
}

/// The cgroups that are followed.
fn watched(cgroup: Option<&Cgroup>, pid: Option<u32>) -> anyhow::Result<Vec<u64>> {
    let most = usize::try_from(WATCHED_CGROUPS)?;
    let ids = match (cgroup, pid) {
        (Some(cgroup), _) => cgroup.all(most + 1)?,
        (None, Some(pid)) => Cgroup::of_process(pid)?.id.into_iter().collect(),
        (None, None) => anyhow::bail!(
            "off_cpu follows every wait of a cgroup's threads: say of which with --cgroup PATH or --pid PID"
        ),
    };
    anyhow::ensure!(!ids.is_empty(), "there is no such cgroup to watch");
    if ids.len() > most {
        say(&format!(
            "{most} cgroups can be watched at most: some of those below this one are left out"
        ));
    }
    Ok(ids.into_iter().take(most).collect())
}

/// Says of each probe that is off why, and what to do.
fn leave_out_what_is_off(kernel: &Kernel, kinds: &mut Vec<Kind>) {
    for status in kernel.probes() {
        if let ProbeState::Off { reason, fix } = &status.state
            && kinds.contains(&status.kind)
        {
            kinds.retain(|kind| *kind != status.kind);
            say(&format!("{} is off: {reason}; {fix}", status.kind.name()));
        }
    }
}

#[cfg(test)]
mod tests {
    use monitor_common::spec::Mode;

    use super::*;

    #[test]
    fn lengths_of_time_have_a_unit_and_are_above_zero() {
        assert_eq!(span("500us"), Ok(Duration::from_micros(500)));
        assert_eq!(span("1m 30s"), Ok(Duration::from_secs(90)));
        for bad in ["", "5", "0s", "-1s", "ms"] {
            assert!(span(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_what_is_asked_for_is_loaded() {
        let asked = options(&[Kind::ProcessExit], Some(Duration::from_millis(5)));
        let on = Kind::ALL.iter().filter(|kind| {
            let name = kind.name().to_owned();
            kind.spec().mode != Mode::Bench && !asked.disabled.contains(&name)
        });
        let on: Vec<_> = on.copied().collect();
        assert_eq!(on, [Kind::ProcessExit, Kind::EventThrottle]);
        assert_eq!(asked.run_queue_threshold, Duration::from_millis(5));
        assert!(unasked(&[Kind::ProcessExit]).is_empty());
        let connections = [Kind::TcpConnect, Kind::ListenOverflow];
        assert_eq!(unasked(&connections), [Kind::PacketDrop]);
        let loaded = options(&connections, None);
        assert!(!loaded.disabled.contains(&"packet_drop".to_owned()));
        let default = options(&[Kind::ProcessExit], None);
        assert_eq!(default.reclaim_threshold, Duration::from_millis(1));
    }
}
