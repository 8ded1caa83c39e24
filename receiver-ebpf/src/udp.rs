//! UDP: who exchanged how many bytes and datagrams with which peer, counted per call that moved them.
//!
//! | hooks | kernels | a call's peer comes from |
//! | --- | --- | --- |
//! | `fexit/udp_sendmsg`, `udpv6_sendmsg`; `fentry/skb_consume_udp` | with trampolines | the call's message; the datagram's own headers |
//! | `tp_btf/sock_send_length`, `sock_recv_length`; `cgroup/recvmsg4`, `recvmsg6` | 6.3 and later | the system call's arguments, else the socket; the socket, else the cgroup hook |
//! | `cgroup/sendmsg4`, `sendmsg6` beside them | once [`counter::UDP_PEER_UNKNOWN`] moves | for calls whose arguments do not tell (sendmmsg, io_uring): the cgroup hook |
//!
//! A cgroup hook costs about 100 ns a call, even an empty one, so sending has it only where it is needed.

use aya_ebpf::{
    btf_maps::SkStorage,
    helpers::generated,
    macros::{btf_map, btf_tracepoint, cgroup_sock_addr, fentry, fexit, map},
    maps::{HashMap, LruHashMap},
    programs::{BtfTracePointContext, FEntryContext, FExitContext, SockAddrContext},
};
use netflume_ebpf::{ABSENT, ConnectionRecord, UdpFlow, UdpKey, counter, phase, role};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

use crate::{
    access::{self, Ptr, current_owner, offset, setting},
    maps, scope,
    shared::{Shared, field},
    tcp,
};

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const IPPROTO_UDP: u16 = 17;
const MSG_PEEK: u32 = 2;
/// `sk_userlocks`: the process chose the port (include/net/sock.h).
const SOCK_BINDPORT_LOCK: u8 = 8;
/// The last eight bytes of `::ffff:0.0.0.0`, memory order.
const V4_UNSPECIFIED: u64 = 0xffff_0000;
/// Let the system call go on.
const ALLOW: i32 = 1;

/// What each socket exchanged with each peer.
#[map]
pub static UDP_FLOWS: HashMap<UdpKey, UdpFlow> =
    HashMap::with_max_entries(32_768, maps::BPF_F_NO_PREALLOC);

/// The peer that a cgroup hook saw, until the call that it belongs to ends: one place in each socket …
#[btf_map]
static SLOTS: SkStorage<Slot> = SkStorage::new();

/// … and these for threads that find it taken by another.
#[map]
static PENDING: LruHashMap<u64, Slot> = LruHashMap::with_max_entries(1024, 0);

/// A peer, and the thread (thread and process id) whose call it belongs to; zero: free.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Slot {
    thread: u64,
    peer: Peer,
}

/// An address and port, in words so that they compare fast.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Peer {
    /// The address in memory order, v4-mapped for IPv4.
    address: [u64; 2],
    /// Host byte order.
    port: u64,
}

/// The head of a `sockaddr_in` or `sockaddr_in6`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct SocketAddress {
    family: u16,
    port_be: u16,
    /// IPv4 address, or IPv6 flow label.
    v4: [u8; 4],
    v6: [u64; 2],
}

impl Peer {
    /// Nothing told.
    const UNKNOWN: Self = Self {
        address: [0; 2],
        port: 0,
    };

    #[inline(always)]
    fn v4(address: u32, port_be: u16) -> Self {
        // Memory order: ten zero bytes, ff ff, the address.
        let low = (u64::from(address) << 32) | V4_UNSPECIFIED;
        Self {
            address: [0, low],
            port: u64::from(u16::from_be(port_be)),
        }
    }

    #[inline(always)]
    fn v6(address: [u64; 2], port_be: u16) -> Self {
        Self {
            address,
            port: u64::from(u16::from_be(port_be)),
        }
    }

    #[inline(always)]
    fn from_socket_address(from: &SocketAddress) -> Self {
        match from.family {
            AF_INET => Self::v4(u32::from_ne_bytes(from.v4), from.port_be),
            AF_INET6 => Self::v6(from.v6, from.port_be),
            _ => Self::UNKNOWN,
        }
    }

    /// Whom the socket is connected to; port zero: nobody.
    #[inline(always)]
    fn connected(sk: Ptr) -> Self {
        let port_be: u16 = sk.load(offset!(sock_dport));
        if port_be == 0 {
            Self::UNKNOWN
        } else if sk.load::<u16>(offset!(sock_family)) == AF_INET {
            Self::v4(sk.load(offset!(sock_daddr)), port_be)
        } else {
            Self::v6(sk.load(offset!(sock_v6_daddr)), port_be)
        }
    }

