//! From a command line to a running daemon, and to its end.

use std::path::Path;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::Builder;

use monitor_common::Kind;
use tokio::task::JoinSet;

use super::budget::{Budget, Estimates};
use super::daemon::{Daemon, Trouble, serve};
use super::diagnosing::Diagnosing;
use super::exported::Exported;
use super::folders::Folders;
use super::guarding::Guarding;
use super::hands::Hands;
use super::hot::{self, Hot};
use super::inbox::{Delivered, Inbox, Message, inbox};
use super::kernel_view::LiveKernel;
use super::knowing::{Knowing, Known};
use super::live_host::{self, CalledOff};
use super::logs::Logs;
use super::observing::Observing;
use super::options::{DaemonError, Options, apply_options, system};
use super::people::{self, Subjects};
use super::recording::{self, Recordings, Tape};
use super::sampling::Sampling;
use super::settings;
use super::teller::Teller;
use super::watched::Watching;
use super::{half_done, starting};
use crate::api;
use crate::checks::Beats;
use crate::config::units::Listen;
use crate::config::{Config, ConfigError};
use crate::detectors::MANUAL;
use crate::engine::{Engine, Settings};
use crate::host::network::Ways;
use crate::host::{Host, clock, own, procfs};
use crate::kernel::{self, Kernel, KernelError, ProbeState, Snapshot};
use crate::metrics::{Exporter, Own};
use crate::model::kernel_view::NoKernel;
use crate::model::{IncidentId, KernelView, Time, View};
use crate::record::recorder::Bounds;
use crate::record::recording::InForce;
use crate::record::recovery::{self, Recovered};
use crate::record::{Entry, Journal};
use crate::samplers::memory::Shortage;
use crate::samplers::service_memory::Ceilings;
use crate::samplers::service_pressure::Pressures;
use crate::samplers::{self, Sources};
use crate::supervisors::command::Commands;

/// Runs until it is asked to end. Blocks.
pub fn run(options: Options) -> Result<(), DaemonError> {
    let cost = Arc::new(Own::started_now());
    let config = load(&options)?;
    let mut kernel = load_kernel(&config)?;
    let folder = std::path::absolute(&config.daemon.state_dir);
    let folder = folder.map_err(system("find the state folder"))?;
    let journal = Arc::new(Journal::open(&folder, config.journal.clone())?);
    let now = clock::now();
    let recovered = recover(&folder, now)?;
    let socket = api::bind_socket(&config.daemon.socket)?;
    own::stay_alive();
    let mut trouble = trouble_with(&recovered);
    let http = bind_http(config.daemon.http, &mut trouble);

    let (inbox, delivered) = inbox().map_err(system("make the inbox"))?;
    let (ceilings, pressures, shortage) = watched()?;
    let guarding = guarding(&kernel, &config, &journal);
    let told = (ceilings.clone(), pressures.clone());
    let teller = Arc::new(teller(&inbox, &kernel, guarding, told));
    let supervisors = live_host::supervisors(&config, &folder, &teller);
    let commands = Arc::clone(&supervisors.commands);
    let protected = procfs::own_line();
    let probes_off = probes_off(&kernel);
    let (settings, in_force) =
        settings::settings(&config, options.dry_run, &protected, &probes_off);
    let (recordings, tape) = recordings(&options, &inbox, in_force, recovered.next)?;
    let (subjects, next_silence) = (Subjects::default(), recovered.next_silence);
    let (half_done, crashed) = (half_done::of(&recovered.incidents, now), recovered.crashed);
    let mut engine = restored(settings, recovered);
    let held = starting::held(engine.policy_mut(), &config, crashed, now);
    // From here on, an end without a word is a crash.
    journal.append(now, clock::unix_nanos(), vec![started()])?;

    let ways = ways(&folder, &config)?;
    let (view, known) = (Arc::<Mutex<View>>::default(), Arc::default());
    let (folders, called_off) = (Folders::new(&folder, &config.folders), Arc::default());
    let live = live_host::host(&supervisors, &journal, &called_off, &ways, &folders.cleaner);
    let core = Core {
        engine,
        host: Arc::clone(&live),
        called_off,
        delivered,
        journal: &journal,
        view: &view,
        known: &known,
        teller: &teller,
        tape,
    };
    let threads = start_core(core, &mut kernel, &commands, &inbox)?;
    let watched = (ceilings, pressures.clone(), shortage.clone());
    let read_from = read_from(&mut kernel, &config, &folders, watched);
    let sampling = start_samplers(&config, read_from, &mut trouble, &inbox)?;

    let log = kernel.as_mut().ok().and_then(Kernel::take_log);
    let trouble = Arc::new(Mutex::new(trouble));
    let shown = show_kernel(&kernel, &config, known);
    let limitations = limitations(&trouble, &commands, pressures, Arc::clone(&teller));
    let people = people::people(&inbox, &subjects, next_silence, &teller);
    let exported = exported(&view, &shown.view, &cost);
    let beats = Arc::<Beats>::default();
    let sources = sources(
        Arc::clone(&view),
        &kernel,
        shown.view,
        Arc::clone(&cost),
        limitations,
        (people, Arc::clone(&recordings), Arc::clone(&beats)),
    );
    let socket_path = config.daemon.socket.clone();
    let daemon = Daemon {
        options,
        config,
        protected,
        probes_off,
        programs: kernel.as_ref().ok().map(Kernel::programs),
        budget: shown.budget,
        dns: kernel.as_ref().ok().map(Kernel::dns),
        inbox: inbox.clone(),
        subjects,
        shortage,
        recordings: Arc::clone(&recordings),
        teller,
        supervisors,
        pace: Arc::clone(&cost.checks),
        beats,
        exported,
        ways,
        diagnosing: Diagnosing::default(),
        observing: Observing::default(),
        folders,
        journal: Arc::clone(&journal),
        held,
        half_done,
        waiting: JoinSet::new(),
        view,
        trouble,
        host: live,
        releases: JoinSet::new(),
        checks: JoinSet::new(),
    };
    let served = on_a_runtime(serve(daemon, sources, socket, http, log));
    sampling.end();
    inbox.send(Message::Stop);
    end(threads, &recordings, &journal, &socket_path);
    served
}

