//! How many datagrams a call moved: a send may leave one unfinished (`MSG_MORE`, `UDP_CORK`), a send or receive may move a batch
//! (`UDP_SEGMENT`, `UDP_GRO`).

use aya_ebpf::{macros::map, maps::LruHashMap};
use netflume_ebpf::ABSENT;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{
    UDP_OVERFLOW,
    peer::{Peer, SocketAddress},
};
use crate::{
    access::{self, Ptr, offset, setting},
    shared::{Shared, field},
};

const AF_INET: u32 = 2;
const SOL_UDP: u32 = 17;
const UDP_SEGMENT: u32 = 103;
const UDP_GRO: u32 = 104;
const MSG_PROBE: u32 = 0x10;
const MSG_CONFIRM: u32 = 0x800;
/// Control messages of one call that are looked through.
const CONTROLS_MAX: u32 = 8;
/// What moves no more bytes than this is no batch: batches spare the cost of single packets, so they are larger than one. To look
/// for one costs more than all else that is done for a small datagram.
const BATCH_MIN_BYTES: u64 = 128;
/// Bit of `udp_sock::udp_flags` (6.7 and later): `UDP_CORK` is on.
const UDP_FLAGS_CORK: u64 = 1;
const UDP_HEADER_BYTES: u64 = 8;

/// Sockets with an unfinished datagram.
#[map]
static CORKED: LruHashMap<u64, Cork> = LruHashMap::with_max_entries(256, 0);

/// An unfinished datagram.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Cork {
    peer: Peer,
    inode: u32,
    /// One: it is finished by switching `UDP_CORK` off. Zero: by a call without `MSG_MORE`.
    by_option: u32,
}

/// How the bytes of a message are divided.
#[derive(Clone, Copy)]
pub(super) struct Batch {
    /// Bytes of one datagram; zero: unknown from the message.
    segment: u64,
}

/// A `struct msghdr` of user space (`struct user_msghdr`, include/linux/socket.h).
#[derive(Clone, Copy, FromBytes, Immutable)]
#[repr(C)]
struct UserMessage {
    name: u64,
    name_length: u64,
    parts: u64,
    part_count: u64,
    control: u64,
    control_length: u64,
}

/// A `struct cmsghdr` and the first word of its data.
#[derive(Clone, Copy, FromBytes, Immutable)]
#[repr(C)]
struct Control {
    length: u64,
    level: u32,
    kind: u32,
    data: u64,
}

impl Batch {
    pub(super) const UNKNOWN: Self = Self { segment: 0 };

    /// By the control messages of a `struct msghdr` of the kernel.
    #[inline(always)]
    pub(super) fn of_message(message: Ptr) -> Self {
        let length: u64 = message.load(offset!(msghdr_controllen));
        if length == 0 || offset!(msghdr_control) == ABSENT {
            return Self::UNKNOWN;
        }
        let control = Ptr::new(message.load(offset!(msghdr_control)));
        Self::find(length, UDP_SEGMENT, |at| control.plus(at).read(0))
    }

    /// By the control messages of the running system call.
    #[inline(always)]
    fn of_user(message: &UserMessage, kind: u32) -> Self {
        if message.control_length == 0 {
            return Self::UNKNOWN;
        }
        let control = message.control;
        Self::find(message.control_length, kind, |at| {
            access::read_user(control.wrapping_add(at))
        })
    }

    #[inline(always)]
    fn find(length: u64, kind: u32, read: impl Fn(u64) -> Control) -> Self {
        let mut at = 0;
        for _ in 0..CONTROLS_MAX {
            let control = read(at);
            if control.level == SOL_UDP && control.kind == kind {
                return Self {
                    segment: u64::from(control.data as u16),
                };
            }
            // Each begins at a multiple of eight; one without a head has no length.
            at = at.wrapping_add(control.length.wrapping_add(7) & !7);
            if control.length < 16 || at >= length {
                break;
            }
        }
        Self::UNKNOWN
    }

    #[inline(always)]
    fn datagrams(self, bytes: u64) -> u64 {
        if self.segment == 0 || bytes <= self.segment {
            1
        } else {
            bytes.wrapping_add(self.segment - 1) / self.segment
        }
    }
}

/// The call only confirmed that the neighbour is there (`udp_sendmsg`, net/ipv4/udp.c): with no bytes, no datagram left.
#[inline(always)]
pub(super) fn is_probe(flags: u32) -> bool {
    flags & (MSG_PROBE | MSG_CONFIRM) == MSG_PROBE | MSG_CONFIRM
}

/// What the running system call has about its message: the destination, how it is divided, the call's flags.
#[inline(always)]
pub(super) fn told_by_call(peer: &mut Peer, batch: &mut Batch, flags: &mut u32) {
    if offset!(regs_call) == ABSENT {
        return;
    }
    let regs = access::current_registers();
    let call: u64 = regs.load(offset!(regs_call));
    let name = if call == setting!(call_sendto) {
        *flags = regs.load::<u64>(offset!(regs_argument4)) as u32;
        regs.load::<u64>(offset!(regs_argument5))
    } else if call == setting!(call_sendmsg) {
        *flags = regs.load::<u64>(offset!(regs_argument3)) as u32;
        let message: UserMessage = access::read_user(regs.load(offset!(regs_argument2)));
        *batch = Batch::of_user(&message, UDP_SEGMENT);
        message.name
    } else {
        return;
    };
    if name != 0 {
        let address: SocketAddress = access::read_user(name);
        *peer = Peer::from_socket_address(&address);
    }
}

