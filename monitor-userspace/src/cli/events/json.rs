//! An event as one line of JSON. The schema is documented in docs/events.md: names are never used again for something else.

use std::borrow::Cow;

use monitor_common::Event;
use monitor_common::event::COMM_LEN;
use monitor_common::probes::block_io::{BlockIo, Operation, UNKNOWN};
use monitor_common::probes::off_cpu::Wait;
use monitor_common::probes::process_exec::UID_UNKNOWN;
use monitor_common::probes::process_exit::{Ending, ProcessExit};
use monitor_common::probes::run_queue_latency::{Culprit, RunQueueLatency};
use serde::Serialize;

use super::resolve::Resolver;
use super::{names, text, words};
use crate::host::procfs;
use crate::model::Time;
use crate::model::who::Identity;

mod dns;
mod drops;
mod network;
mod wire;

/// The line, without its end; `wall` is its time on the wall clock. `holders` processes have its socket, where that is how its process
/// was found.
pub(super) fn line(
    event: &Event,
    holders: Option<usize>,
    wall: String,
    resolver: &mut Resolver,
) -> serde_json::Result<String> {
    let task = event.task();
    serde_json::to_string(&Line {
        time: wall,
        monotonic_ns: event.time_ns(),
        probe: event.kind().name(),
        cpu: event.header().cpu,
        pid: task.pid,
        tid: task.tid,
        start_time_ns: task.start_time_ns,
        comm: name(&task.comm),
        cgroup_id: task.cgroup_id,
        pid_from: holders.map(|_| "socket"),
        socket_holders: holders,
        identity: resolver.whole(event),
        fields: fields(event, resolver),
    })
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    monotonic_ns: u64,
    probe: &'static str,
    cpu: u16,
    pid: u32,
    tid: u32,
    start_time_ns: u64,
    comm: Cow<'a, str>,
    cgroup_id: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid_from: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    socket_holders: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<Identity>,
    #[serde(flatten)]
    fields: Fields<'a>,
}

#[derive(Serialize)]
struct Holder<'a> {
    pid: u32,
    comm: Cow<'a, str>,
    cgroup_id: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<Identity>,
    relation: &'static str,
    held_ns: u64,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Fields<'a> {
    Exec {
        parent_pid: u32,
        uid: Option<u32>,
        argv: Vec<Cow<'a, str>>,
        argv_bytes: u32,
        argv_cut: bool,
        #[serde(skip_serializing_if = "is_false")]
        argv_lossy: bool,
    },
    Fork {
        parent_pid: u32,
        parent_start_time_ns: Option<u64>,
    },
    Exit {
        parent_pid: u32,
        exit_code: Option<u8>,
        signal: Option<u8>,
        signal_name: Option<&'static str>,
        core_dumped: bool,
        lifetime_ns: u64,
    },
    RunQueue {
        wait_ns: u64,
        cause: &'static str,
        has_quota: bool,
        throttled_ns: u64,
        idle_ns: u64,
        others_ns: u64,
        forgotten_ns: u64,
        previous_pid: u32,
        previous_comm: Cow<'a, str>,
        culprits: Vec<Holder<'a>>,
    },
    Oom {
        anon_bytes: u64,
        file_bytes: u64,
        shmem_bytes: u64,
        cause: &'static str,
        trigger_pid: u32,
        trigger_comm: Cow<'a, str>,
        oom_score_adj: i32,
    },
    Reclaim {
        stall_ns: u64,
        reclaimed_bytes: u64,
        scope: &'static str,
    },
    Connect(network::Connect),
    Reset(network::Reset),
    Retransmit(network::Retransmit),
    Answer(network::Answer),
    Signal {
        signal: u32,
        signal_name: Option<&'static str>,
        result: &'static str,
        sender_pid: u32,
        sender_comm: Cow<'a, str>,
    },
    Storm {
        forks: u32,
        window_ns: u64,
        limit_per_second: u32,
        guard: &'static str,
        killed: u32,
    },
    Ceiling {
        scope: &'static str,
        memory_cgroup_id: Option<u64>,
        limit_bytes: u64,
        used_bytes: u64,
        resident_bytes: u64,
        verdict: &'static str,
    },
    OffCpu {
        wait_ns: u64,
        wait: &'static str,
        syscall: Option<i64>,
        syscall_name: Option<&'static str>,
    },
    Drop(drops::Packet),
    Listen(drops::Listen),
    FullSocket(drops::Socket),
    Cgroup {
        change: &'static str,
        changed_cgroup_id: u64,
        hierarchy: u32,
        path: Cow<'a, str>,
        path_cut: bool,
    },
    Route(wire::Route),
    Socket(wire::OnSocket),
    Call(wire::Call<'a>),
    Block {
        disk: Cow<'a, str>,
        major: u32,
        minor: u32,
        operation: &'static str,
        sector: u64,
        bytes: u32,
        device_ns: Option<u64>,
        queued_ns: Option<u64>,
        error: Option<u32>,
        error_name: Option<&'static str>,
        charged_cgroup_id: Option<u64>,
    },
    Dns(dns::Dns),
    Nothing {},
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "so serde calls it")]
const fn is_false(value: &bool) -> bool {
    !*value
}

