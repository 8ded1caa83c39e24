//! What a source hands over: bytes as they left the operating system, and when.
//!
//! A [`Batch`] is what `netflume record` writes to a file and `netflume replay` reads back, so everything behind it works without
//! privileges, and gives the same result twice.

/// What the bytes of a [`Batch`] are. The number is what stands in a recorded file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum BatchKind {
    /// Records of our kernel programs ([`netflume_ebpf`]), one after the other, in order of time.
    Kernel = 1,
    /// No bytes: an interval is over, all that was to be read for it has been read; tables flush now.
    Interval = 2,
    /// Whole gob messages of the Cilium monitor socket, one after the other, type definitions included.
    CiliumMonitor = 16,
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