    /// A number that is this peer's alone for IPv4, and very likely for IPv6; [`UdpFlow`] has the peer in full.
    #[inline(always)]
    fn fold(self) -> u64 {
        self.address[0].wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ self.address[1] ^ self.port
    }
}

/// Which way the bytes went.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Sent,
    Received,
}

/// `udp_sendmsg(sk, msg, len)`, net/ipv4/udp.c; IPv4 destinations of IPv6 sockets pass here too.
#[fexit(function = "udp_sendmsg")]
pub fn udp_sendmsg(ctx: FExitContext) -> i32 {
    let sk = Ptr::new(ctx.arg(0));
    sent_by_message(sk, Ptr::new(ctx.arg(1)), ctx.arg(3), false);
    0
}

/// `udpv6_sendmsg(sk, msg, len)`, net/ipv6/udp.c.
#[fexit(function = "udpv6_sendmsg")]
pub fn udpv6_sendmsg(ctx: FExitContext) -> i32 {
    let sk = Ptr::new(ctx.arg(0));
    sent_by_message(sk, Ptr::new(ctx.arg(1)), ctx.arg(3), true);
    0
}

#[inline(always)]
fn sent_by_message(sk: Ptr, message: Ptr, result: i32, v6: bool) {
    if result < 0 {
        return;
    }
    let name = message.follow(offset!(msghdr_name));
    let peer = if name.is_null() {
        Peer::connected(sk)
    } else {
        let address: SocketAddress = name.read(0);
        Peer::from_socket_address(&address)
    };
    if v6 && is_v4_mapped(&peer) {
        // `udpv6_sendmsg` handed it to `udp_sendmsg`, which counted it.
        return;
    }
    moved(sk, &peer, &Peer::UNKNOWN, result as u64, Way::Sent);
}

#[inline(always)]
fn is_v4_mapped(peer: &Peer) -> bool {
    peer.address[0] == 0 && u64::from(peer.address[1] as u32) == V4_UNSPECIFIED
}

/// `skb_consume_udp(sk, skb, len)`, net/ipv4/udp.c: a receive call is done with a datagram; negative when it only peeked.
#[fentry(function = "skb_consume_udp")]
pub fn skb_consume_udp(ctx: FEntryContext) -> i32 {
    let length: i32 = ctx.arg(2);
    if length < 0 {
        return 0;
    }
    let skb = Ptr::new(ctx.arg(1));
    // Peeking at an empty datagram has no sign to tell it; but then the queue still holds the datagram as well.
    if length == 0 && offset!(skb_users) != ABSENT && skb.read::<u32>(offset!(skb_users)) > 1 {
        return 0;
    }
    let head = skb.follow(offset!(skb_head));
    let network = head.plus(skb.read::<u16>(offset!(skb_network_header)));
    let transport = head.plus(skb.read::<u16>(offset!(skb_transport_header)));
    let source_be: u16 = transport.read(0);
    let (from, to) = if network.read::<u8>(0) >> 4 == 4 {
        (
            Peer::v4(network.read(12), source_be),
            Peer::v4(network.read(16), 0),
        )
    } else {
        (
            Peer::v6(network.read(8), source_be),
            Peer::v6(network.read(24), 0),
        )
    };
    moved(
        Ptr::new(ctx.arg(0)),
        &from,
        &to,
        length as u64,
        Way::Received,
    );
    0
}

/// A send call ended (net/socket.c, `sock_sendmsg_nosec`).
#[btf_tracepoint(function = "sock_send_length")]
pub fn sock_send_length(ctx: BtfTracePointContext) -> i32 {
    let sk = Ptr::argument(&ctx, 0);
    let result: i32 = ctx.arg(1);
    if !is_udp(sk) || result < 0 {
        return 0;
    }
    let mut peer = Peer::UNKNOWN;
    if hooks_on_send() {
        take_slot(sk, &mut peer);
    } else {
        named_by_call(&mut peer);
    }
    if peer.port == 0 {
        peer = Peer::connected(sk);
        if peer.port == 0 {
            maps::count(counter::UDP_PEER_UNKNOWN);
        }
    }
    moved(sk, &peer, &Peer::UNKNOWN, result as u64, Way::Sent);
    0
}