/// What passes on what supervisors say.
fn teller(
    inbox: &Inbox,
    kernel: &Result<Kernel, String>,
    guarding: Guarding,
    (ceilings, pressures): (Ceilings, Pressures),
) -> Teller {
    let watch_list = kernel.as_ref().ok().map(Kernel::watch_list);
    let watch_list = watch_list.and_then(Result::ok);
    Teller::new(inbox.clone(), ceilings, pressures, guarding, watch_list)
}

/// The page of metrics, as checks read it.
fn exported(
    view: &Arc<Mutex<View>>,
    kernel: &Arc<dyn KernelView>,
    cost: &Arc<Own>,
) -> Arc<Exported> {
    let exporter = Exporter::new(Arc::clone(view), Arc::clone(kernel), Arc::clone(cost));
    Arc::new(Exported::new(exporter))
}

/// Waits for the core, and writes the last entry.
fn end(
    (hot, syncing): (Thread, Thread),
    recordings: &Recordings,
    journal: &Journal,
    socket: &Path,
) {
    if hot.join().is_err() {
        tracing::error!("the core has died; the journal says what was under way");
    }
    recordings.end();
    let ended = journal.append(clock::now(), clock::unix_nanos(), vec![Entry::Ended]);
    if syncing.join().is_err() || ended.is_err() || journal.sync().is_err() {
        tracing::error!("the journal's last entries may not be on the disk");
    }
    let _ = std::fs::remove_file(socket);
    tracing::info!("ended");
}

/// What samplers are told to watch.
fn watched() -> Result<(Ceilings, Pressures, Shortage), DaemonError> {
    let ceilings = Ceilings::new().map_err(system("watch ceilings"))?;
    let pressures = Pressures::new().map_err(system("watch pressure"))?;
    let shortage = Shortage::new().map_err(system("watch memory"))?;
    Ok((ceilings, pressures, shortage))
}

/// The networks. What was changed by halves is changed back at once: by what the configuration says of it.
fn ways(folder: &Path, config: &Config) -> Result<Arc<Ways>, DaemonError> {
    let ways = Arc::new(Ways::new(folder));
    let watched = ways.configure(&config.networks);
    watched.map_err(system("watch networks"))?;
    Ok(ways)
}

/// Most threads for what blocks: an act on each of some services, and checks that run a program.
const BLOCKING: usize = 32;

