//! `network.*` metrics from the sums of the connection table: the same changes that the records tell.
//!
//! Attributes are `network.transport`, `network.type`, the role of the local end, the server's port (well-known, or listened on by
//! this host) and the executable; whose they are is the resource. What is unknown is left out. Connections are TCP's: UDP has none.

use std::sync::Arc;

use crate::aggregate::series::{Instrument, Kind, Options, SeriesSet};
use crate::aggregate::usage::{RTT_BOUNDS, Usage};
use crate::model::metrics::{AttributeValue, ResourceMetrics};
use crate::model::netflow::{ConnectError, Role, Transport};
use crate::model::resource::{ResourceRef, Value};
use crate::semconv::{attribute, metric, scope, unit, value};

/// In order of their names, as [`INSTRUMENTS`].
mod place {
    pub(super) const ACTIVE: usize = 0;
    pub(super) const CLOSED: usize = 1;
    pub(super) const FAILED: usize = 2;
    pub(super) const OPENED: usize = 3;
    pub(super) const IO: usize = 4;
    pub(super) const PACKETS: usize = 5;
    pub(super) const RETRANSMITS: usize = 6;
    pub(super) const RTT: usize = 7;
}

const INSTRUMENTS: &[Instrument] = &[
    Instrument {
        name: metric::NETWORK_CONNECTION_ACTIVE,
        unit: unit::CONNECTIONS,
        description: "TCP connections that are open.",
        kind: Kind::Level,
    },
    Instrument {
        name: metric::NETWORK_CONNECTION_CLOSED,
        unit: unit::CONNECTIONS,
        description: "TCP connections that closed.",
        kind: Kind::Counter,
    },
    Instrument {
        name: metric::NETWORK_CONNECTION_FAILED,
        unit: unit::CONNECTIONS,
        description: "Connections that were not established, or that an error ended.",
        kind: Kind::Counter,
    },
    Instrument {
        name: metric::NETWORK_CONNECTION_OPENED,
        unit: unit::CONNECTIONS,
        description: "TCP connections that opened.",
        kind: Kind::Counter,
    },
    Instrument {
        name: metric::NETWORK_FLOW_IO,
        unit: unit::BYTES,
        description: "Payload bytes that processes sent and received.",
        kind: Kind::Counter,
    },
    Instrument {
        name: metric::NETWORK_FLOW_PACKET_COUNT,
        unit: unit::PACKETS,
        description: "UDP datagrams that processes sent and received.",
        kind: Kind::Counter,
    },
    Instrument {
        name: metric::NETWORK_TCP_RETRANSMIT_COUNT,
        unit: unit::SEGMENTS,
        description: "TCP segments that were sent again.",
        kind: Kind::Counter,
    },
    Instrument {
        name: metric::NETWORK_TCP_RTT,
        unit: unit::SECONDS,
        description: "Smoothed round-trip time of each TCP connection that did something in the interval.",
        kind: Kind::Histogram(&RTT_BOUNDS),
    },
];

/// The network metrics of this host.
#[derive(Clone, Debug)]
pub struct NetworkMetrics {
    series: SeriesSet,
    /// Reused for every series.
    attributes: Vec<(&'static str, AttributeValue)>,
}

impl NetworkMetrics {
    /// No series yet. `host` is the resource of what belongs to nobody; `unix_ns` is now.
    #[must_use]
    pub fn new(options: Options, host: &ResourceRef, unix_ns: u64) -> Self {
        Self {
            series: SeriesSet::new(scope::NETFLOW, INSTRUMENTS, options, host, unix_ns),
            attributes: Vec::new(),
        }
    }

