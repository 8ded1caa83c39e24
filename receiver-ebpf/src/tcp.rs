//! TCP: who opened which connection when, and what it had moved when it ended.
//!
//! The kernel counts bytes, retransmissions and round trips itself (`struct tcp_sock`); what it does not keep is the owner and
//! the opening time. `inet_sock_set_state` runs a handful of times in a connection's life, never per packet:
//!
//! | change | context | what is done |
//! | --- | --- | --- |
//! | → SYN_SENT | the connecting process | remember it as owner |
//! | SYN_SENT → ESTABLISHED | any | note the time |
//! | SYN_RECV → ESTABLISHED | any | remember an accepted connection, owner still unknown |
//! | → FIN_WAIT1, → LAST_ACK | the closing process | remember it as owner if none is known |
//! | → CLOSE | any | tell the final counters, forget |
//! | ↔ LISTEN | the listening process | tell the listener |

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use netflume_ebpf::{
    ABSENT, ConnectionRecord, Header, ListenerRecord, OwnerRecord, kind, phase, role, transport,
};

use crate::{
    access::{Fields, Known, Ptr, boot_ns, current_owner, current_tgid, offset, setting},
    maps::{self, CONNECTIONS, Connection, EndpointKey, OWN_ENDPOINTS},
    scope,
    shared::{Shared, field},
};

/// TCP states, include/net/tcp_states.h.
pub mod state {
    pub const ESTABLISHED: u32 = 1;
    pub const SYN_SENT: u32 = 2;
    pub const SYN_RECV: u32 = 3;
    pub const FIN_WAIT1: u32 = 4;
    pub const FIN_WAIT2: u32 = 5;
    pub const CLOSE: u32 = 7;
    pub const CLOSE_WAIT: u32 = 8;
    pub const LAST_ACK: u32 = 9;
    pub const LISTEN: u32 = 10;
    pub const CLOSING: u32 = 11;

    /// Both ends know of each other, and a struct tcp_sock stands behind it.
    #[inline(always)]
    pub fn is_connection(state: u32) -> bool {
        matches!(
            state,
            ESTABLISHED | SYN_RECV | FIN_WAIT1 | FIN_WAIT2 | CLOSE_WAIT | LAST_ACK | CLOSING
        )
    }
}

pub const AF_INET: u16 = 2;
pub const AF_INET6: u16 = 10;
const IPPROTO_TCP: u16 = 6;
/// Bit of `sk_flags`, include/net/sock.h `enum sock_flags`: the peer's FIN came in (set by `tcp_fin`).
const SOCK_DONE: u64 = 1 << 1;
const ECANCELED: u16 = 125;

/// Every change of a TCP state, in every network namespace.
#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn inet_sock_set_state(ctx: BtfTracePointContext) -> i32 {
    let old: u32 = ctx.arg(1);
    let new: u32 = ctx.arg(2);
    // The other changes need nothing: a look at two numbers, and out.
    match new {
        state::ESTABLISHED
        | state::SYN_SENT
        | state::FIN_WAIT1
        | state::CLOSE
        | state::LAST_ACK
        | state::LISTEN => {
            let sk = Known::tcp_argument(&ctx);
            if !sk.is_null() && scope::contains(sk) {
                change(sk, old, new);
            }
        }
        _ => {}
    }
    0
}

#[inline(always)]
fn change(sk: Known, old: u32, new: u32) {
    match new {
        state::SYN_SENT => connecting(sk),
        state::ESTABLISHED if old == state::SYN_SENT => connected(sk),
        state::ESTABLISHED => accepted(sk),
        state::FIN_WAIT1 | state::LAST_ACK => {
            if let Some(connection) = maps::connection(sk) {
                closed_by_current(connection);
            }
        }
        state::LISTEN => tell_listener(sk, true),
        _ if old == state::LISTEN => tell_listener(sk, false),
        _ => closed(sk, old),
    }
}

/// An IPv4 or IPv6 TCP socket.
#[inline(always)]
pub fn is_tcp(sk: impl Fields) -> bool {
    let family: u16 = sk.get(offset!(sock_family));
    (family == AF_INET || family == AF_INET6)
        && sk.get::<u16>(offset!(sock_protocol)) == IPPROTO_TCP
}

/// Inode number of the socket's network namespace.
#[inline(always)]
pub fn network_namespace(sk: impl Fields) -> u32 {
    sk.pointer(offset!(sock_net)).get(offset!(net_inum))
}

#[inline(always)]
fn connecting(sk: Known) {
    let mut connection = Connection::EMPTY;
    current_owner(&mut connection.owner);
    connection.role = role::CLIENT;
    connection.excluded = u8::from(is_own(connection.owner.pid));
    maps::remember(sk, &connection, false);
}

#[inline(always)]
fn connected(sk: Known) {
    let Some(connection) = maps::connection(sk) else {
        return;
    };
    field!(connection.opened_boot_ns).set(boot_ns());
    if field!(connection.excluded).get() != 0 {
        // The other end may be on this host: it recognises us by our end of the connection.
        let mut key = EndpointKey::EMPTY;
        local_end(sk, &mut key);
        let _ = OWN_ENDPOINTS.insert(key, 1, 0);
    }
}

