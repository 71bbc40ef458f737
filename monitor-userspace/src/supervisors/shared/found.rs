//! What somebody runs on this host, as they say themselves: for a configuration that is proposed, and for what is observed without one.

use std::net::SocketAddr;

use crate::model::ProcessKey;

/// What came of asking them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Discovered {
    /// What they run, [`Discovered::MOST`] at most.
    pub found: Vec<Found>,
    /// How many more there are.
    pub left_out: usize,
    /// Who could not be asked, why, and what to do.
    pub problems: Vec<String>,
}

/// Something that somebody runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// What they call it.
    pub name: String,
    /// `with` of a service that is this.
    pub with: toml::Table,
    /// What it is, for a person: one line.
    pub what: String,
    /// Its main process, and those of its other instances.
    pub processes: Vec<ProcessKey>,
    /// The path of the cgroup that is its alone, as `/proc/PID/cgroup` has it.
    pub cgroup: Option<String>,
    /// Where the host listens for it by means of others: addresses that are led into its namespace.
    pub published: Vec<SocketAddr>,
}

impl Discovered {
    /// Most that is kept of what one kind runs.
    pub const MOST: usize = 256;

    /// Nobody of that kind is there.
    pub fn nobody(why: &str) -> Self {
        Self {
            problems: vec![why.to_owned()],
            ..Self::default()
        }
    }

    /// One more, or counted as left out.
    pub fn add(&mut self, found: Found) {
        if self.found.len() < Self::MOST {
            self.found.push(found);
        } else {
            self.left_out += 1;
        }
    }
}
