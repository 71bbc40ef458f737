//! What the verifier followed of each program, from its own log: kernels before 5.16 leave it out of their account of a program.
//!
//! Aya asks for the log only of a program that was refused, and keeps it to itself. So the C library's `syscall`, through which it
//! loads programs, is replaced here: a load without a log is made one with the statistics alone. Everything else goes to the kernel
//! as it is. Leaves out architectures other than x86-64, on which the account must do.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use monitor_common::Kind;
use smart_monitor::kernel::VerifierCost;

/// Name, as far as the kernel keeps it, and instructions of each program, in the order in which they were loaded.
static LOADED: Mutex<Vec<(String, u32)>> = Mutex::new(Vec::new());

/// Bytes of a name that the kernel keeps: 16 with a zero at the end.
const KEPT: usize = 15;

/// What each program cost, by name: by the kernel's account, or else by the verifier's log.
pub(crate) fn costs(programs: &[VerifierCost]) -> BTreeMap<String, Option<u32>> {
    let mut logged = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    let mut next = |name: &str| {
        let kept = name.get(..KEPT).unwrap_or(name);
        let at = logged.iter().position(|(loaded, _)| loaded == kept)?;
        Some(logged.remove(at).1)
    };
    // Two programs can have the same first letters: they are told apart by their order, in which the iterator is the first.
    let mut kinds = Kind::ALL.to_vec();
    kinds.sort_by_key(|kind| *kind != Kind::TaskSnapshot);
    let in_order = kinds.iter().flat_map(|kind| kind.spec().programs);
    in_order
        .filter_map(|spec| {
            let program = programs.iter().find(|program| program.name == spec.name)?;
            let from_log = next(spec.name);
            Some((program.name.clone(), program.instructions.or(from_log)))
        })
        .collect()
}

#[cfg(target_arch = "x86_64")]
mod replaced {
    use std::ffi::{c_int, c_long};
    use std::sync::PoisonError;

    const SYS_BPF: c_long = 321;
    const BPF_PROG_LOAD: c_long = 5;
    const BPF_LOG_STATS: u32 = 4;
    /// Bytes; the statistics are a few lines.
    const ROOM: u32 = 1 << 16;

    /// The beginning of the kernel's `union bpf_attr` for `BPF_PROG_LOAD`.
    #[repr(C)]
    struct Load {
        program_type: u32,
        count: u32,
        instructions: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log_buffer: u64,
        kernel_version: u32,
        flags: u32,
        name: [u8; 16],
    }

    unsafe extern "C" {
        fn __errno_location() -> *mut c_int;
    }

    /// In the place of the C library's function of this name, and as it is to its callers.
    ///
    /// # Safety
    ///
    /// As for any system call: the arguments must be what the call takes.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn syscall(
        number: c_long,
        first: c_long,
        second: c_long,
        third: c_long,
        fourth: c_long,
        fifth: c_long,
        sixth: c_long,
    ) -> c_long {
        let arguments = [first, second, third, fourth, fifth, sixth];
        let is_load = number == SYS_BPF && first == BPF_PROG_LOAD;
        let holds = usize::try_from(third).is_ok_and(|size| size >= size_of::<Load>());
        // SAFETY: the second argument of a load points to its attributes, which are as many bytes as the third says.
        let load = (is_load && holds).then(|| unsafe { &mut *(second as *mut Load) });
        let answer = match load {
            Some(load) if load.log_level == 0 => {
                // SAFETY: the arguments are the caller's.
                with_statistics(load, || unsafe { call(number, arguments) })
            }
            // SAFETY: as above.
            _ => unsafe { call(number, arguments) },
        };
        if (-4095..0).contains(&answer) {
            // SAFETY: where this thread keeps the number of its last error.
            unsafe { *__errno_location() = c_int::try_from(-answer).unwrap_or_default() };
            return -1;
        }
        answer
    }

    fn with_statistics(load: &mut Load, call: impl Fn() -> c_long) -> c_long {
        let mut log = vec![0_u8; ROOM as usize];
        load.log_level = BPF_LOG_STATS;
        load.log_size = ROOM;
        load.log_buffer = log.as_mut_ptr() as u64;
        let answer = call();
        (load.log_level, load.log_size, load.log_buffer) = (0, 0, 0);
        if answer >= 0
            && let Some(count) = super::processed(&String::from_utf8_lossy(&log))
        {
            let name = load.name.split(|byte| *byte == 0).next();
            let name = String::from_utf8_lossy(name.unwrap_or_default()).into_owned();
            let mut loaded = super::LOADED.lock().unwrap_or_else(PoisonError::into_inner);
            loaded.push((name, count));
        }
        answer
    }

    /// The kernel's answer: a number of an error is negative.
    unsafe fn call(number: c_long, arguments: [c_long; 6]) -> c_long {
        let [first, second, third, fourth, fifth, sixth] = arguments;
        let answer;
        // SAFETY: how the kernel is called on this architecture; the arguments are the caller's word.
        unsafe {
            std::arch::asm!(
                "syscall",
                inlateout("rax") number => answer,
                in("rdi") first, in("rsi") second, in("rdx") third,
                in("r10") fourth, in("r8") fifth, in("r9") sixth,
                lateout("rcx") _, lateout("r11") _,
                options(nostack),
            );
        }
        answer
    }
}

/// The number in `processed 771 insns (limit 1000000) ...`.
fn processed(log: &str) -> Option<u32> {
    let (_, after) = log.split_once("processed ")?;
    after.split_once(' ')?.0.parse().ok()
}
