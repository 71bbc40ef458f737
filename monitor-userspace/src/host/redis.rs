//! What is done to a Redis server: keys counted, and deleted. A connection for each act, on which everything has a bound: the time for all of
//! it, the length of an answer, the keys of a batch. The password is read when it is needed, and stands nowhere else.

mod resp;

use std::time::{Duration, Instant};

use super::{HostError, clock, secret};
use crate::model::{Flush, Time};
use resp::{Connection, Value};

/// Keys that one `SCAN` is to look at, and that one `UNLINK` deletes.
const BATCH: usize = 500;
/// Longest part of what a server says that is told on.
const SAID: usize = 200;

/// What deleting keys came to.
#[derive(Debug, Default)]
pub struct Flushed {
    /// When the first key may have been deleted; none when none was.
    pub acted: Option<Time>,
    /// Keys that were deleted, as the server says.
    pub keys: u64,
    /// What ended it before its end.
    pub stopped: Option<String>,
}

/// Why an answer is not what was asked for.
#[derive(Debug)]
pub(super) enum Wrong {
    /// It is a replica: what is deleted there comes back, or makes it differ from its master.
    Replica,
    /// Anything else, in words.
    Other(String),
}

impl From<String> for Wrong {
    fn from(why: String) -> Self {
        Self::Other(why)
    }
}

impl Wrong {
    fn at(self, flush: &Flush) -> HostError {
        match self {
            Self::Replica => HostError::Replica(flush.address.clone()),
            Self::Other(why) => HostError::Redis {
                address: flush.address.clone(),
                why,
            },
        }
    }

    fn words(self) -> String {
        match self {
            Self::Replica => "it has become a replica".to_owned(),
            Self::Other(why) => why,
        }
    }
}

/// Deletes the keys. An error means that none was.
pub fn flush(flush: &Flush) -> Result<Flushed, HostError> {
    let mut server = open(flush).map_err(|wrong| wrong.at(flush))?;
    let mut flushed = Flushed::default();
    let ended = match &flush.pattern {
        Some(pattern) => by_pattern(&mut server, pattern, flush.at_most, &mut flushed),
        None => all(&mut server, &mut flushed),
    };
    match ended {
        Err(wrong) if flushed.acted.is_none() => return Err(wrong.at(flush)),
        Err(wrong) => flushed.stopped = Some(wrong.words()),
        Ok(()) => {}
    }
    Ok(flushed)
}

/// How many keys there are of those that are meant; when there are more than may be left, not all are counted.
pub fn keys(flush: &Flush) -> Result<u64, HostError> {
    count(flush).map_err(|wrong| wrong.at(flush))
}

fn count(flush: &Flush) -> Result<u64, Wrong> {
    let mut server = open(flush)?;
    let Some(pattern) = &flush.pattern else {
        return server.integer(&[b"DBSIZE"]);
    };
    let (mut found, mut cursor) = (0_u64, b"0".to_vec());
    loop {
        let (next, keys) = scan(&mut server, &cursor, pattern)?;
        found = found.saturating_add(keys.len() as u64);
        if next == b"0" || found > u64::from(flush.left) {
            return Ok(found);
        }
        cursor = next;
    }
}

fn by_pattern(
    server: &mut Server,
    pattern: &str,
    at_most: u32,
    flushed: &mut Flushed,
) -> Result<(), Wrong> {
    let mut cursor = b"0".to_vec();
    loop {
        let (next, keys) = scan(server, &cursor, pattern)?;
        for batch in keys.chunks(BATCH) {
            let left = u64::from(at_most).saturating_sub(flushed.keys);
            let left = usize::try_from(left).unwrap_or(usize::MAX);
            if left == 0 {
                let why = format!("`at_most` of {at_most} keys is reached, and there are more");
                return Err(Wrong::Other(why));
            }
            let mut command: Vec<&[u8]> = vec![b"UNLINK"];
            command.extend(batch.iter().take(left).map(Vec::as_slice));
            // From here on it may be done, whatever comes back.
            flushed.acted.get_or_insert_with(clock::now);
            flushed.keys = flushed.keys.saturating_add(server.integer(&command)?);
            if left < batch.len() {
                let why = format!("`at_most` of {at_most} keys is reached, and there are more");
                return Err(Wrong::Other(why));
            }
        }
        if next == b"0" {
            return Ok(());
        }
        cursor = next;
    }
}

