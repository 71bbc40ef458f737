//! The slow side of a running daemon: API, signals, reload, the end.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::signal::unix::{Signal as UnixSignal, SignalKind, signal};
use tokio::task::JoinSet;

use super::budget::{self, Budget};
use super::diagnosing::Diagnosing;
use super::exported::Exported;
use super::folders::Folders;
use super::half_done::{self, HalfDone};
use super::inbox::{Inbox, Message};
use super::observing::Observing;
use super::options::{DaemonError, Options, apply_options, system};
use super::people::{self, Subjects};
use super::recording::Recordings;
use super::starting::Starting;
use super::teller::Teller;
use super::{checking, releases, settings};
use crate::api;
use crate::checks::{self, Beats, Tools};
use crate::config::Config;
use crate::config::raw::OnExit;
use crate::host::exec::Program;
use crate::host::network::Ways;
use crate::host::{Host, clock};
use crate::kernel::{self, DnsWatch, KernelLog, Programs};
use crate::metrics::Pace;
use crate::model::{Signal, View};
use crate::policy::PROTECTED;
use crate::record::{Entry, Journal};
use crate::samplers::memory::Shortage;
use crate::supervisors::Supervisors;

/// Everything that lives as long as the daemon.
pub(super) struct Daemon {
    pub(super) options: Options,
    pub(super) config: Config,
    pub(super) protected: Vec<u32>,
    pub(super) probes_off: Vec<(monitor_common::Kind, String)>,
    pub(super) programs: Option<Programs>,
    pub(super) budget: Option<Budget>,
    pub(super) dns: Option<DnsWatch>,
    pub(super) inbox: Inbox,
    /// What people may silence.
    pub(super) subjects: Subjects,
    /// What is little memory, for who watches it.
    pub(super) shortage: Shortage,
    pub(super) recordings: Arc<Recordings>,
    pub(super) teller: Arc<Teller>,
    pub(super) supervisors: Arc<Supervisors>,
    /// How well checks keep to their times.
    pub(super) pace: Arc<Pace>,
    /// What services send of themselves.
    pub(super) beats: Arc<Beats>,
    /// What checks see of the daemon's metrics.
    pub(super) exported: Arc<Exported>,
    pub(super) ways: Arc<Ways>,
    pub(super) diagnosing: Diagnosing,
    /// What is found where the configuration names no service.
    pub(super) observing: Observing,
    pub(super) folders: Folders,
    pub(super) journal: Arc<Journal>,
    /// Services that are not started with the daemon, and why; empty once it has started.
    pub(super) held: BTreeMap<String, String>,
    /// Services that are changed back before they are started with the daemon; empty once it has started.
    pub(super) half_done: BTreeMap<String, HalfDone>,
    /// Those that see to it that they are started all the same.
    pub(super) waiting: JoinSet<()>,
    /// What the core shows.
    pub(super) view: Arc<Mutex<View>>,
    /// What `/health` complains about besides what the core says.
    pub(super) trouble: Arc<Mutex<Trouble>>,
    pub(super) checks: JoinSet<()>,
    /// What the acts use, for what is read beside them.
    pub(super) host: Arc<dyn Host>,
    /// Those that read the releases of services.
    pub(super) releases: JoinSet<()>,
}

/// What keeps the daemon from being all it should be.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    pub(super) http: Option<String>,
    pub(super) config: Option<String>,
    /// The journal was changed by somebody else, as was found at start.
    pub(super) journal: Option<String>,
    pub(super) samplers: Vec<String>,
}

impl Trouble {
    pub(super) fn complaints(trouble: &Mutex<Self>) -> Vec<String> {
        let trouble = trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let all = [&trouble.http, &trouble.config, &trouble.journal];
        all.into_iter()
            .flatten()
            .chain(&trouble.samplers)
            .cloned()
            .collect()
    }
}

