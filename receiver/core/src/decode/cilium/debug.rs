//! Type 2, `DebugMsg`: three numbers whose meaning the subtype gives. 20 bytes, no version.

use zerocopy::little_endian::{U16, U32};

use super::{EventError, fixed};

#[derive(zerocopy::FromBytes, zerocopy::KnownLayout, zerocopy::Immutable, zerocopy::Unaligned)]
#[repr(C)]
struct Layout {
    kind: u8,
    sub_type: u8,
    source: U16,
    hash: U32,
    args: [U32; 3],
}

/// A debug message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Debug {
    /// `flow.DebugEventType`.
    pub sub_type: u8,
    /// Endpoint whose program spoke; 0: none.
    pub endpoint: u16,
    /// Flow hash of the packet.
    pub hash: u32,
    /// Three arguments.
    pub args: [u32; 3],
}

/// Reads a `DebugMsg`.
///
/// # Errors
/// [`EventError::Short`].
pub fn decode(data: &[u8]) -> Result<Debug, EventError> {
    let layout: &Layout = fixed(data)?;
    Ok(Debug {
        sub_type: layout.sub_type,
        endpoint: layout.source.get(),
        hash: layout.hash.get(),
        args: layout.args.map(U32::get),
    })
}
