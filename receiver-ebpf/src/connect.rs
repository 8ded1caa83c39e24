//! Connects that find no way: no route, a prohibited or blackholed one. They never change the socket's state, so `tcp` does not see
//! them.
//!
//! Where the kernel offers `fexit`, its own connect functions report what came of every attempt, whatever made it: a system call, `io_uring`,
//! data with `MSG_FASTOPEN`, the kernel itself. Elsewhere a cgroup hook sees each attempt begin. One that went on to SYN_SENT found its
//! way; one whose socket is destroyed, tries again, or is found idle by a pass did not, and user space asks the routes why.

use aya_ebpf::{
    macros::{btf_tracepoint, cgroup_sock_addr, fexit, map},
    maps::HashMap,
    programs::{BtfTracePointContext, FExitContext, SockAddrContext},
};
use netflume_ebpf::{ConnectionRecord, NO_WAY, OwnerRecord, connects, counter, phase, role};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::{
    access::{
        Fields, Known, Ptr, boot_ns, current_owner, current_tgid, hook_address4, hook_address6,
        offset, setting,
    },
    maps::{self, BPF_F_NO_PREALLOC},
    mptcp, own, scope,
    shared::{Shared, field},
    socket::{self, AF_INET, AF_INET6},
    tcp::state,
};

/// Let the call go on.
const ALLOW: i32 = 1;

/// The part of `sockaddr_in` and `sockaddr_in6` that matters: include/uapi/linux/in6.h.
type SocketAddress = [u8; 24];

/// An attempt to connect, by the socket's address, until it is known to have found a way.
#[map]
pub static ATTEMPTS: HashMap<u64, Attempt> = HashMap::with_max_entries(8192, BPF_F_NO_PREALLOC);

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Attempt {
    owner: OwnerRecord,
    boot_ns: u64,
    peer: Peer,
}

/// Whom it is to be connected to; IPv4 is v4-mapped, the port in host byte order.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Peer {
    address: [u8; 16],
    port: u64,
}

/// `tcp_v4_connect(struct sock *, struct sockaddr *, int)`, net/ipv4/tcp_ipv4.c; IPv4 peers of IPv6 sockets pass here too.
#[fexit(function = "tcp_v4_connect")]
pub fn tcp_v4_connect(ctx: FExitContext) -> i32 {
    let (length, result): (i32, i32) = (ctx.arg(2), ctx.arg(3));
    if result < 0 && length >= 16 {
        let address: SocketAddress = Ptr::traced(&ctx, 1).read(0);
        if family(&address) == AF_INET {
            returned(Ptr::traced(&ctx, 0), &Peer::v4(&address), result);
        }
    }
    0
}

/// `tcp_v6_connect(struct sock *, struct sockaddr *, int)`, net/ipv6/tcp_ipv6.c.
#[fexit(function = "tcp_v6_connect")]
pub fn tcp_v6_connect(ctx: FExitContext) -> i32 {
    let (length, result): (i32, i32) = (ctx.arg(2), ctx.arg(3));
    if result < 0 && length >= 24 {
        let address: SocketAddress = Ptr::traced(&ctx, 1).read(0);
        let peer = Peer::v6(&address);
        // A v4-mapped one was handed to `tcp_v4_connect`.
        if family(&address) == AF_INET6 && !socket::is_v4_mapped(&peer.address) {
            returned(Ptr::traced(&ctx, 0), &peer, result);
        }
    }
    0
}

/// The kernel's own connect function ended with an error.
#[inline(always)]
fn returned(sk: Ptr, peer: &Peer, result: i32) {
    // Once a SYN was sent, the change of the socket's state reports it.
    if sk.read::<u32>(offset!(tcp_segs_out)) != 0 || !scope::contains(sk) || !is_watched(peer) {
        return;
    }
    let mut attempt = Attempt {
        owner: OwnerRecord::NONE,
        boot_ns: boot_ns(),
        peer: *peer,
    };
    current_owner(&mut attempt.owner);
    tell(sk, &attempt, result.unsigned_abs() as u16);
}

/// Before a connect; IPv4.
#[cgroup_sock_addr(connect4)]
pub fn connect4(ctx: SockAddrContext) -> i32 {
    let (address, port_be) = hook_address4(&ctx);
    let [a, b, c, d] = address.to_ne_bytes();
    begin(
        &ctx,
        &Peer {
            address: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d],
            port: u64::from(u16::from_be(port_be)),
        },
    );
    ALLOW
}

/// Before a connect; IPv6.
#[cgroup_sock_addr(connect6)]
pub fn connect6(ctx: SockAddrContext) -> i32 {
    let (words, port_be) = hook_address6(&ctx);
    begin(
        &ctx,
        &Peer {
            address: zerocopy::transmute!(words),
            port: u64::from(u16::from_be(port_be)),
        },
    );
    ALLOW
}

