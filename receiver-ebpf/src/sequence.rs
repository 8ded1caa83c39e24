//! What a socket's sequence numbers tell: exact byte counts, which end opened the connection, and which two sockets are one.
//!
//! The kernel's totals cannot be taken as they are. `bytes_sent` counts a segment that the own queueing discipline refused, and counts
//! it again when it is sent; `bytes_acked` counts SYN and FIN, `bytes_received` counts FIN. What was acknowledged plus what is on its
//! way counts every byte once.
//!
//! A pass reads while the kernel writes. Each function reads in such an order that it may tell too little then, never too much: a
//! total that is too small is right again at the next look.

use netflume_ebpf::role;

use crate::{
    access::{Fields, offset},
    tcp::state,
};

/// Bit of `sk_flags`, include/net/sock.h `enum sock_flags`: the peer's FIN came in (set by `tcp_fin`).
const SOCK_DONE: u64 = 1 << 1;

/// Payload bytes that were sent, each once, for a socket in `state` whose process has `role`.
#[inline(always)]
pub fn bytes_sent(sk: impl Fields, state: u32, role: u8) -> u64 {
    let acknowledged: u64 = sk.get(offset!(tcp_bytes_acked));
    let first: u32 = sk.get(offset!(tcp_snd_una));
    let next: u32 = sk.get(offset!(tcp_snd_nxt));
    // A FIN is the last that is ever queued.
    let closing = matches!(
        state,
        state::FIN_WAIT1 | state::FIN_WAIT2 | state::CLOSING | state::LAST_ACK
    );
    let fin = closing && next == sk.get::<u32>(offset!(tcp_write_seq));
    let all = acknowledged.wrapping_add(u64::from(next.wrapping_sub(first)));
    all.saturating_sub(u64::from(opened(sk, role)) + u64::from(fin))
}

/// Payload bytes that came in, in order.
#[inline(always)]
pub fn bytes_received(sk: impl Fields) -> u64 {
    let received: u64 = sk.get(offset!(tcp_bytes_received));
    let fin = sk.get::<u64>(offset!(sock_flags)) & SOCK_DONE != 0;
    received.saturating_sub(u64::from(fin))
}

/// This end sent a SYN that the kernel counted as acknowledged: it opened the connection.
#[inline(always)]
fn opened(sk: impl Fields, role: u8) -> bool {
    match role {
        role::CLIENT => true,
        role::SERVER => false,
        _ => !came_from_listener(sk),
    }
}

/// An accepted socket is a copy of its listener, the length of the accept queue included; any other socket never had one. (A listener
/// may have asked for a queue of length zero.)
#[inline(always)]
pub fn came_from_listener(sk: impl Fields) -> bool {
    sk.get::<u32>(offset!(sock_max_ack_backlog)) != 0
}

/// Which end of an open connection the process is, when it was opened unseen.
#[inline(always)]
pub fn role_of(sk: impl Fields) -> u8 {
    if came_from_listener(sk) {
        return role::SERVER;
    }
    let state = u32::from(sk.get::<u8>(offset!(sock_state)));
    if state != state::ESTABLISHED && state != state::CLOSE_WAIT {
        return role::UNKNOWN;
    }
    // Who opened has one byte acknowledged that it never sent, the SYN.
    let acknowledged: u64 = sk.get(offset!(tcp_bytes_acked));
    let first: u32 = sk.get(offset!(tcp_snd_una));
    let again: u64 = sk.get(offset!(tcp_bytes_retrans));
    let next: u32 = sk.get(offset!(tcp_snd_nxt));
    let sent: u64 = sk.get(offset!(tcp_bytes_sent));
    let in_flight = u64::from(next.wrapping_sub(first));
    if acknowledged.wrapping_add(in_flight) == sent.wrapping_sub(again).wrapping_add(1) {
        role::CLIENT
    } else {
        // Segments that were refused on their way out hide it.
        role::UNKNOWN
    }
}

/// The connection by its two initial sequence numbers, this end's first: the other end has the same two, swapped, whatever
/// translated the addresses between them.
#[inline(always)]
pub fn identity(sk: impl Fields, role: u8) -> u64 {
    let acknowledged: u64 = sk.get(offset!(tcp_bytes_acked));
    let first: u32 = sk.get(offset!(tcp_snd_una));
    let own = first
        .wrapping_sub(acknowledged as u32)
        .wrapping_add(u32::from(opened(sk, role)));
    let received: u64 = sk.get(offset!(tcp_bytes_received));
    let next: u32 = sk.get(offset!(tcp_rcv_nxt));
    let peers = next.wrapping_sub(received as u32);
    u64::from(own) << 32 | u64::from(peers)
}