    /// Adds the sums of one series over the interval.
    pub fn apply(&mut self, usage: &Usage<'_>) {
        self.describe(usage);
        let sent = Some((attribute::NETWORK_IO_DIRECTION, value::TRANSMIT));
        let received = Some((attribute::NETWORK_IO_DIRECTION, value::RECEIVE));
        if usage.active == 0 && usage.opened + usage.closed > 0 {
            // Opened and closed within the interval: there were connections, and there is none now.
            self.series
                .add(&usage.identity.resource, place::ACTIVE, &self.attributes, 0);
        }
        self.add(usage, place::ACTIVE, None, usage.active);
        self.add(usage, place::CLOSED, None, usage.closed);
        for (error, count) in ConnectError::ALL.into_iter().zip(usage.failed) {
            let why = Some((attribute::ERROR_TYPE, error.as_str()));
            self.add(usage, place::FAILED, why, count);
        }
        self.add(usage, place::OPENED, None, usage.opened);
        self.add(usage, place::IO, sent, usage.bytes_sent);
        self.add(usage, place::IO, received, usage.bytes_received);
        self.add(usage, place::PACKETS, sent, usage.packets_sent);
        self.add(usage, place::PACKETS, received, usage.packets_received);
        self.add(usage, place::RETRANSMITS, None, usage.retransmits);
        if usage.rtts.buckets.iter().any(|count| *count > 0) {
            let counts = usage.rtts.buckets.iter().map(|count| u64::from(*count));
            let seconds = usage.rtts.sum_us as f64 / 1e6;
            let resource = &usage.identity.resource;
            self.series
                .add_histogram(resource, place::RTT, &self.attributes, counts, seconds);
        }
    }

    /// Adds to a series that has one attribute `more` than the others. The overflow series never has.
    fn add(
        &mut self,
        usage: &Usage<'_>,
        instrument: usize,
        more: Option<(&'static str, &'static str)>,
        change: u64,
    ) {
        if change == 0 {
            return;
        }
        let at = more.filter(|_| !usage.overflow).map(|(name, text)| {
            let at = self.attributes.partition_point(|(known, _)| *known < name);
            self.attributes.insert(at, (name, static_text(text)));
            at
        });
        let change = i64::try_from(change).unwrap_or(i64::MAX);
        self.series.add(
            &usage.identity.resource,
            instrument,
            &self.attributes,
            change,
        );
        if let Some(at) = at {
            self.attributes.remove(at);
        }
    }

    /// The points at the end of the interval.
    pub fn collect(&mut self, unix_ns: u64) -> Vec<ResourceMetrics> {
        self.series.collect(unix_ns)
    }

    /// The totals of this moment; changes nothing.
    #[must_use]
    pub fn totals(&self, unix_ns: u64) -> Vec<ResourceMetrics> {
        self.series.totals(unix_ns)
    }

    /// Series that live.
    #[must_use]
    pub fn series(&self) -> usize {
        self.series.len()
    }

    /// Changes that went into an overflow series, since the start.
    #[must_use]
    pub fn overflowed(&self) -> u64 {
        self.series.overflowed()
    }

    /// The attributes that all metrics of a series have, sorted by name.
    fn describe(&mut self, usage: &Usage<'_>) {
        self.attributes.clear();
        if usage.overflow {
            let overflow = (attribute::OTEL_METRIC_OVERFLOW, AttributeValue::Bool(true));
            self.attributes.push(overflow);
            return;
        }
        let role = match usage.role {
            Role::Client => Some(value::CLIENT),
            Role::Server => Some(value::SERVER),
            Role::Unknown => None,
        };
        let transport = match usage.transport {
            Transport::Tcp => value::TCP,
            Transport::Udp => value::UDP,
        };
        let family = if usage.ipv4 { value::IPV4 } else { value::IPV6 };
        let mut push = |name, value| self.attributes.push((name, value));
        if let Some(role) = role {
            push(attribute::NETWORK_CONNECTION_ROLE, static_text(role));
        }
        push(attribute::NETWORK_TRANSPORT, static_text(transport));
        push(attribute::NETWORK_TYPE, static_text(family));
        let executable = &usage.identity.process.executable_name;
        if !executable.is_empty() {
            let name = Value::Text(Arc::from(executable.as_str()));
            push(
                attribute::PROCESS_EXECUTABLE_NAME,
                AttributeValue::Value(name),
            );
        }
        if let Some(port) = usage.server_port {
            let port = AttributeValue::Value(Value::Int(port.into()));
            push(attribute::SERVER_PORT, port);
        }
    }
}

fn static_text(text: &'static str) -> AttributeValue {
    AttributeValue::Value(Value::Text(text.into()))
}

#[cfg(test)]
#[path = "network_metrics_tests.rs"]
mod tests;