/// Runs the slow side to its end, on the calling thread and a few others for what blocks. What still blocks at the end is not waited for.
fn on_a_runtime(served: impl Future<Output = Result<(), DaemonError>>) -> Result<(), DaemonError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING)
        .build()
        .map_err(system("start the runtime"))?;
    let served = runtime.block_on(served);
    runtime.shutdown_background();
    served
}

/// What records, begun where the command line asks for it, and the core's end of it.
fn recordings(
    options: &Options,
    inbox: &Inbox,
    in_force: InForce,
    next: IncidentId,
) -> Result<(Arc<Recordings>, Tape), DaemonError> {
    let recordings = Arc::new(Recordings::new(inbox.clone(), in_force));
    if let Some(path) = &options.record {
        let begun = recordings.begin(path, Bounds::default());
        begun.map_err(DaemonError::Recording)?;
    }
    Ok((recordings, Tape::new(next)))
}

/// Fork storms that wait to be ended.
const STORMS: usize = 16;

type Thread = std::thread::JoinHandle<()>;

/// What the hot thread takes along.
struct Core<'a> {
    engine: Engine,
    host: Arc<dyn Host>,
    called_off: Arc<CalledOff>,
    delivered: Delivered,
    journal: &'a Arc<Journal>,
    view: &'a Arc<Mutex<View>>,
    known: &'a Arc<Known>,
    teller: &'a Arc<Teller>,
    tape: Tape,
}

/// Starts the hot thread with its hands, and the thread that forces the journal to the disk.
fn start_core(
    core: Core<'_>,
    kernel: &mut Result<Kernel, String>,
    commands: &Arc<Commands>,
    inbox: &Inbox,
) -> Result<(Thread, Thread), DaemonError> {
    let thread = |name: &str| Builder::new().name(name.to_owned()).stack_size(512 << 10);
    let (sync, to_sync) = sync_channel::<()>(1);
    let syncing = {
        let (journal, inbox) = (Arc::clone(core.journal), inbox.clone());
        thread("journal").spawn(move || force(&to_sync, &journal, &inbox))
    };
    let knowing = Knowing::start(inbox.clone(), Arc::clone(core.known));
    let knowing = knowing.map_err(system("start a thread"))?;
    let logs = Logs::start(inbox.clone(), Arc::clone(core.known), commands.captured());
    let logs = logs.map_err(system("start a thread"))?;
    let (storms, to_end) = sync_channel(STORMS);
    let teller = Arc::clone(core.teller);
    thread("guard")
        .spawn(move || {
            for cgroup_id in to_end {
                teller.guarding().end_storm(cgroup_id);
            }
        })
        .map_err(system("start a thread"))?;
    let parts = Hot {
        engine: core.engine,
        rings: kernel.as_mut().ok().and_then(Kernel::take_rings),
        counters: kernel.as_ref().ok().map(Kernel::counters),
        guards: kernel.as_ref().ok().map(Kernel::guards),
        storms,
        inbox: core.delivered,
        hands: Hands::start(&core.host, inbox, core.teller).map_err(system("start a thread"))?,
        host: core.host,
        called_off: core.called_off,
        journal: Arc::clone(core.journal),
        sync,
        board: Arc::clone(core.view),
        tape: core.tape,
        knowing,
        logs,
        watching: Watching::new().map_err(system("watch processes"))?,
    };
    let core = thread("hot").spawn(move || hot::run(parts));
    Ok((
        core.map_err(system("start a thread"))?,
        syncing.map_err(system("start a thread"))?,
    ))
}

/// What samplers read from.
fn read_from(
    kernel: &mut Result<Kernel, String>,
    config: &Config,
    folders: &Folders,
    (ceilings, pressures, shortage): (Ceilings, Pressures, Shortage),
) -> Sources {
    let snapshot = kernel.as_mut().ok().and_then(Kernel::take_snapshot);
    Sources {
        claims: snapshot.as_ref().and_then(again),
        snapshot,
        shortage,
        cgroups: kernel.as_ref().ok().map(Kernel::cgroups),
        folders: folders.watched.clone(),
        ceilings,
        pressures,
        arming: config.samplers.memory_pressure.clone(),
    }
}

/// A reader of the process table for another thread.
fn again(snapshot: &Snapshot) -> Option<Snapshot> {
    let again = snapshot.another();
    if let Err(error) = &again {
        tracing::warn!(%error, "who has the host's memory is read from /proc, at more cost");
    }
    again.ok()
}