#[inline(always)]
fn accepted(sk: Known) {
    let mut connection = Connection::EMPTY;
    connection.opened_boot_ns = boot_ns();
    connection.role = role::SERVER;
    connection.excluded = u8::from(is_other_end_of_own(sk));
    if maps::remember(sk, &connection, true) {
        return;
    }
    let Some(known) = maps::connection(sk) else {
        return;
    };
    let opened = field!(known.opened_boot_ns);
    if field!(known.role).get() == role::CLIENT && opened.get() == 0 {
        // Both ends connected to each other at the same time: SYN_SENT → SYN_RECV → ESTABLISHED.
        opened.set(connection.opened_boot_ns);
    } else {
        known.store(&connection);
    }
}

/// The running process closes it: remembered as owner if none is known yet.
#[inline(always)]
fn closed_by_current(connection: Shared<Connection>) {
    if field!(connection.owner.pid).get() == 0 {
        let mut owner = Connection::EMPTY.owner;
        current_owner(&mut owner);
        field!(connection.owner).store(&owner);
        maps::exclude(connection, is_own(owner.pid));
    }
}

#[inline(always)]
fn closed(sk: Known, old: u32) {
    let Some(connection) = maps::connection(sk) else {
        // Never a connection; or one that the full map had refused, or that is older than the first pass.
        if old != state::SYN_RECV && old != state::CLOSE {
            tell_end(sk, old, &Connection::EMPTY);
        }
        return;
    };
    // Straight to CLOSE without an error: closed with unread data, or never accepted. With one: the network ended it, and who
    // runs now has nothing to do with it.
    let open = matches!(
        old,
        state::ESTABLISHED | state::CLOSE_WAIT | state::SYN_RECV
    );
    if open && sk.get::<u32>(offset!(sock_err)) == 0 {
        closed_by_current(connection);
    }
    if field!(connection.excluded).get() == 0 {
        tell_end(sk, old, &connection.load());
    } else {
        let mut key = EndpointKey::EMPTY;
        local_end(sk, &mut key);
        let _ = OWN_ENDPOINTS.remove(key);
    }
    let _ = CONNECTIONS.remove(sk.address());
}

#[inline(always)]
fn tell_end(sk: Known, old: u32, connection: &Connection) {
    if is_unwanted_loopback(sk) {
        return;
    }
    let Some(record) = maps::reserve::<ConnectionRecord>() else {
        return;
    };
    observe(sk, record);
    record.opened_boot_ns = connection.opened_boot_ns;
    record.role = connection.role;
    if connection.owner.pid == 0 {
        creator(sk, &mut record.owner);
    } else {
        record.owner = connection.owner;
    }
    let error: u32 = sk.get(offset!(sock_err));
    record.error = error as u16;
    record.phase = phase::CLOSED;
    if old == state::SYN_SENT {
        record.phase = phase::FAILED;
        record.opened_boot_ns = record.header.boot_ns;
        if error == 0 {
            // The process gave up first. What the network had said until then is the better reason, if it said anything.
            let soft: u32 = sk.get(offset!(sock_err_soft));
            record.error = if soft == 0 { ECANCELED } else { soft as u16 };
        }
    }
    maps::send(record);
}

#[inline(always)]
fn tell_listener(sk: Known, listening: bool) {
    if is_own(current_tgid()) {
        return;
    }
    if let Some(record) = maps::reserve::<ListenerRecord>() {
        listener(sk, record, listening);
        current_owner(&mut record.owner);
        maps::send(record);
    }
}

/// A listening socket as it is told; the owner is the caller's.
#[inline(always)]
pub fn listener(sk: impl Fields, record: &mut ListenerRecord, listening: bool) {
    record.header = header::<ListenerRecord>(kind::LISTENER);
    record.local_port = sk.get(offset!(sock_num));
    if record.local_port == 0 {
        record.local_port = local_port(sk);
    }
    record.transport = transport::TCP;
    record.listening = u8::from(listening);
    record.netns = network_namespace(sk);
    copy_address(
        sk,
        &mut record.local_address,
        offset!(sock_rcv_saddr),
        offset!(sock_v6_rcv_saddr),
    );
}

