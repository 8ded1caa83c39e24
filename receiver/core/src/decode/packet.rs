//! The head of a captured packet: Ethernet or IP at the front, down to layer 4, and through one VXLAN or Geneve tunnel.
//!
//! Follows what Hubble does with a packet (Cilium 1.18 to 1.20), because its flows must come out the same:
//! an unknown protocol ends the walk and keeps what was read; a *known* header that is malformed or cut off makes the whole packet
//! an error. Of several IP headers the innermost wins. Sources: RFC 791, 8200, 9293, 768, 9260, 792, 4443, 3768, 2236, 7348, 8926.
//!
//! Every step consumes at least eight bytes or ends the walk.

#![cfg_attr(
    not(test),
    warn(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation
    )
)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::model::flow::{
    Ethernet, Ip, IpVersion, L4, SctpChunkType, Summary, TcpFlags, Tunnel, TunnelProtocol,
};

/// Which header a captured packet starts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Layer-2 devices.
    Ethernet,
    /// Layer-3 devices, IPv4.
    Ipv4,
    /// Layer-3 devices, IPv6.
    Ipv6,
}

/// A known header is malformed or cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{layer} header is malformed or cut off")]
pub struct PacketError {
    /// Which header.
    pub layer: &'static str,
}

const fn bad<T>(layer: &'static str) -> Result<T, PacketError> {
    Err(PacketError { layer })
}

/// What the headers say.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Packet {
    /// Innermost Ethernet header.
    pub ethernet: Option<Ethernet>,
    /// Innermost IP header.
    pub ip: Option<Ip>,
    /// The last layer-4 header.
    pub l4: Option<L4>,
    /// The outer headers, when there was a tunnel.
    pub tunnel: Option<Tunnel>,
    /// The last header.
    pub summary: Summary,
}

impl Packet {
    /// Source and destination address.
    #[must_use]
    pub fn addresses(&self) -> (Option<IpAddr>, Option<IpAddr>) {
        self.ip
            .map_or((None, None), |ip| (ip.source, ip.destination))
    }

    /// Quirk of Hubble: of a tunnel in a tunnel of the same kind the inner VNI is shown.
    fn nested_tunnel(&mut self, protocol: TunnelProtocol, vni: u32) {
        if let Some(tunnel) = self
            .tunnel
            .as_mut()
            .filter(|tunnel| tunnel.protocol == protocol)
        {
            tunnel.vni = vni;
        }
    }
}

/// Reads the headers of `bytes`. `overlay` says that the payload of the outer UDP header is such a tunnel.
///
/// # Errors
/// When a known header is malformed or cut off.
pub fn decode(
    bytes: &[u8],
    start: Start,
    overlay: Option<TunnelProtocol>,
) -> Result<Packet, PacketError> {
    let mut packet = Packet::default();
    // No packet bytes: no headers, and no error.
    if bytes.is_empty() {
        return Ok(packet);
    }
    let first = match start {
        Start::Ethernet => Next::Ethernet,
        Start::Ipv4 => Next::Ipv4,
        Start::Ipv6 => Next::Ipv6,
    };
    let udp_payload = walk(bytes, first, false, &mut packet)?;
    let (Some(protocol), Some(payload)) = (overlay, udp_payload) else {
        return Ok(packet);
    };
    let (vni, next, payload) = match protocol {
        TunnelProtocol::VXLAN => vxlan(payload)?,
        TunnelProtocol::GENEVE => geneve(payload)?,
        _ => return Ok(packet),
    };
    // From here on the flow speaks of the inner packet only, even if nothing of it can be read.
    packet = Packet {
        tunnel: Some(Tunnel {
            protocol,
            ip: packet.ip,
            l4: packet.l4,
            vni,
        }),
        ..Packet::default()
    };
    if !payload.is_empty() {
        walk(payload, next, true, &mut packet)?;
    }
    Ok(packet)
}

/// Which header comes next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Ethernet,
    Ipv4,
    Ipv6,
    Tcp,
    Udp,
    Sctp,
    Icmpv4,
    Icmpv6,
    Vrrp,
    Igmp,
    Vxlan,
    Geneve,
    Stop,
}

const fn by_ethertype(ethertype: u16) -> Next {
    match ethertype {
        0x0800 => Next::Ipv4,
        0x86dd => Next::Ipv6,
        0x6558 => Next::Ethernet,
        _ => Next::Stop,
    }
}

