use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;

use super::*;

fn own() -> ProcessKey {
    let stat = procfs::stat(std::process::id());
    stat.expect("it is read").key
}

fn whose() -> Arc<Whose> {
    let (main, cgroup) = (own(), None);
    let group = procfs::stat(main.pid).expect("it is read").group;
    Arc::new(Whose {
        main,
        group,
        cgroup,
    })
}

/// The ear of a service that runs, and its socket's folder.
fn ear(name: &str) -> (Ear, PathBuf) {
    let folder = format!("smart-monitor-hearing-{name}-{}", std::process::id());
    let folder = std::env::temp_dir().join(folder);
    let socket = Socket::bind(&folder.join("shop"), None).expect("it is made");
    let mut ear = Ear::new(socket, None);
    ear.whose = Some(whose());
    (ear, folder)
}

fn say(ear: &Ear, words: &str) {
    let sender = UnixDatagram::unbound().expect("it is made");
    let sent = sender.send_to(words.as_bytes(), ear.socket.path());
    sent.expect("it is sent");
}

#[test]
fn one_at_a_time_is_held_back_as_many_at_once_are() {
    let (mut ear, folder) = ear("turn");
    let whose = ear.whose.clone().expect("it runs");
    let mut buffer = [0; LONGEST];
    let began = clock::now().after(REST);
    for _ in 0..TURN {
        assert_eq!(ear.rests_until(began), None);
        say(&ear, "STATUS=well");
        assert!(ear.next(&whose, began, &mut buffer).is_some());
    }
    say(&ear, "READY=1");
    assert_eq!(ear.rests_until(began), Some(began.after(REST)));
    let late = began.after(REST / 2);
    assert_eq!(ear.next(&whose, late, &mut buffer), None);
    let rested = began.after(REST);
    assert_eq!(ear.rests_until(rested), None);
    assert!(ear.next(&whose, rested, &mut buffer).is_some());
    std::fs::remove_dir_all(folder).expect("it goes");
}

#[test]
fn what_a_new_process_says_is_left_for_who_knows_it() {
    let (mut ear, folder) = ear("owner");
    let before = ear.whose.clone().expect("it runs");
    let (now, mut buffer) = (clock::now(), [0; LONGEST]);
    say(&ear, "STATUS=the one before");
    ear.begin(None).expect("it begins");
    assert_eq!(ear.next(&before, now, &mut buffer), None);
    let after = whose();
    ear.whose = Some(Arc::clone(&after));
    say(&ear, "READY=1");
    assert_eq!(ear.next(&before, now, &mut buffer), None);
    let said = ear.next(&after, now, &mut buffer).expect("it is there");
    assert_eq!(buffer.get(..said.length), Some(b"READY=1".as_slice()));
    std::fs::remove_dir_all(folder).expect("it goes");
}

#[test]
fn without_a_cgroup_the_group_of_the_main_process_speaks() {
    let whose = whose();
    assert!(whose.is(std::process::id()), "whoever leads its group");
    assert!(!whose.is(1));
}

#[test]
fn a_strangers_word_closes_a_socket_that_anybody_can_write_to() {
    let (mut ear, folder) = ear("stranger");
    let user = rustix::process::geteuid().as_raw();
    let stranger = user + 1;
    let path = ear.socket.path().to_owned();
    let mode = || path.metadata().expect("it is there").permissions().mode() & 0o777;
    ear.close_to(stranger, "shop");
    assert_eq!(mode(), 0o666, "it is not known yet whose it is");
    ear.spoke_as(user);
    ear.close_to(user, "shop");
    assert_eq!(mode(), 0o666, "no stranger");
    ear.close_to(stranger, "shop");
    assert_eq!(mode(), 0o600);
    // The next process may become somebody else.
    ear.begin(None).expect("it begins");
    assert_eq!(mode(), 0o666);
    let group = rustix::process::getegid().as_raw();
    ear.begin(Some((user, group))).expect("it begins");
    assert_eq!(mode(), 0o600, "it has a user now");
    std::fs::remove_dir_all(folder).expect("it goes");
}

#[test]
fn a_main_process_changes_once_a_second() {
    let (mut ear, folder) = ear("moves");
    let now = clock::now();
    let mut ears = Ears::default();
    ears.moves("shop", own(), now);
    let from = |ears: &Ears| ears.moving.get("shop").map(|it| (it.from, it.until));
    assert_eq!(from(&ears), Some((now, now.after(MOVES))));
    ear.moved = Some(now);
    ears.sockets.insert("shop".to_owned(), ear);
    ears.moves("shop", own(), now.after(SETTLES / 4));
    let second = now.after(SETTLES);
    assert_eq!(from(&ears), Some((second, second.after(MOVES))));
    let later = now.after(SETTLES * 3);
    ears.moves("shop", own(), later);
    assert_eq!(from(&ears), Some((later, later.after(MOVES))));
    drop(ears);
    std::fs::remove_dir_all(folder).expect("it goes");
}
