//! UDP: who exchanged how many bytes and datagrams with which peer, counted per call that moved them.
//!
//! | hooks | kernels | a call's peer comes from |
//! | --- | --- | --- |
//! | `fexit/udp_sendmsg`, `udpv6_sendmsg`; `fentry/skb_consume_udp` | with trampolines | the call's message; the datagram's own headers |
//! | `tp_btf/sock_send_length`, `sock_recv_length`; `cgroup/recvmsg4`, `recvmsg6` | 6.3 and later | the system call's arguments, else the socket; the cgroup hook, else the socket |
//! | `cgroup/sendmsg4`, `sendmsg6` beside them | once [`counter::UDP_PEER_UNKNOWN`] moves | for calls whose arguments do not tell (sendmmsg, io_uring): the cgroup hook |
//!
//! A cgroup hook costs about 100 ns a call, even an empty one, so sending has it only where it is needed.
//!
//! What is counted are datagrams, not calls: [`datagrams`].

mod datagrams;
mod peer;

use aya_ebpf::{
    btf_maps::{self, ArrayOfMaps},
    macros::{btf_map, btf_tracepoint, cgroup_sock_addr, fentry, fexit, map},
    maps::{Array, HashMap},
    programs::{BtfTracePointContext, FEntryContext, FExitContext, SockAddrContext},
};
use netflume_ebpf::{ABSENT, UdpFlow, UdpKey, UdpTotals, counter, role};
use zerocopy::FromZeros;

use self::{
    datagrams::Batch,
    peer::{Peer, V4_UNSPECIFIED},
};
use crate::{
    access::{self, Ptr, current_owner, current_tgid, offset, setting},
    maps, own, scope,
    shared::{Shared, field},
    socket,
};

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const IPPROTO_UDP: u16 = 17;
const MSG_PEEK: u32 = 2;
const MSG_ERRQUEUE: u32 = 0x2000;
/// `sk_userlocks`: the process chose the port (include/net/sock.h).
const SOCK_BINDPORT_LOCK: u64 = 8;
/// `sk_shutdown`: nothing more is to be received (include/net/sock.h).
const RCV_SHUTDOWN: u8 = 1;
/// Of an IPv6 address in a message (`SIN6_LEN_RFC2133`).
const SIN6_LENGTH_MIN: u32 = 24;
/// Let the system call go on.
const ALLOW: i32 = 1;

/// What each socket exchanged with each peer in an interval. User space removes the entries of an interval only when no program
/// counts in them any more: it begins the next one ([`netflume_ebpf::Control::udp_epoch`]), waits ([`GRACE`]), reads, removes.
#[map]
pub static UDP_FLOWS: HashMap<UdpKey, UdpFlow> =
    HashMap::with_max_entries(65_536, maps::BPF_F_NO_PREALLOC);

/// What had no room there.
#[map]
pub static UDP_OVERFLOW: Array<UdpTotals> = Array::with_max_entries(1, 0);

/// No program uses it: who writes to a map of maps waits in the kernel until every running program is done.
#[btf_map]
static GRACE: ArrayOfMaps<btf_maps::Array<u64, 1>, 1> = ArrayOfMaps::new();

/// Which way the bytes went.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Sent,
    Received,
}

/// What one call moved.
struct Moved {
    peer: Peer,
    /// Which of the socket's addresses the datagram was sent to.
    local: Peer,
    bytes: u64,
    datagrams: u64,
    way: Way,
}

/// `udp_sendmsg(sk, msg, len)`, net/ipv4/udp.c; IPv4 destinations of IPv6 sockets pass here too.
#[fexit(function = "udp_sendmsg")]
pub fn udp_sendmsg(ctx: FExitContext) -> i32 {
    let sk = Ptr::new(ctx.arg(0));
    sent_by_message(sk, Ptr::new(ctx.arg(1)), ctx.arg(3));
    0
}