/// The end of every TCP socket. One that is idle changes no state when it is closed.
#[btf_tracepoint(function = "tcp_destroy_sock")]
pub fn tcp_destroy_sock(ctx: BtfTracePointContext) -> i32 {
    let sk = Known::tcp_argument(&ctx);
    if !sk.is_null() {
        failed(sk);
    }
    0
}

#[inline(always)]
fn begin(ctx: &SockAddrContext, peer: &Peer) {
    let sk = Known::tcp_of_hook(ctx);
    if sk.is_null() || !scope::contains(sk) || !is_watched(peer) {
        return;
    }
    failed(sk);
    let mut attempt = Attempt {
        owner: OwnerRecord::NONE,
        boot_ns: boot_ns(),
        peer: *peer,
    };
    current_owner(&mut attempt.owner);
    if ATTEMPTS.insert(sk.address(), attempt, 0).is_err() {
        maps::count(counter::CONNECTIONS_FULL);
    }
}

/// Neither our own, nor loopback traffic that the settings leave out.
#[inline(always)]
fn is_watched(peer: &Peer) -> bool {
    !own::is_own(current_tgid())
        && (setting!(skip_loopback) == 0 || !socket::is_loopback(&peer.address))
}

/// The attempt of this socket found its way.
#[inline(always)]
pub fn found_way(sk: Known) {
    if by_attempts() {
        let _ = ATTEMPTS.remove(sk.address());
    }
}

/// If the socket tried and did not get on, that is reported.
#[inline(always)]
fn failed(sk: Known) {
    if let Some(value) = ATTEMPTS.get_ptr_mut(sk.address()) {
        // SAFETY: a map value.
        tell(sk, &unsafe { Shared::new(value) }.load(), NO_WAY);
        let _ = ATTEMPTS.remove(sk.address());
    }
}

/// A pass found the socket idle: hands over what became of its attempt, if it made one.
#[inline(always)]
pub fn found_idle(sk: impl Fields, write: impl FnOnce(&ConnectionRecord) -> bool) {
    // A process that is still within the call holds the socket's lock.
    if !by_attempts() || sk.get::<u32>(offset!(sock_lock_owned)) != 0 {
        return;
    }
    if let Some(value) = ATTEMPTS.get_ptr_mut(sk.address()) {
        // SAFETY: a map value.
        let attempt = unsafe { Shared::new(value) }.load();
        let written = maps::with_scratch(|record| {
            fill(sk, &attempt, NO_WAY, record);
            write(record)
        });
        if written {
            let _ = ATTEMPTS.remove(sk.address());
        }
    }
}

/// The returns of the kernel's connect functions are seen.
#[inline(always)]
pub fn returns() -> bool {
    is_by(connects::RETURNS)
}

#[inline(always)]
fn by_attempts() -> bool {
    is_by(connects::ATTEMPTS)
}

#[inline(always)]
fn is_by(what: u32) -> bool {
    match maps::control() {
        Some(control) => field!(control.connects).get() == what,
        None => false,
    }
}

#[inline(always)]
fn tell(sk: impl Fields, attempt: &Attempt, error: u16) {
    if let Some(record) = maps::reserve::<ConnectionRecord>() {
        fill(sk, attempt, error, record);
        maps::send(record);
    }
}

#[inline(always)]
fn fill(sk: impl Fields, attempt: &Attempt, error: u16, record: &mut ConnectionRecord) {
    socket::observe(sk, state::CLOSE, role::CLIENT, record);
    mptcp::complete(sk, record);
    // What the socket did in an earlier connection is not this one's.
    record.bytes_sent = 0;
    record.bytes_received = 0;
    record.retransmits = 0;
    record.rtt_us = 0;
    record.rtt_var_us = 0;
    record.owner = attempt.owner;
    record.opened_boot_ns = attempt.boot_ns;
    record.peer_address = attempt.peer.address;
    record.peer_port = attempt.peer.port as u16;
    record.error = error;
    record.phase = phase::FAILED;
}

impl Peer {
    #[inline(always)]
    fn v4(from: &SocketAddress) -> Self {
        Self {
            address: [
                0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, from[4], from[5], from[6], from[7],
            ],
            port: port(from),
        }
    }

    #[inline(always)]
    fn v6(from: &SocketAddress) -> Self {
        let [_, _, _, _, _, _, _, _, address @ ..] = *from;
        Self {
            address,
            port: port(from),
        }
    }
}

#[inline(always)]
fn family(address: &SocketAddress) -> u16 {
    u16::from_ne_bytes([address[0], address[1]])
}

#[inline(always)]
fn port(address: &SocketAddress) -> u64 {
    u64::from(u16::from_be_bytes([address[2], address[3]]))
}
