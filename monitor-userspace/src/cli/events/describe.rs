//! What an event tells, in words for a person: one line, fit for a terminal whatever its bytes hold.

use std::time::Duration;

use monitor_common::Event;
use monitor_common::Kind;
use monitor_common::event::COMM_LEN;
use monitor_common::probes::block_io::{BlockIo, Operation, UNKNOWN};
use monitor_common::probes::cgroup_change::CgroupChange;
use monitor_common::probes::event_throttle::EventThrottle;
use monitor_common::probes::memory_ceiling::{MemoryCeiling, Scope};
use monitor_common::probes::off_cpu::{OffCpu, Wait};
use monitor_common::probes::oom_kill::OomKill;
use monitor_common::probes::process_exec::{ProcessExec, UID_UNKNOWN};
use monitor_common::probes::process_exit::{Ending, ProcessExit};
use monitor_common::probes::process_signal::ProcessSignal;
use monitor_common::probes::run_queue_latency::{Cause, Culprit, RunQueueLatency};

use super::resolve::Resolver;
use super::{names, text, words};
use crate::cli::render::{self, Style, add};
use crate::host::procfs;
use crate::identity::render_argv;
use crate::model::Time;

/// Culprits that are named; JSON has all of them.
const NAMED: usize = 3;

/// How much an event should stand out.
pub(in crate::cli) fn style(event: &Event) -> Option<Style> {
    match event {
        Event::OomKill(_)
        | Event::ForkStorm(_)
        | Event::MemoryCeiling(_)
        | Event::RouteFailure(_)
        | Event::SocketError(_)
        | Event::ConnectError(_) => Some(Style::Bad),
        Event::ProcessExit(exit) => match exit.ending() {
            Ending::Code(0) => None,
            Ending::Code(_) => Some(Style::Warning),
            Ending::Signal(_) => Some(Style::Bad),
        },
        Event::TcpConnect(connect) if connect.error != 0 => Some(Style::Bad),
        Event::BlockIo(request) if request.status != 0 => Some(Style::Bad),
        Event::DnsQuery(query) if query.failed() => Some(Style::Bad),
        Event::DnsQuery(query) if query.rcode != 0 => Some(Style::Warning),
        Event::ProcessSignal(_)
        | Event::RunQueueLatency(_)
        | Event::DirectReclaim(_)
        | Event::ServiceLatency(_)
        | Event::OffCpu(_)
        | Event::TcpReset(_)
        | Event::TcpRetransmit(_)
        | Event::PacketDrop(_)
        | Event::ListenOverflow(_)
        | Event::SocketOverflow(_)
        | Event::BlockIo(_) => Some(Style::Warning),
        _ => None,
    }
}

/// What it tells.
pub(super) fn what(event: &Event, resolver: &mut Resolver) -> String {
    match event {
        Event::ProcessExec(exec) => executed(exec, event, resolver),
        Event::ProcessFork(fork) => format!("child of {}", fork.parent_pid),
        Event::ProcessExit(exit) => ended(exit),
        Event::RunQueueLatency(wait) => waited(wait, resolver),
        Event::OomKill(kill) => out_of_memory(kill),
        Event::DirectReclaim(stall) => format!(
            "stalled {} for the {}, freed {}",
            time(stall.stall_ns),
            whose(words::reclaim_scope(stall.scope)),
            pages(stall.reclaimed_pages)
        ),
        Event::TcpConnect(connect) => network::connected(connect),
        Event::TcpReset(reset) => network::reset(reset),
        Event::TcpRetransmit(again) => network::retransmit(again),
        Event::ServiceLatency(slow) => network::answered(slow),
        Event::ProcessSignal(signal) => signalled(signal),
        Event::ForkStorm(storm) => {
            let within = storm.header.time_ns.saturating_sub(storm.window_ns);
            let mut text = format!(
                "{} forks in {} (limit: {} a second)",
                storm.forks,
                time(within),
                storm.limit
            );
            if storm.guard != 0 {
                let guard = words::fork_guard(storm.guard);
                add(
                    &mut text,
                    format_args!("; its guard {guard}, {} killed", storm.killed),
                );
            }
            text
        }
        Event::MemoryCeiling(crossing) => crossed(crossing),
        Event::OffCpu(wait) => off_cpu(wait),
        Event::CgroupChange(change) => cgroup(change),
        Event::RouteFailure(failure) => wire::no_route(failure),
        Event::SocketError(error) => wire::on_socket(error),
        Event::ConnectError(event) => wire::refused_call(event),
        Event::PacketDrop(drop) => drops::packet(drop),
        Event::ListenOverflow(full) => drops::listener(full),
        Event::SocketOverflow(full) => drops::socket(full),
        Event::BlockIo(request) => block_io(request),
        Event::DnsQuery(query) => dns::resolved(query),
        Event::TaskSnapshot(_)
        | Event::EventThrottle(_)
        | Event::BenchLoad(_)
        | Event::BenchEmpty(_) => String::new(),
    }
}

