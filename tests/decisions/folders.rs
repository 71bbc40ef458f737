//! Folders whose file system fills, and what may be done about it; keys of Redis that may be deleted.

use std::time::Duration;

use smart_monitor::model::{
    DiskRoom, EffectResult, Enough, FolderId, FolderRoom, IncidentId, Outcome, Plan, Request, Room,
    Sample, Severity, Signal, State, Subject,
};

use super::{Scene, done};

const FOLDER: &str = r#"
[policy]
boot_grace = "0s"

[[folder]]
name = "logs"
path = "/var/log/shop"
match = ["*.log.*"]
older_than = "24h"
"#;

const CLEAN: &str = r#"
[[remedy]]
detector = "disk_full"
on = ["logs"]
action = "clean_folder"
with = { at_most = 50, at_most_bytes = "1GiB" }
"#;

const ID: FolderId = FolderId {
    device: 5,
    inode: 6,
};

fn room(used: u64) -> Room {
    Room {
        used: used << 20,
        available: (10_000 - used) << 20,
        inodes_used: 10,
        inodes_left: 990,
    }
}

fn says(scene: &mut Scene, disks: Vec<DiskRoom>, folders: Vec<FolderRoom>) {
    let sample = Sample::DiskSpace { disks, folders };
    scene.signal(&Signal::Sample { sample });
}

/// The folder's file system has so many of its 10,000 MiB in use.
fn filled(scene: &mut Scene, used: u64) {
    let folder = FolderRoom {
        name: "logs".to_owned(),
        id: ID,
        room: room(used),
    };
    says(scene, Vec::new(), vec![folder]);
}

fn disk(name: &str, device: u64, room: Room) -> DiskRoom {
    DiskRoom {
        name: name.to_owned(),
        mount: format!("/{name}"),
        device,
        room,
    }
}

fn opened(scene: &Scene, id: u64) -> bool {
    scene.engine.incident(IncidentId(id)).is_some()
}

fn logs() -> Subject {
    Subject::Folder {
        name: "logs".to_owned(),
    }
}

#[test]
fn a_full_folder_is_cleaned_until_there_is_room_and_the_same_share_proves_it() {
    let mut scene = Scene::new(&format!("{FOLDER}{CLEAN}"));
    filled(&mut scene, 8_990);
    assert_eq!(scene.permits.len(), 0);
    filled(&mut scene, 9_000);
    let incident = scene.incident(1);
    assert_eq!(incident.subject, logs());
    assert_eq!(incident.severity, Severity::Critical);
    let permit = scene.permit();
    let Plan::CleanFolder { cleaning } = permit.plan() else {
        panic!("another act: {permit:?}");
    };
    assert_eq!(cleaning.id, Some(ID));
    assert_eq!(
        (cleaning.at_most, cleaning.at_most_bytes),
        (50, Some(1 << 30))
    );
    let room = Enough::Room {
        full: 8_800,
        inodes: 8_800,
    };
    assert_eq!(cleaning.enough, room);
    assert_eq!(cleaning.folder.patterns, ["*.log.*"]);
    scene.effect(&permit, done());
    scene.pass(Duration::from_secs(1));
    filled(&mut scene, 8_950);
    assert_ne!(scene.incident(1).state, State::Resolved, "not by enough");
    filled(&mut scene, 8_799);
    assert_eq!(scene.incident(1).outcome, Some(Outcome::Fixed));
}

#[test]
fn a_folder_that_cannot_be_looked_at_is_not_well_for_it() {
    let mut scene = Scene::new(FOLDER);
    filled(&mut scene, 9_900);
    says(&mut scene, Vec::new(), Vec::new());
    scene.pass(Duration::from_mins(1));
    assert_eq!(scene.incident(1).state, State::Open);
    assert_eq!(scene.permits.len(), 0, "nobody has consented");
}

#[test]
fn inodes_run_out_too() {
    let mut scene = Scene::new(FOLDER);
    let full = Room {
        inodes_used: 900,
        inodes_left: 100,
        ..room(10)
    };
    let folder = FolderRoom {
        name: "logs".to_owned(),
        id: ID,
        room: full,
    };
    says(&mut scene, Vec::new(), vec![folder]);
    assert_eq!(scene.incident(1).subject, logs());
}

