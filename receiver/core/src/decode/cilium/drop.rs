//! Type 1, `DropNotify`: a packet was dropped.
//!
//! Versions 0 and 1 (agents up to 1.17) have 36 bytes, 2 (1.18) has 40, 3 (1.19 and later) has 48.

use zerocopy::little_endian::{U16, U32, U64};

use super::{CaptureHeader, EventError, Flags, Options, fixed};
use crate::model::flow::texts::FileNumbering;

/// Versions 0 and 1.
#[derive(zerocopy::FromBytes, zerocopy::KnownLayout, zerocopy::Immutable, zerocopy::Unaligned)]
#[repr(C)]
struct V1 {
    header: CaptureHeader,
    source_identity: U32,
    destination_identity: U32,
    destination_endpoint: U32,
    line: U16,
    file: u8,
    extended_error: i8,
    interface: U32,
}

/// Version 2.
#[derive(zerocopy::FromBytes, zerocopy::KnownLayout, zerocopy::Immutable, zerocopy::Unaligned)]
#[repr(C)]
struct V2 {
    v1: V1,
    flags: u8,
    padding: [u8; 3],
}

/// Version 3.
#[derive(zerocopy::FromBytes, zerocopy::KnownLayout, zerocopy::Immutable, zerocopy::Unaligned)]
#[repr(C)]
struct V3 {
    v2: V2,
    ip_trace_id: U64,
}

/// A dropped packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drop<'a> {
    /// Why: `flow.DropReason`.
    pub reason: u8,
    /// Endpoint whose program dropped it; 0: none.
    pub endpoint: u16,
    /// Flow hash of the packet.
    pub hash: u32,
    /// Length of the packet before it was cut, bytes.
    pub original_length: u32,
    /// Security identity of the source; 0: unknown.
    pub source_identity: u32,
    /// Security identity of the destination; 0: unknown.
    pub destination_identity: u32,
    /// Endpoint it was for; ingress only.
    pub destination_endpoint: u32,
    /// Line in the BPF source.
    pub line: u16,
    /// BPF source file, [`crate::model::flow::texts::bpf_file_name`].
    pub file: u8,
    /// How to read `file`.
    pub numbering: FileNumbering,
    /// Result of a FIB lookup, an errno, or 0.
    pub extended_error: i8,
    /// Interface index. Hubble never shows it.
    pub interface: u32,
    /// Version 2 and later.
    pub flags: Flags,
    /// Version 3 and later; 0: none.
    pub ip_trace_id: u64,
    /// Head of the packet.
    pub packet: &'a [u8],
}

/// Reads a `DropNotify`. A version above 3 is read as far as version 3 goes (Hubble refuses it).
///
/// # Errors
/// [`EventError::Short`].
pub fn decode<'a>(data: &'a [u8], options: &Options) -> Result<Drop<'a>, EventError> {
    let v1: &V1 = fixed(data)?;
    let version = v1.header.version;
    let (length, flags, ip_trace_id, numbering) = match version {
        0 | 1 => (size_of::<V1>(), 0, 0, FileNumbering::V1),
        2 => (
            size_of::<V2>(),
            fixed::<V2>(data)?.flags,
            0,
            FileNumbering::V2,
        ),
        _ => {
            let v3: &V3 = fixed(data)?;
            (
                size_of::<V3>(),
                v3.v2.flags,
                v3.ip_trace_id.get(),
                FileNumbering::V3,
            )
        }
    };
    Ok(Drop {
        reason: v1.header.sub_type,
        endpoint: v1.header.source.get(),
        hash: v1.header.hash.get(),
        original_length: v1.header.original_length.get(),
        source_identity: v1.source_identity.get(),
        destination_identity: v1.destination_identity.get(),
        destination_endpoint: v1.destination_endpoint.get(),
        line: v1.line.get(),
        file: v1.file,
        numbering: options.file_numbering().unwrap_or(numbering),
        extended_error: v1.extended_error,
        interface: v1.interface.get(),
        flags: Flags(flags),
        ip_trace_id,
        packet: v1.header.packet(data, length, version <= 3),
    })
}
