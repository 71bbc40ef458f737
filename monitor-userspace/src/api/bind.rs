//! Takes the two addresses, and says clearly when it cannot.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

/// Why an address could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody answers on the socket.
    #[error(
        "another smart-monitor is running: it answers on {}; stop it first, or give this one a socket of its own with `--socket`",
        .path.display()
    )]
    Running {
        /// The socket.
        path: PathBuf,
    },
    /// Something else stands at the socket's path.
    #[error("{} is in the way: it is not a socket; move it, or choose another path with `--socket`", .path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The socket cannot be made.
    #[error("cannot make the socket {}: {source}; run as root, or choose a folder that you may write to with `--socket`", .path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another program listens on the port.
    #[error(
        "cannot listen on {address}: another program has the port; choose a free one with `[daemon] http = \"{}:PORT\"`",
        .address.ip()
    )]
    PortTaken {
        /// The address.
        address: SocketAddr,
    },
    /// The address cannot be listened on.
    #[error(
        "cannot listen on {address}: {source}; set `[daemon] http` to an address of this machine, \"127.0.0.1:9464\" for one"
    )]
    Http {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// Makes the daemon's socket, for its own user only. A socket that nobody answers on is left over from a daemon that was killed,
/// and is replaced.
pub fn bind_socket(path: &Path) -> Result<UnixListener, BindError> {
    let failed = |source: io::Error| BindError::Socket {
        path: path.to_owned(),
        source,
    };
    if let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        let mut builder = DirBuilder::new();
        let made = builder.recursive(true).mode(0o755).create(folder);
        made.map_err(failed)?;
    }
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(BindError::NotASocket {
                path: path.to_owned(),
            });
        }
        Ok(_) if answers(path).map_err(failed)? => {
            return Err(BindError::Running {
                path: path.to_owned(),
            });
        }
        Ok(_) => fs::remove_file(path).map_err(failed)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    // Until this line the folder and the umask guard it; the credentials of each peer are checked anyhow.
    fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}

/// Whether somebody listens on the socket. Never blocks: one with a full queue has an owner too.
fn answers(path: &Path) -> io::Result<bool> {
    let address = SocketAddrUnix::new(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match connect(&socket, &address) {
        Ok(()) | Err(Errno::AGAIN) => Ok(true),
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Listens for HTTP. The caller decides whether to go on without it.
pub fn bind_http(address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).map_err(|source| {
        if source.kind() == io::ErrorKind::AddrInUse {
            BindError::PortTaken { address }
        } else {
            BindError::Http { address, source }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("sm-bind-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        folder
    }

    #[test]
    fn a_socket_is_for_its_owner_and_a_left_over_one_is_replaced() {
        let folder = folder("stale");
        let path = folder.join("run/s.sock");
        drop(bind_socket(&path).unwrap());
        assert!(path.exists());
        let again = bind_socket(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let parent = fs::metadata(folder.join("run")).unwrap().permissions();
        assert_eq!(parent.mode() & 0o022, 0);
        drop(again);
        let _ = fs::remove_dir_all(&folder);
    }

    #[test]
    fn a_socket_that_answers_is_left_alone() {
        let folder = folder("running");
        let path = folder.join("s.sock");
        let _first = bind_socket(&path).unwrap();
        let error = bind_socket(&path).unwrap_err();
        assert!(matches!(error, BindError::Running { .. }), "{error}");
        assert!(error.to_string().contains("stop it first"));
        let _ = fs::remove_dir_all(&folder);
    }

    #[test]
    fn a_file_in_the_way_is_not_removed() {
        let folder = folder("file");
        let path = folder.join("s.sock");
        fs::create_dir_all(&folder).unwrap();
        fs::write(&path, "precious").unwrap();
        let error = bind_socket(&path).unwrap_err();
        assert!(matches!(error, BindError::NotASocket { .. }), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        let _ = fs::remove_dir_all(&folder);
    }

    #[test]
    fn a_taken_port_says_what_to_set() {
        let first = bind_http("127.0.0.1:0".parse().unwrap()).unwrap();
        let error = bind_http(first.local_addr().unwrap()).unwrap_err();
        assert!(matches!(error, BindError::PortTaken { .. }), "{error}");
        assert!(error.to_string().contains("[daemon] http"), "{error}");
    }
}
