//! The shell at the front: bytes leave the operating system here, in batches, with the time at which they were read.
//!
//! A [`Batch`] is what `netflume record` writes to a file and `netflume replay` reads back, so everything behind this module
//! works without privileges, and gives the same result twice.

#[cfg(target_os = "linux")]
pub mod cilium;
#[cfg(target_os = "linux")]
pub mod cilium_api;
#[cfg(target_os = "linux")]
pub(crate) mod clock;
#[cfg(target_os = "linux")]
pub mod kernel;
#[cfg(target_os = "linux")]
pub mod links;
pub mod replay;

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
