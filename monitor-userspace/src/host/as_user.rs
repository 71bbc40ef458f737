//! A connection to a Unix socket that its user alone may use.
//!
//! The kernel notes whose a connection is when it is made: the effective user of the thread that makes it. So a thread takes on that user,
//! connects, and ends. Its real and saved users stay root's, so the user can neither signal nor trace it.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::process::{dumpable_behavior, geteuid, set_dumpable_behavior};
use rustix::thread::{Uid, set_thread_res_uid};

/// One at a time: what is read before is put back after.
static ONE: Mutex<()> = Mutex::new(());

/// Connects as this user. Does not wait for who listens there: whoever has left too many waiting already is as good as away.
pub fn connect_as(path: PathBuf, user: u32) -> io::Result<UnixStream> {
    if geteuid().as_raw() == user {
        return open(&path);
    }
    let thread = std::thread::Builder::new().name("as-user".to_owned());
    let thread = thread.stack_size(128 << 10).spawn(move || {
        let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        // A change of users takes from the whole process that its memory may be read, and that it leaves a core file.
        let before = dumpable_behavior()?;
        let own = geteuid();
        set_thread_res_uid(None::<Uid>, Some(Uid::from_raw(user)), None::<Uid>)?;
        let opened = open(&path);
        set_thread_res_uid(None::<Uid>, Some(own), None::<Uid>)?;
        if dumpable_behavior()? != before {
            set_dumpable_behavior(before)?;
        }
        opened
    })?;
    let panicked = |_| io::Error::other("the thread that was to connect panicked");
    thread.join().map_err(panicked)?
}

fn open(path: &std::path::Path) -> io::Result<UnixStream> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(UnixStream::from(socket))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use rustix::net::sockopt::socket_peercred;
    use rustix::process::DumpableBehavior;

    use super::*;

    #[test]
    fn the_other_side_sees_that_user() {
        let folder = std::env::temp_dir().join(format!("sm-as-user-{}", std::process::id()));
        std::fs::create_dir(&folder).expect("a folder");
        let path = folder.join("socket");
        let listener = UnixListener::bind(&path).expect("a listener");
        let own = geteuid().as_raw();
        let others: &[u32] = if own == 0 { &[12345, 0] } else { &[own] };
        if own == 0 {
            // As a user leaves what is his to him alone.
            std::os::unix::fs::chown(&folder, Some(12345), None).expect("we are root");
            std::os::unix::fs::chown(&path, Some(12345), None).expect("we are root");
        }
        set_dumpable_behavior(DumpableBehavior::Dumpable).expect("it can be set");
        for user in others {
            let _stream = connect_as(path.clone(), *user).expect("somebody listens");
            let (taken, _) = listener.accept().expect("it is connected");
            let peer = socket_peercred(&taken).expect("Linux knows");
            assert_eq!(peer.uid.as_raw(), *user);
            assert_eq!(geteuid().as_raw(), own, "that was another thread");
            assert_eq!(dumpable_behavior(), Ok(DumpableBehavior::Dumpable));
        }
        let absent = connect_as(folder.join("absent"), own).expect_err("nobody listens");
        assert_eq!(absent.kind(), io::ErrorKind::NotFound);
        std::fs::remove_dir_all(folder).expect("it is ours");
    }
}
