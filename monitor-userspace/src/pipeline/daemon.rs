//! Start, reload, end.

use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Builder;

use tokio::signal::unix::{Signal as UnixSignal, SignalKind, signal};
use tokio::task::JoinSet;

use super::hands::Hands;
use super::hot::{self, Hot};
use super::inbox::{Inbox, Message, inbox};
use super::kernel_view::LiveKernel;
use super::live_host::LiveHost;
use super::sampling::Sampling;
use super::teller::Teller;
use super::{checking, settings};
use crate::api::{self, BindError};
use crate::config::raw::OnExit;
use crate::config::{Config, ConfigError};
use crate::engine::Engine;
use crate::host::{Host, clock, procfs};
use crate::kernel::{self, Kernel, KernelError, KernelLog, ProbeState};
use crate::metrics::Own;
use crate::model::kernel_view::NoKernel;
use crate::model::{KernelView, View};
use crate::policy;
use crate::record::recorder::Recorder;
use crate::record::recovery::{self, Recovered};
use crate::record::{Entry, Journal, JournalError};
use crate::samplers::service_memory::Ceilings;
use crate::samplers::{self, Sources};
use crate::supervisors::command::Commands;

/// What the command line says.
#[derive(Debug, Default)]
pub struct Options {
    /// The configuration; the defaults when none.
    pub config: Option<PathBuf>,
    /// Only say what would have been done.
    pub dry_run: bool,
    /// In place of `[daemon] state_dir`.
    pub state_dir: Option<PathBuf>,
    /// In place of `[daemon] socket`.
    pub socket: Option<PathBuf>,
    /// In place of `[daemon] http`.
    pub http: Option<String>,
    /// Record signals into this file.
    pub record: Option<PathBuf>,
}

/// Why the daemon did not start. One message, with what to do.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The configuration has mistakes.
    #[error("{}", .0.render())]
    Config(#[from] ConfigError),
    /// No rights.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The state folder cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The journal of an earlier run cannot be read.
    #[error("cannot read the journal in {}: {source}; check its owner", folder.display())]
    Recover {
        /// The state folder.
        folder: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The socket cannot be used.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A file or thread cannot be made.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// Why.
        source: std::io::Error,
    },
}