/// The slow side.
pub(super) async fn serve(
    mut daemon: Daemon,
    sources: Arc<api::Sources>,
    socket: std::os::unix::net::UnixListener,
    http: Option<std::net::TcpListener>,
    log: Option<KernelLog>,
) -> Result<(), DaemonError> {
    let on = |kind| signal(kind).map_err(system("catch signals"));
    let (mut term, mut int, mut hup) = (
        on(SignalKind::terminate())?,
        on(SignalKind::interrupt())?,
        on(SignalKind::hangup())?,
    );
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let shutdown = async {
        let _ = stopped.await;
    };
    let api = tokio::spawn(api::serve(sources, Some(socket), http, shutdown));
    let diagnostics = tokio::spawn(flush(log));
    let (changed, mut probes_changed) = tokio::sync::mpsc::channel(1);
    let mut background = JoinSet::new();
    background.spawn(look_for_cgroups(Arc::clone(&daemon.teller)));
    if let Some(dns) = daemon.dns.take() {
        background.spawn(sweep(dns, daemon.inbox.clone()));
    }
    if let Some(budget) = daemon.budget.take() {
        background.spawn(budget::keep(budget, changed));
    }
    daemon.observing.begin(daemon.config.clone());
    daemon.start_services().await;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        http = %daemon.config.daemon.http,
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
            Some(()) = probes_changed.recv() => {
                daemon.probes_changed();
                continue;
            }
            listing = daemon.observing.found() => {
                daemon.observe(listing).await;
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
        Err(error) => Err(DaemonError::System {
            what: "serve the API".to_owned(),
            source: error.into(),
        }),
    }
}

/// Cgroups that guards name by path come and go.
async fn look_for_cgroups(teller: Arc<Teller>) {
    let mut every = tokio::time::interval(std::time::Duration::from_secs(5));
    loop {
        every.tick().await;
        teller.guarding().look();
    }
}