/// How many datagrams a send call that took `bytes` began; corrects the peer of one that belongs to an unfinished datagram.
#[inline(always)]
pub(super) fn sent(sk: Ptr, bytes: u64, batch: Batch, peer: &mut Peer) -> u64 {
    if sk.load::<u32>(offset!(sock_write_queue_length)) != 0 {
        return cork(sk, bytes, peer);
    }
    if finished(sk, peer) {
        return 0;
    }
    let mut batch = batch;
    if batch.segment == 0 && bytes > BATCH_MIN_BYTES && offset!(udp_gso_size) != ABSENT {
        batch.segment = u64::from(sk.read::<u16>(offset!(udp_gso_size)));
    }
    batch.datagrams(bytes)
}

/// The datagram is unfinished after the call. It counts with the call that began it: switching `UDP_CORK` off finishes it without
/// any call that is seen.
#[inline(always)]
fn cork(sk: Ptr, bytes: u64, peer: &mut Peer) -> u64 {
    // Only the first call's destination counts; the socket keeps it.
    if offset!(udp_pending) != ABSENT && offset!(cork_daddr) != ABSENT {
        let v4 = sk.read::<u32>(offset!(udp_pending)) == AF_INET;
        *peer = if v4 {
            Peer::v4(sk.read(offset!(cork_daddr)), sk.read(offset!(cork_dport)))
        } else {
            Peer::v6(
                sk.read(offset!(cork_v6_daddr)),
                sk.read(offset!(cork_v6_dport)),
            )
        };
    }
    let by_option = if offset!(udp_corkflag) != ABSENT {
        sk.read::<u32>(offset!(udp_corkflag)) != 0
    } else {
        offset!(udp_flags) != ABSENT && sk.read::<u64>(offset!(udp_flags)) & UDP_FLAGS_CORK != 0
    };
    let cork = Cork {
        peer: *peer,
        inode: super::inode(sk),
        by_option: u32::from(by_option),
    };
    let _ = CORKED.insert(sk.address(), cork, 0);
    if let Some(totals) = UDP_OVERFLOW.get_ptr_mut(0) {
        // SAFETY: a map value.
        let totals = unsafe { Shared::new(totals) };
        field!(totals.corked).set(1);
    }
    // `udp_sock::len` counts the header and all bytes so far.
    let all: u16 = sk.read(offset!(udp_len));
    u64::from(u64::from(all) == bytes + UDP_HEADER_BYTES)
}

/// The call finished a datagram that an earlier one began; `peer` becomes that one's.
#[inline(always)]
fn finished(sk: Ptr, peer: &mut Peer) -> bool {
    let Some(totals) = UDP_OVERFLOW.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: a map value.
    let totals = unsafe { Shared::new(totals) };
    if field!(totals.corked).get() == 0 {
        // No socket ever had one: most hosts.
        return false;
    }
    let Some(cork) = CORKED.get_ptr_mut(sk.address()) else {
        return false;
    };
    // SAFETY: a map value.
    let cork = unsafe { Shared::new(cork) }.load();
    let _ = CORKED.remove(sk.address());
    if cork.inode != super::inode(sk) || cork.by_option != 0 {
        return false;
    }
    *peer = cork.peer;
    true
}

/// How many datagrams a packet of the receive queue is made of.
#[inline(always)]
pub(super) fn in_packet(skb: Ptr, head: Ptr, bytes: u64) -> u64 {
    if bytes <= BATCH_MIN_BYTES || offset!(skb_end) == ABSENT || offset!(skb_gso_size) == ABSENT {
        return 1;
    }
    let shared = head.plus(skb.read::<u32>(offset!(skb_end)));
    // `gso_size` and `gso_segs` of struct skb_shared_info.
    let [size, count]: [u16; 2] = shared.read(offset!(skb_gso_size));
    if size == 0 {
        1
    } else if count != 0 {
        u64::from(count)
    } else {
        Batch {
            segment: u64::from(size),
        }
        .datagrams(bytes)
    }
}

/// How many datagrams the running receive call gave: the kernel has returned to user space how they are divided.
#[inline(always)]
pub(super) fn received_by_call(bytes: u64) -> u64 {
    if bytes <= BATCH_MIN_BYTES || offset!(regs_call) == ABSENT {
        return 1;
    }
    let regs = access::current_registers();
    if regs.load::<u64>(offset!(regs_call)) != setting!(call_recvmsg) {
        return 1;
    }
    let message: UserMessage = access::read_user(regs.load(offset!(regs_argument2)));
    Batch::of_user(&message, UDP_GRO).datagrams(bytes)
}
