//! What every entry of every registry must keep to.

#[path = "conformance/documents.rs"]
mod documents;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use monitor_common::Kind;
use smart_monitor::config::Config;
use smart_monitor::engine::{Engine, Order, Settings};
use smart_monitor::host::clean::Cleaned;
use smart_monitor::host::redis::Flushed;
use smart_monitor::host::{Host, HostError, Opened, Reloaded, Restarted};
use smart_monitor::model::command::Reload;
use smart_monitor::model::release::Known;
use smart_monitor::model::{
    CheckResult, Cleaning, EffectResult, Flush, FolderId, FolderRoom, IncidentId, Outcome, Plan,
    ProcessKey, Room, Sample, ServiceSignal, Signal, Time,
};
use smart_monitor::policy::guards;
use smart_monitor::policy_test::Suite;
use smart_monitor::{actions, checks, detectors, samplers, supervisors};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn names_are_unique_snake_case_and_those_of_their_files() {
    let mut seen = BTreeSet::new();
    let registries: [(&str, Vec<(&str, &str)>); 5] = [
        (
            "detectors",
            detectors::ALL
                .iter()
                .map(|spec| (spec.name, spec.summary))
                .collect(),
        ),
        (
            "actions",
            actions::ALL
                .iter()
                .map(|spec| (spec.name, spec.summary))
                .collect(),
        ),
        (
            "checks",
            checks::ALL
                .iter()
                .map(|spec| (spec.name, spec.summary))
                .collect(),
        ),
        (
            "samplers",
            samplers::ALL
                .iter()
                .map(|spec| (spec.name, spec.summary))
                .collect(),
        ),
        (
            "supervisors",
            supervisors::KINDS
                .iter()
                .map(|spec| (spec.name, spec.summary))
                .collect(),
        ),
    ];
    for (folder, specs) in registries {
        assert!(!specs.is_empty(), "{folder} is empty");
        let folder_path = root().join("monitor-userspace/src").join(folder);
        let files = std::fs::read_dir(folder_path)
            .expect("it is there")
            .filter(|entry| entry.as_ref().is_ok_and(|entry| entry.path().is_file()));
        assert_eq!(
            files.count(),
            specs.len(),
            "{folder} holds a file that is not registered"
        );
        for (name, summary) in specs {
            assert!(
                seen.insert(format!("{folder}/{name}")),
                "{name} stands twice in {folder}"
            );
            assert!(
                name.chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'),
                "{name}"
            );
            let path = root().join(format!("monitor-userspace/src/{folder}/{name}.rs"));
            assert!(path.is_file(), "{} is missing", path.display());
            assert!(
                !summary.is_empty() && !summary.ends_with('.'),
                "{name}: {summary}"
            );
        }
    }
    for kind in Kind::ALL {
        assert!(
            seen.insert(kind.name().to_owned()),
            "{} is the name of two probes",
            kind.name()
        );
    }
    for guard in guards::ALL {
        assert!(
            seen.insert(guard.name.to_owned()),
            "{} is the name of two guards",
            guard.name
        );
    }
}

#[test]
fn every_configuration_we_ship_is_good() {
    let mut checked = 0;
    let mut folders = vec![root().join("config")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("it is there") {
            let path = entry.expect("it reads").path();
            if path.is_dir() {
                folders.push(path);
            } else if path
                .extension()
                .is_some_and(|extension| extension == "toml")
                && !is_policy_test(&path)
            {
                if let Err(error) = Config::load(&path) {
                    panic!("{}", error.render());
                }
                checked += 1;
            }
        }
    }
    assert!(checked >= 2, "only {checked} files were found");
}

fn is_policy_test(path: &Path) -> bool {
    path.to_string_lossy().ends_with(".test.toml")
}

fn passes(suite: &Suite) {
    for verdict in suite.run() {
        assert!(verdict.ok, "{}: {verdict:#?}", suite.file().display());
    }
}