/// Says that events of a cgroup are held back, or no longer.
pub(super) fn throttle(event: &EventThrottle, place: &str) -> String {
    let probe = Kind::from_number(event.probe).map_or("unknown", Kind::name);
    let cpu = event.header.cpu;
    if event.began == 0 {
        format!(
            "{probe} events of {place} on CPU {cpu} are shown again; {} were held back",
            event.suppressed
        )
    } else {
        format!(
            "{probe} events of {place} on CPU {cpu} are held back: more than {} a second",
            event.per_second
        )
    }
}

fn time(nanos: u64) -> String {
    render::duration(Duration::from_nanos(nanos))
}

fn pages(pages: u64) -> String {
    render::bytes(pages.saturating_mul(procfs::page_size()))
}

/// A process: name and id.
fn process(comm: &[u8; COMM_LEN], pid: u32) -> String {
    format!("{}[{pid}]", text::printable(text::name_of(comm)))
}

fn whose(scope: &str) -> &'static str {
    match scope {
        "host" => "host's memory",
        "cgroup" => "limit of a cgroup",
        _ => "lack of memory, whose is unknown",
    }
}

fn executed(exec: &ProcessExec, event: &Event, resolver: &mut Resolver) -> String {
    let named = resolver.whole(event).and_then(|identity| identity.user);
    let user = named.unwrap_or_else(|| match exec.uid {
        UID_UNKNOWN => "user unknown".to_owned(),
        uid => format!("user {uid}"),
    });
    let mut argv = render_argv(exec.argv());
    if exec.argv_cut() && !argv.ends_with('…') {
        argv.push('…');
    }
    format!("{}: {argv}", render::clean(&user))
}

fn signal_name(number: u32) -> String {
    names::signal(number).map_or_else(|| format!("signal {number}"), str::to_owned)
}

fn ended(exit: &ProcessExit) -> String {
    let after = time(exit.lifetime_ns);
    match exit.ending() {
        Ending::Code(code) => format!("exit code {code} after {after}"),
        Ending::Signal(number) => {
            let core = exit.status & 0x80 != 0;
            let core = if core { ", core dumped," } else { "" };
            let name = signal_name(u32::from(number));
            format!("killed by {name}{core} after {after}")
        }
    }
}

fn signalled(signal: &ProcessSignal) -> String {
    let name = signal_name(signal.signal);
    let from = if signal.sender_pid == signal.task.pid {
        // The kernel sends in the name of whoever runs.
        "itself, or the kernel".to_owned()
    } else {
        process(&signal.sender_comm, signal.sender_pid)
    };
    let result = words::signal_result(signal.result).replace('_', " ");
    format!("{name} from {from}: {result}")
}

fn out_of_memory(kill: &OomKill) -> String {
    let all = kill.anon_pages.saturating_add(kill.file_pages);
    let all = all.saturating_add(kill.shmem_pages);
    let mut text = format!(
        "OOM-killed with {}: anonymous {}, file {}, shared {}",
        pages(all),
        pages(kill.anon_pages),
        pages(kill.file_pages),
        pages(kill.shmem_pages)
    );
    let cause = whose(words::oom_cause(kill.cause));
    let trigger = process(&kill.trigger_comm, kill.trigger_pid);
    let score = kill.oom_score_adj;
    add(
        &mut text,
        format_args!("; for the {cause}; {trigger} asked for more; oom_score_adj {score}"),
    );
    text
}

fn crossed(crossing: &MemoryCeiling) -> String {
    let of = match crossing.scope() {
        Scope::Process => "its",
        Scope::Cgroup => "its cgroup's",
    };
    format!(
        "{} of {of} ceiling of {}, {} of it its own; {}",
        pages(crossing.used_pages),
        pages(crossing.limit_pages),
        pages(crossing.resident_pages),
        words::ceiling_verdict(crossing.verdict)
    )
}