/// Starts the samplers' thread, and says what they cannot do.
fn start_samplers(
    config: &Config,
    sources: Sources,
    trouble: &mut Trouble,
    inbox: &Inbox,
) -> Result<Sampling, DaemonError> {
    let samplers = samplers::build(&config.samplers, sources);
    trouble.samplers = samplers
        .iter()
        .filter_map(|sampler| sampler.limitation())
        .collect();
    for limitation in &trouble.samplers {
        tracing::warn!("{limitation}");
    }
    Sampling::start(samplers, inbox).map_err(system("start a thread"))
}

/// All that the daemon cannot do, asked anew each time: some of it turns out when a service starts.
fn limitations(
    trouble: &Arc<Mutex<Trouble>>,
    commands: &Arc<Commands>,
    pressures: Pressures,
    teller: Arc<Teller>,
) -> impl Fn() -> Vec<String> + Send + Sync + 'static {
    let (trouble, commands) = (Arc::clone(trouble), Arc::clone(commands));
    move || {
        let mut all = Trouble::complaints(&trouble);
        all.extend(commands.limitations());
        all.extend(pressures.limitation());
        all.extend(teller.guarding().complaints());
        all
    }
}

/// Forces the journal to the disk whenever it is asked to.
fn force(asked: &Receiver<()>, journal: &Journal, inbox: &Inbox) {
    while asked.recv().is_ok() {
        if let Err(error) = journal.sync() {
            inbox.send(Message::Halt(error.to_string()));
        }
    }
}

fn probes_off(kernel: &Result<Kernel, String>) -> Vec<(Kind, String)> {
    match kernel {
        Ok(kernel) => settings::probes_off(&kernel.probes()),
        Err(reason) => Kind::ALL
            .iter()
            .map(|kind| (*kind, reason.clone()))
            .collect(),
    }
}

fn guarding(kernel: &Result<Kernel, String>, config: &Config, journal: &Arc<Journal>) -> Guarding {
    let kernel = kernel.as_ref().ok();
    if let Some(kernel) = kernel.filter(|_| config.kernel.off_cpu)
        && let Err(error) = kernel.programs().attach(Kind::OffCpu)
    {
        tracing::warn!(%error, "where services wait is not counted");
    }
    if let Some(kernel) = kernel.filter(|_| config.kernel.connect_errors)
        && let Err(error) = kernel.programs().attach(Kind::ConnectError)
    {
        tracing::warn!(%error, "calls of connect that fail at once are not seen");
    }
    Guarding::new(
        kernel.map(Kernel::guards),
        kernel.map(Kernel::cgroups),
        Arc::clone(journal),
    )
}

/// The kernel half, as others see it, and what keeps its cost within the budget.
struct Shown {
    view: Arc<dyn KernelView>,
    budget: Option<Budget>,
}

fn show_kernel(kernel: &Result<Kernel, String>, config: &Config, known: Arc<Known>) -> Shown {
    let Ok(kernel) = kernel else {
        return Shown {
            view: Arc::new(NoKernel),
            budget: None,
        };
    };
    let estimates = Estimates::default();
    let cpus = std::thread::available_parallelism()
        .map_or(1.0, |cpus| u32::try_from(cpus.get()).map_or(1.0, f64::from));
    let budget = config.kernel.run_time_stats.then(|| Budget {
        programs: kernel.programs(),
        cpus: config.kernel.cpu_budget / 100.0 * cpus,
        shown: Arc::clone(&estimates),
    });
    Shown {
        view: Arc::new(LiveKernel::new(kernel, estimates, known)),
        budget,
    }
}

fn sources(
    view: Arc<Mutex<View>>,
    kernel: &Result<Kernel, String>,
    shown: Arc<dyn KernelView>,
    own: Arc<Own>,
    limitations: impl Fn() -> Vec<String> + Send + Sync + 'static,
    (people, recordings, beats): (api::People, Arc<Recordings>, Arc<Beats>),
) -> Arc<api::Sources> {
    let without_kernel = kernel.as_ref().err().cloned();
    Arc::new(api::Sources {
        view,
        kernel: shown,
        own,
        unhealthy: Box::new(move || without_kernel.iter().cloned().collect()),
        limitations: Box::new(limitations),
        people,
        recordings,
        take_beat: Box::new(move |service, beat| beats.take(service, beat, clock::now())),
    })
}

