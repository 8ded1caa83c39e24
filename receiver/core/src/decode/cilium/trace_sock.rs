//! Type 7, `TraceSockNotify`: a socket's destination was translated by a service.
//!
//! 38 packed bytes up to 1.18, 40 re-ordered bytes since 1.19; no version, and both are padded to 44 bytes by the perf ring.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use zerocopy::little_endian::{U16, U64};

use super::{EventError, Options, fixed};

/// Agents up to 1.18.
#[derive(zerocopy::FromBytes, zerocopy::KnownLayout, zerocopy::Immutable, zerocopy::Unaligned)]
#[repr(C)]
struct Until118 {
    kind: u8,
    xlate_point: u8,
    address: [u8; 16],
    port: U16,
    cookie: U64,
    cgroup_id: U64,
    protocol: u8,
    flags: u8,
}

/// Agents since 1.19.
#[derive(zerocopy::FromBytes, zerocopy::KnownLayout, zerocopy::Immutable, zerocopy::Unaligned)]
#[repr(C)]
struct Since119 {
    kind: u8,
    xlate_point: u8,
    protocol: u8,
    flags: u8,
    port: U16,
    padding: [u8; 2],
    cookie: U64,
    cgroup_id: U64,
    address: [u8; 16],
}

/// A translated socket call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceSock {
    /// `flow.SocketTranslationPoint`.
    pub xlate_point: u8,
    /// 0 unknown, 1 TCP, 2 UDP.
    pub protocol: u8,
    /// IPv6 socket.
    pub ipv6: bool,
    /// The other end's address.
    pub address: IpAddr,
    /// The other end's port, host order.
    pub port: u16,
    /// Socket cookie.
    pub cookie: u64,
    /// Inode of the cgroup that called.
    pub cgroup_id: u64,
}

/// Reads a `TraceSockNotify`.
///
/// # Errors
/// [`EventError::Short`].
pub fn decode(data: &[u8], options: &Options) -> Result<TraceSock, EventError> {
    let old: &Until118 = fixed(data)?;
    let new = Since119::read(data);
    let since_1_19 = match (options.since_1_19(), new) {
        (Some(known), _) => known,
        // Without the padding of the perf ring the length tells.
        (None, None) => false,
        (None, Some(_)) if data.len() == size_of::<Since119>() => true,
        (None, Some(new)) => new.is_plausible() && !old.is_plausible_against(data),
    };
    Ok(if since_1_19 {
        let new: &Since119 = fixed(data)?;
        TraceSock {
            xlate_point: new.xlate_point,
            protocol: new.protocol,
            ipv6: new.flags & 1 != 0,
            address: address(new.address, new.flags),
            port: new.port.get(),
            cookie: new.cookie.get(),
            cgroup_id: new.cgroup_id.get(),
        }
    } else {
        TraceSock {
            xlate_point: old.xlate_point,
            protocol: old.protocol,
            ipv6: old.flags & 1 != 0,
            address: address(old.address, old.flags),
            port: old.port.get(),
            cookie: old.cookie.get(),
            cgroup_id: old.cgroup_id.get(),
        }
    })
}

impl Since119 {
    fn read(data: &[u8]) -> Option<&Self> {
        fixed(data).ok()
    }

    /// In the old layout these bytes are bytes 0, 1, 4 and 5 of the address: an IPv4 destination such as 1.1.1.1 looks the same.
    fn is_plausible(&self) -> bool {
        self.protocol <= 2 && self.flags <= 1 && self.padding == [0, 0]
    }
}

impl Until118 {
    /// Asked only when the new layout is plausible too. In the new layout bytes 18 to 35 are the end of the cgroup id, whose high half is
    /// zero in practice, and the first twelve address bytes; 36 and 37 are zero for IPv4.
    fn is_plausible_against(&self, data: &[u8]) -> bool {
        let ipv4 = self.flags & 1 == 0;
        let [_, _, _, _, rest @ ..] = self.address;
        let high = |id: U64| id.get() >> 32;
        data.len() >= size_of::<Self>()
            && (1..=2).contains(&self.protocol)
            && self.flags <= 1
            && (!ipv4 || rest == [0; 12])
            && self.port.get() != 0
            && high(self.cgroup_id) == 0
    }
}

/// IPv4 stands in the first four bytes.
fn address(bytes: [u8; 16], flags: u8) -> IpAddr {
    if flags & 1 != 0 {
        IpAddr::V6(Ipv6Addr::from(bytes))
    } else {
        let [a, b, c, d, ..] = bytes;
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    }
}