#[test]
fn every_example_has_policy_tests_and_they_pass() {
    let examples = root().join("config/examples");
    let mut tested = 0;
    for entry in std::fs::read_dir(&examples).expect("it is there") {
        let path = entry.expect("it reads").path();
        if path.is_dir() {
            continue;
        }
        let stem = path.file_stem().expect("it has a stem").to_string_lossy();
        let tests = examples.join(format!("tests/{stem}.test.toml"));
        let suite = Suite::load(&tests).unwrap_or_else(|error| panic!("{}", error.render()));
        passes(&suite);
        tested += 1;
    }
    assert!(tested >= 3, "only {tested} examples were found");
}

#[test]
fn the_example_of_the_documentation_is_true() {
    let page = std::fs::read_to_string(root().join("docs/policy-tests.md")).expect("it reads");
    let blocks: Vec<&str> = page
        .split("```toml\n")
        .skip(1)
        .filter_map(|block| block.split("```").next())
        .collect();
    let [config, tests, ..] = blocks.as_slice() else {
        panic!("the page shows a configuration and its tests");
    };
    let suite = Suite::parse(tests, Path::new("shop.test.toml"), &mut |path| {
        assert_eq!(path, Path::new("smart-monitor.toml"));
        Ok((*config).to_owned())
    });
    passes(&suite.unwrap_or_else(|error| panic!("{}", error.render())));
}

#[test]
fn defaults_written_out_read_back_as_the_defaults() {
    let path = root().join("config/reference.toml");
    let read = Config::load(&path).unwrap_or_else(|error| panic!("{}", error.render()));
    let defaults = Config::defaults();
    assert_eq!(read.daemon, defaults.daemon);
    assert_eq!(read.kernel, defaults.kernel);
    assert_eq!(read.detectors, defaults.detectors);
    assert_eq!(read.samplers, defaults.samplers);
    assert_eq!(read.policy, defaults.policy);
    assert!(
        defaults.remedies.is_empty(),
        "without consent, nothing is acted on"
    );
}

fn mistakes(text: &str) -> String {
    Config::parse(text, Path::new("test.toml"))
        .expect_err("it has a mistake")
        .to_string()
}

#[test]
fn a_mistake_is_shown_where_it_stands_with_what_was_meant() {
    let text = "[detectors.runaway_cpu]\n\nthreshhold = \"90%\"\n";
    let error = Config::parse(text, Path::new("test.toml"))
        .expect_err("it has a mistake")
        .render();
    assert!(error.contains("test.toml:3:1"), "{error}");
    assert!(error.contains("did you mean `threshold`?"), "{error}");
    assert!(mistakes("[policy]\nlimit = 0\n").contains("limit"));
    let remedy = "[[remedy]]\ndetector = \"service_dwon\"\non = [\"nobody\"]\naction = \"restart_service\"\n";
    let error = Config::parse(remedy, Path::new("test.toml"))
        .expect_err("two mistakes")
        .render();
    assert!(
        error.contains("test.toml:2:12") && error.contains("did you mean `service_down`?"),
        "{error}"
    );
    assert!(
        error.contains("test.toml:3:7") && error.contains("`nobody`"),
        "{error}"
    );
}

