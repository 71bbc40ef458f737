//! Runs real programs: what they write, how they end, what they leave behind, and what they cannot reach.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use monitor_common::probes::process_exit::{Ending, ending};
use smart_monitor::host::command::{Confined, Ended, Finished, GRACE, Kept, Order, Runner};
use smart_monitor::host::procfs;
use smart_monitor_tests::{PATIENCE, wait_until};

/// A state folder and a runner of its own.
struct Place {
    folder: PathBuf,
    runner: Runner,
}

impl Place {
    fn new(name: &str) -> Self {
        let name = format!("smart-monitor-command-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("it is made");
        let runner = Runner::new(&folder);
        Self { folder, runner }
    }

    fn run(&self, order: &Order) -> Finished {
        self.runner.run(order).expect("it is started")
    }

    fn refused(&self, order: &Order) -> String {
        let error = self.runner.run(order).expect_err("it is not started");
        error.to_string()
    }

    /// A file of this text.
    fn file(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.folder.join(name);
        std::fs::write(&path, text).expect("it is written");
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(&path, mode).expect("it is ours");
        path
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let left = std::fs::read_dir(self.folder.join("commands"));
        let left = left.map_or(0, Iterator::count);
        let _ = std::fs::remove_dir_all(&self.folder);
        assert_eq!(left, 0, "no note is left behind");
    }
}

fn order(command: &[&str]) -> Order {
    Order {
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        timeout: Duration::from_secs(20),
        ..Order::default()
    }
}

fn shell(script: &str) -> Order {
    order(&["sh", "-c", script])
}

/// Until this process has ended; it has no parent of ours.
fn gone(pid: u32) {
    let ended = || {
        procfs::stat(pid)
            .is_none_or(|stat| stat.exiting)
            .then_some(())
    };
    wait_until(PATIENCE, "a process is gone", ended).expect("it is ended");
}

fn code(finished: &Finished) -> Ending {
    ending(finished.status)
}

/// The first number in what it wrote.
fn pid_in(kept: &Kept) -> u32 {
    let text = kept.to_string();
    let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().expect("a process id")
}

#[test]
fn what_it_says_and_how_it_ends_is_known() {
    let place = Place::new("says");
    let done = place.run(&shell("echo out; echo err >&2; exit 3"));
    assert_eq!(
        (done.output.to_string(), done.errors.to_string()),
        ("out\\n".into(), "err\\n".into())
    );
    assert_eq!(code(&done), Ending::Code(3));
    assert_eq!(
        (done.ended, done.left, &done.limitation),
        (None, false, &None)
    );
    let killed = place.run(&shell("kill -SEGV $$"));
    assert_eq!(code(&killed), Ending::Signal(11));
}

#[test]
fn it_has_nothing_of_ours() {
    let place = Place::new("clean");
    let mut asked = order(&["env"]);
    asked.environment = vec![
        ("GIVEN".to_owned(), "1".to_owned()),
        ("LANG".to_owned(), "C".to_owned()),
    ];
    let done = place.run(&asked);
    let names: Vec<&str> = vec!["PATH", "GIVEN", "LANG"];
    let text = done.output.to_string();
    let lines: Vec<&str> = text.split("\\n").filter(|line| !line.is_empty()).collect();
    assert_eq!(lines.len(), names.len(), "{text}");
    assert!(
        lines.contains(&"GIVEN=1") && lines.contains(&"LANG=C"),
        "{text}"
    );

    // One without the mark, as a careless parent would leave it.
    let careless = std::fs::File::open("/etc/hostname").expect("it is there");
    rustix::io::fcntl_setfd(&careless, rustix::io::FdFlags::empty()).expect("it is open");
    let files = place.run(&shell(
        "ls /proc/$$/fd; cat; ulimit -c; pwd; cut -d' ' -f6 /proc/$$/stat; echo $$",
    ));
    let text = files.output.to_string();
    let (fds, rest) = text.split_at(9);
    // 10 and up would be the shell's own.
    assert_eq!(fds, "0\\n1\\n2\\n", "{text}");
    let rest: Vec<&str> = rest.split("\\n").collect();
    assert_eq!(rest[..2], ["0", "/"], "no core file, and the root: {text}");
    assert_eq!(rest[2], rest[3], "it leads its session: {text}");
}

#[test]
fn a_flood_is_counted_and_does_not_hold_it_up() {
    let place = Place::new("flood");
    let done = place.run(&shell(
        "head -c 104857600 /dev/zero; head -c 1000000 /dev/urandom >&2; printf end",
    ));
    assert_eq!(
        (code(&done), done.output.bytes, done.errors.bytes),
        (Ending::Code(0), (100 << 20) + 3, 1_000_000)
    );
    let text = done.output.to_string();
    assert!(
        text.ends_with("end") && text.len() < 200_000,
        "{} bytes",
        text.len()
    );
    assert!(!done.errors.to_string().contains(|it: char| it.is_control()));
}

#[test]
fn one_that_closes_its_output_lives_on() {
    let place = Place::new("closes");
    let done = place.run(&shell("exec >&- 2>&-; sleep 0.3; exit 4"));
    assert_eq!((code(&done), done.output.bytes), (Ending::Code(4), 0));
    assert!(done.took >= Duration::from_millis(300), "{:?}", done.took);
}

#[test]
fn its_time_is_limited_whatever_it_ignores() {
    let place = Place::new("time");
    let mut endless = shell("trap '' TERM INT HUP; echo $$; while :; do sleep 1; done");
    endless.timeout = Duration::from_millis(200);
    let done = place.run(&endless);
    assert_eq!(
        (done.ended.clone(), code(&done)),
        (Some(Ended::Time), Ending::Signal(9))
    );
    assert!(done.took >= endless.timeout + GRACE, "{:?}", done.took);
    assert!(procfs::stat(pid_in(&done.output)).is_none());

    let mut polite = shell("trap 'echo bye; exit 7' TERM; while :; do sleep 0.05; done");
    polite.timeout = Duration::from_millis(200);
    let done = place.run(&polite);
    assert_eq!(
        (done.ended.clone(), code(&done)),
        (Some(Ended::Time), Ending::Code(7))
    );
    assert!(done.output.to_string().ends_with("bye\\n") && done.took < GRACE);

    let mut flood = order(&["cat", "/dev/zero"]);
    flood.timeout = Duration::from_millis(200);
    assert_eq!(place.run(&flood).ended, Some(Ended::Time));
}

#[test]
fn forks_that_escape_are_ended_with_it() {
    let place = Place::new("escape");
    // Two generations away, in a session of its own, deaf, and with its outputs closed.
    let escape = "(setsid sh -c 'trap \"\" TERM HUP; echo $$; exec >&- 2>&- <&-; while :; do sleep 1; done' &) ; sleep 0.3";
    let done = place.run(&shell(escape));
    assert_eq!(
        (code(&done), done.left, done.ended),
        (Ending::Code(0), true, None)
    );
    let escaped = pid_in(&done.output);
    gone(escaped);

    let mut late = shell("setsid sh -c 'echo $$; exec sleep 1000' & wait");
    late.timeout = Duration::from_millis(300);
    let done = place.run(&late);
    assert_eq!((done.ended.clone(), done.left), (Some(Ended::Time), true));
    let escaped = pid_in(&done.output);
    gone(escaped);
}

#[test]
fn a_fork_bomb_is_ended() {
    let place = Place::new("bomb");
    // Each starts two more, and waits: never more than its bound by far, since it is looked at.
    let bomb = place.file("bomb", "#!/bin/sh\n\"$0\" & \"$0\" & wait\n", 0o700);
    let done = place.run(&order(&[bomb.to_str().expect("a path")]));
    assert_eq!(done.ended, Some(Ended::Processes));
    assert_eq!(code(&done), Ending::Signal(9));
    assert!(done.took < Duration::from_secs(10), "{:?}", done.took);
}

#[test]
fn what_cannot_be_run_is_refused_with_its_reason() {
    let place = Place::new("refused");
    let path = |path: &Path| path.to_str().expect("a path").to_owned();
    let open = place.file("open", "#!/bin/sh\n", 0o757);
    let plain = place.file("plain", "#!/bin/sh\n", 0o644);
    let broken = place.file("broken", "#!/no/such/interpreter\n", 0o755);
    let nothing = place.file("nothing", "\u{1}\u{2}\u{3}", 0o755);
    let loose = place.folder.join("loose");
    std::fs::create_dir(&loose).expect("it is made");
    std::fs::set_permissions(&loose, std::fs::Permissions::from_mode(0o777)).expect("ours");
    std::fs::copy("/bin/true", loose.join("true")).expect("it is copied");
    let linked = place.folder.join("linked");
    symlink(loose.join("true"), &linked).expect("it is made");
    let dangling = place.folder.join("dangling");
    symlink("/no/such/file", &dangling).expect("it is made");
    let cases = [
        (path(&place.folder), "is a folder"),
        ("/dev/null".to_owned(), "is no regular file"),
        (path(&plain), "is not executable"),
        ("/no/such/program".to_owned(), "No such file"),
        (path(&dangling), "No such file"),
        (
            "no-program-is-called-this".to_owned(),
            "there is none in PATH",
        ),
        ("bin/sh".to_owned(), "neither an absolute path"),
        (String::new(), "the command is empty"),
        (path(&broken), "cannot execute it: No such file"),
        (path(&nothing), "cannot execute it: Exec format"),
        (path(&open), "can be written by others (mode 757)"),
        (path(&linked), "can be written by others (mode 777)"),
    ];
    for (program, expected) in cases {
        let refused = place.refused(&order(&[&program]));
        assert!(refused.contains(expected), "{program}: {refused}");
    }
    let foreign = place.file("foreign", "#!/bin/sh\n", 0o755);
    std::os::unix::fs::chown(&foreign, Some(4711), None).expect("we are root");
    let foreign = path(&foreign);
    let refused = place.refused(&order(&[&foreign]));
    assert!(refused.contains("belongs to user 4711"), "{refused}");
    // Its own program it may run.
    let mut own = order(&[&foreign]);
    own.user = Some((4711, 4711));
    assert_eq!(code(&place.run(&own)), Ending::Code(0));
    let mut nowhere = order(&["true"]);
    nowhere.folder = Some("/no/such/folder".into());
    let refused = place.refused(&nowhere);
    assert!(refused.contains("cannot go to its folder"), "{refused}");
    let nul = place.refused(&order(&["true", "a\0b"]));
    assert!(nul.contains("nul byte"), "{nul}");
}

#[test]
fn dropped_rights_are_gone_and_do_not_come_back() {
    let place = Place::new("rights");
    let mut asked = shell("id -u; id -g; id -G; grep -E '^(Cap|NoNew|Groups)' /proc/self/status");
    asked.user = Some((4711, 4712));
    let seen = place.run(&asked).output.to_string();
    let none = "0000000000000000";
    let expected = [
        "4711\\n4712\\n4712\\n",
        "Groups:\\t \\n",
        &format!(
            "CapInh:\\t{none}\\nCapPrm:\\t{none}\\nCapEff:\\t{none}\\nCapBnd:\\t{none}\\nCapAmb:\\t{none}\\n"
        ),
        "NoNewPrivs:\\t1\\n",
    ];
    for part in expected {
        assert!(seen.contains(part), "{part} is not in {seen}");
    }
    // Not even as user 0.
    asked.user = Some((0, 0));
    let seen = place.run(&asked).output.to_string();
    assert!(seen.contains(&format!("CapEff:\\t{none}")), "{seen}");
    // Without being asked for, it has what the daemon has.
    asked.user = None;
    let seen = place.run(&asked).output.to_string();
    assert!(!seen.contains(&format!("CapEff:\\t{none}")), "{seen}");
}

#[test]
fn it_reaches_what_it_is_allowed_to_and_nothing_else() {
    let place = Place::new("confined");
    let folder = |name: &str| {
        let folder = place.folder.join(name);
        std::fs::create_dir(&folder).expect("it is made");
        std::fs::write(folder.join("file"), name).expect("it is written");
        folder
    };
    let (read, write, other) = (folder("read"), folder("write"), folder("other"));
    let at = place.folder.display();
    let mut asked = shell(&format!(
        "cd {at} 2>/dev/null; cat {at}/read/file; cat {at}/write/file; echo new > {at}/write/made && echo made; \
         {{ cat {at}/other/file || echo no-read; }} 2>/dev/null; \
         (echo x > {at}/read/file) 2>/dev/null || echo no-write; \
         (: > {at}/other/file) 2>/dev/null || echo no-empty; \
         mv {at}/write/made {at}/read/ 2>/dev/null || echo no-move; rm {at}/write/file && echo removed; echo x > /dev/null && echo null"
    ));
    asked.confined = Some(Confined {
        read: vec![read.clone()],
        write: vec![write.clone()],
    });
    let done = place.run(&asked);
    assert_eq!(
        done.output.to_string(),
        "readwritemade\\nno-read\\nno-write\\nno-empty\\nno-move\\nremoved\\nnull\\n",
        "{}",
        done.errors
    );
    assert_eq!(
        std::fs::read(other.join("file")).expect("it is there"),
        b"other"
    );
    assert_eq!(
        std::fs::read(read.join("file")).expect("it is there"),
        b"read"
    );
    assert!(write.join("made").exists() && !write.join("file").exists());

    // A program outside of all of it can be run itself; what is not there cannot be allowed.
    let tool = place.file("tool", "#!/bin/sh\ncat \"$1\"\n", 0o755);
    let mut outside = order(&[tool.to_str().expect("a path"), "/etc/hostname"]);
    outside.confined = Some(Confined::default());
    assert_eq!(code(&place.run(&outside)), Ending::Code(1));
    outside.confined = Some(Confined {
        read: vec!["/etc/hostname".into()],
        write: Vec::new(),
    });
    assert_eq!(code(&place.run(&outside)), Ending::Code(0));
    outside.confined = Some(Confined {
        read: vec!["/no/such/place".into()],
        write: Vec::new(),
    });
    let refused = place.refused(&outside);
    assert!(
        refused.contains("cannot be allowed to reach /no/such/place"),
        "{refused}"
    );
}

#[test]
fn without_a_network_there_is_none() {
    let place = Place::new("network");
    let mut asked = shell("cat /proc/self/net/dev | tail -n +3; readlink /proc/self/ns/net");
    asked.no_network = true;
    let seen = place.run(&asked).output.to_string();
    let interfaces = seen
        .split("\\n")
        .filter(|line| line.contains(':') && !line.contains('['))
        .count();
    let own = std::fs::read_link("/proc/self/ns/net").expect("it is there");
    assert_eq!(interfaces, 1, "{seen}");
    assert!(
        seen.contains("lo:") && !seen.contains(&own.display().to_string()),
        "{seen}"
    );
}
