use serde_json::json;

use super::*;

const PROCESS: ProcessKey = ProcessKey {
    pid: 42,
    start_ticks: 7,
};

#[expect(
    clippy::needless_pass_by_value,
    reason = "what `json!` makes is handed over"
)]
fn entry(status: &str, pid: u32, more: Value) -> Entry {
    let mut env = json!({ "status": status, "treekill": true, "created_at": 5, "exit_code": 3 });
    for (name, value) in more.as_object().into_iter().flatten() {
        env[name] = value.clone();
    }
    let entry = json!({ "pid": pid, "name": "web", "pm_id": 0, "pm2_env": env });
    serde_json::from_value(entry).expect("an entry")
}

/// One that has run.
fn ran() -> Instance {
    let mut instance = Instance::default();
    let online = entry("online", 42, json!({}));
    let found = instance.judge_with(&online, Some(PROCESS));
    assert_eq!(found, (Phase::Running, Some(PROCESS)));
    instance
}

fn ended(instance: &mut Instance, status: &str, pid: u32, more: Value) -> Phase {
    instance.judge_with(&entry(status, pid, more), None).0
}

fn fails(phase: &Phase, given_up: bool) -> bool {
    matches!(phase, Phase::Failed { gave_up, .. } if *gave_up == given_up)
}

#[test]
fn what_pm2_starts_anew_is_starting() {
    for status in ["stopped", "waiting restart", "launching"] {
        let found = ended(&mut ran(), status, 42, json!({}));
        assert_eq!(found, Phase::Starting, "{status}");
    }
    assert_eq!(
        ended(&mut ran(), "stopping", 42, json!({})),
        Phase::Stopping
    );
    // Until PM2 has noticed the end, the process is still named.
    let mut instance = ran();
    let found = instance.judge_with(&entry("online", 42, json!({})), None);
    assert_eq!(found, (Phase::Running, Some(PROCESS)));
}

#[test]
fn what_was_stopped_is_told_from_what_ended() {
    let off = json!({ "autorestart": false });
    let told = json!({ "autorestart": false, "_tree_pids": [41, 42] });
    let others = json!({ "autorestart": "false", "_tree_pids": [41] });
    let lone = json!({ "autorestart": false, "treekill": false });
    // With autorestart, only a person brings about a stop.
    assert_eq!(ended(&mut ran(), "stopped", 0, json!({})), Phase::Stopped);
    assert_eq!(ended(&mut ran(), "stopped", 0, told), Phase::Stopped);
    assert!(fails(&ended(&mut ran(), "stopped", 0, others), false));
    assert!(fails(&ended(&mut ran(), "stopped", 0, off.clone()), false));
    // Where PM2 keeps no list, what was seen of it decides; when in doubt, it was stopped.
    assert_eq!(
        ended(&mut ran(), "stopped", 0, lone.clone()),
        Phase::Stopped
    );
    let mut seen = ran();
    ended(&mut seen, "online", 42, lone.clone());
    assert!(fails(&ended(&mut seen, "stopped", 0, lone.clone()), false));
    let mut asked = ran();
    ended(&mut asked, "stopping", 42, lone.clone());
    assert_eq!(ended(&mut asked, "stopped", 0, lone), Phase::Stopped);
    // One that was never seen to run was not seen to end.
    assert_eq!(
        ended(&mut Instance::default(), "stopped", 0, off),
        Phase::Stopped
    );
}

#[test]
fn what_pm2_gives_up_is_a_fault() {
    assert!(fails(&ended(&mut ran(), "errored", 0, json!({})), true));
    // So PM2 says it where there is a delay.
    let delayed = json!({ "created_at": null, "restart_delay": 100 });
    assert!(fails(
        &ended(&mut ran(), "waiting restart", 0, delayed),
        true
    ));
    let undying = entry("errored", 42, json!({}));
    assert_eq!(ran().judge_with(&undying, Some(PROCESS)).0, Phase::Stopping);
}

#[test]
fn patience_is_as_long_as_all_of_its_tries() {
    let patience = |more| Some(entry("online", 42, more).healer()?.patience.as_secs());
    assert_eq!(patience(json!({})), Some(21));
    assert_eq!(
        patience(json!({ "max_restarts": "2", "restart_delay": 500 })),
        Some(8)
    );
    assert_eq!(
        patience(json!({ "exp_backoff_restart_delay": 100 })),
        Some(261)
    );
    assert_eq!(patience(json!({ "max_restarts": u64::MAX })), Some(600));
    assert_eq!(patience(json!({ "autorestart": false })), None);
}

#[test]
fn odd_entries_do_no_harm() {
    for odd in [
        json!({}),
        json!({ "pid": "x", "pm_id": -1, "name": 7, "pm2_env": {} }),
    ] {
        let entry: Entry = serde_json::from_value(odd).expect("it reads");
        assert_eq!(
            (entry.pid(), entry.id(), entry.is_of("web")),
            (None, None, false)
        );
        assert_eq!(Instance::default().judge(&entry), (Phase::Starting, None));
    }
}