#[test]
fn nonsense_is_refused_and_never_a_panic() {
    let nonsense = [
        "service = 5",
        "[[service]]\nname = \"a\"\n",
        "[[service]]\nname = \"\"\nkind = \"command\"\ncommand = [\"x\"]\n",
        "[[service]]\nname = \"a b\"\nkind = \"command\"\ncommand = [\"x\"]\n",
        "[[service]]\nname = \"a\"\nkind = \"docker\"\ncommand = [\"x\"]\n",
        "[[service]]\nname = \"a\"\nkind = \"command\"\ncommand = []\n",
        "[[service]]\nname = \"a\"\nkind = \"command\"\ncommand = [\"x\"]\ncheck = { http = \"ftp://x\" }\n",
        "[[service]]\nname = \"a\"\nkind = \"command\"\ncommand = [\"x\"]\ncheck = { }\n",
        "[[service]]\nname = \"a\"\nkind = \"command\"\ncommand = [\"x\"]\nmemory_max = 5\n",
        "[[process]]\nname = \"a\"\ncomm = [\"longer-than-fifteen\"]\n",
        "[[remedy]]\ndetector = \"runaway_cpu\"\non = [\"*\"]\naction = \"lower_priority\"\nnice = 20\n",
        "[[remedy]]\ndetector = \"runaway_cpu\"\non = [\"*\"]\naction = \"lower_priority\"\nnice = -1\n",
        "[kernel]\nrun_queue_threshold = \"-5s\"\n",
        "[kernel]\ndisabled = [\"no_such_probe\"]\n",
        "[daemon",
        "\u{0}",
    ];
    for text in nonsense {
        assert!(mistakes(text).starts_with("test.toml:"), "{text}");
    }
    let twice = "[[service]]\nname = \"a\"\nkind = \"command\"\ncommand = [\"x\"]\n".repeat(2);
    assert!(mistakes(&twice).contains("used twice"));
}

/// A host on which every process has ended and been replaced: nothing may be touched.
#[derive(Debug, Default)]
struct Stranger {
    touched: Mutex<Vec<String>>,
}

impl Host for Stranger {
    fn open(&self, process: ProcessKey) -> Result<Box<dyn Opened>, HostError> {
        Err(HostError::Reused(process))
    }

    fn restart_service(
        &self,
        service: &str,
        process: Option<ProcessKey>,
        _: Duration,
        _: &[String],
    ) -> Result<Restarted, HostError> {
        if let Some(process) = process {
            let found = ProcessKey {
                pid: process.pid,
                start_ticks: process.start_ticks + 1,
            };
            return Err(HostError::Replaced {
                service: service.to_owned(),
                found,
            });
        }
        self.touched
            .lock()
            .expect("nobody panics with it")
            .push(service.to_owned());
        Err(HostError::NoService(service.to_owned()))
    }

    fn running(&self, _: &str) -> Result<Option<ProcessKey>, HostError> {
        Ok(Some(ProcessKey {
            pid: 4_000,
            start_ticks: 78,
        }))
    }

    fn stop_service(
        &self,
        service: &str,
        process: Option<ProcessKey>,
        term_grace: Duration,
    ) -> Result<Time, HostError> {
        let restarted = self.restart_service(service, process, term_grace, &[]);
        restarted.map(|restarted| restarted.acted)
    }

    fn reload_service(
        &self,
        service: &str,
        process: ProcessKey,
        _: &Reload,
    ) -> Result<Reloaded, HostError> {
        let restarted = self.restart_service(service, Some(process), Duration::ZERO, &[]);
        Err(restarted.expect_err("it is another one"))
    }

    fn will_change(&self, _: IncidentId, _: &str, _: &Plan) -> Result<(), HostError> {
        Ok(())
    }

    fn clean_folder(&self, _: IncidentId, cleaning: &Cleaning) -> Result<Cleaned, HostError> {
        Err(HostError::Folder {
            path: cleaning.folder.path.clone(),
            why: "it is another folder than when this was decided".to_owned(),
        })
    }

    fn flush_redis(&self, flush: &Flush) -> Result<Flushed, HostError> {
        Err(HostError::Replica(flush.address.clone()))
    }

    fn now(&self) -> Time {
        Time::from_nanos(1)
    }
}

/// What a rung must say to an action.
fn must_say(action: &str) -> &str {
    match action {
        "freeze" => "undo_after = \"1m\"\n",
        "throttle_memory" => "with = { high = \"64MiB\" }\n",
        "send_signal" => "with = { signal = \"USR1\" }\n",
        "flush_redis" => "with = { address = \"127.0.0.1:1\", database = 0, all = true }\n",
        _ => "",
    }
}

