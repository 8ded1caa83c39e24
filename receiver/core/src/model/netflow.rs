//! What the kernel sources say about connections: one [`ConnectionState`] per observation, TCP and UDP alike.
//!
//! All counters are running totals of one connection since it was opened (or since the program first saw it), so that an
//! observation may be lost or repeated without harm; [`crate::aggregate::netflow`] makes deltas of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use crate::model::resource::ResourceRef;

/// An address and port as the kernel keeps it: IPv4 is held v4-mapped, so that both families share one key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Endpoint {
    /// Network byte order; `::ffff:a.b.c.d` for IPv4.
    pub address: [u8; 16],
    /// Host byte order. Zero: unknown.
    pub port: u16,
}

impl Endpoint {
    /// The address in its own family: v4-mapped ones are IPv4.
    #[must_use]
    pub fn ip(&self) -> IpAddr {
        Ipv6Addr::from(self.address).to_canonical()
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(value: SocketAddr) -> Self {
        let address = match value.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
            IpAddr::V6(ip) => ip.octets(),
        };
        Self {
            address,
            port: value.port(),
        }
    }
}

impl From<(Ipv4Addr, u16)> for Endpoint {
    fn from((ip, port): (Ipv4Addr, u16)) -> Self {
        Self {
            address: ip.to_ipv6_mapped().octets(),
            port,
        }
    }
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", SocketAddr::new(self.ip(), self.port))
    }
}

/// `network.transport`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// TCP, RFC 9293.
    Tcp,
    /// UDP, RFC 768.
    Udp,
}

/// Which end of the connection the local process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// The local process connected (or sent the first datagram): it is the client.
    Client,
    /// The local process accepted (or is bound to a chosen port): it is the server.
    Server,
    /// Nothing told.
    Unknown,
}

/// Why a connection failed; [`ConnectError::as_str`] is its `error.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConnectError {
    /// ECONNREFUSED: the peer answered the SYN with RST.
    Refused,
    /// ETIMEDOUT: no answer.
    TimedOut,
    /// ECONNRESET: RST on an established connection (or EPIPE after it).
    Reset,
    /// EHOSTUNREACH or ENETUNREACH: there is no route.
    Unreachable,
    /// EACCES or EPERM: a route or a filter of this host forbids it.
    Prohibited,
    /// EINVAL: a route throws it away.
    Blackhole,
    /// EADDRNOTAVAIL: no free port, or no such local address.
    AddressNotAvailable,
    /// Any other errno.
    Other,
}

impl ConnectError {
    /// All of them, in order of declaration.
    pub const ALL: [Self; 8] = [
        Self::Refused,
        Self::TimedOut,
        Self::Reset,
        Self::Unreachable,
        Self::Prohibited,
        Self::Blackhole,
        Self::AddressNotAvailable,
        Self::Other,
    ];

    /// The `error.type` of the metric and the record.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "connection_refused",
            Self::TimedOut => "timeout",
            Self::Reset => "connection_reset",
            Self::Unreachable => "unreachable",
            Self::Prohibited => "prohibited",
            Self::Blackhole => "blackhole",
            Self::AddressNotAvailable => "address_not_available",
            Self::Other => "_OTHER",
        }
    }
}

/// Who owns the socket, as far as the kernel told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Owner {
    /// Process id as user space sees it (the kernel's tgid), in the initial pid namespace. Zero: unknown.
    pub pid: u32,
    /// Effective user id. Meaningless while `pid` is zero.
    pub uid: u32,
    /// Inode of the cgroup v2 directory. Zero: unknown.
    pub cgroup_id: u64,
    /// Name of the task, NUL padded (15 bytes at most).
    pub comm: [u8; 16],
}

/// Where in its life a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Seen alive.
    Open,
    /// Seen for the last time, with its final counters.
    Closed,
    /// Never established: the counters are zero.
    Failed,
}

/// One observation of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionState {
    /// Identity while the connection lives (the kernel's socket address or cookie); may be reused after [`Phase::Closed`].
    /// For UDP: of the (socket, peer) pair.
    pub id: u64,
    /// When the kernel read the counters, nanoseconds since boot.
    pub boot_time_ns: u64,
    /// When it was opened, nanoseconds since boot. Zero: before the program started watching.
    pub opened_boot_time_ns: u64,
    /// TCP or UDP.
    pub transport: Transport,
    /// Open, closed or failed.
    pub phase: Phase,
    /// Client, server or unknown.
    pub role: Role,
    /// The end on this host.
    pub local: Endpoint,
    /// The other end.
    pub peer: Endpoint,
    /// Inode of the network namespace.
    pub netns: u32,
    /// The process.
    pub owner: Owner,
    /// Payload bytes that the process handed over and the kernel took, retransmissions not counted twice.
    pub bytes_sent: u64,
    /// Payload bytes that arrived in order (TCP) or that calls returned (UDP).
    pub bytes_received: u64,
    /// Datagrams; zero for TCP.
    pub packets_sent: u64,
    /// Datagrams; zero for TCP.
    pub packets_received: u64,
    /// TCP segments sent again.
    pub retransmits: u32,
    /// Smoothed round-trip time, microseconds. Zero: not measured.
    pub rtt_us: u32,
    /// Mean deviation of the round-trip time, microseconds.
    pub rtt_var_us: u32,
    /// Why it failed or was torn down, if it was.
    pub error: Option<ConnectError>,
    /// The credentials with which it was accepted, a number that distinguishes processes; zero: not accepted, or the owner is known.
    pub acceptor: u32,
    /// A later subflow of a Multipath TCP connection whose ends it has: it moves bytes for it, and does not open or end it.
    pub part: bool,
}