fn system(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> DaemonError {
    let what = what.into();
    move |source| DaemonError::System { what, source }
}

/// Everything that lives as long as the daemon.
struct Daemon {
    options: Options,
    config: Config,
    protected: Vec<u32>,
    probes_off: Vec<(monitor_common::Kind, String)>,
    inbox: Inbox,
    teller: Arc<Teller>,
    commands: Arc<Commands>,
    journal: Arc<Journal>,
    /// What `/health` complains about besides what the core says.
    trouble: Arc<Mutex<Trouble>>,
    checks: JoinSet<()>,
}

/// What keeps the daemon from being all it should be.
#[derive(Debug, Default)]
struct Trouble {
    http: Option<String>,
    config: Option<String>,
    samplers: Vec<String>,
}

/// Runs until it is asked to end. Blocks.
pub fn run(options: Options) -> Result<(), DaemonError> {
    let own = Arc::new(Own::started_now());
    let mut config = load(&options)?;
    apply_options(&mut config, &options);
    let mut kernel = load_kernel(&config)?;
    let folder = std::path::absolute(&config.daemon.state_dir).map_err(system("find the state folder"))?;
    let journal = Arc::new(Journal::open(&folder)?);
    let now = clock::now();
    let recovered = recovery::recover(&folder, now, clock::unix_nanos())
        .map_err(|source| DaemonError::Recover { folder: folder.clone(), source })?;
    let socket = api::bind_socket(&config.daemon.socket)?;
    let mut trouble = Trouble::default();
    let http = bind_http(&config.daemon.http, &mut trouble);
    let recorder = options.record.as_deref().map(Recorder::create).transpose().map_err(system("make the recording"))?;
    journal.append(now, clock::unix_nanos(), vec![started()])?;

    let (inbox, delivered) = inbox().map_err(system("make the inbox"))?;
    let ceilings = Ceilings::default();
    let watch_list = kernel.as_ref().ok().and_then(|kernel| kernel.watch_list().ok());
    let teller = Arc::new(Teller::new(inbox.clone(), ceilings.clone(), watch_list));
    let commands = Arc::new(Commands::new(&folder, Arc::clone(&teller) as Arc<_>));
    let host: Arc<dyn Host> = Arc::new(LiveHost { commands: Arc::clone(&commands) });
    let protected = procfs::own_line();
    let probes = kernel.as_ref().map(|kernel| kernel.probes().to_vec()).unwrap_or_default();
    let mut probes_off = settings::probes_off(&probes);
    if let Err(reason) = &kernel {
        probes_off = monitor_common::Kind::ALL.iter().map(|kind| (*kind, reason.clone())).collect();
    }
    let mut engine = Engine::new(
        settings::settings(&config, options.dry_run, &protected, &probes_off),
        recovered.next,
    );
    restore(&mut engine, recovered);

    let view = Arc::new(Mutex::new(View::default()));
    let (sync, to_sync) = sync_channel::<()>(1);
    let syncing = {
        let (journal, inbox) = (Arc::clone(&journal), inbox.clone());
        Builder::new().name("journal".to_owned()).stack_size(128 << 10).spawn(move || {
            while to_sync.recv().is_ok() {
                if let Err(error) = journal.sync() {
                    inbox.send(Message::Halt(error.to_string()));
                }
            }
        })
    };
    let syncing = syncing.map_err(system("start a thread"))?;
    let hot = Hot {
        engine,
        rings: kernel.as_mut().ok().and_then(Kernel::take_rings),
        counters: kernel.as_ref().ok().map(Kernel::counters),
        inbox: delivered,
        hands: Hands::start(&host, &inbox).map_err(system("start a thread"))?,
        host,
        journal: Arc::clone(&journal),
        sync,
        board: Arc::clone(&view),
        recorder,
    };
    let hot = Builder::new().name("hot".to_owned()).spawn(move || hot::run(hot)).map_err(system("start a thread"))?;
    let snapshot = kernel.as_mut().ok().and_then(Kernel::take_snapshot);
    let samplers = samplers::build(&config.samplers, Sources { snapshot, ceilings });
    trouble.samplers = samplers.iter().filter_map(|sampler| sampler.limitation()).collect();
    for limitation in &trouble.samplers {
        tracing::warn!("{limitation}");
    }
    let sampling = Sampling::start(samplers, inbox.clone()).map_err(system("start a thread"))?;

    let log = kernel.as_mut().ok().and_then(Kernel::take_log);
    let shown: Arc<dyn KernelView> = match &kernel {
        Ok(kernel) => Arc::new(LiveKernel::new(&probes, kernel.counters())),
        Err(_) => Arc::new(NoKernel),
    };
    let trouble = Arc::new(Mutex::new(trouble));
    let limitations = {
        let trouble = Arc::clone(&trouble);
        move || complaints(&trouble)
    };
    let without_kernel = kernel.as_ref().err().cloned();
    let sources = api::Sources {
        view,
        kernel: shown,
        own,
        unhealthy: Box::new(move || without_kernel.iter().cloned().collect()),
        limitations: Box::new(limitations),
    };
    let daemon = Daemon {
        options,
        config,
        protected,
        probes_off,
        inbox: inbox.clone(),
        teller,
        commands,
        journal: Arc::clone(&journal),
        trouble,
        checks: JoinSet::new(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .build()
        .map_err(system("start the runtime"))?;
    let socket_path = daemon.config.daemon.socket.clone();
    let served = runtime.block_on(serve(daemon, Arc::new(sources), socket, http, log));
    sampling.end();
    inbox.send(Message::Stop);
    if hot.join().is_err() {
        tracing::error!("the core has died; the journal says what was under way");
    }
    let ended = journal.append(clock::now(), clock::unix_nanos(), vec![Entry::Ended]);
    if syncing.join().is_err() || ended.is_err() || journal.sync().is_err() {
        tracing::error!("the journal's last entries may not be on the disk");
    }
    let _ = std::fs::remove_file(socket_path);
    tracing::info!("ended");
    served
}

fn load(options: &Options) -> Result<Config, ConfigError> {
    match &options.config {
        Some(path) => Config::load(path),
        None => Ok(Config::defaults()),
    }
}

fn apply_options(config: &mut Config, options: &Options) {
    let daemon = &mut config.daemon;
    if let Some(folder) = &options.state_dir {
        daemon.state_dir.clone_from(folder);
    }
    if let Some(socket) = &options.socket {
        daemon.socket.clone_from(socket);
    }
    if let Some(http) = &options.http {
        daemon.http.clone_from(http);
    }
}

/// No rights, or ids that mean other processes, end the start; anything else leaves us with what needs no kernel programs.
fn load_kernel(config: &Config) -> Result<Result<Kernel, String>, DaemonError> {
    let wanted = &config.kernel;
    let options = kernel::Options {
        disabled: wanted.disabled.clone(),
        run_queue_threshold: wanted.run_queue_threshold.0,
        reclaim_threshold: wanted.reclaim_threshold.0,
        stats: wanted.run_time_stats,
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

fn bind_http(address: &str, trouble: &mut Trouble) -> Option<std::net::TcpListener> {
    if address.is_empty() {
        return None;
    }
    let bound = address
        .parse()
        .map_err(|_| format!("[daemon] http: `{address}` is no address; write it as \"127.0.0.1:9464\""))
        .and_then(|address| api::bind_http(address).map_err(|error| error.to_string()));
    match bound {
        Ok(listener) => Some(listener),
        Err(error) => {
            // Watching goes on: a taken port is no reason to leave the host alone.
            tracing::error!(%error, "no HTTP; all else works");
            trouble.http = Some(error);
            None
        }
    }
}

fn started() -> Entry {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    Entry::Started {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        boot: boot.trim().to_owned(),
    }
}

/// What earlier runs did counts; what they left under way is said.
fn restore(engine: &mut Engine, recovered: Recovered) {
    if recovered.unreadable > 0 {
        tracing::warn!(lines = recovered.unreadable, "lines of the journal cannot be read, and are passed over");
    }
    if recovered.crashed {
        tracing::warn!("the last run did not end in an orderly way");
    }
    for under_way in &recovered.under_way {
        tracing::warn!(
            incident = under_way.incident.0,
            action = under_way.action,
            plan = ?under_way.plan,
            "was under way when the daemon ended; its outcome is unknown"
        );
    }
    for past in &recovered.actions {
        let incident = recovered.incidents.iter().find(|incident| incident.id == past.incident);
        if let Some(incident) = incident {
            let target = policy::target(&past.action, incident);
            engine.policy_mut().remember(&target, incident.opened, past.at);
            if let Some(fixed) = past.fixed {
                engine.policy_mut().remember_fixed(&target, fixed);
            }
        }
    }
    engine.remember(recovered.incidents);
}

fn complaints(trouble: &Mutex<Trouble>) -> Vec<String> {
    let trouble = trouble.lock().unwrap_or_else(PoisonError::into_inner);
    let all = [&trouble.http, &trouble.config];
    all.into_iter().flatten().chain(&trouble.samplers).cloned().collect()
}

/// The slow side.
async fn serve(
    mut daemon: Daemon,
    sources: Arc<api::Sources>,
    socket: std::os::unix::net::UnixListener,
    http: Option<std::net::TcpListener>,
    log: Option<KernelLog>,
) -> Result<(), DaemonError> {
    let on = |kind| signal(kind).map_err(system("catch signals"));
    let (mut term, mut int, mut hup) =
        (on(SignalKind::terminate())?, on(SignalKind::interrupt())?, on(SignalKind::hangup())?);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let shutdown = async {
        let _ = stopped.await;
    };
    let api = tokio::spawn(api::serve(sources, Some(socket), http, shutdown));
    let diagnostics = tokio::spawn(flush(log));
    daemon.start_services().await;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        http = daemon.config.daemon.http,
        socket = %daemon.config.daemon.socket.display(),
        dry_run = daemon.options.dry_run || daemon.config.policy.dry_run,
        services = daemon.config.services.len(),
        "observing"
    );
    loop {
        let ending: &mut UnixSignal = tokio::select! {
            _ = hup.recv() => {
                daemon.reload().await;
                continue;
            }
            _ = term.recv() => &mut term,
            _ = int.recv() => &mut int,
        };
        daemon.end(ending).await;
        break;
    }
    let _ = stop.send(());
    diagnostics.abort();
    match api.await {
        Ok(served) => served.map_err(system("serve the API")),
        Err(error) => Err(DaemonError::System { what: "serve the API".to_owned(), source: error.into() }),
    }
}

/// What the kernel programs themselves have to say.
async fn flush(log: Option<KernelLog>) {
    let Some(mut log) = log else { return };
    let mut every = tokio::time::interval(std::time::Duration::from_secs(1));
    loop {
        every.tick().await;
        log.flush();
    }
}

impl Daemon {
    fn memory_max(&self) -> std::collections::BTreeMap<String, u64> {
        let services = self.config.services.iter();
        services.filter_map(|service| Some((service.name.clone(), service.memory_max?))).collect()
    }

    async fn start_services(&mut self) {
        self.teller.configure(self.memory_max());
        self.checks = checking::start(&self.config.checks, &self.teller, &self.inbox);
        let (commands, programs) = (Arc::clone(&self.commands), self.config.programs.clone());
        let grace = self.config.daemon.stop_grace.0;
        let applied = tokio::task::spawn_blocking(move || commands.apply(&programs, grace)).await;
        for name in applied.unwrap_or_default() {
            tracing::info!(service = %name, "its command has changed: used at its next start");
        }
    }

    /// Takes the file as it is now; with a mistake in it, everything stays as it was.
    async fn reload(&mut self) {
        let Some(path) = self.options.config.clone() else {
            tracing::warn!("nothing to reload: no configuration was named");
            return;
        };
        let loaded = Config::load(&path);
        let error = loaded.as_ref().err().map(ToString::to_string);
        let stale = error.as_ref().map(|error| format!("the configuration in force is the one before: {error}"));
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).config = stale;
        let mut config = match loaded {
            Ok(config) => config,
            Err(error) => {
                tracing::error!("the configuration is not taken, the one before stays in force:\n{}", error.render());
                return;
            }
        };
        apply_options(&mut config, &self.options);
        self.note_what_needs_a_start(&config);
        self.config = config;
        let settings = settings::settings(&self.config, self.options.dry_run, &self.protected, &self.probes_off);
        self.inbox.send(Message::Reload(Box::new(settings)));
        self.start_services().await;
        self.note_reloaded(&path);
    }

    fn note_what_needs_a_start(&self, config: &Config) {
        let before = (&self.config.daemon, &self.config.kernel, &self.config.samplers);
        if before != (&config.daemon, &config.kernel, &config.samplers) {
            tracing::warn!("[daemon], [kernel] and [samplers] take effect at the next start");
        }
    }

    fn note_reloaded(&self, path: &Path) {
        let entry = Entry::Reloaded { file: path.display().to_string() };
        if let Err(error) = self.journal.append(clock::now(), clock::unix_nanos(), vec![entry]) {
            self.inbox.send(Message::Halt(error.to_string()));
        }
        tracing::info!(file = %path.display(), services = self.config.services.len(), "configuration reloaded");
    }

    /// Acts no more, then stops its services, unless they are to stay. A second signal cuts that short.
    async fn end(&mut self, again: &mut UnixSignal) {
        self.inbox.send(Message::Quiesce);
        self.checks.abort_all();
        if self.config.daemon.services_on_exit == OnExit::Leave {
            return;
        }
        tracing::info!("ending: services are stopped");
        let (commands, grace) = (Arc::clone(&self.commands), self.config.daemon.stop_grace.0);
        tokio::select! {
            _ = tokio::task::spawn_blocking(move || commands.stop_all(grace)) => {}
            _ = again.recv() => tracing::warn!("asked again: not waiting for services any more"),
        }
    }
}
