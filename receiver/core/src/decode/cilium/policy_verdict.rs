//! Type 5, `PolicyVerdictNotify`: policy judged the first packet of a connection.
//!
//! 32 bytes up to 1.18, 40 since 1.19, and **version 1 in both**: only the lengths tell.

use zerocopy::little_endian::{I32, U16, U32};

use super::{CaptureHeader, EventError, Options, fixed, start};
use crate::decode::packet::Start;
use crate::model::flow::TrafficDirection;

/// Agents up to 1.18.
#[derive(zerocopy::FromBytes, zerocopy::KnownLayout, zerocopy::Immutable, zerocopy::Unaligned)]
#[repr(C)]
struct Until118 {
    header: CaptureHeader,
    remote_identity: U32,
    verdict: I32,
    destination_port: U16,
    protocol: u8,
    flags: u8,
    auth_type: u8,
    padding: [u8; 3],
}

/// Agents since 1.19.
#[derive(zerocopy::FromBytes, zerocopy::KnownLayout, zerocopy::Immutable, zerocopy::Unaligned)]
#[repr(C)]
struct Since119 {
    front: Until118,
    cookie: U32,
    padding: U32,
}

/// A verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyVerdict<'a> {
    /// Always 0.
    pub sub_type: u8,
    /// The local endpoint.
    pub endpoint: u16,
    /// Flow hash of the packet.
    pub hash: u32,
    /// Length of the packet before it was cut, bytes.
    pub original_length: u32,
    /// Security identity of the other end: source for ingress, destination for egress.
    pub remote_identity: u32,
    /// Below 0: dropped, minus the reason; 0: allowed; above: redirected to this proxy port.
    pub verdict: i32,
    /// Host order.
    pub destination_port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// Ingress or, for anything else, egress.
    pub direction: TrafficDirection,
    /// Which kind of rule matched, [`crate::model::flow::texts::policy_match_name`].
    pub match_type: u8,
    /// Allowed because of audit mode only.
    pub audited: bool,
    /// Where the packet starts; layer-3 devices since 1.18.
    pub start: Start,
    /// `flow.AuthType`.
    pub auth_type: u8,
    /// Token of the rule, since 1.19; 0: none.
    pub cookie: u32,
    /// Head of the packet.
    pub packet: &'a [u8],
}

/// Reads a `PolicyVerdictNotify`.
///
/// # Errors
/// [`EventError::Short`].
pub fn decode<'a>(data: &'a [u8], options: &Options) -> Result<PolicyVerdict<'a>, EventError> {
    let front: &Until118 = fixed(data)?;
    // What is not packet is header and at most seven bytes of padding: 32..=39 or 40..=47.
    let captured = usize::from(front.header.captured_length.get());
    let since_1_19 = options
        .since_1_19()
        .unwrap_or_else(|| data.len().saturating_sub(captured) >= size_of::<Since119>());
    let (length, cookie) = if since_1_19 {
        (size_of::<Since119>(), fixed::<Since119>(data)?.cookie.get())
    } else {
        (size_of::<Until118>(), 0)
    };
    let flags = front.flags;
    Ok(PolicyVerdict {
        sub_type: front.header.sub_type,
        endpoint: front.header.source.get(),
        hash: front.header.hash.get(),
        original_length: front.header.original_length.get(),
        remote_identity: front.remote_identity.get(),
        verdict: front.verdict.get(),
        destination_port: front.destination_port.get(),
        protocol: front.protocol,
        direction: match flags & 0x03 {
            1 => TrafficDirection::INGRESS,
            _ => TrafficDirection::EGRESS,
        },
        match_type: flags >> 3 & 0x07,
        audited: flags & 0x40 != 0,
        start: start(flags & 0x80 != 0, flags & 0x04 != 0),
        auth_type: front.auth_type,
        cookie,
        packet: front.header.packet(data, length, true),
    })
}
