//! The other end of a call: by its message, by the socket, or kept by a cgroup hook until the call ends.

use aya_ebpf::{
    btf_maps::SkStorage,
    helpers::{bpf_get_current_pid_tgid, generated},
    macros::{btf_map, map},
    maps::LruHashMap,
    programs::SockAddrContext,
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{AF_INET, AF_INET6};
use crate::{
    access::{self, Ptr, offset},
    shared::{Shared, field},
};

/// The last eight bytes of `::ffff:0.0.0.0`, memory order.
pub(super) const V4_UNSPECIFIED: u64 = 0xffff_0000;

/// A hook on sending left it.
pub(super) const SENT: u64 = 1;
/// A hook on receiving left it.
pub(super) const RECEIVED: u64 = 2;

/// The peer that a cgroup hook saw, until the call that it belongs to ends: one place in each socket …
#[btf_map]
static SLOTS: SkStorage<Slot> = SkStorage::new();

/// … and these for threads that find it taken by another.
#[map]
static PENDING: LruHashMap<PendingKey, Kept> = LruHashMap::with_max_entries(1024, 0);

/// The place in a socket.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Slot {
    /// The thread (thread and process id) whose call it belongs to; zero: free.
    thread: u64,
    kept: Kept,
    /// How many other threads had to take [`PENDING`].
    others: u64,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Kept {
    peer: Peer,
    /// [`SENT`] or [`RECEIVED`].
    by: u64,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct PendingKey {
    thread: u64,
    socket: u64,
}

/// An address and port, in words so that they compare fast.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Peer {
    /// The address in memory order, v4-mapped for IPv4.
    pub address: [u64; 2],
    /// Host byte order.
    pub port: u64,
}

/// The head of a `sockaddr_in` or `sockaddr_in6`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct SocketAddress {
    family: u16,
    port_be: u16,
    /// IPv4 address, or IPv6 flow label.
    v4: [u8; 4],
    v6: [u64; 2],
}

impl Peer {
    /// Unknown.
    pub const UNKNOWN: Self = Self {
        address: [0; 2],
        port: 0,
    };

    #[inline(always)]
    pub fn v4(address: u32, port_be: u16) -> Self {
        // Memory order: ten zero bytes, ff ff, the address.
        let low = (u64::from(address) << 32) | V4_UNSPECIFIED;
        Self {
            address: [0, low],
            port: u64::from(u16::from_be(port_be)),
        }
    }

    #[inline(always)]
    pub fn v6(address: [u64; 2], port_be: u16) -> Self {
        Self {
            address,
            port: u64::from(u16::from_be(port_be)),
        }
    }

    #[inline(always)]
    pub fn from_socket_address(from: &SocketAddress) -> Self {
        match from.family {
            AF_INET => Self::v4(u32::from_ne_bytes(from.v4), from.port_be),
            AF_INET6 => Self::v6(from.v6, from.port_be),
            _ => Self::UNKNOWN,
        }
    }

    /// Whom the socket is connected to; port zero: no peer.
    #[inline(always)]
    pub fn connected(sk: Ptr) -> Self {
        let port_be: u16 = sk.load(offset!(sock_dport));
        if port_be == 0 {
            Self::UNKNOWN
        } else if sk.load::<u16>(offset!(sock_family)) == AF_INET {
            Self::v4(sk.load(offset!(sock_daddr)), port_be)
        } else {
            Self::v6(sk.load(offset!(sock_v6_daddr)), port_be)
        }
    }

    /// The address that a `struct msghdr` of the kernel names.
    #[inline(always)]
    pub fn of_message(message: Ptr) -> Self {
        let address: SocketAddress = message.follow(offset!(msghdr_name)).read(0);
        Self::from_socket_address(&address)
    }

    #[inline(always)]
    pub fn is_v4(&self) -> bool {
        self.address[0] == 0 && u64::from(self.address[1] as u32) == V4_UNSPECIFIED
    }

    /// A number that is this peer's alone for IPv4, and very likely for IPv6; [`netflume_ebpf::UdpFlow`] has the peer in full.
    #[inline(always)]
    pub fn fold(self) -> u64 {
        self.address[0].wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ self.address[1] ^ self.port
    }
}

/// The address of a cgroup hook's message; IPv4.
#[inline(always)]
pub(super) fn of_hook4(ctx: &SockAddrContext) -> Peer {
    let (address, port_be) = access::hook_address4(ctx);
    Peer::v4(address, port_be)
}

/// The address of a cgroup hook's message; IPv6.
#[inline(always)]
pub(super) fn of_hook6(ctx: &SockAddrContext) -> Peer {
    let ([a, b, c, d], port_be) = access::hook_address6(ctx);
    let word = |low: u32, high: u32| u64::from(low) | (u64::from(high) << 32);
    Peer::v6([word(a, b), word(c, d)], port_be)
}

/// Keeps the peer for the end of the running thread's call.
#[inline(always)]
pub(super) fn keep(ctx: &SockAddrContext, by: u64, peer: &Peer) {
    let thread = bpf_get_current_pid_tgid();
    let kept = Kept { peer: *peer, by };
    // SAFETY: the verifier knows the socket of the context.
    let slot = unsafe { SLOTS.get_or_insert_ptr_mut(ctx, None) };
    if slot.is_null() {
        return;
    }
    // SAFETY: a map value, which lives as long as the socket.
    let slot = unsafe { Shared::new(slot) };
    let holder = field!(slot.thread);
    if holder.get() == thread || holder.claim(thread) {
        field!(slot.kept).store(&kept);
        return;
    }
    let key = PendingKey {
        thread,
        socket: access::hook_socket(ctx).address(),
    };
    field!(slot.others).add(1);
    let _ = PENDING.insert(key, kept, 0);
}

/// Takes what a hook of the running thread's call on this socket kept, if one did. Every end of a call must take.
#[inline(always)]
pub(super) fn take(sk: Ptr, by: u64, peer: &mut Peer) {
    if offset!(sock_storage) != super::ABSENT && sk.load::<u64>(offset!(sock_storage)) == 0 {
        return;
    }
    // SAFETY: `sk` is the tracepoint's own argument, a socket to the verifier; null comes back where it has no slot.
    let slot = unsafe {
        generated::bpf_sk_storage_get(
            (&raw const SLOTS).cast_mut().cast(),
            sk.as_argument(),
            core::ptr::null_mut(),
            0,
        )
        .cast::<Slot>()
    };
    if slot.is_null() {
        return;
    }
    // SAFETY: a map value, which lives as long as the socket.
    let slot = unsafe { Shared::new(slot) };
    let thread = bpf_get_current_pid_tgid();
    if field!(slot.thread).get() == thread {
        let kept = field!(slot.kept).load();
        // Not before the words were read.
        field!(slot.thread).release();
        if kept.by == by {
            *peer = kept.peer;
        }
    } else if field!(slot.others).get() != 0 {
        let key = PendingKey {
            thread,
            socket: sk.address(),
        };
        if let Some(kept) = PENDING.get_ptr_mut(key) {
            // SAFETY: a map value.
            let kept = unsafe { Shared::new(kept) }.load();
            if kept.by == by {
                *peer = kept.peer;
            }
            let _ = PENDING.remove(key);
            field!(slot.others).add(u64::MAX);
        }
    }
}