fn off_cpu(wait: &OffCpu) -> String {
    let kind = match Wait::from_number(wait.wait) {
        Some(Wait::Io) => "for I/O",
        Some(Wait::Lock) => "for a lock",
        Some(Wait::Sleep) => "asleep",
        Some(Wait::Stopped) => "stopped",
        None => "for something unknown",
    };
    let mut text = format!("waited {} {kind}", time(wait.wait_ns));
    match (names::syscall(wait.syscall), wait.syscall) {
        (Some(name), _) => add(&mut text, format_args!(" in {name}")),
        (None, number @ 0..) => add(&mut text, format_args!(" in system call {number}")),
        // Outside of one, or unknown.
        (None, _) => {}
    }
    text
}

fn block_io(request: &BlockIo) -> String {
    let operation = Operation::from_number(request.operation);
    let mut text = format!(
        "{} {} {} at sector {}: ",
        text::printable(text::name_of(&request.disk)),
        operation.map_or("unknown", Operation::name),
        render::bytes(u64::from(request.bytes)),
        request.sector
    );
    if request.status != 0 {
        let number = request.error();
        let error = names::error(number);
        let error = error.map_or_else(|| format!("error {number}"), str::to_owned);
        add(&mut text, format_args!("{error}, "));
    }
    match request.device_ns {
        UNKNOWN => text.push_str("time unknown"),
        nanos => text.push_str(&time(nanos)),
    }
    if request.queued_ns != UNKNOWN {
        add(
            &mut text,
            format_args!(" (queued {})", time(request.queued_ns)),
        );
    }
    text
}

fn cgroup(change: &CgroupChange) -> String {
    let mut text = format!("{} ", words::cgroup_change(change.change));
    let path = change.path();
    text.push_str(&text::printable(
        path.unwrap_or(text::name_of(&change.path)),
    ));
    if path.is_none() {
        text.push('…');
    }
    if change.hierarchy != 0 {
        add(
            &mut text,
            format_args!(" (v1 hierarchy {})", change.hierarchy),
        );
    }
    text
}

fn waited(wait: &RunQueueLatency, resolver: &mut Resolver) -> String {
    let cause = match wait.cause() {
        Cause::Quota => "its CPU quota was used up",
        Cause::OwnThreads => "its own threads",
        Cause::OwnCgroup => "others of its cgroup",
        Cause::Neighbour => "other cgroups",
        Cause::System => "kernel threads",
        Cause::Unknown => "unknown cause",
    };
    let mut text = format!("waited {}: {cause}", time(wait.wait_ns));
    let share = |held: u64| held.saturating_mul(100) / wait.wait_ns.max(1);
    let mut parts = Vec::new();
    let ranked = wait.ranked();
    let mut held = ranked.iter().filter(|culprit| share(culprit.held_ns) > 0);
    for culprit in held.by_ref().take(NAMED) {
        parts.push(named(culprit, share(culprit.held_ns), wait, resolver));
    }
    let rest = held.fold(wait.others_ns, |sum, culprit| {
        sum.saturating_add(culprit.held_ns)
    });
    for (what, nanos) in [
        ("others", rest),
        ("throttled", wait.throttled_ns),
        ("idle", wait.idle_ns),
        ("forgotten", wait.forgotten_ns),
    ] {
        if share(nanos) > 0 {
            parts.push(format!("{what} {}%", share(nanos)));
        }
    }
    if !parts.is_empty() {
        add(&mut text, format_args!("; {}", parts.join(", ")));
    }
    text
}

fn named(culprit: &Culprit, share: u64, wait: &RunQueueLatency, resolver: &mut Resolver) -> String {
    let mut text = format!("{} {share}%", process(&culprit.comm, culprit.pid));
    if culprit.cgroup_id != wait.task.cgroup_id && culprit.kernel_thread == 0 {
        let at = Time::from_kernel(wait.header.time_ns);
        let place = match resolver.of_cgroup(culprit.cgroup_id, at) {
            Some(identity) => identity.place.describe().or(identity.cgroup),
            None => None,
        };
        let place = place.unwrap_or_else(|| format!("cgroup {}", culprit.cgroup_id));
        add(&mut text, format_args!(" ({})", render::clean(&place)));
    }
    text
}

mod dns;
mod drops;
mod network;
#[cfg(test)]
mod tests;
mod wire;
