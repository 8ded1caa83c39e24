//! What kernel programs and user space say to each other: record layouts, settings, counters, and the list of kernel
//! structure offsets. One definition for both sides.
//!
//! All numbers are in the byte order of the machine unless a field says otherwise. Every layout derives its byte conversions
//! from `zerocopy`, so that padding or a field that is not plain data fails the build.

#![no_std]
#![forbid(unsafe_code)]

mod offsets;

pub use offsets::{ABSENT, Field, Offsets};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Longest record, header included. User space refuses longer ones.
pub const MAX_RECORD_BYTES: usize = 1024;

/// First bytes of every record.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Header {
    /// Length of the record in bytes, this header included; a multiple of 8. A reader takes the fields that it knows and skips
    /// to the next record by this length.
    pub size: u16,
    /// What follows: [`kind`].
    pub kind: u16,
    /// Zero.
    pub reserved: u32,
    /// When the kernel made the record: CLOCK_BOOTTIME, nanoseconds.
    pub boot_ns: u64,
}

/// Values of [`Header::kind`].
pub mod kind {
    /// [`super::ConnectionRecord`].
    pub const CONNECTION: u16 = 1;
    /// [`super::ListenerRecord`].
    pub const LISTENER: u16 = 2;
    /// [`super::OverflowRecord`].
    pub const OVERFLOW: u16 = 3;
}

/// Values of [`ConnectionRecord::phase`].
pub mod phase {
    /// Seen alive.
    pub const OPEN: u8 = 1;
    /// Seen for the last time; the counters are final.
    pub const CLOSED: u8 = 2;
    /// Never established.
    pub const FAILED: u8 = 3;
}

/// Values of [`ConnectionRecord::role`].
pub mod role {
    /// Nothing told: the connection is older than the program.
    pub const UNKNOWN: u8 = 0;
    /// The local process connected.
    pub const CLIENT: u8 = 1;
    /// The local process accepted.
    pub const SERVER: u8 = 2;
}

/// Value of [`ConnectionRecord::error`]: the connect found no way, and the programs do not know why. User space puts the errno there.
pub const NO_WAY: u16 = u16::MAX;

/// Values of [`Control::connects`]: what reports connects that find no way.
pub mod connects {
    /// Nothing.
    pub const NONE: u32 = 0;
    /// The return of the kernel's own connect functions.
    pub const RETURNS: u32 = 1;
    /// Hooks at the beginning of each attempt.
    pub const ATTEMPTS: u32 = 2;
}

/// Values of `transport`: the IP protocol numbers.
pub mod transport {
    /// RFC 9293.
    pub const TCP: u8 = 6;
    /// RFC 768.
    pub const UDP: u8 = 17;
}

/// The process that owns a socket.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct OwnerRecord {
    /// Kernel's tgid in the initial pid namespace. Zero: unknown.
    pub pid: u32,
    /// Real user id; of the socket's creator while `pid` is unknown.
    pub uid: u32,
    /// Inode (kernfs id) of the cgroup v2 directory. Zero: unknown.
    pub cgroup_id: u64,
    /// Name of the task, NUL padded.
    pub comm: [u8; 16],
}

impl OwnerRecord {
    /// Nothing known.
    pub const NONE: Self = Self {
        pid: 0,
        uid: 0,
        cgroup_id: 0,
        comm: [0; 16],
    };
}

/// One observation of one connection; counters are totals since it was opened.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct ConnectionRecord {
    /// Kind [`kind::CONNECTION`].
    pub header: Header,
    /// Identity while the connection lives: the address of the kernel's socket. Never leaves the program.
    pub id: u64,
    /// When it was opened, CLOCK_BOOTTIME nanoseconds. Zero: before the program watched.
    pub opened_boot_ns: u64,
    /// The process.
    pub owner: OwnerRecord,
    /// Network byte order; IPv4 is v4-mapped.
    pub local_address: [u8; 16],
    /// Network byte order; IPv4 is v4-mapped.
    pub peer_address: [u8; 16],
    /// Host byte order.
    pub local_port: u16,
    /// Host byte order.
    pub peer_port: u16,
    /// Inode of the network namespace.
    pub netns: u32,
    /// Payload bytes sent, those sent again counted once.
    pub bytes_sent: u64,
    /// Payload bytes received in order.
    pub bytes_received: u64,
    /// Datagrams sent; zero for TCP.
    pub packets_sent: u64,
    /// Datagrams received; zero for TCP.
    pub packets_received: u64,
    /// TCP segments sent again.
    pub retransmits: u32,
    /// Smoothed round-trip time, microseconds. Zero: not measured.
    pub rtt_us: u32,
    /// Its mean deviation, microseconds.
    pub rtt_var_us: u32,
    /// errno that ended the connection, positive. Zero: none.
    pub error: u16,
    /// [`phase`].
    pub phase: u8,
    /// [`role`].
    pub role: u8,
    /// [`transport`].
    pub transport: u8,
    /// One: a subflow of Multipath TCP after the first. The ends are those of the connection that it belongs to.
    pub part: u8,
    /// Zero.
    pub reserved: [u8; 2],
    /// While the owner is unknown: a number for the credentials with which a process accepted it. Zero: none did.
    pub acceptor: u32,
}