fn name(comm: &[u8; COMM_LEN]) -> Cow<'_, str> {
    text::exact(text::name_of(comm))
}

fn pages(pages: u64) -> u64 {
    pages.saturating_mul(procfs::page_size())
}

fn fields<'a>(event: &'a Event, resolver: &mut Resolver) -> Fields<'a> {
    match event {
        Event::ProcessExec(event) => {
            let argv = event.argv();
            let whole = argv.strip_suffix(b"\0").unwrap_or(argv);
            let parts = whole.split(|byte| *byte == 0);
            let argv: Vec<_> = parts.map(String::from_utf8_lossy).collect();
            Fields::Exec {
                parent_pid: event.parent_pid,
                uid: (event.uid != UID_UNKNOWN).then_some(event.uid),
                argv_lossy: std::str::from_utf8(whole).is_err(),
                argv: if event.argv_len == 0 {
                    Vec::new()
                } else {
                    argv
                },
                argv_bytes: event.argv_total,
                argv_cut: event.argv_cut(),
            }
        }
        Event::ProcessFork(event) => Fields::Fork {
            parent_pid: event.parent_pid,
            parent_start_time_ns: some(event.parent_start_time_ns),
        },
        Event::ProcessExit(event) => exit(event),
        Event::RunQueueLatency(event) => run_queue(event, resolver),
        Event::OomKill(event) => Fields::Oom {
            anon_bytes: pages(event.anon_pages),
            file_bytes: pages(event.file_pages),
            shmem_bytes: pages(event.shmem_pages),
            cause: words::oom_cause(event.cause),
            trigger_pid: event.trigger_pid,
            trigger_comm: name(&event.trigger_comm),
            oom_score_adj: event.oom_score_adj,
        },
        Event::DirectReclaim(event) => Fields::Reclaim {
            stall_ns: event.stall_ns,
            reclaimed_bytes: pages(event.reclaimed_pages),
            scope: words::reclaim_scope(event.scope),
        },
        Event::TcpConnect(event) => Fields::Connect(network::connect(event)),
        Event::TcpReset(event) => Fields::Reset(network::reset(event)),
        Event::TcpRetransmit(event) => Fields::Retransmit(network::retransmit(event)),
        Event::ServiceLatency(event) => Fields::Answer(network::answer(event)),
        Event::ProcessSignal(event) => Fields::Signal {
            signal: event.signal,
            signal_name: names::signal(event.signal),
            result: words::signal_result(event.result),
            sender_pid: event.sender_pid,
            sender_comm: name(&event.sender_comm),
        },
        Event::ForkStorm(event) => Fields::Storm {
            forks: event.forks,
            window_ns: event.header.time_ns.saturating_sub(event.window_ns),
            limit_per_second: event.limit,
            guard: words::fork_guard(event.guard),
            killed: event.killed,
        },
        Event::MemoryCeiling(event) => Fields::Ceiling {
            scope: words::ceiling_scope(event.scope),
            memory_cgroup_id: some(event.memory_cgroup_id),
            limit_bytes: pages(event.limit_pages),
            used_bytes: pages(event.used_pages),
            resident_bytes: pages(event.resident_pages),
            verdict: words::ceiling_verdict(event.verdict),
        },
        Event::OffCpu(event) => Fields::OffCpu {
            wait_ns: event.wait_ns,
            wait: Wait::from_number(event.wait).map_or("unknown", Wait::name),
            syscall: (event.syscall >= 0).then_some(event.syscall),
            syscall_name: names::syscall(event.syscall),
        },
        Event::PacketDrop(event) => Fields::Drop(drops::packet(event)),
        Event::ListenOverflow(event) => Fields::Listen(drops::listen(event)),
        Event::SocketOverflow(event) => Fields::FullSocket(drops::socket(event)),
        Event::CgroupChange(event) => Fields::Cgroup {
            change: words::cgroup_change(event.change),
            changed_cgroup_id: event.cgroup_id,
            hierarchy: event.hierarchy,
            path: text::exact(event.path().unwrap_or(text::name_of(&event.path))),
            path_cut: event.path().is_none(),
        },
        Event::RouteFailure(event) => Fields::Route(wire::route(event)),
        Event::SocketError(event) => Fields::Socket(wire::on_socket(event)),
        Event::ConnectError(event) => Fields::Call(wire::call(event)),
        Event::BlockIo(event) => block_io(event),
        Event::DnsQuery(event) => Fields::Dns(dns::dns(event)),
        Event::TaskSnapshot(_)
        | Event::EventThrottle(_)
        | Event::BenchLoad(_)
        | Event::BenchEmpty(_) => Fields::Nothing {},
    }
}

