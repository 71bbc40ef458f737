//! Detectors: signals in, findings out. A file each; adding one is a file and a line in `detectors!` below.
//!
//! Consumes [`Signal`]s in the order of their arrival, emits [`Finding`]s. Pure and synchronous: no I/O, no clock (time is an
//! argument), so that a recorded run replays to the same findings. Whether anything is done about a finding is policy's business.

use monitor_common::{Kind, Task};

use crate::model::{Category, Finding, ProcessKey, Service, Signal, Subject, Time, World};

/// What a detector says of itself.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// File stem, configuration key, metric label and rule name.
    pub name: &'static str,
    /// The condition, in one line.
    pub summary: &'static str,
    /// What kind of trouble it is.
    pub category: Category,
    /// It may just as well be the trouble of something that the subject depends on: that is given time to show itself first.
    pub symptom: bool,
    /// Probes without which it sees less than it should; it then counts as degraded.
    pub needs: &'static [Kind],
}

/// A condition that can be seen.
pub trait Detector: Send + std::fmt::Debug {
    /// Takes one signal, which happened at `at`. `world` is what was known before it.
    fn observe(&mut self, signal: &Signal, at: Time, world: &World, out: &mut Vec<Finding>);

    /// Time has passed. Called at [`Detector::wake`], and at other times too.
    fn tick(&mut self, _at: Time, _world: &World, _out: &mut Vec<Finding>) {}

    /// Takes its part of a new configuration; what it has seen so far still counts.
    fn reconfigure(&mut self, config: &Config);

    /// When [`Detector::tick`] has something to look at again.
    fn wake(&self) -> Option<Time> {
        None
    }
}

pub use crate::model::incident::MANUAL;

/// Whether what a detector sees may just as well be the trouble of something that its subject depends on.
pub fn is_symptom(detector: &str) -> bool {
    ALL.iter().any(|spec| spec.name == detector && spec.symptom)
}

/// What kind of trouble a detector sees.
pub fn category(detector: &str) -> Category {
    let spec = ALL.iter().find(|spec| spec.name == detector);
    spec.map(|spec| spec.category).unwrap_or_default()
}

/// The service that the task of a kernel event belongs to.
fn service_of_task<'a>(world: &'a World, task: &Task) -> Option<&'a Service> {
    world
        .service_of(ProcessKey::from_task(task))
        .or_else(|| world.service_of_cgroup(task.cgroup_id))
}

/// Whom to name for a process: the service whose main process it is, else the process itself.
fn subject_of(world: &World, process: ProcessKey, comm: &str) -> Subject {
    match world.service_of(process) {
        Some(service) => Subject::service(&service.name),
        None => Subject::Process {
            process,
            comm: comm.to_owned(),
            group: world.groups.get(comm).cloned(),
        },
    }
}

macro_rules! detectors {
    ($($name:ident,)*) => {
        $(pub mod $name;)*

        /// Every detector, in the order in which signals reach them.
        pub const ALL: &[Spec] = &[$($name::SPEC,)*];

        /// `[detectors.NAME]` tables, each owned by its detector.
        #[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct Config {
            $(#[doc = concat!("See [`", stringify!($name), "`].")] pub $name: $name::Config,)*
        }

        /// Builds those that are switched on.
        pub fn build(config: &Config) -> Vec<(Spec, Box<dyn Detector>)> {
            let mut all: Vec<(Spec, Box<dyn Detector>)> = Vec::new();
            $(if config.$name.enabled {
                all.push(($name::SPEC, Box::new($name::Detect::new(config.$name.clone()))));
            })*
            all
        }
    };
}

detectors! {
    service_down,
    memory_pressure,
    runaway_cpu,
    latency_spike,
    connect_failure,
    dns_failure,
    fork_storm,
    oom_killed,
    hung_task,
    major_fault_storm,
    memory_growth,
    accept_queue_overflow,
    disk_error,
    disk_slow,
    disk_full,
    network_down,
    network_broken,
    release_failing,
    check_failing,
    slower_than_usual,
    objective_missed,
}
