//! What the daemon needs around it: its folder, its port, and whether one runs already.

use std::net::SocketAddr;
use std::path::Path;

use rustix::fs::{Access, access};

use super::{Check, Level};
use crate::api::answers::Status;
use crate::api::client::ClientError;
use crate::api::{BindError, bind_http};
use crate::cli::ask::Daemon;
use crate::cli::render;
use crate::config::Config;

const SECTION: &str = "daemon";

pub(super) fn check(checks: &mut Vec<Check>, daemon: &Daemon) {
    let asked = daemon.ask::<Status>("/api/v1/status");
    let runs = matches!(
        asked,
        Ok(_) | Err(ClientError::Denied { .. } | ClientError::Late { .. })
    );
    checks.push(running(asked));
    let defaults = Config::defaults().daemon;
    checks.push(folder(&defaults.state_dir));
    if let Some(address) = defaults.http.0 {
        checks.push(port(address, runs));
    }
}

fn running(asked: Result<Status, ClientError>) -> Check {
    match asked {
        Ok(status) => {
            let up = std::time::Duration::try_from_secs_f64(status.uptime_seconds);
            let up = render::duration(up.unwrap_or_default());
            Check::ok(
                SECTION,
                "running",
                format!("version {}, for {up}", status.version),
            )
        }
        Err(ClientError::NotRunning { socket }) => Check::ok(
            SECTION,
            "running",
            format!("no daemon answers on {}", socket.display()),
        ),
        Err(error @ ClientError::Denied { .. }) => {
            Check::new(SECTION, "running", Level::Unknown, error.to_string())
        }
        Err(error) => Check::new(SECTION, "running", Level::Warning, error.to_string()),
    }
}

/// A folder that is not there yet is made by the daemon: what counts is the nearest one that is there.
fn folder(wanted: &Path) -> Check {
    let there = wanted
        .ancestors()
        .find(|folder| folder.exists())
        .unwrap_or(Path::new("/"));
    let name = "state folder";
    match access(there, Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) if !there.is_dir() => {
            let detail = format!("{} is in the way: it is not a folder", there.display());
            Check::new(SECTION, name, Level::Warning, detail)
                .fix("move it, or set `[daemon] state_dir`")
        }
        Ok(()) if there == wanted => Check::ok(
            SECTION,
            name,
            format!("{} can be written", wanted.display()),
        ),
        Ok(()) => Check::ok(SECTION, name, format!("{} will be made", wanted.display())),
        Err(error) => {
            let root = rustix::process::geteuid().is_root();
            let detail = format!(
                "{} cannot be written ({error}): without a journal the daemon observes and does not act",
                there.display()
            );
            let level = if root { Level::Warning } else { Level::Unknown };
            Check::new(SECTION, name, level, detail)
                .fix("make it writable, or set `[daemon] state_dir` to a folder that is")
        }
    }
}

fn port(address: SocketAddr, runs: bool) -> Check {
    let name = "http port";
    match bind_http(address) {
        Ok(_) => Check::ok(SECTION, name, format!("{address} is free")),
        Err(BindError::PortTaken { .. }) if runs => Check::ok(
            SECTION,
            name,
            format!("{address} is taken, by the running daemon it seems"),
        ),
        Err(error) => {
            let message = error.to_string();
            let (why, fix) = message.rsplit_once("; ").unwrap_or((&message, ""));
            Check::new(
                SECTION,
                name,
                Level::Warning,
                format!("{why}; metrics and the API go by the socket alone"),
            )
            .fix(fix)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_can_be_made_is_fine_and_a_file_in_its_place_is_not() {
        let base = std::env::temp_dir().join(format!("sm-doctor-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&base);
        std::fs::create_dir_all(&base).unwrap();
        assert_eq!(folder(&base.join("a/b")).level, Level::Ok);
        std::fs::write(base.join("file"), "").unwrap();
        assert_ne!(folder(&base.join("file/b")).level, Level::Ok);
        let _ = std::fs::remove_dir_all(&base);
    }

    #[test]
    fn a_taken_port_is_a_warning_unless_the_daemon_has_it() {
        let taken = bind_http("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = taken.local_addr().unwrap();
        assert_eq!(port(address, false).level, Level::Warning);
        assert!(port(address, false).fix.unwrap().contains("[daemon] http"));
        assert_eq!(port(address, true).level, Level::Ok);
    }
}