/// A receive call ended (net/socket.c, `sock_recvmsg`).
#[btf_tracepoint(function = "sock_recv_length")]
pub fn sock_recv_length(ctx: BtfTracePointContext) -> i32 {
    let sk = Ptr::argument(&ctx, 0);
    let result: i32 = ctx.arg(1);
    let flags: u32 = ctx.arg(2);
    if !is_udp(sk) || result < 0 || flags & MSG_PEEK != 0 {
        return 0;
    }
    let mut peer = Peer::connected(sk);
    if peer.port == 0 {
        take_slot(sk, &mut peer);
    }
    moved(sk, &peer, &Peer::UNKNOWN, result as u64, Way::Received);
    0
}

#[inline(always)]
fn is_udp(sk: Ptr) -> bool {
    let family: u16 = sk.load(offset!(sock_family));
    sk.load::<u16>(offset!(sock_protocol)) == IPPROTO_UDP
        && (family == AF_INET || family == AF_INET6)
}

/// The destination that the running system call names in its arguments.
#[inline(always)]
fn named_by_call(peer: &mut Peer) {
    if offset!(regs_call) == ABSENT {
        return;
    }
    let regs = access::current_registers();
    let call: u64 = regs.load(offset!(regs_call));
    let name = if call == setting!(call_sendto) {
        regs.load::<u64>(offset!(regs_argument5))
    } else if call == setting!(call_sendmsg) {
        // struct user_msghdr begins with msg_name.
        access::read_user(regs.load(offset!(regs_argument2)))
    } else {
        return;
    };
    if name != 0 {
        let address: SocketAddress = access::read_user(name);
        *peer = Peer::from_socket_address(&address);
    }
}

/// User space attached `sendmsg4` and `sendmsg6`.
#[inline(always)]
fn hooks_on_send() -> bool {
    match maps::control() {
        Some(control) => field!(control.udp_send_hooks).get() != 0,
        None => false,
    }
}

/// Before an unconnected send; IPv4.
#[cgroup_sock_addr(sendmsg4)]
pub fn udp_sendmsg4(ctx: SockAddrContext) -> i32 {
    keep_v4(&ctx)
}

/// Before an unconnected send; IPv6.
#[cgroup_sock_addr(sendmsg6)]
pub fn udp_sendmsg6(ctx: SockAddrContext) -> i32 {
    keep_v6(&ctx)
}

/// After a receive that asks for the sender; IPv4.
#[cgroup_sock_addr(recvmsg4)]
pub fn udp_recvmsg4(ctx: SockAddrContext) -> i32 {
    keep_v4(&ctx)
}

/// After a receive that asks for the sender; IPv6.
#[cgroup_sock_addr(recvmsg6)]
pub fn udp_recvmsg6(ctx: SockAddrContext) -> i32 {
    keep_v6(&ctx)
}

#[inline(always)]
fn keep_v4(ctx: &SockAddrContext) -> i32 {
    let (address, port_be) = access::hook_address4(ctx);
    keep(ctx, &Peer::v4(address, port_be));
    ALLOW
}

#[inline(always)]
fn keep_v6(ctx: &SockAddrContext) -> i32 {
    let ([a, b, c, d], port_be) = access::hook_address6(ctx);
    let word = |low: u32, high: u32| u64::from(low) | (u64::from(high) << 32);
    keep(ctx, &Peer::v6([word(a, b), word(c, d)], port_be));
    ALLOW
}

/// Keeps the peer for the end of the running thread's call.
#[inline(always)]
fn keep(ctx: &SockAddrContext, peer: &Peer) {
    let thread = aya_ebpf::helpers::bpf_get_current_pid_tgid();
    // SAFETY: the verifier knows the socket of the context.
    let slot = unsafe { SLOTS.get_or_insert_ptr_mut(ctx, None) };
    if !slot.is_null() {
        // SAFETY: a map value, which lives as long as the socket. Another thread may write at the same time: it then fails the
        // comparison of `thread` when it takes, and that call is counted without a peer.
        let slot = unsafe { Shared::new(slot) };
        let holder = field!(slot.thread);
        if holder.get() == 0 || holder.get() == thread {
            field!(slot.peer).store(peer);
            holder.set(thread);
            return;
        }
    }
    let slot = Slot {
        thread,
        peer: *peer,
    };
    let _ = PENDING.insert(thread, slot, 0);
}

/// Takes what the hook kept for the running thread.
#[inline(always)]
fn take_slot(sk: Ptr, peer: &mut Peer) {
    let thread = aya_ebpf::helpers::bpf_get_current_pid_tgid();
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
    if !slot.is_null() {
        // SAFETY: a map value, which lives as long as the socket.
        let slot = unsafe { Shared::new(slot) };
        if field!(slot.thread).get() == thread {
            *peer = field!(slot.peer).load();
            field!(slot.thread).set(0);
            return;
        }
    }
    if let Some(pending) = PENDING.get_ptr_mut(thread) {
        // SAFETY: a map value.
        let pending = unsafe { Shared::new(pending) };
        *peer = field!(pending.peer).load();
        let _ = PENDING.remove(thread);
    }
}