/// Actions whose target cannot be another by now: one is done to what does not run, the other to whatever its command names.
const DONE_TO_NOBODY: [&str; 2] = ["run_command", "start_service"];

/// It runs v2 now, and v1 was good.
fn two_releases(process: ProcessKey) -> Known {
    let mut known = Known::default();
    let before = ProcessKey {
        pid: 3_000,
        ..process
    };
    known.started_with(before, "v1", Time::from_nanos(1));
    known.proven();
    known.started_with(process, "v2", Time::from_nanos(1_000_000_000_000));
    known
}

/// What makes the core want this action: a condition, on what, and what the action must be told.
fn wanted(spec: &actions::Spec) -> (&'static str, &'static str, &'static str) {
    match spec.on {
        [actions::Target::Folder] => ("disk_full", "f", ""),
        _ => ("latency_spike", "a", must_say(spec.name)),
    }
}

/// The folder `f` is on a file system that has no room.
fn full() -> Signal {
    let id = FolderId {
        device: 1,
        inode: 1,
    };
    let room = Room {
        used: 1,
        ..Room::default()
    };
    let folders = vec![FolderRoom {
        name: "f".to_owned(),
        id,
        room,
    }];
    let sample = Sample::DiskSpace {
        disks: Vec::new(),
        folders,
    };
    Signal::Sample { sample }
}

/// Every action, by way of the engine: the only way there is to a permit.
#[test]
fn an_action_refuses_a_target_that_is_another_by_now() {
    // What is done to a network is compared with it in `tests/live/actions/network_steps.rs`.
    let to_somebody = |spec: &&actions::Spec| {
        spec.on != [actions::Target::Network] && !DONE_TO_NOBODY.contains(&spec.name)
    };
    for spec in actions::ALL.iter().filter(to_somebody) {
        let (detector, on, with) = wanted(spec);
        let text = format!(
            "[[service]]\nname = \"a\"\nkind = \"command\"\ncommand = [\"x\"]\nreload = {{ signal = \"SIGHUP\" }}\n\
             check = {{ tcp = \"127.0.0.1:1\" }}\n\
             release = {{ kind = \"git\", path = \"/srv/a\" }}\n\
             [policy]\nboot_grace = \"0s\"\n\
             [detectors.latency_spike]\nchecks = 1\n\
             [[folder]]\nname = \"f\"\npath = \"/srv/f\"\nmatch = [\"*.1\"]\n\
             [[remedy]]\ndetector = \"{detector}\"\non = [\"{on}\"]\naction = \"{}\"\n{with}",
            spec.name
        );
        let config = Config::parse(&text, Path::new("test.toml")).expect("it is good");
        let settings = Settings {
            detectors: config.detectors,
            policy: config.policy,
            remedies: config.remedies,
            services: config.services,
            folders: config.folders,
            ..Settings::default()
        };
        let mut engine = Engine::new(settings, IncidentId(1));
        let mut orders = Vec::new();
        let process = ProcessKey {
            pid: 4_000,
            start_ticks: 77,
        };
        engine.know_releases([("a".to_owned(), two_releases(process))].into());
        let mut at = |seconds: i64, signal: Signal, orders: &mut Vec<Order>| {
            let at = Time::from_nanos((1_000 + seconds) * 1_000_000_000);
            engine.observe(&signal, at, at, orders);
        };
        let started = ServiceSignal::Started {
            process,
            adopted: false,
            cgroup_id: 0,
        };
        at(
            1,
            Signal::Service {
                service: "a".to_owned(),
                change: started,
            },
            &mut orders,
        );
        for (second, latency) in [(2, 0), (20, 10)] {
            let latency = Duration::from_secs(latency);
            let result = CheckResult::new("a", latency, None);
            at(second, Signal::Check { result }, &mut orders);
        }
        at(21, full(), &mut orders);
        let permit = orders.into_iter().find_map(|order| match order {
            Order::Execute { permit, .. } => Some(permit),
            Order::Record(_) | Order::Releases { .. } => None,
        });
        let permit = permit.unwrap_or_else(|| panic!("{} was not permitted", spec.name));
        let host = Stranger::default();
        let effect = match actions::strike(&permit, &host) {
            Ok(struck) => actions::execute(permit, struck, &host),
            Err(effect) => *effect,
        };
        assert!(
            matches!(effect.result, EffectResult::Refused { .. }),
            "{}: {effect:?}",
            spec.name
        );
        assert_eq!(
            effect.acted, None,
            "{} says that it touched the host",
            spec.name
        );
        assert!(
            host.touched
                .lock()
                .expect("nobody panics with it")
                .is_empty(),
            "{}",
            spec.name
        );
    }
}

