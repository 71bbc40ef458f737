//! `unix = "/run/app.sock"`: a connection to a Unix socket can be made; with `banner`, and it says what is expected.

use std::path::PathBuf;
use std::time::Instant;

use serde::Deserialize;
use tokio::net::UnixStream;

use super::net::banner::{Pattern, exchange};
use super::net::connect::reason;
use super::net::doing::Doing;
use super::{About, Answer, Asking, Check, Settings, Spec, read};
use crate::model::CheckFailure;

/// See the module.
pub const SPEC: Spec = Spec {
    name: "unix",
    summary: "a connection to a Unix socket can be made, and says what is expected",
    serving: true,
    short: "path",
    example: "unix = \"/run/app.sock\"",
    read: read::<Unix>,
};

/// The longest path that a socket can have, in bytes.
const PATH: usize = 107;

/// `unix = { ... }`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Unix {
    /// The socket.
    path: PathBuf,
    /// What to send first.
    send: Option<String>,
    /// What must be in the first 4 KiB that are said.
    banner: Option<Pattern>,
    #[serde(skip)]
    doing: Doing,
}

impl Settings for Unix {
    fn sensible(self) -> Result<Self, String> {
        if !self.path.is_absolute() || self.path.as_os_str().len() > PATH {
            return Err(format!(
                "`{}` must be a whole path, as \"/run/app.sock\", of at most {PATH} bytes",
                self.path.display()
            ));
        }
        Ok(self)
    }
}

impl Check for Unix {
    fn ask<'a>(&'a self, _: &'a About) -> Asking<'a> {
        Box::pin(async {
            let path = self.path.display();
            self.doing.now(format!("connecting to {path}"));
            let began = Instant::now();
            let connected = UnixStream::connect(&self.path).await;
            let mut stream = connected
                .map_err(|error| CheckFailure::Connect(format!("{path}: {}", full_or(&error))))?;
            let connect = began.elapsed();
            let (send, banner) = (self.send.as_deref(), self.banner.as_ref());
            exchange(&mut stream, send, banner, &self.doing).await?;
            Ok(Answer::well().took("connect", connect))
        })
    }

    fn doing(&self) -> Option<String> {
        self.doing.last()
    }
}

/// A listener that does not accept any more shows at once, other than with TCP.
fn full_or(error: &std::io::Error) -> String {
    if error.kind() == std::io::ErrorKind::WouldBlock {
        return "its queue is full: whoever listens accepts nobody".to_owned();
    }
    reason(error)
}