const fn by_ip_protocol(protocol: u8) -> Next {
    match protocol {
        1 => Next::Icmpv4,
        2 => Next::Igmp,
        4 | 94 => Next::Ipv4,
        6 => Next::Tcp,
        17 => Next::Udp,
        41 => Next::Ipv6,
        58 => Next::Icmpv6,
        112 => Next::Vrrp,
        132 => Next::Sctp,
        _ => Next::Stop,
    }
}

/// Walks headers until the bytes or the known protocols end. Gives the payload of the last UDP header.
fn walk<'a>(
    mut data: &'a [u8],
    mut next: Next,
    inside: bool,
    packet: &mut Packet,
) -> Result<Option<&'a [u8]>, PacketError> {
    let mut udp_payload = None;
    loop {
        (next, data) = match next {
            Next::Ethernet => ethernet(data, packet)?,
            Next::Ipv4 => ipv4(data, packet)?,
            Next::Ipv6 => ipv6(data, packet)?,
            Next::Tcp => {
                tcp(data, packet)?;
                return Ok(udp_payload);
            }
            Next::Udp => {
                let (destination_port, payload) = udp(data, packet)?;
                udp_payload = Some(payload);
                // Hubble's decoder of inner packets knows tunnels by their port; that of outer packets does not.
                match destination_port {
                    4789 if inside => (Next::Vxlan, payload),
                    6081 if inside => (Next::Geneve, payload),
                    _ => return Ok(udp_payload),
                }
            }
            Next::Vxlan => {
                let (vni, next, payload) = vxlan(data)?;
                packet.nested_tunnel(TunnelProtocol::VXLAN, vni);
                (next, payload)
            }
            Next::Geneve => {
                let (vni, next, payload) = geneve(data)?;
                packet.nested_tunnel(TunnelProtocol::GENEVE, vni);
                (next, payload)
            }
            Next::Sctp | Next::Icmpv4 | Next::Icmpv6 | Next::Vrrp | Next::Igmp => {
                packet.l4 = Some(other_layer4(next, data)?);
                packet.summary = Summary::L4;
                return Ok(udp_payload);
            }
            Next::Stop => return Ok(udp_payload),
        };
        if data.is_empty() {
            return Ok(udp_payload);
        }
    }
}

fn ethernet<'a>(data: &'a [u8], packet: &mut Packet) -> Result<(Next, &'a [u8]), PacketError> {
    let Some((header, payload)) = data.split_first_chunk::<14>() else {
        return bad("Ethernet");
    };
    let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, t0, t1] = *header;
    packet.ethernet = Some(Ethernet {
        source: [s0, s1, s2, s3, s4, s5],
        destination: [d0, d1, d2, d3, d4, d5],
    });
    packet.summary = Summary::Ethernet;
    Ok((by_ethertype(u16::from_be_bytes([t0, t1])), payload))
}

fn ipv4<'a>(data: &'a [u8], packet: &mut Packet) -> Result<(Next, &'a [u8]), PacketError> {
    const LAYER: &str = "IPv4";
    let Some(header) = data.first_chunk::<20>() else {
        return bad(LAYER);
    };
    let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let header_length = usize::from(header[0] & 0x0f).wrapping_mul(4);
    // Total length zero: segmentation was left to the device; take what is there.
    let data = match length {
        0 => data,
        length => data.get(..length).unwrap_or(data),
    };
    if header_length < 20 || (length != 0 && length < header_length.max(20)) {
        return bad(LAYER);
    }
    let Some((full_header, payload)) = data.split_at_checked(header_length) else {
        return bad(LAYER);
    };
    if !ipv4_options_are_sound(full_header.get(20..).unwrap_or_default()) {
        return bad(LAYER);
    }
    packet.ip = Some(Ip {
        source: Some(Ipv4Addr::new(header[12], header[13], header[14], header[15]).into()),
        destination: Some(Ipv4Addr::new(header[16], header[17], header[18], header[19]).into()),
        version: IpVersion::IPv4,
        ..Ip::default()
    });
    packet.summary = Summary::Ipv4;
    // More fragments or an offset: even the first fragment ends here.
    let next = if u16::from_be_bytes([header[6], header[7]]) & 0x3fff == 0 {
        by_ip_protocol(header[9])
    } else {
        Next::Stop
    };
    Ok((next, payload))
}

/// RFC 791 3.1. Options of length two are refused, as Hubble does.
fn ipv4_options_are_sound(mut options: &[u8]) -> bool {
    loop {
        options = match options {
            [] | [0, ..] => return true,
            [1, rest @ ..] => rest,
            [_, length, ..] if *length > 2 => match options.get(usize::from(*length)..) {
                Some(rest) => rest,
                None => return false,
            },
            _ => return false,
        };
    }
}