#[test]
fn words_for_outcomes_are_unique() {
    let names: BTreeSet<&str> = Outcome::ALL.iter().map(|outcome| outcome.name()).collect();
    assert_eq!(names.len(), Outcome::ALL.len());
}

const TWO: &str = "[[service]]\nname = \"web\"\nkind = \"command\"\ncommand = [\"x\"]\ncheck = { tcp = \"127.0.0.1:1\" }\n\
                   [[service]]\nname = \"db\"\nkind = \"command\"\ncommand = [\"x\"]\n[[process]]\nname = \"batch\"\ncomm = [\"batch\"]\n";

#[test]
fn what_a_rule_cannot_mean_is_a_mistake_that_says_what_to_do() {
    let rule = "[[remedy]]\ndetector = \"latency_spike\"\non = [\"web\"]\n";
    let act = "action = \"restart_service\"\n";
    let step = "[[remedy.step]]\naction = \"restart_service\"\n";
    let cases: &[(String, &str)] = &[
        (rule.to_owned(), "needs `action`"),
        (format!("{rule}{act}{step}"), "either `action` or steps"),
        (format!("{rule}{}", step.repeat(17)), "at most 16 steps"),
        (format!("{rule}{step}attempts = 0\n"), "0 attempts are none"),
        (
            format!("{rule}action = \"freeze\"\n"),
            "freeze needs `undo_after`",
        ),
        (
            format!("{rule}action = \"freeze\"\nundo_after = \"1m\"\nwith = {{ by = \"x\" }}\n"),
            "unknown variant `x`",
        ),
        (
            format!("{rule}action = \"throttle_cpu\"\nwith = {{ percent = 0 }}\n"),
            "must be 1 to 10000",
        ),
        (
            format!("{rule}action = \"throttle_memory\"\n"),
            "missing field `high`",
        ),
        (
            format!("{rule}action = \"throttle_memory\"\nwith = {{ high = \"5KiB\" }}\n"),
            "must be 1MiB or more",
        ),
        (
            format!("{rule}action = \"lower_io_priority\"\nwith = {{ level = 8 }}\n"),
            "must be 0 to 7",
        ),
        (
            format!(
                "{rule}action = \"lower_io_priority\"\nwith = {{ class = \"idle\", level = 1 }}\n"
            ),
            "means nothing in the class idle",
        ),
        (
            format!("{rule}action = \"set_oom_score\"\nwith = {{ score = 1001 }}\n"),
            "must be -1000",
        ),
        (
            format!("{rule}action = \"send_signal\"\nwith = {{ signal = \"KILL\" }}\n"),
            "must be one of HUP, USR1, USR2, WINCH",
        ),
        (
            format!("{rule}action = \"kill_cgroup\"\nundo_after = \"1m\"\n"),
            "cannot be undone",
        ),
        (
            format!("{rule}action = \"restart_servce\"\n"),
            "did you mean",
        ),
        (
            format!("{rule}{act}for = \"0s\"\n"),
            "not more than nothing",
        ),
        (
            format!("{rule}{act}approval = \"720h\"\n"),
            "at most 7 days",
        ),
        (format!("{rule}{act}name = \"a b\"\n"), "cannot be a name"),
        (
            format!("{rule}{act}name = \"a\"\n{rule}{act}name = \"a\"\n"),
            "two remedies are called `a`",
        ),
        (
            format!("{rule}{act}when = \"1 +\"\n"),
            "`when` cannot be used",
        ),
        (
            "[[condition]]\ndetector = \"latency_spike\"\non = [\"wbe\"]\n".to_owned(),
            "`wbe`",
        ),
        (
            "[[group]]\nname = \"g\"\nmembers = [\"web\"]\n".to_owned(),
            "limits nothing",
        ),
        (
            "[[group]]\nname = \"g\"\nmembers = []\nmax_acts = 1\n".to_owned(),
            "needs members",
        ),
        (
            "[[group]]\nname = \"g\"\nmembers = [\"batch\"]\nmax_share = \"50%\"\n".to_owned(),
            "counts services",
        ),
        (
            "[[group]]\nname = \"g\"\nmembers = [\"web\"]\nmax_share = \"101%\"\n".to_owned(),
            "0% to 100%",
        ),
    ];
    for (text, expected) in cases {
        let error = Config::parse(&format!("{TWO}{text}"), Path::new("test.toml"))
            .expect_err(text)
            .render();
        assert!(error.contains(expected), "{text}\n{error}");
    }
}

