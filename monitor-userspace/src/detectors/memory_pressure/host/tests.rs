//! Made-up hosts, after real ones: who is named, when, and when the next one is.

use super::*;
use crate::config::units::{Bytes, Level, Percent, Span};
use crate::model::{CgroupClaim, MemoryClaim, Service};

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

fn at(millis: u64) -> Time {
    Time::default().after(Duration::from_millis(millis))
}

fn key(pid: u32) -> ProcessKey {
    ProcessKey {
        pid,
        start_ticks: 1,
    }
}

fn claim(pid: u32, comm: &str, anon: u64) -> MemoryClaim {
    MemoryClaim {
        process: key(pid),
        comm: comm.to_owned(),
        cgroup_id: 0,
        anon,
        shmem: 0,
        swap: 0,
        oom_score_adj: 0,
    }
}

/// A table; a cgroup counts each of its processes.
fn claims(processes: &[MemoryClaim]) -> Claims {
    let mut cgroups: BTreeMap<u64, CgroupClaim> = BTreeMap::new();
    for claim in processes.iter().filter(|claim| claim.cgroup_id != 0) {
        let of = cgroups.entry(claim.cgroup_id).or_default();
        of.cgroup_id = claim.cgroup_id;
        of.processes += 1;
        of.own += claim.own();
        of.shmem = of.shmem.max(claim.shmem);
        of.oom_score_adj = of.oom_score_adj.min(claim.oom_score_adj);
    }
    Claims {
        processes: processes.to_vec(),
        cgroups: cgroups.into_values().collect(),
    }
}

/// `[[process]]` entries of the name of their processes, all with consent.
fn world(names: &[&str]) -> World {
    let mut world = World::default();
    for name in names {
        world.groups.insert((*name).to_owned(), (*name).to_owned());
        world.expendable.insert((*name).to_owned());
    }
    world
}

fn service(world: &mut World, name: &str, pid: u32, cgroup_id: u64) {
    let mut service = Service::new(name);
    service.process = Some(key(pid));
    service.cgroup_id = cgroup_id;
    world.services.insert(service);
    world.expendable.insert(name.to_owned());
}

struct Scene {
    host: Host,
    config: Config,
    world: World,
    now: u64,
    swap: (u64, u64),
}

impl Scene {
    /// 16 GiB, in trouble below 1 GiB.
    fn new(world: World) -> Self {
        let config = Config {
            least: Level::Size(Bytes(GIB)),
            available_min: Level::Size(Bytes(2 * GIB)),
            exhaust_within: Span::seconds(0),
            ..Config::default()
        };
        Self {
            host: Host::default(),
            config,
            world,
            now: 0,
            swap: (0, 0),
        }
    }

    fn claims(&mut self, processes: &[MemoryClaim]) {
        self.now += 100;
        self.host.claims(&claims(processes), at(self.now));
    }

    fn reads(&mut self, available: u64) -> Vec<Finding> {
        self.now += 10;
        let mut out = Vec::new();
        let memory = Memory {
            total: 16 * GIB,
            available,
            swap_total: self.swap.0,
            swap_free: self.swap.1,
        };
        self.host
            .memory(memory, at(self.now), &self.config, &self.world, &mut out);
        out
    }

    /// The table, and who is named when memory is at this.
    fn victim(&mut self, processes: &[MemoryClaim], available: u64) -> String {
        self.claims(processes);
        raised(&self.reads(available)).expect("somebody is named").0
    }
}

fn raised(out: &[Finding]) -> Option<(String, Evidence)> {
    out.iter().find_map(|finding| match finding {
        Finding::Raised {
            subject, evidence, ..
        } => Some((subject.to_string(), evidence.clone())),
        Finding::Cleared { .. } => None,
    })
}

fn cleared(out: &[Finding]) -> Option<String> {
    out.iter().find_map(|finding| match finding {
        Finding::Cleared { because, .. } => Some(because.clone()),
        Finding::Raised { .. } => None,
    })
}

fn fact(evidence: &Evidence, name: &str) -> String {
    let facts = evidence.facts.iter();
    let all: Vec<&str> = facts
        .filter(|(key, _)| key == name)
        .map(|(_, value)| value.as_str())
        .collect();
    all.join("; ")
}

#[test]
fn who_grows_goes_before_who_is_large_and_the_evidence_says_why() {
    let mut scene = Scene::new(world(&["java", "leak"]));
    scene.claims(&[claim(1, "java", 8 * GIB), claim(2, "leak", GIB)]);
    scene.claims(&[claim(1, "java", 8 * GIB), claim(2, "leak", 2 * GIB)]);
    let out = scene.reads(GIB / 2);
    let (who, evidence) = raised(&out).expect("it is raised");
    assert!(who.contains("leak"), "{who}");
    assert!(fact(&evidence, "its end brings").starts_with("2048 MiB back, grows"));
    assert_eq!(fact(&evidence, "chosen because"), "its end suffices");
    let other = fact(&evidence, "not");
    assert!(other.starts_with("java [1]: 8192 MiB back"), "{other}");
    assert_eq!(fact(&evidence, "to come back"), "614 MiB");
}