#[test]
fn a_disk_that_fills_steadily_is_told_of_before_it_is_full() {
    let mut scene = Scene::new("");
    let sees = |scene: &mut Scene, used| {
        says(scene, vec![disk("sda1", 9, room(used))], Vec::new());
        scene.pass(Duration::from_secs(10));
    };
    // 2 MiB a second, and some 8000 left: 66 minutes at first.
    let mut told = None;
    for step in 0..60_u64 {
        sees(&mut scene, 2_000 + 20 * step);
        if told.is_none() && opened(&scene, 1) {
            told = Some(step);
        }
    }
    let told = told.expect("it is told");
    assert!(told >= 29, "after half the window, not after {told}");
    let incident = scene.incident(1);
    assert_eq!(incident.severity, Severity::Warning);
    let device = Subject::Device {
        name: "sda1".to_owned(),
    };
    assert_eq!(incident.subject, device);
    let facts = &incident.evidence.facts;
    let left = facts.iter().find(|(name, _)| name == "nothing left in");
    assert!(
        left.is_some_and(|(_, left)| left.ends_with(" min")),
        "{facts:?}"
    );
    for _ in 0..70 {
        sees(&mut scene, 3_200);
    }
    assert_eq!(scene.incident(1).state, State::Resolved, "it fills no more");
    sees(&mut scene, 9_600);
    assert_eq!(scene.incident(2).severity, Severity::Critical);
    says(&mut scene, Vec::new(), Vec::new());
    assert_eq!(scene.incident(2).state, State::Resolved, "it is gone");
}

#[test]
fn a_disk_is_the_matter_of_the_folder_that_is_on_it() {
    let mut scene = Scene::new(FOLDER);
    let folder = FolderRoom {
        name: "logs".to_owned(),
        id: ID,
        room: room(9_900),
    };
    let disks = vec![
        disk("sda1", ID.device, room(9_900)),
        disk("sdb1", 77, room(10)),
    ];
    says(&mut scene, disks, vec![folder]);
    assert_eq!(scene.incident(1).subject, logs());
    assert!(!opened(&scene, 2), "one incident");
}

fn act(action: &str, subject: Subject) -> Request {
    Request::Act {
        action: action.to_owned(),
        subject,
        rule: None,
        dry_run: false,
    }
}

#[test]
fn a_person_has_all_deleted_that_the_rules_allow() {
    let consent = CLEAN.replace("disk_full", "manual");
    let mut scene = Scene::new(&format!("{FOLDER}{consent}"));
    scene.person(act("clean_folder", logs()));
    let permit = scene.permit();
    let Plan::CleanFolder { cleaning } = permit.plan() else {
        panic!("another act: {permit:?}");
    };
    assert_eq!((cleaning.enough, cleaning.id), (Enough::All, None));
    let result = EffectResult::Refused {
        reason: "it is a link".to_owned(),
    };
    scene.effect(&permit, result);
    assert_eq!(scene.incident(1).outcome, Some(Outcome::Refused));
}

#[test]
fn keys_are_deleted_only_where_a_rule_says_which() {
    let service =
        "[[service]]\nname = \"cache\"\nkind = \"command\"\ncommand = [\"redis-server\"]\n";
    let consent = "[[remedy]]\ndetector = \"manual\"\non = [\"cache\"]\naction = \"flush_redis\"\nwith = { address = \"127.0.0.1:6379\", database = 3, pattern = \"limit:*\" }\n";
    let mut scene = Scene::new(&format!("[policy]\nboot_grace = \"0s\"\n{service}"));
    scene.person(act("flush_redis", Subject::service("cache")));
    assert_eq!(scene.permits.len(), 0);
    let mut scene = Scene::new(&format!(
        "[policy]\nboot_grace = \"0s\"\n{service}{consent}"
    ));
    scene.person(act("flush_redis", Subject::service("cache")));
    let permit = scene.permit();
    let Plan::FlushRedis { flush, .. } = permit.plan() else {
        panic!("another act: {permit:?}");
    };
    assert_eq!(
        (flush.database, flush.pattern.as_deref()),
        (3, Some("limit:*"))
    );
}
