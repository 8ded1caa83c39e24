//! What a source hands over: bytes as they left the operating system, and when.
//!
//! A [`Batch`] is what `netflume record` writes to a file and `netflume replay` reads back, so everything behind it works without
//! privileges, and gives the same result twice.

/// What the bytes of a [`Batch`] are: the number that stands in a recorded file. Each kind belongs to one receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BatchKind(pub u16);

impl BatchKind {
    /// Records of our kernel programs ([`netflume_ebpf`]), one after the other, in order of time.
    pub const KERNEL: Self = Self(1);
    /// No bytes: an interval is over, all that was to be read for it has been read; tables flush now.
    pub const INTERVAL: Self = Self(2);
    /// Whole gob messages of the Cilium monitor socket, one after the other, type definitions included.
    pub const CILIUM_MONITOR: Self = Self(16);
    /// One answer of the Cilium agent's API ([`crate::enrich::cilium::answer`]).
    pub const CILIUM_API: Self = Self(17);
    /// Messages of the monitor socket that were read and had no room to wait ([`crate::decode::cilium::queue_loss`]).
    pub const CILIUM_QUEUE_LOSS: Self = Self(20);
}

/// A moment by two clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Now {
    /// Wall clock, nanoseconds since 1970.
    pub unix_ns: u64,
    /// CLOCK_BOOTTIME, nanoseconds.
    pub boot_ns: u64,
}

/// Bytes as they were read, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// What the bytes are.
    pub kind: BatchKind,
    /// Wall clock at the read, nanoseconds since 1970.
    pub unix_ns: u64,
    /// The same moment by CLOCK_BOOTTIME, nanoseconds; `unix_ns - boot_ns` turns kernel times into wall-clock times.
    pub boot_ns: u64,
    /// The records.
    pub bytes: Vec<u8>,
}

impl Batch {
    /// When it was read.
    #[must_use]
    pub fn now(&self) -> Now {
        Now {
            unix_ns: self.unix_ns,
            boot_ns: self.boot_ns,
        }
    }
}