fn exit(event: &ProcessExit) -> Fields<'static> {
    let (exit_code, signal) = match event.ending() {
        Ending::Code(code) => (Some(code), None),
        Ending::Signal(number) => (None, Some(number)),
    };
    Fields::Exit {
        parent_pid: event.parent_pid,
        exit_code,
        signal,
        signal_name: signal.and_then(|number| names::signal(u32::from(number))),
        core_dumped: signal.is_some() && event.status & 0x80 != 0,
        lifetime_ns: event.lifetime_ns,
    }
}

fn block_io(event: &BlockIo) -> Fields<'_> {
    let known = |time: u64| (time != UNKNOWN).then_some(time);
    Fields::Block {
        disk: text::exact(text::name_of(&event.disk)),
        major: event.major,
        minor: event.minor,
        operation: Operation::from_number(event.operation).map_or("unknown", Operation::name),
        sector: event.sector,
        bytes: event.bytes,
        device_ns: known(event.device_ns),
        queued_ns: known(event.queued_ns),
        error: (event.status != 0).then_some(event.error()),
        error_name: names::error(event.error()),
        charged_cgroup_id: some(event.charged_cgroup_id),
    }
}

fn run_queue<'a>(event: &'a RunQueueLatency, resolver: &mut Resolver) -> Fields<'a> {
    let at = Time::from_kernel(event.header.time_ns);
    let mut culprits: Vec<&Culprit> = event.culprits.iter().collect();
    culprits.retain(|culprit| culprit.held_ns > 0);
    culprits.sort_by_key(|culprit| std::cmp::Reverse(culprit.held_ns));
    let mut holder = |culprit: &'a Culprit| Holder {
        pid: culprit.pid,
        comm: name(&culprit.comm),
        cgroup_id: culprit.cgroup_id,
        identity: resolver.of_cgroup(culprit.cgroup_id, at),
        relation: event.relation(culprit).name(),
        held_ns: culprit.held_ns,
    };
    Fields::RunQueue {
        wait_ns: event.wait_ns,
        cause: event.cause().name(),
        has_quota: event.quota != 0,
        throttled_ns: event.throttled_ns,
        idle_ns: event.idle_ns,
        others_ns: event.others_ns,
        forgotten_ns: event.forgotten_ns,
        previous_pid: event.previous_pid,
        previous_comm: name(&event.previous_comm),
        culprits: culprits.into_iter().map(&mut holder).collect(),
    }
}

fn some(number: u64) -> Option<u64> {
    (number != 0).then_some(number)
}

#[cfg(test)]
mod tests {
    use monitor_common::Kind;
    use serde_json::{Value, json};

    use super::super::samples;
    use super::*;

    fn read(event: &Event) -> Value {
        let wall = "2026-11-22T07:20:43.000000001Z".to_owned();
        let line = line(event, None, wall, &mut Resolver::none()).expect("it serializes");
        assert!(!line.contains('\n'));
        serde_json::from_str(&line).expect("it is JSON")
    }

