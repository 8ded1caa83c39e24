//! Map values. Programs on other CPUs and user space read and write them at the same time, so no Rust reference to one ever
//! exists: each access is a load, store or atomic addition of one word through a raw pointer, without any order between words.

use core::{intrinsics, mem::MaybeUninit};

use zerocopy::{FromBytes, Immutable, IntoBytes};

/// A map value, or a part of one. Valid while the program runs: the kernel frees removed values only after that.
pub struct Shared<T>(*mut T);

impl<T> Clone for Shared<T> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Shared<T> {}

impl<T> Shared<T> {
    /// The value that a map look-up gave.
    ///
    /// # Safety
    /// The pointer is one of a map look-up of the running program, or points into such a value; aligned, not null.
    #[inline(always)]
    pub unsafe fn new(value: *mut T) -> Self {
        Self(value)
    }

    #[inline(always)]
    pub fn pointer(self) -> *mut T {
        self.0
    }
}

/// A field of a map value.
macro_rules! field {
    ($value:ident . $($field:ident).+) => {{
        let value = $value.pointer();
        // SAFETY: the field lies within the value, which `Shared` vouches for; no reference to it is made.
        unsafe { $crate::shared::Shared::new(&raw mut (*value).$($field).+) }
    }};
}
pub(crate) use field;

/// A load or store of one aligned word is one instruction. The compiler's BPF backend has no atomic ones; volatile ones it neither
/// splits, repeats nor leaves out.
macro_rules! word {
    ($($number:ty),*) => {$(
        impl Shared<$number> {
            #[inline(always)]
            pub fn get(self) -> $number {
                // SAFETY: a valid, aligned number; any bytes are one.
                unsafe { self.0.read_volatile() }
            }

            #[inline(always)]
            pub fn set(self, value: $number) {
                // SAFETY: as above.
                unsafe { self.0.write_volatile(value) };
            }
        }
    )*};
}
word!(u8, u16, u32, u64);

impl Shared<u64> {
    /// Writes `value` if there is zero, atomically; whether it did. Kernels from 5.12 on.
    #[inline(always)]
    pub fn claim(self, value: u64) -> bool {
        // SAFETY: as for `get`.
        let (_, done) = unsafe {
            intrinsics::atomic_cxchg::<
                u64,
                { intrinsics::AtomicOrdering::SeqCst },
                { intrinsics::AtomicOrdering::SeqCst },
            >(self.0, 0, value)
        };
        done
    }

    /// Writes zero after everything that was read before. Kernels from 5.12 on.
    #[inline(always)]
    pub fn release(self) {
        // SAFETY: as for `get`.
        unsafe {
            intrinsics::atomic_xchg::<u64, { intrinsics::AtomicOrdering::SeqCst }>(self.0, 0);
        }
    }

    /// Adds to a total, atomically.
    #[inline(always)]
    pub fn add(self, value: u64) {
        // SAFETY: as for `get`. The result is not used: kernels before 5.12 only have the addition that gives none.
        unsafe {
            intrinsics::atomic_xadd::<u64, u64, { intrinsics::AtomicOrdering::Relaxed }>(
                self.0, value,
            );
        }
    }
}

impl<T: FromBytes + IntoBytes + Immutable> Shared<T> {
    /// A copy, word by word: another CPU may write between two words.
    #[inline(always)]
    pub fn load(self) -> T {
        let mut copy = MaybeUninit::<T>::uninit();
        let words = const { words::<T>() };
        let to = copy.as_mut_ptr().cast::<u64>();
        for n in 0..words {
            // SAFETY: `words` checks that T consists of whole, aligned words; `to` is our own copy.
            unsafe { to.add(n).write(Shared(self.0.cast::<u64>().add(n)).get()) };
        }
        // SAFETY: every word was written, and any bytes are a `T`.
        unsafe { copy.assume_init() }
    }

    /// Writes all of it, word by word.
    #[inline(always)]
    pub fn store(self, value: &T) {
        let words = const { words::<T>() };
        let from = core::ptr::from_ref(value).cast::<u64>();
        for n in 0..words {
            // SAFETY: as above; `from` is a reference to initialised memory without padding.
            unsafe { Shared(self.0.cast::<u64>().add(n)).set(from.add(n).read()) };
        }
    }
}

/// How many words a `T` consists of; fails the build for one that does not.
const fn words<T>() -> usize {
    assert!(size_of::<T>() % 8 == 0 && align_of::<T>() == 8);
    size_of::<T>() / 8
}