impl Default for ConnectionState {
    fn default() -> Self {
        Self {
            id: 0,
            boot_time_ns: 0,
            opened_boot_time_ns: 0,
            transport: Transport::Tcp,
            phase: Phase::Open,
            role: Role::Unknown,
            local: Endpoint::default(),
            peer: Endpoint::default(),
            netns: 0,
            owner: Owner::default(),
            bytes_sent: 0,
            bytes_received: 0,
            packets_sent: 0,
            packets_received: 0,
            retransmits: 0,
            rtt_us: 0,
            rtt_var_us: 0,
            error: None,
            acceptor: 0,
            part: false,
        }
    }
}

/// A socket that waits for connections (TCP) or is bound to a chosen port (UDP): what makes an accepted connection incoming. One
/// observation for each process that holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Identity while it lives: several may share an address and port.
    pub id: u64,
    /// TCP or UDP.
    pub transport: Transport,
    /// Inode of the network namespace.
    pub netns: u32,
    /// Its address (unspecified: all) and port.
    pub local: Endpoint,
    /// The process.
    pub owner: Owner,
    /// Of this process; as in [`ConnectionState::acceptor`].
    pub credentials: u32,
    /// False when the listener was closed.
    pub listening: bool,
}

impl Default for Listener {
    fn default() -> Self {
        Self {
            id: 0,
            transport: Transport::Tcp,
            netns: 0,
            local: Endpoint::default(),
            owner: Owner::default(),
            credentials: 0,
            listening: false,
        }
    }
}

/// What exchanges moved that had no room of their own in the kernel, since the event before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overflow {
    /// TCP or UDP.
    pub transport: Transport,
    /// Payload bytes sent.
    pub bytes_sent: u64,
    /// Payload bytes received.
    pub bytes_received: u64,
    /// Datagrams sent.
    pub packets_sent: u64,
    /// Datagrams received.
    pub packets_received: u64,
}

/// What the kernel source hands to the pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelEvent {
    /// A connection was seen.
    Connection(ConnectionState),
    /// A listening socket was seen, or went away.
    Listener(Listener),
    /// Exchanges without room of their own moved something.
    Overflow(Overflow),
}

/// Seen from the local end: who started it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// The local end is the server.
    Incoming,
    /// The local end is the client.
    Outgoing,
    /// Unknown: the connection is older than the program.
    Unknown,
}

/// The process that owns one end, with names captured while it lived.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Process {
    /// Process id. Zero: unknown.
    pub pid: u32,
    /// `process.executable.name`, else the kernel's `comm`.
    pub executable_name: String,
    /// `process.executable.path`, if it could be read.
    pub executable_path: Option<String>,
    /// `process.command_line`, if it could be read.
    pub command_line: Option<String>,
    /// `container.id`, 64 hex digits, if its cgroup names one.
    pub container_id: Option<String>,
}

/// Who a socket belongs to: what stands in its records, and whose resource they are.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Identity {
    /// The process.
    pub process: Arc<Process>,
    /// Its container, unit or host.
    pub resource: ResourceRef,
}

/// Kubernetes names of one end.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct KubernetesNames {
    /// Namespace.
    pub namespace: Option<String>,
    /// Pod.
    pub pod: Option<String>,
    /// Workload (Deployment, StatefulSet, …).
    pub deployment: Option<String>,
    /// Service.
    pub service: Option<String>,
}

/// What a flow did in one interval, under the names of DataKit's `netflow` set; written out by [`crate::otlp::logs`].
#[derive(Clone, Debug, PartialEq)]
pub struct NetflowRecord {
    /// End of the interval, nanoseconds since 1970.
    pub unix_ns: u64,
    /// TCP or UDP.
    pub transport: Transport,
    /// Incoming or outgoing.
    pub direction: Direction,
    /// Whether `direction` was told by the kernel or a listening port, not assumed.
    pub role: Role,
    /// `src_*`: the local end.
    pub local: Endpoint,
    /// `dst_*`: the other end.
    pub peer: Endpoint,
    /// The client's port was merged away: it is written as `*` (local port when outgoing, peer port when incoming).
    pub client_port_masked: bool,
    /// True for the row that holds what had no room in the table; its addresses are unspecified.
    pub overflow: bool,
    /// `dst_nat_*`: the destination after translation.
    pub peer_nat: Option<Endpoint>,
    /// `dst_domain`.
    pub peer_domain: Option<Arc<str>>,
    /// `src_k8s_*`.
    pub local_kubernetes: Option<Arc<KubernetesNames>>,
    /// `dst_k8s_*`.
    pub peer_kubernetes: Option<Arc<KubernetesNames>>,
    /// `pid`, `process_name`.
    pub process: Arc<Process>,
    /// Inode of the network namespace.
    pub netns: u32,
    /// Some of the connections are older than the program.
    pub preexisting: bool,
    /// Bytes that the local process received in the interval.
    pub bytes_read: u64,
    /// Bytes that the local process sent in the interval.
    pub bytes_written: u64,
    /// Datagrams received (UDP).
    pub packets_read: u64,
    /// Datagrams sent (UDP).
    pub packets_written: u64,
    /// TCP segments sent again in the interval.
    pub retransmits: u64,
    /// Smoothed round-trip time, µs, averaged over the merged connections that measured one. Zero: none did.
    pub rtt_us: u32,
    /// Its mean deviation, µs, averaged likewise.
    pub rtt_var_us: u32,
    /// Connections that closed in the interval.
    pub tcp_closed: u64,
    /// Connections that opened in the interval.
    pub tcp_established: u64,
    /// Connections that failed in the interval, with why; only reasons that occurred.
    pub failed: Vec<(ConnectError, u64)>,
    /// Whose record it is.
    pub resource: ResourceRef,
}