#[test]
fn a_limit_or_a_window_that_makes_no_sense_is_a_mistake() {
    let cases: &[(String, &str)] = &[
        ("[policy]\nbreaker_after = 0\n".to_owned(), "breaker_after"),
        (
            "[[maintenance]]\nname = \"m\"\non = [\"wbe\"]\nschedule = \"0 2 * * *\"\nduration = \"1h\"\n".to_owned(),
            "called `wbe`",
        ),
        (
            "[[maintenance]]\nname = \"m\"\non = [\"web\"]\nschedule = \"0 25 * * *\"\nduration = \"1h\"\n".to_owned(),
            "window `m`",
        ),
    ];
    for (text, expected) in cases {
        let said = mistakes(&format!("{TWO}{text}"));
        assert!(said.contains(expected), "{text}\n{said}");
    }
}

#[test]
fn a_dependency_is_another_service() {
    let depends = TWO.replace("name = \"db\"\n", "name = \"db\"\ndepends_on = [\"db\"]\n");
    assert!(mistakes(&depends).contains("depend on itself"));
    let depends = TWO.replace("name = \"db\"\n", "name = \"db\"\ndepends_on = [\"wep\"]\n");
    assert!(mistakes(&depends).contains("`wep`"));
}

#[test]
fn a_ladder_reads_as_it_is_meant() {
    let text = format!(
        "{TWO}[[remedy]]\ndetector = \"latency_spike\"\non = [\"web\"]\nverify_within = \"20s\"\nfor = \"3s\"\n\
         [[remedy.step]]\naction = \"kill_process\"\nattempts = 2\nterm_grace = \"1s\"\n\
         [[remedy.step]]\naction = \"kill_process\"\n[[remedy.step]]\naction = \"restart_service\"\nverify_within = \"30s\"\n"
    );
    let config = Config::parse(&text, Path::new("test.toml"))
        .unwrap_or_else(|error| panic!("{}", error.render()));
    let remedy = &config.remedies[0];
    let steps: Vec<_> = remedy
        .steps
        .iter()
        .map(|step| {
            let seconds = (step.verify_within.as_secs(), step.term_grace.as_secs());
            (step.action.as_str(), step.attempts, seconds)
        })
        .collect();
    assert_eq!(
        steps,
        [
            ("kill_process", Some(2), (20, 1)),
            ("kill_process", Some(1), (20, 5)),
            ("restart_service", None, (30, 5)),
        ]
    );
    assert_eq!(
        (remedy.name.as_str(), remedy.hold.as_secs()),
        ("latency_spike-1", 3)
    );
}
