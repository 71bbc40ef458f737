//! A global for each offset, and the pointer that loads through them.

use aya_ebpf::Global;
use aya_ebpf::helpers::bpf_probe_read_kernel;
use monitor_common::offsets::ABSENT;

macro_rules! globals {
    ($($name:ident($structure:literal, $path:literal, $measure:ident);)*) => {
        $(
            #[doc = concat!("`", $structure, ".", $path, "`")]
            #[unsafe(no_mangle)]
            pub(crate) static $name: Global<u32> = Global::new(ABSENT);
        )*
    };
}

monitor_common::for_each_offset!(globals);

/// Whether this kernel has all of them. The verifier knows the answer and drops the branch not taken.
#[inline(always)]
pub(crate) fn known<const N: usize>(offsets: [&Global<u32>; N]) -> bool {
    offsets.iter().all(|offset| offset.load() != ABSENT)
}

/// A pointer to a kernel structure, as the verifier gave it to the program.
#[derive(Clone, Copy)]
pub(crate) struct KernelPtr(*const u8);

impl KernelPtr {
    /// The pointer in a program's argument.
    pub(crate) const fn new(pointer: *const u8) -> Self {
        Self(pointer)
    }

    pub(crate) const fn is_null(self) -> bool {
        self.0.is_null()
    }

    /// The same address as a mere number, which the verifier lets one reckon with.
    #[inline(always)]
    pub(crate) fn untyped(self) -> Self {
        let address = self.address();
        // SAFETY: the helper reads it back from the stack, and the verifier forgets what it was.
        let number = unsafe { bpf_probe_read_kernel(&raw const address) };
        Self(number.unwrap_or(0) as *const u8)
    }

    /// Its value, to recognise the object later.
    pub(crate) fn address(self) -> u64 {
        self.0 as u64
    }

    /// Reads the member at this offset.
    #[inline(always)]
    pub(crate) fn load<T: Copy>(self, offset: &Global<u32>) -> T {
        self.load_past(offset, 0)
    }

    /// Reads so many bytes behind the start of the member at this offset.
    #[inline(always)]
    pub(crate) fn load_past<T: Copy>(self, offset: &Global<u32>, past: usize) -> T {
        // SAFETY: the verifier knows the type of the pointer and the value of the offset, refuses a load outside of the
        // structure, and makes one through a pointer gone bad read as 0.
        unsafe {
            self.0
                .add(offset.load() as usize)
                .add(past)
                .cast::<T>()
                .read()
        }
    }

    /// Whether this bit, counted from the start of the structure, is set.
    #[inline(always)]
    pub(crate) fn bit(self, offset: &Global<u32>) -> bool {
        let at = offset.load();
        // SAFETY: as for [`Self::load_past`].
        let byte = unsafe { self.0.add((at / 8) as usize).read() };
        byte >> (at % 8) & 1 != 0
    }

    /// Follows the pointer at this offset through the helper that checks the address.
    #[inline(always)]
    pub(crate) fn follow_checked(self, offset: &Global<u32>, past: usize) -> Self {
        Self(self.load_checked::<u64>(offset, past) as *const u8)
    }

    /// Reads so many bytes behind the member through the helper that checks the address, for what the verifier cannot follow. 0 when it is bad.
    #[inline(always)]
    pub(crate) fn load_checked<T: Copy + Default>(self, offset: &Global<u32>, past: usize) -> T {
        let from = self.address() + u64::from(offset.load()) + past as u64;
        // SAFETY: the helper checks the address.
        unsafe { bpf_probe_read_kernel(from as *const T) }.unwrap_or_default()
    }

    /// Reads so many bytes behind the pointer through the helper that checks the address. 0 when it is bad.
    #[inline(always)]
    pub(crate) fn read_checked<T: Copy + Default>(self, past: u64) -> T {
        // SAFETY: the helper checks the address.
        unsafe { bpf_probe_read_kernel((self.address() + past) as *const T) }.unwrap_or_default()
    }

    /// Follows the pointer at this offset.
    #[inline(always)]
    pub(crate) fn follow(self, offset: &Global<u32>) -> Self {
        Self(self.load(offset))
    }
}
