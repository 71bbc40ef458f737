//! How much a program that the daemon starts may use: limits of getrlimit(2), and its place before others.

use super::HostError;

/// See the module. None: as the daemon has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Limits, each at most once.
    pub set: Vec<(Resource, u64)>,
    /// Niceness.
    pub nice: Option<i32>,
    /// How likely the kernel's OOM killer is to take it.
    pub oom_score_adj: Option<i32>,
}

/// What there can be a limit of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// `RLIMIT_NOFILE`: numbers of open files.
    OpenFiles,
    /// `RLIMIT_NPROC`: processes and threads of its user.
    Processes,
    /// `RLIMIT_CORE`: bytes of a core file.
    Core,
    /// `RLIMIT_STACK`: bytes of the stack.
    Stack,
    /// `RLIMIT_MEMLOCK`: bytes that are kept in memory.
    LockedMemory,
    /// `RLIMIT_FSIZE`: bytes of a file that it writes.
    FileSize,
    /// `RLIMIT_AS`: bytes of address space.
    AddressSpace,
}

impl Resource {
    const fn number(self) -> u32 {
        match self {
            Self::OpenFiles => libc::RLIMIT_NOFILE,
            Self::Processes => libc::RLIMIT_NPROC,
            Self::Core => libc::RLIMIT_CORE,
            Self::Stack => libc::RLIMIT_STACK,
            Self::LockedMemory => libc::RLIMIT_MEMLOCK,
            Self::FileSize => libc::RLIMIT_FSIZE,
            Self::AddressSpace => libc::RLIMIT_AS,
        }
    }

    const fn of(self) -> rustix::process::Resource {
        use rustix::process::Resource as Kernel;
        match self {
            Self::OpenFiles => Kernel::Nofile,
            Self::Processes => Kernel::Nproc,
            Self::Core => Kernel::Core,
            Self::Stack => Kernel::Stack,
            Self::LockedMemory => Kernel::Memlock,
            Self::FileSize => Kernel::Fsize,
            Self::AddressSpace => Kernel::As,
        }
    }

    /// As it is written in `limits`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OpenFiles => "open_files",
            Self::Processes => "processes",
            Self::Core => "core",
            Self::Stack => "stack",
            Self::LockedMemory => "locked_memory",
            Self::FileSize => "file_size",
            Self::AddressSpace => "address_space",
        }
    }
}

impl Limits {
    /// What the kernel is told: resource and value, of the limit and of what it can be raised to.
    pub(super) fn numbers(&self) -> Vec<(u32, u64)> {
        let set = self.set.iter();
        set.map(|(resource, value)| (resource.number(), *value))
            .collect()
    }

    /// Whether they can be set, as far as that is known before: an error says which cannot, and why.
    pub(super) fn can_be(&self, program: &str) -> Result<(), HostError> {
        let refused = |why: String| HostError::System {
            what: format!("limits of {program}"),
            source: std::io::Error::other(why),
        };
        let root = rustix::process::geteuid().is_root();
        for (resource, value) in &self.set {
            let name = resource.name();
            let own = rustix::process::getrlimit(resource.of()).maximum;
            if let Some(own) = own.filter(|own| value > own && !root) {
                return Err(refused(format!(
                    "{name} = {value} is over the daemon's own {own}, and only root can raise that"
                )));
            }
            if *resource == Resource::OpenFiles
                && let Some(most) = most_files().filter(|most| value > most)
            {
                return Err(refused(format!(
                    "{name} = {value} is over the {most} of this kernel: see sysctl fs.nr_open"
                )));
            }
        }
        if let Some(nice) = self.nice.filter(|nice| *nice < 0 && !root) {
            return Err(refused(format!("nice = {nice} needs root")));
        }
        Ok(())
    }

    /// Sets what is set from outside.
    pub(super) fn mark(&self, pid: u32) {
        let Some(score) = self.oom_score_adj else {
            return;
        };
        let path = format!("/proc/{pid}/oom_score_adj");
        if let Err(error) = std::fs::write(&path, score.to_string()) {
            tracing::warn!(pid, %error, "cannot set oom_score_adj = {score} of a service");
        }
    }
}

fn most_files() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/sys/fs/nr_open").ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_kernel_can_give_is_refused_by_name() {
        let limits = Limits {
            set: vec![(Resource::OpenFiles, u64::MAX - 1)],
            ..Limits::default()
        };
        let why = limits.can_be("shop").expect_err("too many").to_string();
        assert!(why.contains("open_files = "), "{why}");
        let limits = Limits {
            set: vec![(Resource::OpenFiles, 64), (Resource::Core, 0)],
            ..Limits::default()
        };
        assert!(limits.can_be("shop").is_ok());
        assert_eq!(
            limits.numbers(),
            [(libc::RLIMIT_NOFILE, 64), (libc::RLIMIT_CORE, 0)]
        );
    }
}