    #[test]
    fn an_exec_has_its_arguments_one_by_one() {
        let one = read(&samples::exec(b"echo\0a b\0\0\xff\n\0", 13));
        assert_eq!(one["probe"], "process_exec");
        assert_eq!(one["time"], "2026-11-22T07:20:43.000000001Z");
        assert_eq!(one["argv"], json!(["echo", "a b", "", "\u{fffd}\n"]));
        assert_eq!(one["argv_lossy"], true);
        assert_eq!((&one["argv_cut"], &one["uid"]), (&json!(false), &json!(0)));
        assert_eq!(
            (&one["pid"], &one["comm"]),
            (&json!(samples::PID), &json!("web"))
        );
        assert_eq!(one.get("identity"), None);
        let none = read(&samples::exec(b"", 9));
        assert_eq!(
            (&none["argv"], &none["argv_cut"]),
            (&json!([]), &json!(true))
        );
        assert_eq!(none.get("argv_lossy"), None);
        let empty = read(&samples::exec(b"\0", 1));
        assert_eq!(empty["argv"], json!([""]));
    }

    #[test]
    fn ends_and_connections_say_what_was_wrong() {
        let killed = read(&samples::exit(0x8b));
        assert_eq!(killed["exit_code"], Value::Null);
        assert_eq!(
            (&killed["signal"], &killed["signal_name"]),
            (&json!(11), &json!("SIGSEGV"))
        );
        assert_eq!(killed["core_dumped"], true);
        let left = read(&samples::exit(3 << 8));
        assert_eq!(
            (&left["exit_code"], &left["signal"]),
            (&json!(3), &Value::Null)
        );
        let refused = read(&samples::connect(111));
        assert_eq!(
            (&refused["error"], &refused["error_name"]),
            (&json!(111), &json!("ECONNREFUSED"))
        );
        assert_eq!(
            (&refused["peer_address"], &refused["peer_port"]),
            (&json!("127.0.0.1"), &json!(80))
        );
        assert_eq!(refused["cause"], "refused");
        assert!(!refused.to_string().contains("socket"));
    }

    #[test]
    fn a_request_says_what_is_known_of_it() {
        let Event::BlockIo(mut request) = samples::any(Kind::BlockIo) else {
            panic!("of another kind")
        };
        (request.disk[0], request.status, request.operation) = (b'd', -61, 2);
        (request.device_ns, request.queued_ns) = (5, UNKNOWN);
        let read = read(&Event::BlockIo(request));
        assert_eq!(
            (&read["disk"], &read["operation"]),
            (&json!("d"), &json!("flush"))
        );
        assert_eq!(
            (&read["device_ns"], &read["queued_ns"]),
            (&json!(5), &Value::Null)
        );
        assert_eq!(
            (&read["error"], &read["error_name"]),
            (&json!(61), &json!("ENODATA"))
        );
    }

    #[test]
    fn a_question_without_an_answer_has_no_code() {
        let answered = read(&samples::dns(b"\x03a.b\0", 0, 5, 3));
        assert_eq!(
            (
                &answered["outcome"],
                &answered["rcode"],
                &answered["rcode_name"]
            ),
            (&json!("answered"), &json!(5), &json!("REFUSED"))
        );
        assert_eq!(
            (
                &answered["name"],
                &answered["qtype_name"],
                &answered["sendings"]
            ),
            (&json!("a\\.b"), &json!("A"), &json!(3))
        );
        assert_eq!(
            (&answered["peer_address"], &answered["peer_port"]),
            (&json!("192.0.2.53"), &json!(53))
        );
        let none = read(&samples::dns(b"\0", 1, 0, 1));
        assert_eq!(
            (&none["outcome"], &none["rcode"], &none["answers"]),
            (&json!("no_answer"), &Value::Null, &Value::Null)
        );
        assert_eq!(
            (&none["name"], &none["name_cut"]),
            (&json!("."), &json!(false))
        );
    }

    #[test]
    fn whatever_the_bytes_it_is_json() {
        let mut state = 0x5eed_u64;
        let mut next = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        };
        for _ in 0..300 {
            for kind in Kind::ALL {
                let read = read(&samples::filled(*kind, &mut next));
                assert_eq!(read["probe"], kind.name());
            }
        }
        for kind in Kind::ALL {
            for byte in [0, 0x80, 0xff] {
                read(&samples::filled(*kind, || byte));
            }
        }
    }
}