fn all(server: &mut Server, flushed: &mut Flushed) -> Result<(), Wrong> {
    let keys = server.integer(&[b"DBSIZE"])?;
    flushed.acted = Some(clock::now());
    // Not FLUSHALL: other databases are others'.
    server.ask(&[b"FLUSHDB", b"ASYNC"])?;
    flushed.keys = keys;
    Ok(())
}

/// One step through the keys that match: where to go on, and some of them.
fn scan(
    server: &mut Server,
    cursor: &[u8],
    pattern: &str,
) -> Result<(Vec<u8>, Vec<Vec<u8>>), Wrong> {
    let batch = BATCH.to_string();
    let command: [&[u8]; 6] = [
        b"SCAN",
        cursor,
        b"MATCH",
        pattern.as_bytes(),
        b"COUNT",
        batch.as_bytes(),
    ];
    let Value::Array(parts) = server.ask(&command)? else {
        return Err(protocol("SCAN is answered with no list"));
    };
    let mut parts = parts.into_iter();
    let (Some(Value::Text(next)), Some(Value::Array(keys))) = (parts.next(), parts.next()) else {
        return Err(protocol(
            "SCAN is answered with another list than of a cursor and keys",
        ));
    };
    let keys = keys.into_iter().map(|key| match key {
        Value::Text(key) => Ok(key),
        _ => Err(protocol("SCAN names a key that is no text")),
    });
    let keys: Vec<Vec<u8>> = keys.collect::<Result<_, _>>()?;
    Ok((next, keys))
}

fn protocol(why: &str) -> Wrong {
    Wrong::Other(format!("it does not speak as Redis does: {why}"))
}

/// A server that is logged in to, with its database chosen; a master.
struct Server(Connection);

fn open(flush: &Flush) -> Result<Server, Wrong> {
    let until = Instant::now() + flush.within.max(Duration::from_millis(1));
    let mut server = Server(Connection::open(&flush.address, until)?);
    if let Some(path) = &flush.password_file {
        let password = secret::first_line(path)?;
        match &flush.user {
            Some(user) => server.ask(&[b"AUTH", user.as_bytes(), &password])?,
            None => server.ask(&[b"AUTH", &password])?,
        };
    }
    let Value::Array(role) = server.ask(&[b"ROLE"])? else {
        return Err(protocol("ROLE is answered with no list"));
    };
    match role.first() {
        Some(Value::Text(role)) if role == b"master" => {}
        Some(Value::Text(role)) if role == b"slave" || role == b"replica" => {
            return Err(Wrong::Replica);
        }
        _ => {
            return Err(Wrong::Other(
                "it is no master: ROLE says something else".to_owned(),
            ));
        }
    }
    server.ask(&[b"SELECT", flush.database.to_string().as_bytes()])?;
    Ok(server)
}

impl Server {
    fn ask(&mut self, command: &[&[u8]]) -> Result<Value, Wrong> {
        match self.0.ask(command)? {
            Value::Error(said) => Err(explained(&said)),
            answer => Ok(answer),
        }
    }

    fn integer(&mut self, command: &[&[u8]]) -> Result<u64, Wrong> {
        match self.ask(command)? {
            Value::Integer(number) => {
                u64::try_from(number).map_err(|_| protocol("a number of keys is below zero"))
            }
            _ => Err(protocol("no number where there should be one")),
        }
    }
}

/// What a server's error means, and what to do.
fn explained(said: &[u8]) -> Wrong {
    let text = String::from_utf8_lossy(said);
    let text: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(SAID)
        .collect();
    let first = text.split(' ').next().unwrap_or_default();
    let means = match first {
        "READONLY" => return Wrong::Replica,
        "NOAUTH" => "it wants a password: give `password_file`",
        "WRONGPASS" => "the user or the password is wrong",
        "NOPERM" => "its user may not do this: allow SCAN, UNLINK, ROLE and DBSIZE, or FLUSHDB",
        "LOADING" => "it is still reading its data from the disk",
        "BUSY" => "a script keeps it busy: see SCRIPT KILL",
        "MISCONF" => "it cannot save to its disk, and takes no changes until it can",
        "MOVED" | "ASK" | "CROSSSLOT" | "CLUSTERDOWN" => {
            "it is a part of a cluster, whose keys are elsewhere too: that is not supported"
        }
        "ERR" if text.contains("unknown command") => {
            "it is too old (UNLINK needs Redis 4), or the command is renamed"
        }
        "ERR" if text.contains("out of range") => "there is no database of this number",
        _ => "it refuses",
    };
    Wrong::Other(format!("{means} ({text})"))
}

#[cfg(test)]
mod tests;
