//! How long disks take, whose the slow requests are, and which fail: on loop devices of the tests' own.

use std::fs::{self, File};
use std::path::PathBuf;
use std::time::Duration;

use monitor_common::Event;
use monitor_common::probes::block_io::{BlockIo, Operation, UNKNOWN};
use smart_monitor::host::disks::disk;
use smart_monitor::kernel::{Kernel, Options};
use smart_monitor::model::kernel_view::DiskFigures;
use smart_monitor_tests::wait_until;

use super::stage::{Actor, Group};
use super::support::{Lane, Live, PATIENCE, command};

const SIZE: u64 = 16 << 20;

/// A loop device over a file of the test's own, which it reads and writes without the page cache. Both are gone with it.
struct Loop {
    name: String,
    file: PathBuf,
}

impl Loop {
    fn new() -> Self {
        let number = fs::read_dir("/sys/block").expect("/sys is mounted").count();
        let name = format!("smart-monitor-disk-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let file = File::create(&path).expect("the temporary folder is writable");
        file.set_len(SIZE).expect("there is room");
        let mut losetup = command("losetup");
        losetup.args(["--find", "--show", "--direct-io=on"]);
        let output = losetup.arg(&path).output().expect("losetup is there");
        let device = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let name = device.strip_prefix("/dev/").map(str::to_owned);
        Self {
            name: name.expect("a free loop device"),
            file: path,
        }
    }

    fn device(&self) -> String {
        format!("/dev/{}", self.name)
    }

    /// A number that the kernel keeps of it: `read`, its requests, or the units of 512 bytes that they read.
    fn stat(&self, field: usize) -> u64 {
        let path = format!("/sys/block/{}/stat", self.name);
        let text = fs::read_to_string(path).expect("it is there");
        let field = text.split_ascii_whitespace().nth(field);
        field.expect("its fields").parse().expect("a number")
    }

    fn schedule_with(&self, scheduler: &str) {
        let path = format!("/sys/block/{}/queue/scheduler", self.name);
        fs::write(path, scheduler).expect("the kernel has this scheduler");
    }

    /// What the programs have counted of it.
    fn figures(&self, kernel: &Kernel) -> DiskFigures {
        let disks = kernel.counters().disks();
        let own = |figures: &DiskFigures| {
            disk(figures.major, figures.minor).is_some_and(|disk| disk.name == self.name)
        };
        disks.into_iter().find(own).unwrap_or_default()
    }

    /// Once its driver has nothing to do.
    fn idle(&self) {
        let figures = fs::read_to_string(format!("/sys/block/{}/dev", self.name));
        let numbers = figures.expect("it is there");
        let (major, minor) = numbers.trim().split_once(':').expect("two numbers");
        let (major, minor) = (major.parse().expect("one"), minor.parse().expect("one"));
        let is_idle = || disk(major, minor).is_some_and(|disk| disk.in_flight == 0);
        wait_until(PATIENCE, "an idle disk", || is_idle().then_some(())).expect("it becomes idle");
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let detached = command("losetup").args(["-d", &self.device()]).status();
        if !detached.is_ok_and(|status| status.success()) {
            println!("{} is left behind", self.device());
        }
        let _ = fs::remove_file(&self.file);
    }
}

/// Reads `hear`d numbers of pages, one after another, from as many places as it is told; says which error it met.
const READER: &str = "
file = os.open({device}, os.O_RDONLY | os.O_DIRECT)
def read(place, size):
    memory = mmap.mmap(-1, size)
    try: return os.preadv(file, [memory], place)
    except OSError as error: return -error.errno
say('open')
while True:
    place, size, times = (int(word) for word in hear().split())
    for number in range(times): result = read(place + number * size, size)
    say(result)";

fn reader(groups: &[&Group], of: &Loop) -> Actor {
    let part = READER.replace("{device}", &format!("'{}'", of.device()));
    let mut actor = Actor::new(groups, &part);
    actor.go();
    assert_eq!(actor.line(), "open");
    actor
}

/// Has it read; what it says of the last one.
fn read(reader: &mut Actor, place: u64, size: u64, times: u64) -> i64 {
    reader.tell(&format!("{place} {size} {times}"));
    reader.line().parse().expect("a number")
}

fn every_request() -> Options {
    Options {
        block_threshold: Duration::ZERO,
        ..Options::default()
    }
}

/// The event of a request of this process at this place.
fn event_of(live: &mut Live, of: &Loop, reader: &Actor, place: u64) -> BlockIo {
    let (pid, name) = (reader.pid(), of.name.clone());
    live.wait_for("a request", |event| match event {
        Event::BlockIo(request)
            if request.task.pid == pid
                && request.disk() == name
                && request.sector == place / 512 =>
        {
            Some(*request)
        }
        _ => None,
    })
}

#[test]
fn every_request_of_a_disk_is_counted_with_its_bytes() {
    let live = Live::new(&Options::default());
    for scheduler in ["none", "mq-deadline"] {
        let disk = Loop::new();
        disk.schedule_with(scheduler);
        let mut reader = reader(&[], &disk);
        read(&mut reader, 0, 4_096, 1);
        disk.idle();
        let (before, reads, units) = (disk.figures(&live.kernel), disk.stat(0), disk.stat(2));
        assert_eq!(read(&mut reader, 0, 4_096, 3_000), 4_096);
        disk.idle();
        let (after, reads) = (disk.figures(&live.kernel), disk.stat(0) - reads);
        let units = disk.stat(2) - units;
        let counted = after.requests(Operation::Read) - before.requests(Operation::Read);
        assert!(reads >= 3_000, "{reads} reads");
        // An interrupt within the program is not seen by it.
        assert!(
            counted <= reads && reads - counted <= 3 + reads / 100,
            "{counted} of {reads} reads counted under {scheduler}"
        );
        let bytes = after.bytes[Operation::Read as usize] - before.bytes[Operation::Read as usize];
        assert!(
            bytes.abs_diff(units * 512) <= (3 + reads / 100) * 4_096,
            "{bytes} bytes of {units} units"
        );
        let queued: u64 = after.queued.iter().sum();
        assert!(queued >= counted && after.unqueued == 0, "{after:?}");
        assert!(after.untimed - before.untimed <= 3, "{after:?}");
        assert_eq!(after.errors, [0; 4]);
    }
}

#[test]
fn a_slow_request_names_who_made_it_and_where() {
    let mut live = Live::new(&every_request());
    for scheduler in ["none", "mq-deadline"] {
        let (disk, group) = (Loop::new(), Group::new());
        disk.schedule_with(scheduler);
        let mut reader = reader(&[&group], &disk);
        let key = reader.key();
        // One CPU tells 50 requests of a disk in a second: others may have been told for this one.
        let place = 1 << 20;
        read(&mut reader, place, 8_192, 1);
        let request = event_of(&mut live, &disk, &reader, place);
        assert_eq!(request.task.comm(), "python3");
        assert_eq!(request.task.tid, reader.pid());
        assert_eq!(
            smart_monitor::model::ProcessKey::from_task(&request.task),
            key
        );
        assert_eq!(request.task.cgroup_id, group.id());
        assert_eq!(request.operation, Operation::Read as u32);
        assert_eq!((request.bytes, request.error()), (8_192, 0));
        assert!(
            request.device_ns > 1_000 && request.device_ns < 5_000_000_000,
            "{request:?}"
        );
        assert!(
            request.queued_ns != UNKNOWN && request.queued_ns < 5_000_000_000,
            "{request:?}"
        );
    }
}

#[test]
fn a_request_that_fails_is_urgent_and_says_how() {
    let mut live = Live::new(&Options::default());
    let disk = Loop::new();
    let mut reader = reader(&[], &disk);
    let end = SIZE / 2;
    let file = File::options().write(true).open(&disk.file);
    file.expect("it is there").set_len(end).expect("it shrinks");
    assert_eq!(read(&mut reader, 0, 4_096, 1), 4_096);
    let before = disk.figures(&live.kernel);
    assert_eq!(before.errors, [0; 4]);
    assert_eq!(read(&mut reader, end + 65_536, 4_096, 1), -5);
    let failed = event_of(&mut live, &disk, &reader, end + 65_536);
    assert_eq!(failed.error(), 5, "EIO: {failed:?}");
    assert_eq!((failed.task.comm(), failed.bytes), ("python3", 4_096));
    let (name, pid) = (disk.name.clone(), reader.pid());
    let urgent = live.seen.iter().any(|(lane, event)| {
        *lane == Lane::Urgent
            && matches!(event, Event::BlockIo(request) if request.task.pid == pid && request.disk() == name)
    });
    assert!(urgent, "someone must act");
    // Its first half is read, and the driver gets it again for the rest.
    assert_eq!(read(&mut reader, end - 4_096, 8_192, 1), -5);
    let rest = event_of(&mut live, &disk, &reader, end);
    assert_eq!((rest.error(), rest.bytes), (5, 4_096));
    assert!(rest.device_ns != UNKNOWN, "{rest:?}");
    let after = disk.figures(&live.kernel);
    assert_eq!(after.errors, [2, 0, 0, 0]);
    assert_eq!(
        after.bytes[0] - before.bytes[0],
        3 * 4_096,
        "of every part once"
    );
}
