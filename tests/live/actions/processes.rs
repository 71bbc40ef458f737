//! Actions on real processes, from a person's word to the proof and back: the core that allows them, and a host that does them.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal as Unix;
use smart_monitor::actions;
use smart_monitor::config::Config;
use smart_monitor::engine::{Engine, Order};
use smart_monitor::host::cgroup::{Hierarchy, place};
use smart_monitor::host::restrain::{self, Lifted, Restrained, Will};
use smart_monitor::host::signals::Held;
use smart_monitor::host::{Ended, Host, HostError, Opened, Restarted, clock, end_cgroup, procfs};
use smart_monitor::model::{
    Effect, EffectResult, IncidentId, Lift, Outcome, Plan, ProcessKey, Request, Restraint, Signal,
    Subject, Time, Whole,
};
use smart_monitor_tests::{PATIENCE, program, send, wait_until};

const CONFIG: &str = r#"
[[process]]
name = "script"
comm = ["sh", "python3"]

[[remedy]]
detector = "manual"
on = ["script"]
[[remedy.step]]
action = "set_oom_score"
with = { score = 700 }
[[remedy.step]]
action = "lower_io_priority"
[[remedy.step]]
action = "send_signal"
with = { signal = "USR1" }
[[remedy.step]]
action = "throttle_cpu"
with = { percent = 20 }
[[remedy.step]]
action = "freeze"
undo_after = "1m"
[[remedy.step]]
action = "kill_cgroup"
term_grace = "0s"
"#;

/// The host itself, and the words that were given before it was changed.
#[derive(Debug, Default)]
struct Real {
    words: Mutex<Vec<Plan>>,
    /// No word can be written down.
    full: bool,
}

impl Host for Real {
    fn open(&self, process: ProcessKey) -> Result<Box<dyn Opened>, HostError> {
        Ok(Box::new(Held::open(process)?))
    }

    fn restart_service(
        &self,
        service: &str,
        _: Option<ProcessKey>,
        _: Duration,
        _: &[String],
    ) -> Result<Restarted, HostError> {
        Err(HostError::NoService(service.to_owned()))
    }

    fn will_change(&self, _: IncidentId, _: &str, undo: &Plan) -> Result<(), HostError> {
        if self.full {
            return Err(HostError::Journal("no room".to_owned()));
        }
        let mut words = self.words.lock().expect("nobody panics with it");
        words.push(undo.clone());
        Ok(())
    }

    fn end_cgroup(
        &self,
        whole: &Whole,
        term_grace: Duration,
        protected: &[&str],
    ) -> Result<Ended, HostError> {
        end_cgroup::end(whole, term_grace, protected)
    }

    fn restrain(
        &self,
        whole: &Whole,
        restraint: Restraint,
        protected: &[&str],
        will: Will<'_>,
    ) -> Result<Restrained, HostError> {
        restrain::restrain(whole, restraint, protected, will)
    }

    fn is_restrained(&self, whole: &Whole, restraint: Restraint) -> Result<String, HostError> {
        restrain::is_restrained(whole, restraint)
    }

    fn lift(&self, process: ProcessKey, lift: &Lift) -> Result<Lifted, HostError> {
        restrain::lift(process, lift)
    }

    fn is_lifted(&self, process: ProcessKey, lift: &Lift) -> Result<String, HostError> {
        restrain::is_lifted(process, lift)
    }

    fn now(&self) -> Time {
        clock::now()
    }
}

/// A program of the test's own. Ends with its owner, with its process group.
struct Script {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
    process: ProcessKey,
    comm: String,
}

impl Script {
    fn new(words: &[&str]) -> Result<Self> {
        use std::os::unix::process::CommandExt as _;
        ensure!(
            rustix::process::geteuid().is_root(),
            "the live tests need root: cargo xtask test --live, or sudo"
        );
        let (first, rest) = words.split_first().context("a program")?;
        let mut command = program(first);
        command.args(rest).process_group(0).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let output = BufReader::new(child.stdout.take().context("it has an output")?);
        let mut script = Self {
            process: ProcessKey {
                pid: child.id(),
                start_ticks: 0,
            },
            comm: String::new(),
            child,
            output,
        };
        ensure!(script.line()? == "ready", "it says that it is ready");
        let stat = procfs::stat(script.process.pid).context("it runs")?;
        script.process = stat.key;
        script.comm = stat.comm;
        Ok(script)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }

    fn subject(&self) -> Subject {
        Subject::Process {
            process: self.process,
            comm: self.comm.clone(),
            group: None,
        }
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let group = rustix::process::Pid::from_child(&self.child);
        #[expect(
            clippy::disallowed_methods,
            reason = "the test's own, and not reaped yet"
        )]
        let _gone = rustix::process::kill_process_group(group, Unix::KILL);
        let _reaped = self.child.wait();
    }
}

/// The core, and a host that does what it orders.
struct Desk {
    engine: Engine,
    host: Real,
}

impl Desk {
    fn new() -> Result<Self> {
        let config = Config::parse(CONFIG, Path::new("test.toml"))
            .map_err(|error| anyhow::anyhow!("{}", error.render()))?;
        Ok(Self {
            engine: Engine::new(
                config.settings(false, &procfs::own_line(), &[]),
                IncidentId(1),
            ),
            host: Real::default(),
        })
    }

    /// Asks for something, and has all that follows done.
    fn ask(&mut self, request: Request) -> Vec<Effect> {
        let by = "root".to_owned();
        self.tell(&Signal::Person { by, request })
    }

    fn tell(&mut self, signal: &Signal) -> Vec<Effect> {
        let mut orders = Vec::new();
        let now = clock::now();
        self.engine.observe(signal, now, now, &mut orders);
        self.engine.tick(clock::now(), &mut orders);
        let mut effects = Vec::new();
        for order in orders {
            if let Order::Execute { permit, .. } = order {
                let effect = actions::execute(permit, None, &self.host);
                effects.push(effect.clone());
                effects.extend(self.tell(&Signal::Effect { effect }));
            }
        }
        effects
    }

    fn act(&mut self, action: &str, on: &Script) -> Result<Effect> {
        let effects = self.ask(Request::Act {
            action: action.to_owned(),
            subject: on.subject(),
            rule: None,
            dry_run: false,
        });
        let one = effects.into_iter().next();
        one.with_context(|| {
            format!(
                "{action} was not allowed: {:#?}",
                self.engine.incident(IncidentId(1))
            )
        })
    }

    fn undo(&mut self, incident: IncidentId) -> Result<Effect> {
        let effects = self.ask(Request::Undo { incident });
        effects.into_iter().next().context("nothing was undone")
    }

    fn is_held(&self, incident: IncidentId) -> bool {
        let incident = self.engine.incident(incident);
        incident.is_some_and(|incident| incident.held.is_some())
    }
}

fn done(effect: &Effect) -> Result<()> {
    ensure!(
        matches!(effect.result, EffectResult::Done { .. }) && effect.verified.is_some(),
        "{effect:#?}"
    );
    Ok(())
}

const SPIN: &[&str] = &["sh", "-c", "echo ready; while :; do :; done"];

fn oom_score(script: &Script) -> Result<String> {
    let path = format!("/proc/{}/oom_score_adj", script.process.pid);
    Ok(std::fs::read_to_string(path)?.trim().to_owned())
}

#[test]
fn an_oom_score_is_set_and_given_back_unless_somebody_else_has_changed_it() -> Result<()> {
    let mut desk = Desk::new()?;
    let script = Script::new(SPIN)?;
    let had = oom_score(&script)?;
    let effect = desk.act("set_oom_score", &script)?;
    done(&effect)?;
    ensure!(
        oom_score(&script)? == "700" && desk.is_held(effect.incident),
        "{effect:#?}"
    );
    ensure!(
        desk.host.words.lock().expect("no panic").last() == effect.undo.as_ref(),
        "its word"
    );
    // What one incident has changed is changed back before another does the same.
    ensure!(
        desk.act("set_oom_score", &script).is_err(),
        "once at a time"
    );
    done(&desk.undo(effect.incident)?)?;
    ensure!(
        oom_score(&script)? == had && !desk.is_held(effect.incident),
        "as it was"
    );

    let effect = desk.act("set_oom_score", &script)?;
    std::fs::write(format!("/proc/{}/oom_score_adj", script.process.pid), "900")?;
    let left = desk.undo(effect.incident)?;
    done(&left)?;
    ensure!(
        left.acted.is_none() && oom_score(&script)? == "900",
        "{left:#?}"
    );

    // Without a word, nothing is changed; of who is gone, nothing is left to undo.
    desk.host.full = true;
    let refused = desk.act("set_oom_score", &script)?;
    ensure!(
        refused.acted.is_none() && oom_score(&script)? == "900",
        "{refused:#?}"
    );
    desk.host.full = false;
    let effect = desk.act("set_oom_score", &script)?;
    drop(script);
    let gone = desk.undo(effect.incident)?;
    ensure!(
        matches!(gone.result, EffectResult::Refused { .. }),
        "{gone:#?}"
    );
    ensure!(!desk.is_held(effect.incident), "it is over");
    Ok(())
}

