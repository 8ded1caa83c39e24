//! Type 4, `TraceNotify`: a packet passed an observation point.
//!
//! Version 0 has 32 bytes, 1 (agents up to 1.18) has 48, 2 (1.19 and later) has 56.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use zerocopy::little_endian::{U16, U32, U64};

use super::{CaptureHeader, EventError, Flags, fixed};

/// Version 0.
#[derive(zerocopy::FromBytes, zerocopy::KnownLayout, zerocopy::Immutable, zerocopy::Unaligned)]
#[repr(C)]
struct V0 {
    header: CaptureHeader,
    source_identity: U32,
    destination_identity: U32,
    destination_endpoint: U16,
    reason: u8,
    flags: u8,
    interface: U32,
}

/// Version 1.
#[derive(zerocopy::FromBytes, zerocopy::KnownLayout, zerocopy::Immutable, zerocopy::Unaligned)]
#[repr(C)]
struct V1 {
    v0: V0,
    original_address: [u8; 16],
}

/// Version 2.
#[derive(zerocopy::FromBytes, zerocopy::KnownLayout, zerocopy::Immutable, zerocopy::Unaligned)]
#[repr(C)]
struct V2 {
    v1: V1,
    ip_trace_id: U64,
}

/// The bit of the reason byte that says: the packet was encrypted.
const ENCRYPTED: u8 = 0x80;

/// Why the datapath let the packet go on, by its own numbers (`enum trace_reason`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reason(pub u8);

impl Reason {
    /// The connection's other direction.
    pub const REPLY: Self = Self(2);
    /// Not known.
    pub const UNKNOWN: Self = Self(5);
    /// Encapsulated for segment routing.
    pub const SRV6_ENCAP: Self = Self(6);
    /// Decapsulated from segment routing.
    pub const SRV6_DECAP: Self = Self(7);
    /// Overlay packet on its way to encryption (1.16 to 1.18).
    pub const ENCRYPT_OVERLAY: Self = Self(8);
}

/// A packet at an observation point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace<'a> {
    /// The datapath's number, 0 is to-endpoint; [`crate::model::flow::texts::observation_point_name`].
    pub observation_point: u8,
    /// Endpoint whose program saw it; 0: none.
    pub endpoint: u16,
    /// Flow hash of the packet.
    pub hash: u32,
    /// Length of the packet before it was cut, bytes.
    pub original_length: u32,
    /// Security identity of the source; 0: unknown.
    pub source_identity: u32,
    /// Security identity of the destination; 0: unknown.
    pub destination_identity: u32,
    /// Destination endpoint, or the proxy port (host order) at to-proxy.
    pub destination_endpoint: u16,
    /// Without the encryption bit.
    pub reason: Reason,
    /// The packet was encrypted.
    pub encrypted: bool,
    /// Interface index; 0: none.
    pub interface: u32,
    /// Bit 0 since 1.14, the others since 1.18.
    pub flags: Flags,
    /// Source address before translation.
    pub original_address: Option<IpAddr>,
    /// Version 2 and later; 0: none.
    pub ip_trace_id: u64,
    /// Version of the structure.
    pub version: u8,
    /// Head of the packet.
    pub packet: &'a [u8],
}

/// Reads a `TraceNotify`. A version above 2 is read as far as version 2 goes (Hubble refuses it).
///
/// # Errors
/// [`EventError::Short`].
pub fn decode(data: &[u8]) -> Result<Trace<'_>, EventError> {
    let v0: &V0 = fixed(data)?;
    let version = v0.header.version;
    let flags = Flags(v0.flags);
    let (length, original_address, ip_trace_id) = match version {
        0 => (size_of::<V0>(), None, 0),
        1 => {
            let v1: &V1 = fixed(data)?;
            (
                size_of::<V1>(),
                original_address(v1.original_address, flags),
                0,
            )
        }
        _ => {
            let v2: &V2 = fixed(data)?;
            let address = original_address(v2.v1.original_address, flags);
            (size_of::<V2>(), address, v2.ip_trace_id.get())
        }
    };
    Ok(Trace {
        observation_point: v0.header.sub_type,
        endpoint: v0.header.source.get(),
        hash: v0.header.hash.get(),
        original_length: v0.header.original_length.get(),
        source_identity: v0.source_identity.get(),
        destination_identity: v0.destination_identity.get(),
        destination_endpoint: v0.destination_endpoint.get(),
        reason: Reason(v0.reason & !ENCRYPTED),
        encrypted: v0.reason & ENCRYPTED != 0,
        interface: v0.interface.get(),
        flags,
        original_address,
        ip_trace_id,
        version,
        packet: v0.header.packet(data, length, version <= 2),
    })
}

/// IPv4 stands in the first four bytes. All zeros: there is none.
fn original_address(bytes: [u8; 16], flags: Flags) -> Option<IpAddr> {
    let address = if flags.ipv6() {
        IpAddr::V6(Ipv6Addr::from(bytes))
    } else {
        let [a, b, c, d, ..] = bytes;
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    };
    Some(address).filter(|address| !address.to_canonical().is_unspecified())
}