#[test]
fn one_that_has_just_started_counts_as_growing() {
    let mut scene = Scene::new(world(&["java", "hog"]));
    scene.claims(&[claim(1, "java", 8 * GIB)]);
    let table = [claim(1, "java", 8 * GIB), claim(9, "hog", 3 * GIB)];
    assert!(scene.victim(&table, GIB / 2).contains("hog"));
}

#[test]
fn a_worker_of_a_fork_server_brings_back_only_what_is_its_own() {
    // 20 workers with 1 GiB each, of which all but 10 MiB is shared since the fork.
    let mut scene = Scene::new(world(&["gunicorn", "batch"]));
    let mut table: Vec<_> = (1..=20).map(|pid| claim(pid, "gunicorn", GIB)).collect();
    table.push(claim(100, "batch", 900 * MIB));
    scene.claims(&table);
    let shares: Vec<_> = (1..=20)
        .map(|pid| MemoryShare {
            process: key(pid),
            alone: 10 * MIB,
            together: 60 * MIB,
        })
        .collect();
    scene.host.shares(&shares);
    assert!(scene.victim(&table, GIB / 2).contains("batch"));
}

#[test]
fn a_fork_server_that_is_a_service_goes_as_a_whole() {
    let mut all = world(&["batch"]);
    service(&mut all, "web", 1, 7);
    let mut scene = Scene::new(all);
    let mut table: Vec<_> = (1..=20)
        .map(|pid| MemoryClaim {
            cgroup_id: 7,
            ..claim(pid, "gunicorn", 100 * MIB)
        })
        .collect();
    table.push(claim(100, "batch", 300 * MIB));
    scene.claims(&table);
    scene.claims(&table);
    let out = scene.reads(GIB / 2);
    let (who, evidence) = raised(&out).expect("it is raised");
    assert_eq!(who, Subject::service("web").to_string());
    assert_eq!(evidence.process, Some(key(1)));
    let brings = fact(&evidence, "its end brings");
    assert!(
        brings.starts_with("2000 MiB back, 20 processes"),
        "{brings}"
    );
}

#[test]
fn the_shared_buffers_of_a_database_are_counted_once_and_a_backend_does_not_free_them() {
    // PostgreSQL: 4 GiB of shared buffers in 50 backends, each with 20 MiB of its own.
    let backend = |pid: u32, cgroup_id| MemoryClaim {
        shmem: 4 * GIB,
        cgroup_id,
        ..claim(pid, "postgres", 20 * MIB)
    };
    let mut scene = Scene::new(world(&["postgres", "report"]));
    let mut table: Vec<_> = (1..=40).map(|pid| backend(pid, 0)).collect();
    table.push(claim(100, "report", 700 * MIB));
    assert!(scene.victim(&table, GIB / 2).contains("report"));
    // As a service, all of it: 4 GiB and the backends' own, not 200 GiB.
    let mut all = World::default();
    service(&mut all, "db", 1, 7);
    let mut scene = Scene::new(all);
    let table: Vec<_> = (1..=40).map(|pid| backend(pid, 7)).collect();
    scene.claims(&table);
    let (_, evidence) = raised(&scene.reads(GIB / 2)).expect("it is raised");
    let brings = fact(&evidence, "its end brings");
    assert!(
        brings.starts_with("4896 MiB back, 40 processes"),
        "{brings}"
    );
}

#[test]
fn of_a_browser_one_renderer_goes_and_not_the_browser() {
    let mut scene = Scene::new(world(&["chrome"]));
    let mut table = vec![claim(1, "chrome", 400 * MIB)];
    table.extend((2..=9).map(|pid| MemoryClaim {
        oom_score_adj: 300,
        ..claim(pid, "chrome", (400 + u64::from(pid) * 50) * MIB)
    }));
    scene.claims(&table);
    let out = scene.reads(GIB * 9 / 10);
    let (_, evidence) = raised(&out).expect("it is raised");
    assert_eq!(evidence.process, Some(key(9)), "the largest renderer");
}

#[test]
fn a_heap_that_was_swapped_out_comes_back_too() {
    let mut scene = Scene::new(world(&["java", "node"]));
    scene.swap = (4 * GIB, 0);
    let java = MemoryClaim {
        swap: 3 * GIB,
        ..claim(1, "java", GIB)
    };
    let table = [java, claim(2, "node", 2 * GIB)];
    assert!(scene.victim(&table, GIB / 2).contains("java"));
}