/// A connection's tuple and counters as they stand; owner, opening time and role are the caller's.
#[inline(always)]
pub fn observe(sk: impl Fields, record: &mut ConnectionRecord) {
    record.header = header::<ConnectionRecord>(kind::CONNECTION);
    record.id = sk.address();
    record.local_port = local_port(sk);
    record.peer_port = u16::from_be(sk.get(offset!(sock_dport)));
    record.netns = network_namespace(sk);
    copy_address(
        sk,
        &mut record.local_address,
        offset!(sock_rcv_saddr),
        offset!(sock_v6_rcv_saddr),
    );
    copy_address(
        sk,
        &mut record.peer_address,
        offset!(sock_daddr),
        offset!(sock_v6_daddr),
    );
    let sent: u64 = sk.get(offset!(tcp_bytes_sent));
    record.bytes_sent = sent.saturating_sub(sk.get(offset!(tcp_bytes_retrans)));
    let received: u64 = sk.get(offset!(tcp_bytes_received));
    // The peer's FIN took one number of the sequence, which the kernel counts as a byte.
    let fin = sk.get::<u64>(offset!(sock_flags)) & SOCK_DONE != 0;
    record.bytes_received = received.saturating_sub(u64::from(fin));
    record.packets_sent = 0;
    record.packets_received = 0;
    record.retransmits = sk.get(offset!(tcp_total_retrans));
    record.rtt_us = sk.get::<u32>(offset!(tcp_srtt_us)) >> 3;
    record.rtt_var_us = sk.get::<u32>(offset!(tcp_mdev_us)) >> 2;
    record.error = 0;
    record.phase = phase::OPEN;
    record.transport = transport::TCP;
    record.reserved = [0; 7];
}

/// Loopback traffic that the settings leave out.
#[inline(always)]
pub fn is_unwanted_loopback(sk: impl Fields) -> bool {
    if setting!(skip_loopback) == 0 {
        return false;
    }
    let mut peer = [0; 16];
    copy_address(sk, &mut peer, offset!(sock_daddr), offset!(sock_v6_daddr));
    is_loopback(&peer)
}

/// `127.0.0.0/8` (v4-mapped) or `::1`.
#[inline(always)]
pub fn is_loopback(address: &[u8; 16]) -> bool {
    let all = u128::from_be_bytes(*address);
    let (high, low) = ((all >> 64) as u64, all as u64);
    high == 0 && (low == 1 || low >> 24 == 0xff_ff7f)
}

/// The process is netflume itself.
#[inline(always)]
pub fn is_own(tgid: u32) -> bool {
    match maps::control() {
        Some(control) => {
            let own = field!(control.own_tgid).get();
            own != 0 && own == tgid
        }
        None => false,
    }
}

/// The peer of this socket is one of our own connections.
#[inline(always)]
pub fn is_other_end_of_own(sk: impl Fields) -> bool {
    let mut key = EndpointKey::EMPTY;
    copy_address(
        sk,
        &mut key.address,
        offset!(sock_daddr),
        offset!(sock_v6_daddr),
    );
    key.port = u16::from_be(sk.get(offset!(sock_dport)));
    if is_loopback(&key.address) {
        key.netns = network_namespace(sk);
    }
    OWN_ENDPOINTS.get_ptr(key).is_some()
}

/// The local end, as a peer on this host would see it.
#[inline(always)]
pub fn local_end(sk: impl Fields, key: &mut EndpointKey) {
    copy_address(
        sk,
        &mut key.address,
        offset!(sock_rcv_saddr),
        offset!(sock_v6_rcv_saddr),
    );
    key.port = local_port(sk);
    if is_loopback(&key.address) {
        key.netns = network_namespace(sk);
    }
}

/// `inet_sport`, which outlives the binding; `skc_num` is zero already when the active closer gets to CLOSE.
#[inline(always)]
pub fn local_port(sk: impl Fields) -> u16 {
    u16::from_be(sk.get(offset!(inet_sport)))
}

/// What the socket itself knows of its creator (an accepted socket's is its listener's): the user and the cgroup.
#[inline(always)]
pub fn creator(sk: impl Fields, owner: &mut OwnerRecord) {
    owner.pid = 0;
    owner.uid = sk.get(offset!(sock_uid));
    owner.cgroup_id = 0;
    owner.comm = [0; 16];
    if offset!(sock_cgroup) != ABSENT {
        let cgroup = sk.raw().follow(offset!(sock_cgroup));
        // Before 5.15 the word is something else than a pointer when its lowest bit is set.
        if cgroup.address() & 1 == 0 {
            owner.cgroup_id = cgroup_id(cgroup);
        }
    }
}

/// Inode number of a struct cgroup; zero where the kernel does not have one.
#[inline(always)]
pub fn cgroup_id(cgroup: Ptr) -> u64 {
    if offset!(cgroup_kn) == ABSENT || offset!(kernfs_id) == ABSENT {
        return 0;
    }
    cgroup.follow(offset!(cgroup_kn)).read(offset!(kernfs_id))
}

#[inline(always)]
pub fn header<T>(kind: u16) -> Header {
    Header {
        size: size_of::<T>() as u16,
        kind,
        reserved: 0,
        boot_ns: boot_ns(),
    }
}

/// An address of the socket; IPv4 becomes v4-mapped.
#[inline(always)]
pub fn copy_address(sk: impl Fields, address: &mut [u8; 16], v4: u32, v6: u32) {
    if sk.get::<u16>(offset!(sock_family)) == AF_INET6 && v6 != ABSENT {
        let words: [u64; 2] = [sk.get(v6), sk.get(v6 + 8)];
        *address = zerocopy::transmute!(words);
    } else {
        let [a, b, c, d] = sk.get::<u32>(v4).to_ne_bytes();
        *address = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d];
    }
}