fn ipv6<'a>(data: &'a [u8], packet: &mut Packet) -> Result<(Next, &'a [u8]), PacketError> {
    const LAYER: &str = "IPv6";
    let Some((header, mut payload)) = data.split_first_chunk::<40>() else {
        return bad(LAYER);
    };
    let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let mut protocol = header[6];
    let mut jumbo = false;
    if protocol == 0 {
        // Hop-by-hop options are read as part of the IPv6 header.
        let Some((options_next, options_jumbo, rest)) = hop_by_hop(payload) else {
            return bad(LAYER);
        };
        if options_jumbo == (length != 0) {
            return bad(LAYER);
        }
        protocol = options_next;
        jumbo = options_jumbo;
        // Quirk of Hubble: with a jumbo option the payload keeps the option header at its front.
        if !jumbo {
            payload = rest;
        }
    }
    if length == 0 && !jumbo {
        return bad(LAYER);
    }
    if !jumbo {
        // Quirk of Hubble: the length is not reduced by the options. It can only let trailing bytes in.
        payload = payload.get(..length).unwrap_or(payload);
    }
    let address = |bytes: Option<&[u8; 16]>| bytes.map(|bytes| IpAddr::V6(Ipv6Addr::from(*bytes)));
    packet.ip = Some(Ip {
        source: address(header.get(8..).and_then(<[u8]>::first_chunk)),
        destination: address(header.last_chunk()),
        version: IpVersion::IPv6,
        ..Ip::default()
    });
    packet.summary = Summary::Ipv6;
    Ok((by_ip_protocol(protocol), payload))
}

/// RFC 8200 4.3: next header, whether there is a jumbo payload option (RFC 2675) above 65,535, and what follows.
fn hop_by_hop(data: &[u8]) -> Option<(u8, bool, &[u8])> {
    let [next, units, ..] = *data else {
        return None;
    };
    let length = usize::from(units).checked_add(1)?.checked_mul(8)?;
    let (header, rest) = data.split_at_checked(length)?;
    let mut options = header.get(2..)?;
    let mut jumbo = None;
    // As Hubble: one byte of padding alone at the end is an error too, it needs two bytes to look at an option.
    loop {
        options = match *options {
            [] => break,
            [0, _, ..] => options.get(1..)?,
            [kind, length, ..] => {
                let (option, rest) = options.get(2..)?.split_at_checked(usize::from(length))?;
                if kind == 0xc2 && jumbo.is_none() {
                    jumbo = Some(u32::from_be_bytes(
                        *option.first_chunk::<4>().filter(|_| length == 4)?,
                    ));
                }
                rest
            }
            // The last byte may be looked at beyond the header, as Hubble does.
            [0] if !rest.is_empty() => break,
            [_] => return None,
        };
    }
    match jumbo {
        None => Some((next, false, rest)),
        Some(length) if length > 65_535 => Some((next, true, rest)),
        Some(_) => None,
    }
}

fn tcp(data: &[u8], packet: &mut Packet) -> Result<(), PacketError> {
    const LAYER: &str = "TCP";
    let Some(header) = data.first_chunk::<20>() else {
        return bad(LAYER);
    };
    let header_length = usize::from(header[12] >> 4).wrapping_mul(4);
    if header_length != 20 {
        let options = data.get(20..header_length);
        if !options.is_some_and(tcp_options_are_sound) {
            return bad(LAYER);
        }
    }
    packet.l4 = Some(L4::Tcp {
        source_port: u16::from_be_bytes([header[0], header[1]]),
        destination_port: u16::from_be_bytes([header[2], header[3]]),
        flags: Some(TcpFlags(u16::from_be_bytes([header[12] & 1, header[13]]))),
    });
    packet.summary = Summary::L4;
    Ok(())
}

/// RFC 9293 3.2.
fn tcp_options_are_sound(mut options: &[u8]) -> bool {
    loop {
        options = match options {
            [] | [0, ..] => return true,
            [1, rest @ ..] => rest,
            [_, length, ..] if *length >= 2 => match options.get(usize::from(*length)..) {
                Some(rest) => rest,
                None => return false,
            },
            _ => return false,
        };
    }
}

