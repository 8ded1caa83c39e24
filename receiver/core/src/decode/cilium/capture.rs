//! Type 3, `DebugCapture`: a packet at a debug point. 24 bytes in all versions.

use zerocopy::little_endian::U32;

use super::{CaptureHeader, EventError, fixed};

#[derive(zerocopy::FromBytes, zerocopy::KnownLayout, zerocopy::Immutable, zerocopy::Unaligned)]
#[repr(C)]
struct Layout {
    header: CaptureHeader,
    arg1: U32,
    arg2: U32,
}

/// A captured packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capture<'a> {
    /// `flow.DebugCapturePoint`.
    pub sub_type: u8,
    /// Endpoint whose program captured it; 0: none.
    pub endpoint: u16,
    /// Flow hash of the packet.
    pub hash: u32,
    /// Length of the packet before it was cut, bytes.
    pub original_length: u32,
    /// Interface index, or at the proxy points (8, 9) the port in network order.
    pub arg1: u32,
    /// Unused.
    pub arg2: u32,
    /// Head of the packet; always starts with Ethernet.
    pub packet: &'a [u8],
}

/// Reads a `DebugCapture`.
///
/// # Errors
/// [`EventError::Short`].
pub fn decode(data: &[u8]) -> Result<Capture<'_>, EventError> {
    let layout: &Layout = fixed(data)?;
    Ok(Capture {
        sub_type: layout.header.sub_type,
        endpoint: layout.header.source.get(),
        hash: layout.header.hash.get(),
        original_length: layout.header.original_length.get(),
        arg1: layout.arg1.get(),
        arg2: layout.arg2.get(),
        packet: layout.header.packet(data, size_of::<Layout>(), true),
    })
}
