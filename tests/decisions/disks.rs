//! Disks that fail and disks that are slow.

use std::time::Duration;

use monitor_common::probes::block_io::{BlockIo, DISK_LEN, Operation, UNKNOWN};
use monitor_common::{Event, Header};
use smart_monitor::model::{Severity, State, Subject};

use super::{Scene, key, task};

/// `BLK_STS_IOERR`
const IO_ERROR: i32 = 10;

fn request(header: Header, name: &str, operation: Operation) -> BlockIo {
    let mut disk = [0; DISK_LEN];
    for (slot, byte) in disk.iter_mut().zip(name.bytes()) {
        *slot = byte;
    }
    BlockIo {
        header,
        task: task(800, "postgres"),
        sector: 2_048,
        device_ns: 150_000_000,
        queued_ns: 3_000_000,
        charged_cgroup_id: 0,
        bytes: 8_192,
        status: 0,
        major: 8,
        minor: 0,
        operation: operation as u32,
        padding: 0,
        disk,
    }
}

fn fails(scene: &mut Scene, name: &str, operation: Operation) {
    scene.kernel(|header| {
        Event::BlockIo(BlockIo {
            status: IO_ERROR,
            ..request(header, name, operation)
        })
    });
}

fn fact(scene: &Scene, id: u64, name: &str) -> String {
    let facts = &scene.incident(id).evidence.facts;
    let fact = facts.iter().find(|(known, _)| known == name);
    fact.map(|(_, value)| value.clone()).unwrap_or_default()
}

fn device(name: &str) -> Subject {
    Subject::Device {
        name: name.to_owned(),
    }
}

#[test]
fn reads_that_fail_are_a_warning_and_a_lost_write_is_critical() {
    let mut scene = Scene::new("");
    for _ in 0..2 {
        fails(&mut scene, "sda", Operation::Read);
        fails(&mut scene, "sdb", Operation::Read);
    }
    assert_eq!(scene.engine.open_incidents().count(), 0, "two may be luck");
    fails(&mut scene, "sda", Operation::Read);
    let incident = scene.incident(1);
    assert_eq!(incident.subject, device("sda"));
    assert_eq!(incident.severity, Severity::Warning);
    assert_eq!(incident.evidence.process, Some(key(800)));
    assert!(
        fact(&scene, 1, "error").contains("Input/output"),
        "{}",
        fact(&scene, 1, "error")
    );
    fails(&mut scene, "sda", Operation::Write);
    assert_eq!(scene.incident(1).severity, Severity::Critical);
    assert_eq!(
        fact(&scene, 1, "failed"),
        "3 reads, 1 writes, 0 flushes, 0 others"
    );
    scene.pass(Duration::from_secs(290));
    assert!(!scene.incident(1).is_over());
    scene.pass(Duration::from_secs(11));
    assert_eq!(scene.incident(1).state, State::Resolved);
    assert_eq!(scene.engine.open_incidents().count(), 0);
    assert_eq!(scene.engine.wake(), None, "nothing is left to wait for");
}

#[test]
fn failures_far_apart_are_not_added_up() {
    let mut scene = Scene::new("");
    for _ in 0..6 {
        fails(&mut scene, "sda", Operation::Write);
        scene.pass(Duration::from_secs(61));
    }
    assert_eq!(scene.engine.open_incidents().count(), 0);
}

#[test]
fn many_slow_requests_are_told_with_where_they_waited_and_whose_they_are() {
    let mut scene = Scene::new("");
    let slow = |scene: &mut Scene, pid: u32, queued_ns: u64| {
        scene.kernel(|header| {
            Event::BlockIo(BlockIo {
                task: task(pid, "tar"),
                queued_ns,
                ..request(header, "sda", Operation::Write)
            })
        });
    };
    for _ in 0..40 {
        slow(&mut scene, 900, UNKNOWN);
        scene.pass(Duration::from_secs(1));
    }
    assert_eq!(
        scene.engine.open_incidents().count(),
        0,
        "never 20 within 10 s"
    );
    for n in 0..20_u32 {
        slow(
            &mut scene,
            if n < 15 { 901 } else { 902 },
            900_000_000 * u64::from(n % 2),
        );
        scene.pass(Duration::from_millis(10));
    }
    let incident = scene.incident(1);
    assert_eq!(
        (incident.subject.clone(), incident.severity),
        (device("sda"), Severity::Warning)
    );
    assert_eq!(fact(&scene, 1, "longest"), "900.0ms");
    assert!(fact(&scene, 1, "most of them made by").starts_with("tar [90"));
    let held_back = fact(&scene, 1, "of them mostly held back before the disk");
    assert!(
        (4..=10).contains(&held_back.parse().unwrap_or(0)),
        "{held_back}"
    );
    scene.pass(Duration::from_secs(31));
    assert_eq!(scene.incident(1).state, State::Resolved);
    assert_eq!(scene.engine.wake(), None, "nothing is left to wait for");
}

#[test]
fn strange_requests_do_no_harm() {
    let mut scene = Scene::new("");
    for n in 0..2_000_u32 {
        scene.kernel(|mut header| {
            header.time_ns = if n % 2 == 0 { u64::MAX } else { 0 };
            let mut strange = request(header, &format!("disk{}", n % 500), Operation::Read);
            strange.operation = u32::MAX;
            strange.status = if n % 3 == 0 { i32::MIN } else { 0 };
            strange.device_ns = u64::MAX - 1;
            if n % 5 == 0 {
                strange.disk = [0xff; DISK_LEN];
                strange.task.pid = 0;
            }
            Event::BlockIo(strange)
        });
    }
    scene.pass(Duration::from_secs(1));
    scene.pass(Duration::from_secs(301));
    assert_eq!(scene.engine.open_incidents().count(), 0);
}