/// Gives the destination port and the payload.
fn udp<'a>(data: &'a [u8], packet: &mut Packet) -> Result<(u16, &'a [u8]), PacketError> {
    let Some((header, payload)) = data.split_first_chunk::<8>() else {
        return bad("UDP");
    };
    let payload = match u16::from_be_bytes([header[4], header[5]]) {
        // RFC 2675: jumbogram.
        0 => payload,
        length => match usize::from(length).checked_sub(8) {
            Some(length) => payload.get(..length).unwrap_or(payload),
            None => return bad("UDP"),
        },
    };
    let destination_port = u16::from_be_bytes([header[2], header[3]]);
    packet.l4 = Some(L4::Udp {
        source_port: u16::from_be_bytes([header[0], header[1]]),
        destination_port,
    });
    packet.summary = Summary::L4;
    Ok((destination_port, payload))
}

fn other_layer4(next: Next, data: &[u8]) -> Result<L4, PacketError> {
    match (next, data) {
        (Next::Sctp, [s0, s1, d0, d1, _, _, _, _, _, _, _, _, chunks @ ..]) => Ok(L4::Sctp {
            source_port: u16::from_be_bytes([*s0, *s1]),
            destination_port: u16::from_be_bytes([*d0, *d1]),
            chunk_type: sctp_chunk_type(chunks.first().copied()),
        }),
        (Next::Icmpv4, [kind, code, _, _, _, _, _, _, ..]) => Ok(L4::Icmpv4 {
            kind: *kind,
            code: *code,
        }),
        (Next::Icmpv6, [kind, code, _, _, ..]) => Ok(L4::Icmpv6 {
            kind: *kind,
            code: *code,
        }),
        // RFC 3768: an unknown type must be discarded, and at least one address must follow the eight bytes.
        (
            Next::Vrrp,
            [
                version_type,
                vrid,
                priority,
                count,
                _,
                _,
                _,
                _,
                addresses @ ..,
            ],
        ) if *version_type & 0x0f == 1
            && *count > 0
            && addresses.len() >= usize::from(*count).wrapping_mul(4) =>
        {
            Ok(L4::Vrrp {
                kind: 1,
                vrid: *vrid,
                priority: *priority,
            })
        }
        (Next::Igmp, [kind, _, _, _, a, b, c, d, ..]) => Ok(L4::Igmp {
            kind: *kind,
            group_address: Ipv4Addr::new(*a, *b, *c, *d),
        }),
        (Next::Sctp, _) => bad("SCTP"),
        (Next::Icmpv4, _) => bad("ICMPv4"),
        (Next::Icmpv6, _) => bad("ICMPv6"),
        (Next::Vrrp, _) => bad("VRRP"),
        _ => bad("IGMP"),
    }
}

const fn sctp_chunk_type(number: Option<u8>) -> SctpChunkType {
    match number {
        Some(1) => SctpChunkType::INIT,
        Some(2) => SctpChunkType::INIT_ACK,
        Some(6) => SctpChunkType::ABORT,
        Some(7) => SctpChunkType::SHUTDOWN,
        Some(8) => SctpChunkType::SHUTDOWN_ACK,
        Some(14) => SctpChunkType::SHUTDOWN_COMPLETE,
        _ => SctpChunkType::UNSUPPORTED,
    }
}

/// RFC 7348: VNI, what comes next, payload.
fn vxlan(data: &[u8]) -> Result<(u32, Next, &[u8]), PacketError> {
    let Some((header, payload)) = data.split_first_chunk::<8>() else {
        return bad("VXLAN");
    };
    let vni = u32::from_be_bytes([0, header[4], header[5], header[6]]);
    Ok((vni, Next::Ethernet, payload))
}

/// RFC 8926: VNI, what comes next, payload.
fn geneve(data: &[u8]) -> Result<(u32, Next, &[u8]), PacketError> {
    const LAYER: &str = "Geneve";
    let Some((header, after)) = data.split_first_chunk::<8>() else {
        return bad(LAYER);
    };
    let mut left = usize::from(header[0] & 0x3f).wrapping_mul(4);
    let mut rest = after;
    while left > 0 {
        let [_, _, _, units, ..] = *rest else {
            return bad(LAYER);
        };
        let length = usize::from(units & 0x1f).wrapping_add(1).wrapping_mul(4);
        let Some(next) = rest.get(length..) else {
            return bad(LAYER);
        };
        // An option may reach beyond the announced length; the payload then starts behind it.
        left = left.saturating_sub(length);
        rest = next;
    }
    let vni = u32::from_be_bytes([0, header[4], header[5], header[6]]);
    Ok((
        vni,
        by_ethertype(u16::from_be_bytes([header[2], header[3]])),
        rest,
    ))
}

#[cfg(test)]
#[path = "packet_tests.rs"]
mod tests;
