//! What the connections of one metric series did in an interval: the connection table fills it in, the network metrics read it.

use std::sync::Arc;

use crate::model::netflow::{ConnectError, Identity, Role, Transport};

/// Upper bounds of the round-trip time histogram in microseconds, inclusive.
pub const RTT_BOUNDS_US: [u32; 17] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000, 10_000_000,
];

/// [`RTT_BOUNDS_US`] in seconds.
pub const RTT_BOUNDS: [f64; RTT_BOUNDS_US.len()] = {
    let mut bounds = [0.0; RTT_BOUNDS_US.len()];
    let mut n = 0;
    while n < bounds.len() {
        bounds[n] = RTT_BOUNDS_US[n] as f64 / 1e6;
        n += 1;
    }
    bounds
};

/// Round-trip times: one for each connection that did something in the interval and measured one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rtts {
    /// By [`RTT_BOUNDS_US`]; the last is what lies above all of them.
    pub buckets: [u32; RTT_BOUNDS_US.len() + 1],
    /// Sum, microseconds.
    pub sum_us: u64,
}

impl Rtts {
    pub(super) fn record(&mut self, rtt_us: u32) {
        let bucket = RTT_BOUNDS_US.partition_point(|bound| *bound < rtt_us);
        self.buckets[bucket] += 1;
        self.sum_us += u64::from(rtt_us);
    }
}

/// What the connections of one series did in an interval.
#[derive(Clone, Copy, Debug)]
pub struct Usage<'a> {
    /// Whose connections they are.
    pub identity: &'a Arc<Identity>,
    /// TCP or UDP.
    pub transport: Transport,
    /// IPv4, or IPv6.
    pub ipv4: bool,
    /// Which end the local process is.
    pub role: Role,
    /// The server's port, if it is below 1024 or listened on by this host.
    pub server_port: Option<u16>,
    /// The sums of what had no room.
    pub overflow: bool,
    /// Bytes sent in the interval.
    pub bytes_sent: u64,
    /// Bytes received in the interval.
    pub bytes_received: u64,
    /// Datagrams sent in the interval.
    pub packets_sent: u64,
    /// Datagrams received in the interval.
    pub packets_received: u64,
    /// TCP segments sent again in the interval.
    pub retransmits: u64,
    /// TCP connections opened in the interval.
    pub opened: u64,
    /// TCP connections closed in the interval.
    pub closed: u64,
    /// TCP connections that failed in the interval, by [`ConnectError::ALL`].
    pub failed: [u64; ConnectError::ALL.len()],
    /// TCP connections that are open at the end of the interval.
    pub active: u64,
    /// Round-trip times.
    pub rtts: Rtts,
}