/// Questions to DNS servers that have waited for too long are signals like those that were answered.
async fn sweep(dns: DnsWatch, inbox: Inbox) {
    let mut every = tokio::time::interval(kernel::SWEEP);
    loop {
        every.tick().await;
        let (now, mut unanswered) = (clock::now(), Vec::new());
        dns.sweep(now, |event| unanswered.push(event));
        for event in unanswered {
            inbox.signal(now, Signal::Kernel { event });
        }
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
    /// Detectors are told which probes they must do without now.
    fn probes_changed(&mut self) {
        let Some(programs) = &self.programs else {
            return;
        };
        self.probes_off = settings::probes_off(&programs.probes());
        self.send_settings();
    }

    pub(super) fn send_settings(&self) {
        self.recordings.reload(settings::settings(
            &self.config,
            self.options.dry_run,
            &self.protected,
            &self.probes_off,
        ));
    }

    fn memory_max(&self) -> BTreeMap<String, u64> {
        let services = self.config.services.iter();
        services
            .filter_map(|service| Some((service.name.clone(), service.memory_max?)))
            .collect()
    }

    pub(super) async fn start_services(&mut self) {
        people::name(&self.subjects, &self.config);
        let others = self.config.services.iter().filter(|it| it.is_others());
        let others = others.map(|service| service.name.clone()).collect();
        self.teller.configure(self.memory_max(), others);
        let memory = &self.config.detectors.memory_pressure;
        let levels = (memory.available_min, memory.least);
        self.shortage.set(memory.enabled.then_some(levels));
        let dry_run = self.options.dry_run || self.config.policy.dry_run;
        let guarding = self.teller.guarding();
        let own = self.config.policy.protected.iter().map(String::as_str);
        let protected: Vec<String> = PROTECTED
            .into_iter()
            .chain(own)
            .map(str::to_owned)
            .collect();
        guarding.configure(self.config.guards.clone(), dry_run, &protected);
        let networks = &self.config.networks;
        self.diagnosing.configure(networks, &self.ways, &self.inbox);
        self.start_checks();
        self.releases = releases::start(&self.config, &self.host, &self.teller, &self.inbox);
        let (commands, programs) = (
            Arc::clone(&self.supervisors.commands),
            self.config.programs.clone(),
        );
        let grace = self.config.daemon.stop_grace.0;
        let starting = Arc::new(Starting {
            held: std::mem::take(&mut self.held),
            half_done: std::mem::take(&mut self.half_done),
            journal: Arc::clone(&self.journal),
            inbox: self.inbox.clone(),
        });
        let before = Arc::clone(&starting);
        let apply = move || {
            let may_start = |name: &str, program: &Program| before.may_start(name, program);
            let changed = commands.apply(&programs, grace, may_start);
            before.done();
            changed
        };
        let applied = tokio::task::spawn_blocking(apply).await;
        for name in applied.unwrap_or_default() {
            tracing::info!(service = %name, "its command has changed: used at its next start");
        }
        if let Err(error) = self.supervisors.follow(&self.config.outside) {
            tracing::error!(%error, "services that others run are not followed");
        }
        let (commands, view) = (&self.supervisors.commands, &self.view);
        half_done::start(&starting, commands, view, &mut self.waiting);
    }

    fn start_checks(&mut self) {
        let tools = Arc::new(Tools {
            running: Box::new(Arc::clone(&self.teller)),
            runner: Arc::clone(&self.supervisors.runner),
            logs: self.supervisors.commands.logs(),
            beats: Arc::clone(&self.beats),
            notices: self.supervisors.commands.notices(),
            metrics: Box::new(Arc::clone(&self.exported)),
        });
        let takes = |(_, checks): &(&String, &Vec<checks::Config>)| {
            checks.iter().any(|config| config.check.takes_beats())
        };
        let waited_for = self.config.checks.iter().filter(takes);
        let waited_for = waited_for.map(|(service, _)| service.clone()).collect();
        self.beats.expect(&waited_for, clock::now());
        self.checks = checking::start(
            &self.config.checks,
            &self.config.services,
            &self.teller,
            &self.inbox,
            (&tools, &self.pace),
        );
    }

    /// Takes the file as it is now; with a mistake in it, everything stays as it was.
    async fn reload(&mut self) {
        let Some(path) = self.options.config.clone() else {
            tracing::warn!("nothing to reload: no configuration was named");
            return;
        };
        let loaded = Config::load(&path);
        let error = loaded.as_ref().err().map(ToString::to_string);
        let stale = error
            .as_ref()
            .map(|error| format!("the configuration in force is the one before: {error}"));
        self.trouble
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .config = stale;
        let mut config = match loaded {
            Ok(config) => config,
            Err(error) => {
                tracing::error!(
                    "the configuration is not taken, the one before stays in force:\n{}",
                    error.render()
                );
                return;
            }
        };
        apply_options(&mut config, &self.options);
        self.note_what_needs_a_start(&config);
        self.config = self.observing.begin(config);
        // What was added to the text knows nothing of the command line.
        apply_options(&mut self.config, &self.options);
        self.folders.apply(&self.config.folders);
        self.send_settings();
        self.start_services().await;
        self.note_reloaded(&path);
    }

    fn note_what_needs_a_start(&self, config: &Config) {
        let (old, new) = (&self.config, config);
        let places = |of: &Config| {
            (
                of.daemon.state_dir.clone(),
                of.daemon.socket.clone(),
                of.daemon.http,
                of.daemon.capture_logs,
            )
        };
        if places(old) != places(new) {
            tracing::warn!(
                "[daemon] state_dir, socket, http and capture_logs take effect at the next start"
            );
        }
        if old.journal != new.journal {
            tracing::warn!("[journal] takes effect at the next start");
        }
        if (&old.kernel, &old.samplers) != (&new.kernel, &new.samplers) {
            tracing::warn!("[kernel] and [samplers] take effect at the next start");
        }
    }

    fn note_reloaded(&self, path: &Path) {
        let entry = Entry::Reloaded {
            file: path.display().to_string(),
        };
        if let Err(error) = self
            .journal
            .append(clock::now(), clock::unix_nanos(), vec![entry])
        {
            self.inbox.send(Message::Halt(error.to_string()));
        }
        tracing::info!(file = %path.display(), services = self.config.services.len(), "configuration reloaded");
    }

    /// Acts no more, then stops its services, unless they are to stay. A second signal cuts that short.
    async fn end(&mut self, again: &mut UnixSignal) {
        self.inbox.send(Message::Quiesce);
        self.checks.abort_all();
        self.releases.abort_all();
        self.waiting.abort_all();
        if self.config.daemon.services_on_exit == OnExit::Leave {
            return;
        }
        tracing::info!("ending: services are stopped");
        let (commands, grace) = (
            Arc::clone(&self.supervisors.commands),
            self.config.daemon.stop_grace.0,
        );
        tokio::select! {
            _ = tokio::task::spawn_blocking(move || commands.stop_all(grace)) => {}
            _ = again.recv() => tracing::warn!("asked again: not waiting for services any more"),
        }
    }
}