/// A socket that waits for connections, or went away.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct ListenerRecord {
    /// Kind [`kind::LISTENER`].
    pub header: Header,
    /// The process.
    pub owner: OwnerRecord,
    /// Network byte order; IPv4 is v4-mapped; unspecified: all addresses.
    pub local_address: [u8; 16],
    /// Host byte order.
    pub local_port: u16,
    /// [`transport`].
    pub transport: u8,
    /// One: it listens. Zero: it was closed.
    pub listening: u8,
    /// Inode of the network namespace.
    pub netns: u32,
    /// Identity while it lives: the address of the kernel's socket. Never leaves the program.
    pub id: u64,
    /// A number for the credentials of the process, which no other living process has.
    pub credentials: u32,
    /// Zero.
    pub reserved: u32,
}

/// What exchanges that had no room of their own moved since the record before.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct OverflowRecord {
    /// Kind [`kind::OVERFLOW`].
    pub header: Header,
    /// Payload bytes sent.
    pub bytes_sent: u64,
    /// Payload bytes received.
    pub bytes_received: u64,
    /// Datagrams sent.
    pub packets_sent: u64,
    /// Datagrams received.
    pub packets_received: u64,
    /// [`transport`].
    pub transport: u8,
    /// Zero.
    pub reserved: [u8; 7],
}

/// Key of the map `UDP_FLOWS`: a socket, a process that uses it, and a peer.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct UdpKey {
    /// Address of the kernel's socket; the kernel may give it to another socket later.
    pub socket: u64,
    /// Number of the socket's inode: with the address, the socket's identity.
    pub inode: u32,
    /// The process that called (kernel's tgid, below 2²²), and from bit [`Self::EPOCH_SHIFT`] on [`Control::udp_epoch`].
    pub process: u32,
    /// The peer's address and port in one word: unique for IPv4, very likely so for IPv6. [`UdpFlow`] has them in full.
    pub peer: u64,
}

impl UdpKey {
    /// The bit of `process` for the interval that the entry belongs to.
    pub const EPOCH_SHIFT: u32 = 31;

    /// The interval's number modulo two.
    #[must_use]
    pub const fn epoch(&self) -> u32 {
        self.process >> Self::EPOCH_SHIFT
    }

    /// The same in every interval.
    #[must_use]
    pub const fn without_epoch(self) -> Self {
        Self {
            process: self.process & !(1 << Self::EPOCH_SHIFT),
            ..self
        }
    }
}

/// Value of the map `UDP_OVERFLOW`: totals that only grow.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct UdpTotals {
    /// Payload bytes sent.
    pub bytes_sent: u64,
    /// Payload bytes received.
    pub bytes_received: u64,
    /// Datagrams sent.
    pub packets_sent: u64,
    /// Datagrams received.
    pub packets_received: u64,
    /// Not a total: one once any socket had an unfinished datagram.
    pub corked: u64,
}

/// Value of the map `UDP_FLOWS`: what one socket exchanged with one peer in one interval.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct UdpFlow {
    /// Who called.
    pub owner: OwnerRecord,
    /// The first call: CLOCK_BOOTTIME, nanoseconds.
    pub first_boot_ns: u64,
    /// Memory order, v4-mapped for IPv4; unspecified where the socket is not bound to one address.
    pub local_address: [u64; 2],
    /// Memory order, v4-mapped for IPv4; zero where no call named it.
    pub peer_address: [u64; 2],
    /// Bytes that send calls took.
    pub bytes_sent: u64,
    /// Bytes that receive calls gave.
    pub bytes_received: u64,
    /// Datagrams sent: parts of a batch are datagrams, calls that add to an unfinished one are none.
    pub packets_sent: u64,
    /// Datagrams received.
    pub packets_received: u64,
    /// Host byte order.
    pub local_port: u16,
    /// Host byte order; zero where no call named it, and where the server's clients are merged.
    pub peer_port: u16,
    /// Inode of the network namespace.
    pub netns: u32,
    /// [`role`].
    pub role: u8,
    /// One: our own; nothing is told.
    pub excluded: u8,
    /// Zero.
    pub reserved: [u8; 6],
}

