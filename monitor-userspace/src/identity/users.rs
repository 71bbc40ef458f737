//! Names of users: `/etc/passwd`, read again when it has changed.
//!
//! Deliberately not NSS: it may ask a directory over the network, and block. A user that is in no file has a number alone; one of a
//! container is named as the host names that number.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::model::Time;

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// What is behind that many bytes is not read.
const BYTES_MAX: u64 = 4 << 20;
/// Users that are remembered.
const USERS_MAX: usize = 65_536;

/// See the module.
#[derive(Debug)]
pub struct Users {
    file: PathBuf,
    names: HashMap<u32, Arc<str>>,
    looked: Option<Time>,
    /// Time and length of what was read.
    read: Option<(SystemTime, u64)>,
}

impl Users {
    /// Those of a file in the form of passwd(5).
    pub fn of(file: impl Into<PathBuf>) -> Self {
        Self {
            file: file.into(),
            names: HashMap::new(),
            looked: None,
            read: None,
        }
    }

    /// The name of a user, if it has one.
    pub fn name(&mut self, uid: u32, at: Time) -> Option<Arc<str>> {
        if (self.looked).is_none_or(|looked| at.since(looked) >= LOOK_EVERY) {
            self.looked = Some(at);
            self.look();
        }
        self.names.get(&uid).cloned()
    }

    fn look(&mut self) {
        let metadata = std::fs::metadata(&self.file).ok();
        let found = metadata.and_then(|metadata| Some((metadata.modified().ok()?, metadata.len())));
        if found == self.read {
            return;
        }
        self.read = found;
        let mut bytes = Vec::new();
        if let Ok(file) = File::open(&self.file) {
            // What was read before an error is as good as the file is.
            let _ = file.take(BYTES_MAX).read_to_end(&mut bytes);
        }
        self.names = parse(&String::from_utf8_lossy(&bytes));
    }
}

/// Name, password, number, and more (passwd(5)). The first line of a number is the one that counts, as for `getpwuid`.
fn parse(text: &str) -> HashMap<u32, Arc<str>> {
    let mut names = HashMap::new();
    for line in text.lines() {
        let mut fields = line.split(':');
        let (Some(name), Some(_), Some(uid)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let is_name = !name.is_empty() && !name.starts_with(['#', '+', '-']);
        if let Ok(uid) = uid.parse()
            && is_name
            && names.len() < USERS_MAX
        {
            names.entry(uid).or_insert_with(|| name.into());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_read_again_when_it_changes() {
        let name = format!("smart-monitor-users-{}", std::process::id());
        let file = std::env::temp_dir().join(name);
        let at = |seconds: i64| Time::from_nanos(seconds * 1_000_000_000);
        let text = "root:x:0:0::/root:/bin/sh\n# comment:x:5:5\n+nis\ngarbage\ntwin:x:0:0\nno:x:number:1\n";
        std::fs::write(&file, text).expect("it is writable");
        let mut users = Users::of(&file);
        assert_eq!(users.name(0, at(0)).as_deref(), Some("root"));
        assert_eq!(users.name(5, at(0)), None);
        std::fs::write(&file, "admin:x:0:0\nwww-data:x:33:33\n").expect("it is writable");
        assert_eq!(users.name(0, at(4)).as_deref(), Some("root"));
        assert_eq!(users.name(0, at(5)).as_deref(), Some("admin"));
        assert_eq!(users.name(33, at(5)).as_deref(), Some("www-data"));
        std::fs::remove_file(&file).expect("it is there");
        assert_eq!(users.name(33, at(10)), None);
    }
}