fn load(options: &Options) -> Result<Config, ConfigError> {
    let mut config = match &options.config {
        Some(path) => Config::load(path)?,
        None => Config::defaults(),
    };
    apply_options(&mut config, options);
    Ok(config)
}

/// No rights, or ids that mean other processes, end the start; anything else leaves us with what needs no kernel programs.
fn load_kernel(config: &Config) -> Result<Result<Kernel, String>, DaemonError> {
    let wanted = &config.kernel;
    let options = kernel::Options {
        disabled: wanted.disabled.clone(),
        run_queue_threshold: wanted.run_queue_threshold.0,
        reclaim_threshold: wanted.reclaim_threshold.0,
        block_threshold: wanted.block_threshold.0,
        slow_request: wanted.slow_request.0,
        cgroup_events_per_second: wanted.cgroup_events_per_second,
        forks_per_second: wanted.forks_per_second,
        dns_timeout: wanted.dns_timeout.0,
        bench: false,
        // Measured now and then: see `budget`.
        stats: false,
        refuse: wanted.refuse.clone(),
        break_offsets: wanted.break_offsets.clone(),
    };
    match Kernel::load(&options) {
        Ok(kernel) => {
            for probe in kernel.probes() {
                match &probe.state {
                    ProbeState::On { attached } => {
                        tracing::debug!(probe = probe.kind.name(), attached, "probe on");
                    }
                    ProbeState::Off { reason, fix } => {
                        tracing::warn!(probe = probe.kind.name(), reason, fix, "probe off");
                    }
                }
            }
            Ok(Ok(kernel))
        }
        Err(error @ (KernelError::Rights { .. } | KernelError::PidNamespace)) => Err(error.into()),
        Err(error) => {
            tracing::error!(%error, "no kernel programs: exits are seen through pidfds, tables come from /proc, the rest is blind");
            Ok(Err(error.to_string()))
        }
    }
}

fn bind_http(listen: Listen, trouble: &mut Trouble) -> Option<std::net::TcpListener> {
    match api::bind_http(listen.0?) {
        Ok(listener) => Some(listener),
        Err(error) => {
            // Watching goes on: a taken port is no reason to leave the host alone.
            tracing::error!(%error, "no HTTP; all else works");
            trouble.http = Some(error.to_string());
            None
        }
    }
}

fn started() -> Entry {
    Entry::Started {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        boot: recording::boot(),
    }
}

fn recover(folder: &Path, now: Time) -> Result<Recovered, DaemonError> {
    recovery::recover(folder, now, clock::unix_nanos()).map_err(|source| DaemonError::Recover {
        folder: folder.to_owned(),
        source,
    })
}

/// What is wrong with the journal is said, and shown for as long as the daemon runs.
fn trouble_with(recovered: &Recovered) -> Trouble {
    let journal = recovered.changed();
    if let Some(changed) = &journal {
        tracing::error!("{changed}");
    }
    Trouble {
        journal,
        ..Trouble::default()
    }
}

/// What earlier runs did counts; what they left under way is said.
fn restored(settings: Settings, recovered: Recovered) -> Engine {
    let mut engine = Engine::new(settings, recovered.next);
    if recovered.unreadable > 0 {
        tracing::warn!(
            lines = recovered.unreadable,
            "lines of the journal cannot be read, and are passed over"
        );
    }
    if recovered.crashed {
        tracing::warn!("the last run did not end in an orderly way");
    }
    for under_way in &recovered.under_way {
        let mut incidents = recovered.incidents.iter();
        let of = incidents.find(|incident| incident.id == under_way.incident);
        tracing::warn!(
            incident = under_way.incident.0,
            action = under_way.action,
            on = of.map(|incident| tracing::field::display(&incident.subject)),
            "an action was under way when the daemon ended; its outcome is unknown"
        );
    }
    for past in &recovered.actions {
        let incident = recovered
            .incidents
            .iter()
            .find(|incident| incident.id == past.incident);
        if let Some(incident) = incident {
            let policy = engine.policy_mut();
            policy.remember(&past.action, &past.rule, incident, past.at);
            // What a person asked for says nothing about whether the rule helps.
            let judged = past.judged.filter(|_| incident.detector != MANUAL);
            if let Some((outcome, at)) = judged {
                policy.judged(&past.action, &past.rule, incident, outcome, at);
            }
        }
    }
    engine.remember(recovered.incidents);
    engine.silences(recovered.silences);
    engine.know_releases(recovered.releases);
    engine
}