/// `udpv6_sendmsg(sk, msg, len)`, net/ipv6/udp.c.
#[fexit(function = "udpv6_sendmsg")]
pub fn udpv6_sendmsg(ctx: FExitContext) -> i32 {
    let sk = Ptr::new(ctx.arg(0));
    let message = Ptr::new(ctx.arg(1));
    // A message for an IPv4 address was handed to `udp_sendmsg`, which counted it. Its address was then on the stack of a function
    // that has returned: only the length is left to go by.
    let to_v4 = if message.load::<u64>(offset!(msghdr_name)) == 0 {
        Peer::connected(sk).is_v4()
    } else {
        message.load::<u32>(offset!(msghdr_namelen)) < SIN6_LENGTH_MIN
            || Peer::of_message(message).is_v4()
    };
    if !to_v4 {
        sent_by_message(sk, message, ctx.arg(3));
    }
    0
}

#[inline(always)]
fn sent_by_message(sk: Ptr, message: Ptr, result: i32) {
    if result < 0 || sk.load::<u16>(offset!(sock_protocol)) != IPPROTO_UDP {
        return;
    }
    if result == 0 && datagrams::is_probe(message.load(offset!(msghdr_flags))) {
        return;
    }
    let mut peer = if message.load::<u64>(offset!(msghdr_name)) == 0 {
        Peer::connected(sk)
    } else {
        Peer::of_message(message)
    };
    let bytes = result as u64;
    let batch = Batch::of_message(message);
    let datagrams = datagrams::sent(sk, bytes, batch, &mut peer);
    moved(
        sk,
        &Moved {
            peer,
            local: Peer::UNKNOWN,
            bytes,
            datagrams,
            way: Way::Sent,
        },
    );
}