#[test]
fn what_is_preferred_goes_first_if_it_suffices_and_what_is_to_be_avoided_last() {
    let table = [
        claim(1, "java", 6 * GIB),
        claim(2, "cache", 2 * GIB),
        claim(3, "tiny", 10 * MIB),
    ];
    let names = ["java", "cache", "tiny"];
    let mut scene = Scene::new(world(&names));
    scene.config.prefer = vec!["tiny".to_owned(), "cache".to_owned()];
    assert!(scene.victim(&table, GIB / 2).contains("cache"));
    let mut scene = Scene::new(world(&names));
    scene.config.avoid = vec!["java".to_owned()];
    assert!(scene.victim(&table, GIB / 2).contains("cache"));
    let mut scene = Scene::new(world(&["java", "tiny"]));
    scene.config.avoid = vec!["java".to_owned()];
    scene.claims(&table);
    let (who, evidence) = raised(&scene.reads(GIB / 2)).expect("it is raised");
    assert!(who.contains("java"), "nobody else suffices: {who}");
    assert!(fact(&evidence, "chosen because").contains("to be avoided"));
}

#[test]
fn oom_score_adj_is_respected_and_who_is_protected_is_not_thought_of() {
    let mut all = world(&["java", "sshd", "batch"]);
    all.protected_pids = vec![2];
    let mut scene = Scene::new(all);
    let never = MemoryClaim {
        oom_score_adj: -1000,
        ..claim(1, "java", 8 * GIB)
    };
    let spared = MemoryClaim {
        oom_score_adj: -500,
        ..claim(3, "batch", 3 * GIB)
    };
    let table = [
        never,
        claim(2, "sshd", 4 * GIB),
        spared,
        claim(4, "batch", GIB),
    ];
    scene.claims(&table);
    let (_, evidence) = raised(&scene.reads(GIB / 2)).expect("it is raised");
    assert_eq!(evidence.process, Some(key(4)));
    assert!(!fact(&evidence, "not").contains("sshd"));
    assert!(!fact(&evidence, "not").contains("java"));
}

#[test]
fn without_consent_nobody_is_named_as_long_as_others_suffice() {
    let table = [claim(1, "mysqld", 8 * GIB), claim(2, "batch", GIB)];
    let mut scene = Scene::new(world(&["batch"]));
    assert!(scene.victim(&table, GIB / 2).contains("batch"));
    // It would not suffice: the stranger is named, and policy only says so.
    let mut scene = Scene::new(world(&["batch"]));
    let small = [claim(1, "mysqld", 8 * GIB), claim(2, "batch", 20 * MIB)];
    scene.claims(&small);
    let (who, evidence) = raised(&scene.reads(GIB / 2)).expect("it is raised");
    assert!(who.contains("mysqld"), "{who}");
    assert!(fact(&evidence, "its end brings").contains("no consent"));
    // And no others with him, however long it takes.
    scene.now += 60_000;
    assert_eq!(raised(&scene.reads(GIB / 2)), None);
}

#[test]
fn several_go_one_after_the_other_and_only_when_the_memory_of_one_is_not_back() {
    let mut scene = Scene::new(world(&["job"]));
    let table: Vec<_> = (1..=8).map(|pid| claim(pid, "job", 200 * MIB)).collect();
    scene.claims(&table);
    let out = scene.reads(GIB / 2);
    let (_, first) = raised(&out).expect("it is raised");
    assert!(fact(&first, "chosen because").contains("together"));
    let process = first.process.expect("a process");
    // It is being killed: nothing more, however low it is.
    for _ in 0..20 {
        assert_eq!(scene.reads(GIB / 4), Vec::new());
    }
    // It has ended; its memory is given time.
    scene.host.ended(process, at(scene.now));
    assert_eq!(scene.reads(GIB / 4), Vec::new());
    scene.now += 400;
    assert_eq!(scene.reads(GIB / 2), Vec::new());
    scene.now += 100;
    let left: Vec<_> = table
        .into_iter()
        .filter(|claim| claim.process != process)
        .collect();
    scene.host.claims(&claims(&left), at(scene.now));
    let out = scene.reads(GIB * 6 / 10);
    let why = cleared(&out).expect("the first is over");
    assert!(why.contains("still short"), "{why}");
    let (_, second) = raised(&out).expect("the second is named");
    assert_ne!(second.process, Some(process));
    // Enough is back before the second has gone: over.
    let out = scene.reads(GIB);
    assert!(cleared(&out).is_some_and(|why| why.contains("available")));
    assert_eq!(raised(&out), None);
}

