//! Smart-Monitor: sees trouble in the kernel the moment it happens and repairs it, safely.

pub mod model;
