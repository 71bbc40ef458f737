//! What the kernel programs themselves have to say: rare paths only, such as a full map.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use aya::Ebpf;
use aya_log::EbpfLogger;

/// Hands the programs' messages to `log`, and with that to tracing. Belongs on the slow side: formatting allocates.
pub struct KernelLog {
    fd: OwnedFd,
    flush: Box<dyn FnMut() + Send>,
}

impl std::fmt::Debug for KernelLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KernelLog").finish_non_exhaustive()
    }
}

impl KernelLog {
    /// None when the object was built without messages.
    pub(super) fn take(object: &mut Ebpf) -> Option<Self> {
        let mut logger = EbpfLogger::init(object).ok()?;
        let fd = logger.as_fd().try_clone_to_owned().ok()?;
        Some(Self {
            fd,
            flush: Box::new(move || logger.flush()),
        })
    }

    /// Readable when there are messages.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Logs the messages that have come.
    pub fn flush(&mut self) {
        (self.flush)();
    }
}