impl UdpFlow {
    /// The flow as a record of its own.
    #[must_use]
    #[inline(always)]
    pub fn record(&self, key: &UdpKey, phase: u8, boot_ns: u64) -> ConnectionRecord {
        ConnectionRecord {
            header: Header {
                size: size_of::<ConnectionRecord>() as u16,
                kind: kind::CONNECTION,
                reserved: 0,
                boot_ns,
            },
            id: key.socket.wrapping_mul(0x9e37_79b9_7f4a_7c15)
                ^ (u64::from(key.inode) << 32 | u64::from(key.without_epoch().process))
                    .wrapping_mul(0xff51_afd7_ed55_8ccd)
                ^ self.peer_address[0].wrapping_mul(0xc2b2_ae3d_27d4_eb4f)
                ^ self.peer_address[1].wrapping_mul(0x1656_67b1_9e37_79f9)
                ^ u64::from(self.peer_port).wrapping_mul(0x27d4_eb2f_1656_67c5)
                ^ self.first_boot_ns,
            opened_boot_ns: self.first_boot_ns,
            owner: self.owner,
            local_address: zerocopy::transmute!(self.local_address),
            peer_address: zerocopy::transmute!(self.peer_address),
            local_port: self.local_port,
            peer_port: self.peer_port,
            netns: self.netns,
            bytes_sent: self.bytes_sent,
            bytes_received: self.bytes_received,
            packets_sent: self.packets_sent,
            packets_received: self.packets_received,
            retransmits: 0,
            rtt_us: 0,
            rtt_var_us: 0,
            error: 0,
            phase,
            role: self.role,
            transport: transport::UDP,
            part: 0,
            reserved: [0; 2],
            acceptor: 0,
        }
    }
}

/// What the loader tells the programs, as read-only constants.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Settings {
    /// Only sockets of this network namespace (inode number). Zero: all.
    pub scope_netns: u64,
    /// One: leave out connections whose two ends are the same host by a loopback address.
    pub skip_loopback: u64,
    /// One: TCP connections are recorded.
    pub tcp: u64,
    /// One: UDP exchanges are recorded.
    pub udp: u64,
    /// Bytes that wait in the ring before its reader is woken; a power of two.
    pub wakeup_bytes: u64,
    /// One: the kernel has the helper that gives a file's socket (5.11 and later).
    pub sock_from_file: u64,
    /// By how many bits the byte of `sk_userlocks` is to be shifted.
    pub userlocks_shift: u64,
    /// Number of the system call `sendto` on this architecture.
    pub call_sendto: u64,
    /// Number of the system call `sendmsg` on this architecture.
    pub call_sendmsg: u64,
    /// Number of the system call `recvmsg` on this architecture.
    pub call_recvmsg: u64,
    /// Clients of a UDP server that differ only in their port are one exchange, if the port is not below this. Above 65,535: none.
    pub udp_merge_from: u64,
}

impl Settings {
    /// How many 64-bit words it has.
    pub const WORDS: usize = size_of::<Self>() / 8;

    /// As words, for the loader.
    #[must_use]
    pub fn words(&self) -> [u64; Self::WORDS] {
        zerocopy::transmute!(*self)
    }
}

/// What user space tells the running programs: the one value of the map `CONTROL`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Control {
    /// With a network namespace as scope: only sockets whose creator lives in this cgroup (v2, inode number) or below. Zero: all.
    pub scope_cgroup: u64,
    /// Own cgroup. Learnt with `own_tgid`, as what follows.
    pub own_cgroup: u64,
    /// The cgroup around it; zero if there is none.
    pub parent_cgroup: u64,
    /// Ancestors of `scope_cgroup`.
    pub scope_cgroup_level: u32,
    /// Ancestors of `own_cgroup`.
    pub own_cgroup_level: u32,
    /// The host's own network namespace.
    pub host_netns: u32,
    /// Own process, the kernel's tgid: its sockets are left out. Learnt by the first iterator pass, which runs as ourselves.
    pub own_tgid: u32,
    /// Number of the iterator pass, so that a socket with several descriptors is told once a pass. Zero: only learn who we are.
    pub pass: u32,
    /// One: the cgroup hooks on sending are attached and tell every unconnected destination.
    pub udp_send_hooks: u32,
    /// Number of the interval modulo two: UDP calls count in entries of this one.
    pub udp_epoch: u32,
    /// [`connects`].
    pub connects: u32,
}

/// Slots of the per-CPU map `COUNTERS`; each is a total that only grows.
pub mod counter {
    /// Records that the ring had no room for.
    pub const RING_FULL: u32 = 0;
    /// Connections that the connection map had no room for: told without owner or opening time.
    pub const CONNECTIONS_FULL: u32 = 1;
    /// UDP calls whose exchange the map had no room for: counted in `UDP_OVERFLOW`.
    pub const UDP_FULL: u32 = 2;
    /// UDP calls whose peer neither the socket nor the call's arguments told.
    pub const UDP_PEER_UNKNOWN: u32 = 3;
    /// Connections that were remembered, counted before they are.
    pub const REMEMBERED: u32 = 4;
    /// Connections that were forgotten, counted after they are.
    pub const FORGOTTEN: u32 = 5;
    /// Remembered connections that passes came to, each once a pass.
    pub const SEEN: u32 = 6;
    /// How many slots there are.
    pub const COUNT: u32 = 7;
}