#[test]
fn memory_that_comes_back_in_time_costs_no_second_one() {
    let mut scene = Scene::new(world(&["job"]));
    let table = [claim(1, "job", 2 * GIB), claim(2, "job", 2 * GIB)];
    scene.claims(&table);
    let (_, first) = raised(&scene.reads(GIB / 2)).expect("it is raised");
    scene
        .host
        .ended(first.process.expect("a process"), at(scene.now));
    for step in 1..=20 {
        let out = scene.reads(GIB / 2 + step * 100 * MIB);
        assert_eq!(raised(&out), None);
    }
    assert!(scene.host.named.is_empty());
}

#[test]
fn one_that_does_not_go_is_passed_over_for_one_that_may() {
    let mut scene = Scene::new(world(&["stuck", "job"]));
    let table = [claim(1, "stuck", 4 * GIB), claim(2, "job", 2 * GIB)];
    assert!(scene.victim(&table, GIB / 2).contains("stuck"));
    scene.now += 4_000;
    assert_eq!(scene.reads(GIB / 2), Vec::new());
    scene.now += 2_000;
    let (who, _) = raised(&scene.reads(GIB / 2)).expect("the next");
    assert!(who.contains("job"), "{who}");
    scene.now += 10_000;
    assert_eq!(raised(&scene.reads(GIB / 2)), None, "nobody is left");
}

#[test]
fn free_swap_puts_it_off_and_no_swap_does_not() {
    let table = [claim(1, "job", 2 * GIB)];
    let mut scene = Scene::new(world(&["job"]));
    scene.swap = (4 * GIB, 2 * GIB);
    scene.claims(&table);
    assert_eq!(scene.reads(GIB / 2), Vec::new());
    scene.swap = (4 * GIB, GIB / 4);
    let (_, evidence) = raised(&scene.reads(GIB / 2)).expect("it is raised");
    assert_eq!(fact(&evidence, "free swap"), "256 MiB of 4096 MiB");
}

#[test]
fn what_will_be_used_up_soon_is_trouble_before_it_is() {
    let mut scene = Scene::new(world(&["job"]));
    scene.config.exhaust_within = Span::seconds(1);
    scene.claims(&[claim(1, "job", GIB)]);
    scene.claims(&[claim(1, "job", 6 * GIB)]);
    // 2 GiB/s: from 2 GiB on, all is gone in a second.
    let mut available = 4 * GIB;
    let mut named = None;
    while named.is_none() && available > GIB {
        available -= 20 * MIB;
        named = raised(&scene.reads(available));
    }
    let (_, evidence) = named.expect("it is raised");
    assert!(available > GIB * 3 / 2, "{} MiB left", available / MIB);
    assert!(!fact(&evidence, "used up in").is_empty());
    // Without the forecast, and with no alarm of the kernel's, only the least counts.
    let mut scene = Scene::new(world(&["job"]));
    scene.claims(&[claim(1, "job", GIB)]);
    assert_eq!(scene.reads(GIB * 3 / 2), Vec::new());
    scene.host.triggered(at(scene.now), 2_000, 500);
    let (_, evidence) = raised(&scene.reads(GIB * 3 / 2)).expect("pressed");
    assert_eq!(fact(&evidence, "all tasks at once (avg10)"), "5.00%");
}

#[test]
fn the_service_that_stalls_itself_goes_before_one_that_is_no_larger() {
    let mut all = World::default();
    service(&mut all, "a", 1, 7);
    service(&mut all, "b", 2, 8);
    let mut scene = Scene::new(all);
    let of = |pid, cgroup_id| MemoryClaim {
        cgroup_id,
        ..claim(pid, "app", 2 * GIB)
    };
    let world = scene.world.clone();
    scene.host.service_stalls("b", 4_000, &world);
    let who = scene.victim(&[of(1, 7), of(2, 8)], GIB / 2);
    assert_eq!(who, Subject::service("b").to_string());
}

#[test]
fn a_service_that_holds_the_daemon_or_is_being_restarted_is_left_alone() {
    let mut all = world(&["job"]);
    service(&mut all, "a", 1, 7);
    service(&mut all, "b", 2, 8);
    all.services.change("b", |service| service.in_action = true);
    all.protected_pids = vec![50];
    let mut scene = Scene::new(all);
    let of = |pid, cgroup_id| MemoryClaim {
        cgroup_id,
        ..claim(pid, "app", 2 * GIB)
    };
    let table = [of(1, 7), of(50, 7), of(2, 8), claim(3, "job", GIB)];
    assert!(scene.victim(&table, GIB / 2).contains("job"));
}

#[test]
fn nobody_known_is_the_hosts_own_trouble() {
    let mut scene = Scene::new(World::default());
    let (who, evidence) = raised(&scene.reads(GIB / 2)).expect("it is raised");
    assert_eq!(who, Subject::Host.to_string());
    assert_eq!(fact(&evidence, "victim"), "none known");
    assert_eq!(Percent(10.0), scene.config.margin);
}
