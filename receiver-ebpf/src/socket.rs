//! What is read of a TCP socket: its ends, its counters, its creator.

use netflume_ebpf::{
    ABSENT, ConnectionRecord, Header, ListenerRecord, OwnerRecord, kind, phase, transport,
};

use crate::{
    access::{Fields, Ptr, boot_ns, offset, setting},
    sequence,
};

pub const AF_INET: u16 = 2;
pub const AF_INET6: u16 = 10;
const IPPROTO_TCP: u16 = 6;

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

/// A listening socket as it is reported; the owner and its credentials are the caller's.
#[inline(always)]
pub fn listener(sk: impl Fields, record: &mut ListenerRecord, listening: bool) {
    record.header = header::<ListenerRecord>(kind::LISTENER);
    record.id = sk.address();
    record.reserved = 0;
    record.local_port = local_port(sk);
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

/// A number for the credentials that a file of the socket was opened with: those of the process that accepted it. Each process has
/// its own from its birth (`copy_creds`, kernel/cred.c). Zero where it was not accepted.
#[inline(always)]
pub fn acceptor(sk: impl Fields) -> u32 {
    let socket = sk.pointer(offset!(sock_socket));
    if socket.is_null() {
        return 0;
    }
    let file = socket.pointer(offset!(socket_file));
    if file.is_null() {
        return 0;
    }
    credentials(file.raw(), offset!(file_cred))
}

/// The number for the credentials that the pointer at `offset` of a structure points to; never zero.
#[inline(always)]
pub fn credentials(of: Ptr, offset: u32) -> u32 {
    // By the helper, which gives a number: the verifier refuses to calculate with a pointer that it knows.
    (of.read::<u64>(offset) >> 4) as u32 | 1
}

/// A connection's tuple and counters as they stand in `state`; owner, opening time and [`crate::mptcp::complete`] are the caller's.
///
/// Half of what a pass costs are the cache lines of the socket that this touches.
#[inline(always)]
pub fn observe(sk: impl Fields, state: u32, role: u8, record: &mut ConnectionRecord) {
    record.header = header::<ConnectionRecord>(kind::CONNECTION);
    record.id = sk.address();
    record.netns = network_namespace(sk);
    copy_ends(sk, record);
    record.bytes_sent = sequence::bytes_sent(sk, state, role);
    record.bytes_received = sequence::bytes_received(sk);
    record.packets_sent = 0;
    record.packets_received = 0;
    record.retransmits = sk.get(offset!(tcp_total_retrans));
    record.rtt_us = sk.get::<u32>(offset!(tcp_srtt_us)) >> 3;
    record.rtt_var_us = sk.get::<u32>(offset!(tcp_mdev_us)) >> 2;
    record.error = 0;
    record.phase = phase::OPEN;
    record.role = role;
    record.transport = transport::TCP;
    record.part = 0;
    record.reserved = [0; 2];
    record.acceptor = 0;
}

/// Both addresses and ports.
#[inline(always)]
pub fn copy_ends(sk: impl Fields, record: &mut ConnectionRecord) {
    record.local_port = local_port(sk);
    record.peer_port = u16::from_be(sk.get(offset!(sock_dport)));
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
}

/// An IPv4 address in the form of IPv6.
#[inline(always)]
pub fn is_v4_mapped(address: &[u8; 16]) -> bool {
    u128::from_be_bytes(*address) >> 32 == 0xffff
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

/// `skc_num`, which lies beside the addresses. It is zero already when the active closer gets to CLOSE; `inet_sport` is not.
#[inline(always)]
pub fn local_port(sk: impl Fields) -> u16 {
    match sk.get(offset!(sock_num)) {
        0 => u16::from_be(sk.get(offset!(inet_sport))),
        port => port,
    }
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