/// The priority for disks of a process's first thread, as `ionice` says it.
fn ionice(script: &Script) -> Result<String> {
    let output = program("ionice")
        .args(["-p", &script.process.pid.to_string()])
        .output()?;
    ensure!(output.status.success(), "ionice is needed (util-linux)");
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Three threads.
const THREADS: &[&str] = &[
    "python3",
    "-c",
    "import threading, time\nfor _ in range(2): threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\nprint('ready', flush=True)\ntime.sleep(1000)",
];

#[test]
fn every_thread_waits_behind_others_for_disks_and_gets_back_what_it_had() -> Result<()> {
    let mut desk = Desk::new()?;
    let script = Script::new(THREADS)?;
    let had = ionice(&script)?;
    let effect = desk.act("lower_io_priority", &script)?;
    done(&effect)?;
    ensure!(
        ionice(&script)? == "best-effort: prio 7",
        "{}",
        ionice(&script)?
    );
    let EffectResult::Done { detail } = &effect.result else {
        anyhow::bail!("{effect:#?}");
    };
    ensure!(detail.contains("(3 threads)"), "{detail}");
    done(&desk.undo(effect.incident)?)?;
    ensure!(ionice(&script)? == had, "{had} and {}", ionice(&script)?);
    drop(script);
    Ok(())
}

#[test]
fn a_signal_goes_to_who_handles_it_and_to_nobody_else() -> Result<()> {
    let mut desk = Desk::new()?;
    let deaf = Script::new(SPIN)?;
    let refused = desk.act("send_signal", &deaf)?;
    ensure!(
        matches!(&refused.result, EffectResult::Failed { reason } if reason.contains("has no handler for SIGUSR1")),
        "{refused:#?}"
    );
    ensure!(procfs::runs(deaf.process), "it would have ended");
    let mut script = Script::new(&[
        "sh",
        "-c",
        "trap 'echo collected' USR1; echo ready; while :; do sleep 0.01; done",
    ])?;
    done(&desk.act("send_signal", &script)?)?;
    ensure!(script.line()? == "collected", "it was told");

    // Who takes it and ends of it is no success.
    let ends = Script::new(&[
        "sh",
        "-c",
        "trap 'exit 3' USR1; echo ready; while :; do sleep 0.01; done",
    ])?;
    let effect = desk.act("send_signal", &ends)?;
    ensure!(
        matches!(&effect.result, EffectResult::Failed { reason } if reason.ends_with("it has ended")),
        "{effect:#?}"
    );

    // A process that is held back does not take it.
    let held = Script::new(&[
        "sh",
        "-c",
        "trap 'echo collected' USR1; echo ready; while :; do :; done",
    ])?;
    send(held.process, Unix::STOP)?;
    wait_until(PATIENCE, "it is stopped", || {
        (procfs::stat(held.process.pid)?.state == 'T').then_some(())
    })?;
    let effect = desk.act("send_signal", &held)?;
    ensure!(
        matches!(&effect.result, EffectResult::Failed { reason } if reason.contains("it does not take it")),
        "{effect:#?}"
    );
    drop(script);
    let gone = Subject::Process {
        process: held.process,
        comm: "sh".to_owned(),
        group: None,
    };
    drop(held);
    let effects = desk.ask(Request::Act {
        action: "send_signal".to_owned(),
        subject: gone,
        rule: None,
        dry_run: false,
    });
    ensure!(
        matches!(
            effects.as_slice(),
            [Effect {
                result: EffectResult::Refused { .. },
                ..
            }]
        ),
        "{effects:#?}"
    );
    Ok(())
}

#[test]
fn what_was_frozen_goes_on_when_its_time_is_over() -> Result<()> {
    let mut desk = Desk::new()?;
    let script = Script::new(SPIN)?;
    let effect = desk.act("freeze", &script)?;
    done(&effect)?;
    let incident = desk
        .engine
        .incident(effect.incident)
        .context("it is known")?;
    let held = incident.held.as_ref().context("it is to be undone")?;
    ensure!(
        incident.outcome == Some(Outcome::Fixed),
        "what a person asked for was done"
    );
    let due = held.due.context("in its time")?;
    ensure!(
        due.since(effect.finished) == Duration::from_mins(1),
        "{held:?}"
    );
    // Its time comes.
    let mut orders = Vec::new();
    desk.engine.tick(due, &mut orders);
    let undone = orders.into_iter().find_map(|order| match order {
        Order::Execute { permit, .. } => Some(actions::execute(permit, None, &desk.host)),
        Order::Record(_) | Order::Releases { .. } => None,
    });
    let mut undone = undone.context("it is undone")?;
    done(&undone)?;
    // By the core's clock, which is ahead.
    undone.finished = due;
    desk.tell(&Signal::Effect { effect: undone });
    ensure!(!desk.is_held(effect.incident), "it is over");
    let before = procfs::stat(script.process.pid)
        .context("it runs")?
        .cpu_ticks;
    wait_until(PATIENCE, "it goes on", || {
        let now = procfs::stat(script.process.pid)?.cpu_ticks;
        (now > before).then_some(())
    })
}

/// Makes it a real-time process, which a cgroup of version 1 takes in only where it has real time to give.
fn hurry(pid: u32) -> Result<()> {
    let param = libc::sched_param { sched_priority: 1 };
    // SAFETY: the call reads the parameter, which lives through it.
    let set = unsafe {
        libc::sched_setscheduler(i32::try_from(pid)?, libc::SCHED_FIFO, &raw const param)
    };
    ensure!(
        set == 0,
        "sched_setscheduler: {}",
        std::io::Error::last_os_error()
    );
    Ok(())
}

#[test]
fn what_was_done_by_halves_is_taken_back() -> Result<()> {
    let mut desk = Desk::new()?;
    let script = Script::new(&["sh", "-c", "sleep 1000 & echo ready; while :; do :; done"])?;
    let child = wait_until(PATIENCE, "its child sleeps", || {
        let all = procfs::processes().ok()?;
        all.into_iter()
            .find(|stat| stat.parent == script.process.pid && stat.comm == "sleep")
    })?;
    hurry(child.key.pid)?;
    let tree = Hierarchy::V1("cpu");
    let before = place(tree, script.process.pid);
    let effect = desk.act("throttle_cpu", &script)?;
    if before.is_none() {
        // The limit of a cgroup of version 2 is one file: there are no halves.
        ensure!(
            effect.undo.is_none() || effect.verified.is_some(),
            "{effect:#?}"
        );
        return Ok(());
    }
    let EffectResult::Failed { reason } = &effect.result else {
        anyhow::bail!("a real-time process was taken in: {effect:#?}");
    };
    ensure!(reason.contains("but not all of it"), "{reason}");
    ensure!(
        effect.acted.is_some() && effect.undo.is_some(),
        "{effect:#?}"
    );
    // The core has it taken back at once.
    wait_until(PATIENCE, "it is where it was", || {
        desk.ask(Request::Acknowledge {
            incident: effect.incident,
        });
        (place(tree, script.process.pid) == before).then_some(())
    })?;
    ensure!(!desk.is_held(effect.incident), "it is over");
    Ok(())
}

#[test]
fn a_process_without_a_cgroup_of_its_own_ends_nobody_else() -> Result<()> {
    let mut desk = Desk::new()?;
    let script = Script::new(SPIN)?;
    let effect = desk.act("kill_cgroup", &script)?;
    ensure!(
        matches!(&effect.result, EffectResult::Failed { .. }) && effect.acted.is_none(),
        "{effect:#?}"
    );
    ensure!(procfs::runs(script.process), "it runs on");
    Ok(())
}
