//! What events say of a process: its arguments, its user, its parent, and who sent it a signal.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;

use monitor_common::Event;
use monitor_common::probes::process_exec::{ARGV_LEN, ProcessExec};
use monitor_common::probes::process_signal::ProcessSignal;
use rustix::process::Signal;
use smart_monitor::host::procfs;
use smart_monitor::kernel::Options;

use super::stage::{Actor, send};
use super::support::{Live, command, shell};

/// What is told of `true` with these arguments.
fn exec_of(live: &mut Live, arguments: &[&[u8]], uid: u32) -> ProcessExec {
    let mut program = command("/bin/true");
    program
        .arg0("true")
        .args(arguments.iter().map(|bytes| OsStr::from_bytes(bytes)));
    let mut child = program.uid(uid).spawn().expect("it is there");
    let pid = child.id();
    child.wait().expect("it ends");
    live.wait_for("an exec", |event| match event {
        Event::ProcessExec(exec) if exec.task.pid == pid => Some(*exec),
        _ => None,
    })
}

/// What lies in the memory of such a process.
fn joined(arguments: &[&[u8]]) -> Vec<u8> {
    let all = [&[&b"true"[..]], arguments].concat();
    all.iter()
        .flat_map(|argument| [argument, &b"\0"[..]].concat())
        .collect()
}

#[test]
fn the_arguments_and_the_user_of_a_program_are_told_as_they_are() {
    let mut live = Live::new(&Options::default());
    let fills = vec![b'x'; ARGV_LEN - 6];
    let overflows = vec![b'x'; ARGV_LEN - 5];
    let long = vec![0xc3; 100_000];
    let cases: [&[&[u8]]; 7] = [
        &[],
        &[b"a\xff\xfe b", b"\x1b[31m"],
        &[b"", b"", b"x", b""],
        &[&fills],
        &[&overflows],
        &[&long, b"last"],
        &[b"\n"],
    ];
    for (arguments, uid) in cases
        .into_iter()
        .zip([0, 65_534, 12_345].into_iter().cycle())
    {
        let exec = exec_of(&mut live, arguments, uid);
        let all = joined(arguments);
        assert_eq!(exec.argv_total as usize, all.len());
        assert_eq!(exec.argv_cut(), all.len() > ARGV_LEN);
        assert_eq!(exec.argv(), &all[..all.len().min(ARGV_LEN)]);
        assert_eq!((exec.uid, exec.parent_pid), (uid, std::process::id()));
        assert_eq!(exec.task.comm(), "true");
    }
}

#[test]
fn a_new_process_is_told_with_the_start_of_its_parent() {
    let mut live = Live::new(&Options::default());
    // The second thread of a process that is not the test: the parent is the process all the same.
    let mut actor = Actor::new(
        &[],
        "
def have(): pid, write = child(lambda: hear()); say(pid)
time.sleep(0.05)
thread = threading.Thread(target=have); thread.start(); thread.join(); hear()",
    );
    let parent = actor.key();
    actor.go();
    let pid: u32 = actor.line().parse().expect("a process id");
    let fork = live.wait_for("a fork", |event| match event {
        Event::ProcessFork(fork) if fork.task.pid == pid => Some(*fork),
        _ => None,
    });
    assert_eq!(fork.parent_pid, parent.pid);
    assert_eq!(fork.parent_start_time_ns / 10_000_000, parent.start_ticks);
    let child = procfs::stat(pid).expect("it runs").key;
    assert_eq!(fork.task.start_time_ns / 10_000_000, child.start_ticks);
    assert!(fork.parent_start_time_ns < fork.task.start_time_ns);
}

fn signal_of(live: &mut Live, pid: u32, signal: u32) -> ProcessSignal {
    live.wait_for("a signal", |event| match event {
        Event::ProcessSignal(sent) if sent.task.pid == pid && sent.signal == signal => Some(*sent),
        _ => None,
    })
}

#[test]
fn a_signal_is_told_with_who_sent_it() {
    let mut live = Live::new(&Options::default());
    for signal in [Signal::KILL, Signal::TERM, Signal::QUIT] {
        let number = signal.as_raw().unsigned_abs();
        // What starts the tests in the background may have it ignore some signals.
        let sleeps = format!(
            "import signal; signal.signal({number}, signal.SIG_DFL) if {number} != 9 else None; time.sleep(60)"
        );
        let mut victim = Actor::new(&[], &sleeps);
        victim.go();
        let start = victim.key().start_ticks;
        let part = format!("os.kill({}, {number}); hear()", victim.pid());
        let mut sender = Actor::new(&[], &part);
        sender.go();
        let status = victim.wait();
        assert_eq!(
            std::os::unix::process::ExitStatusExt::signal(&status),
            Some(signal.as_raw())
        );
        let told = signal_of(&mut live, victim.pid(), number);
        assert_eq!((told.sender_pid, told.result), (sender.pid(), 0));
        assert!(told.sender_comm.starts_with(b"python"), "{told:?}");
        assert_eq!(told.task.start_time_ns / 10_000_000, start);
    }
    // By the test itself, and by a fault of its own.
    let victim = Actor::new(&[], "");
    send(victim.pid(), Signal::TERM);
    assert_eq!(
        signal_of(&mut live, victim.pid(), 15).sender_pid,
        std::process::id()
    );
    let mut faulty = Actor::new(&[], "ctypes.string_at(8)");
    faulty.go();
    let status = faulty.wait();
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&status),
        Some(11)
    );
    assert_eq!(
        signal_of(&mut live, faulty.pid(), 11).sender_pid,
        faulty.pid()
    );
    // What ends nobody is not told.
    let mut child = shell("kill -WINCH $$; kill -CHLD $$; exit 0");
    child.wait().expect("it ends");
    let told = live.all(|event| match event {
        Event::ProcessSignal(sent) if sent.task.pid == child.id() => Some(*sent),
        _ => None,
    });
    assert_eq!(told, []);
}