/// Books one call.
#[inline(always)]
fn moved(sk: Ptr, peer: &Peer, local: &Peer, bytes: u64, way: Way) {
    let key = UdpKey {
        socket: sk.address(),
        peer: peer.fold(),
    };
    let local_port: u16 = sk.load(offset!(sock_num));
    if let Some(flow) = flow(&key) {
        if field!(flow.local_port).get() == local_port && is_with(flow, peer) {
            add(flow, bytes, way);
            return;
        }
        // The kernel gave the socket's memory to a new one: the old one's totals are final.
        tell_end(&flow.load());
        let _ = UDP_FLOWS.remove(key);
    }
    if !scope::contains(sk) {
        return;
    }
    let mut new = UdpFlow::new_zeroed();
    begin(sk, peer, local, local_port, way, &mut new);
    if setting!(skip_loopback) != 0 && tcp::is_loopback(&zerocopy::transmute!(new.peer_address)) {
        return;
    }
    // Two threads may begin it at once: one entry wins, both count in it.
    if let Err(error) = UDP_FLOWS.insert(key, new, u64::from(maps::BPF_NOEXIST))
        && error != -maps::EEXIST
    {
        maps::count(counter::UDP_FULL);
        return;
    }
    if let Some(flow) = flow(&key) {
        add(flow, bytes, way);
    }
}

#[inline(always)]
fn begin(sk: Ptr, peer: &Peer, local: &Peer, local_port: u16, way: Way, flow: &mut UdpFlow) {
    flow.socket = sk.address();
    current_owner(&mut flow.owner);
    flow.excluded = u8::from(tcp::is_own(flow.owner.pid));
    flow.first_boot_ns = access::boot_ns();
    flow.peer_address = peer.address;
    flow.peer_port = peer.port as u16;
    flow.local_port = local_port;
    flow.netns = tcp::network_namespace(sk);
    let mut bytes = [0; 16];
    tcp::copy_address(
        sk,
        &mut bytes,
        offset!(sock_rcv_saddr),
        offset!(sock_v6_rcv_saddr),
    );
    flow.local_address = zerocopy::transmute!(bytes);
    let [high, low] = flow.local_address;
    if high == 0 && (low == 0 || low == V4_UNSPECIFIED) {
        // Bound to all addresses: the datagram knows which one it was sent to.
        flow.local_address = local.address;
    }
    flow.role = role_of(sk, flow, way);
}

/// A port that the kernel chose is a client's. A chosen one is a server's when it receives first; when it sends first, the
/// smaller port is the service's.
#[inline(always)]
fn role_of(sk: Ptr, flow: &UdpFlow, way: Way) -> u8 {
    let chosen = if offset!(sock_userlocks) == ABSENT {
        way == Way::Received
    } else {
        sk.read::<u8>(offset!(sock_userlocks)) & SOCK_BINDPORT_LOCK != 0
    };
    if chosen && (way == Way::Received || flow.local_port < flow.peer_port) {
        role::SERVER
    } else {
        role::CLIENT
    }
}

#[inline(always)]
fn flow(key: &UdpKey) -> Option<Shared<UdpFlow>> {
    let value = UDP_FLOWS.get_ptr_mut(key)?;
    // SAFETY: a map value.
    Some(unsafe { Shared::new(value) })
}

#[inline(always)]
fn is_with(flow: Shared<UdpFlow>, peer: &Peer) -> bool {
    let address = field!(flow.peer_address).pointer().cast::<u64>();
    // SAFETY: the two words of the address.
    let [high, low] = unsafe { [Shared::new(address), Shared::new(address.add(1))] };
    high.get() == peer.address[0] && low.get() == peer.address[1]
}

#[inline(always)]
fn add(flow: Shared<UdpFlow>, bytes: u64, way: Way) {
    match way {
        Way::Sent => {
            field!(flow.bytes_sent).add(bytes);
            field!(flow.packets_sent).add(1);
        }
        Way::Received => {
            field!(flow.bytes_received).add(bytes);
            field!(flow.packets_received).add(1);
        }
    }
}

/// The last word on a flow whose socket is gone.
#[inline(always)]
fn tell_end(flow: &UdpFlow) {
    if flow.excluded != 0 {
        return;
    }
    if let Some(record) = maps::reserve::<ConnectionRecord>() {
        *record = flow.record(phase::CLOSED, access::boot_ns());
        maps::send(record);
    }
}