/// `skb_consume_udp(sk, skb, len)`, net/ipv4/udp.c: a receive call is done with a datagram; negative when it only peeked.
#[fentry(function = "skb_consume_udp")]
pub fn skb_consume_udp(ctx: FEntryContext) -> i32 {
    let length: i32 = ctx.arg(2);
    let sk = Ptr::new(ctx.arg(0));
    if length < 0 || sk.load::<u16>(offset!(sock_protocol)) != IPPROTO_UDP {
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
    let bytes = length as u64;
    moved(
        sk,
        &Moved {
            peer: from,
            local: to,
            bytes,
            datagrams: datagrams::in_packet(skb, head, bytes),
            way: Way::Received,
        },
    );
    0
}

/// A send call ended (net/socket.c, `sock_sendmsg_nosec`).
#[btf_tracepoint(function = "sock_send_length")]
pub fn sock_send_length(ctx: BtfTracePointContext) -> i32 {
    let sk = Ptr::argument(&ctx, 0);
    let result: i32 = ctx.arg(1);
    if !is_udp(sk) {
        return 0;
    }
    let mut hooked = Peer::UNKNOWN;
    if hooks_on_send() {
        // Whatever became of the call: what its hook left must not reach the next one.
        peer::take(sk, peer::SENT, &mut hooked);
    }
    if result < 0 {
        return 0;
    }
    let mut peer = Peer::UNKNOWN;
    let mut batch = Batch::UNKNOWN;
    let mut flags = 0;
    datagrams::told_by_call(&mut peer, &mut batch, &mut flags);
    if result == 0 && datagrams::is_probe(flags) {
        return 0;
    }
    if hooked.port != 0 {
        peer = hooked;
    } else if peer.port == 0 {
        peer = Peer::connected(sk);
    }
    let bytes = result as u64;
    let datagrams = datagrams::sent(sk, bytes, batch, &mut peer);
    if peer.port == 0 {
        maps::count(counter::UDP_PEER_UNKNOWN);
    }
    moved(
        sk,
        &Moved {
            peer,
            local: Peer::UNKNOWN,
            bytes,
            datagrams,
            way: Way::Sent,
        },
    );
    0
}

/// A receive call ended (net/socket.c, `sock_recvmsg`).
#[btf_tracepoint(function = "sock_recv_length")]
pub fn sock_recv_length(ctx: BtfTracePointContext) -> i32 {
    let sk = Ptr::argument(&ctx, 0);
    let result: i32 = ctx.arg(1);
    let flags: u32 = ctx.arg(2);
    if !is_udp(sk) {
        return 0;
    }
    // Whatever became of the call: what its hook left must not reach the next one.
    let mut peer = Peer::UNKNOWN;
    peer::take(sk, peer::RECEIVED, &mut peer);
    // A look ahead, or something of the error queue: an ICMP error, a time stamp, a finished zero-copy send.
    if result < 0 || flags & (MSG_PEEK | MSG_ERRQUEUE) != 0 {
        return 0;
    }
    // The end of a socket that was shut down looks like an empty datagram.
    if result == 0
        && offset!(sock_shutdown) != ABSENT
        && sk.load::<u8>(offset!(sock_shutdown)) & RCV_SHUTDOWN != 0
    {
        return 0;
    }
    if peer.port == 0 {
        peer = Peer::connected(sk);
    }
    let bytes = result as u64;
    moved(
        sk,
        &Moved {
            peer,
            local: Peer::UNKNOWN,
            bytes,
            datagrams: datagrams::received_by_call(bytes),
            way: Way::Received,
        },
    );
    0
}

#[inline(always)]
fn is_udp(sk: Ptr) -> bool {
    let family: u16 = sk.load(offset!(sock_family));
    sk.load::<u16>(offset!(sock_protocol)) == IPPROTO_UDP
        && (family == AF_INET || family == AF_INET6)
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
    peer::keep(&ctx, peer::SENT, &peer::of_hook4(&ctx));
    ALLOW
}

/// Before an unconnected send; IPv6.
#[cgroup_sock_addr(sendmsg6)]
pub fn udp_sendmsg6(ctx: SockAddrContext) -> i32 {
    peer::keep(&ctx, peer::SENT, &peer::of_hook6(&ctx));
    ALLOW
}

/// After a receive that asks for the sender; IPv4.
#[cgroup_sock_addr(recvmsg4)]
pub fn udp_recvmsg4(ctx: SockAddrContext) -> i32 {
    peer::keep(&ctx, peer::RECEIVED, &peer::of_hook4(&ctx));
    ALLOW
}

/// After a receive that asks for the sender; IPv6.
#[cgroup_sock_addr(recvmsg6)]
pub fn udp_recvmsg6(ctx: SockAddrContext) -> i32 {
    peer::keep(&ctx, peer::RECEIVED, &peer::of_hook6(&ctx));
    ALLOW
}

/// Books one call.
#[inline(always)]
fn moved(sk: Ptr, call: &Moved) {
    let Some(control) = maps::control() else {
        return;
    };
    let mut peer = call.peer;
    let local_port: u16 = sk.load(offset!(sock_num));
    if peer.port >= setting!(udp_merge_from) && u64::from(local_port) < peer.port && chose_port(sk)
    {
        // A server's clients that differ only in the port.
        peer.port = 0;
    }
    let key = UdpKey {
        socket: sk.address(),
        inode: inode(sk),
        process: current_tgid() | field!(control.udp_epoch).get() << UdpKey::EPOCH_SHIFT,
        peer: peer.fold(),
    };
    if let Some(flow) = flow(&key) {
        if is_with(flow, &peer) {
            add(flow, call);
        } else {
            // Two IPv6 peers with one number.
            overflow(call);
        }
        return;
    }
    if !scope::contains(sk) {
        return;
    }
    let mut new = UdpFlow::new_zeroed();
    begin(sk, &peer, call, local_port, &mut new);
    if setting!(skip_loopback) != 0 && socket::is_loopback(&zerocopy::transmute!(new.peer_address))
    {
        return;
    }
    // Two threads may begin it at once: one entry wins, both count in it.
    if let Err(error) = UDP_FLOWS.insert(key, new, u64::from(maps::BPF_NOEXIST))
        && error != -maps::EEXIST
    {
        if new.excluded == 0 {
            overflow(call);
        }
        return;
    }
    match flow(&key) {
        Some(flow) => add(flow, call),
        None => overflow(call),
    }
}

#[inline(always)]
fn begin(sk: Ptr, peer: &Peer, call: &Moved, local_port: u16, flow: &mut UdpFlow) {
    current_owner(&mut flow.owner);
    if flow.owner.pid == 0 {
        // The kernel's own socket: no process has it.
        socket::creator(sk, &mut flow.owner);
    }
    flow.excluded = u8::from(own::is_own(flow.owner.pid));
    flow.first_boot_ns = access::boot_ns();
    flow.peer_address = peer.address;
    flow.peer_port = peer.port as u16;
    flow.local_port = local_port;
    flow.netns = socket::network_namespace(sk);
    let mut bytes = [0; 16];
    socket::copy_address(
        sk,
        &mut bytes,
        offset!(sock_rcv_saddr),
        offset!(sock_v6_rcv_saddr),
    );
    flow.local_address = zerocopy::transmute!(bytes);
    let [high, low] = flow.local_address;
    if high == 0 && (low == 0 || low == V4_UNSPECIFIED) {
        // Bound to all addresses: the datagram knows which one it was sent to.
        flow.local_address = call.local.address;
    }
    flow.role = role_of(sk, local_port, call);
}

/// A port that the kernel chose is a client's. A chosen one is a server's when it receives first; when it sends first, the
/// smaller port is the service's.
#[inline(always)]
fn role_of(sk: Ptr, local_port: u16, call: &Moved) -> u8 {
    let received = call.way == Way::Received;
    if chose_port(sk) && (received || u64::from(local_port) < call.peer.port) {
        role::SERVER
    } else {
        role::CLIENT
    }
}

/// The process chose the port.
#[inline(always)]
fn chose_port(sk: Ptr) -> bool {
    offset!(sock_userlocks) != ABSENT
        && u64::from(sk.load::<u8>(offset!(sock_userlocks))) >> setting!(userlocks_shift)
            & SOCK_BINDPORT_LOCK
            != 0
}

/// Number of the socket's inode; the kernel counts them up, and only 2³² sockets later does it come to the same one.
#[inline(always)]
fn inode(sk: Ptr) -> u32 {
    // Each step is a pointer whose type the kernel knows.
    let socket = Ptr::new(sk.load(offset!(sock_socket)));
    let file = Ptr::new(socket.load(offset!(socket_file)));
    let inode = Ptr::new(file.load(offset!(file_inode)));
    inode.load::<u64>(offset!(inode_number)) as u32
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
fn add(flow: Shared<UdpFlow>, call: &Moved) {
    match call.way {
        Way::Sent => {
            field!(flow.bytes_sent).add(call.bytes);
            field!(flow.packets_sent).add(call.datagrams);
        }
        Way::Received => {
            field!(flow.bytes_received).add(call.bytes);
            field!(flow.packets_received).add(call.datagrams);
        }
    }
}

/// Books a call that has no place of its own.
#[inline(always)]
fn overflow(call: &Moved) {
    maps::count(counter::UDP_FULL);
    let Some(totals) = UDP_OVERFLOW.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: a map value.
    let totals = unsafe { Shared::new(totals) };
    match call.way {
        Way::Sent => {
            field!(totals.bytes_sent).add(call.bytes);
            field!(totals.packets_sent).add(call.datagrams);
        }
        Way::Received => {
            field!(totals.bytes_received).add(call.bytes);
            field!(totals.packets_received).add(call.datagrams);
        }
    }
}
