//! Names, units and attributes of the network metrics. That their totals are those of the records is shown beside the
//! connection table.

use super::*;
use crate::aggregate::usage::{RTT_BOUNDS_US, Rtts};
use crate::model::metrics::{Attributes, Data, Number};
use crate::model::netflow::{Identity, Process};

fn identity(name: &str) -> Arc<Identity> {
    Arc::new(Identity {
        process: Arc::new(Process {
            pid: 7,
            executable_name: name.into(),
            ..Process::default()
        }),
        resource: ResourceRef::default(),
    })
}

fn usage(identity: &Arc<Identity>) -> Usage<'_> {
    Usage {
        identity,
        transport: Transport::Tcp,
        ipv4: true,
        role: Role::Client,
        server_port: Some(443),
        overflow: false,
        bytes_sent: 0,
        bytes_received: 0,
        packets_sent: 0,
        packets_received: 0,
        retransmits: 0,
        opened: 0,
        closed: 0,
        failed: [0; ConnectError::ALL.len()],
        active: 0,
        rtts: Rtts::default(),
    }
}

fn metrics() -> NetworkMetrics {
    NetworkMetrics::new(Options::default(), &ResourceRef::default(), 0)
}

fn text(attributes: &Attributes) -> String {
    let all: Vec<_> = attributes
        .iter()
        .map(|(name, value)| match value {
            AttributeValue::Value(Value::Text(text)) => format!("{name}={text}"),
            AttributeValue::Value(Value::Int(value)) => format!("{name}={value}"),
            AttributeValue::Value(other) => format!("{name}={other:?}"),
            AttributeValue::Bool(value) => format!("{name}={value}"),
        })
        .collect();
    all.join(" ")
}

/// `name unit monotonic attributes: value`
fn told(metrics: &mut NetworkMetrics) -> Vec<String> {
    let mut lines = Vec::new();
    for metric in metrics.collect(1).into_iter().flat_map(|of| of.metrics) {
        let head = format!("{} {}", metric.name, metric.unit);
        match metric.data {
            Data::Sum {
                monotonic, points, ..
            } => lines.extend(points.iter().map(|point| {
                let Number::Int(value) = point.value else {
                    panic!("{point:?}")
                };
                let sign = if monotonic { "+" } else { "±" };
                format!("{head} {sign} {}: {value}", text(&point.attributes))
            })),
            Data::Histogram { points, .. } => lines.extend(points.iter().map(|point| {
                let count: u64 = point.bucket_counts.iter().sum();
                format!("{head} {}: {count} {}", text(&point.attributes), point.sum)
            })),
            Data::Gauge(_) => panic!("no gauges here"),
        }
    }
    lines
}

#[test]
fn every_metric_has_its_name_unit_kind_and_attributes() {
    let curl = identity("curl");
    let mut metrics = metrics();
    let mut rtts = Rtts::default();
    rtts.buckets[3] = 2;
    rtts.sum_us = 1_500_000;
    metrics.apply(&Usage {
        bytes_sent: 1,
        bytes_received: 2,
        retransmits: 3,
        opened: 4,
        closed: 5,
        failed: [6, 0, 7, 0, 0, 0, 0, 0],
        active: 8,
        rtts,
        ..usage(&curl)
    });
    metrics.apply(&Usage {
        transport: Transport::Udp,
        ipv4: false,
        role: Role::Server,
        server_port: Some(53),
        packets_sent: 9,
        packets_received: 10,
        ..usage(&curl)
    });
    let tcp =
        "network.transport=tcp network.type=ipv4 process.executable.name=curl server.port=443";
    let udp = "network.transport=udp network.type=ipv6 process.executable.name=curl server.port=53";
    let role = "network.connection.role";
    let io = "network.io.direction";
    assert_eq!(
        told(&mut metrics),
        [
            format!("network.connection.active {{connection}} ± {role}=client {tcp}: 8"),
            format!("network.connection.closed {{connection}} + {role}=client {tcp}: 5"),
            format!(
                "network.connection.failed {{connection}} + error.type=connection_refused {role}=client {tcp}: 6"
            ),
            format!(
                "network.connection.failed {{connection}} + error.type=connection_reset {role}=client {tcp}: 7"
            ),
            format!("network.connection.opened {{connection}} + {role}=client {tcp}: 4"),
            format!("network.flow.io By + {role}=client {io}=transmit {tcp}: 1"),
            format!("network.flow.io By + {role}=client {io}=receive {tcp}: 2"),
            format!("network.flow.packet.count {{packet}} + {role}=server {io}=transmit {udp}: 9"),
            format!("network.flow.packet.count {{packet}} + {role}=server {io}=receive {udp}: 10"),
            format!("network.tcp.retransmit.count {{segment}} + {role}=client {tcp}: 3"),
            format!("network.tcp.rtt s {role}=client {tcp}: 2 1.5"),
        ]
    );
}

#[test]
fn what_is_unknown_is_left_out() {
    let nobody = Arc::default();
    let mut metrics = metrics();
    metrics.apply(&Usage {
        role: Role::Unknown,
        server_port: None,
        opened: 1,
        ..usage(&nobody)
    });
    assert_eq!(
        told(&mut metrics),
        [
            "network.connection.active {connection} ± network.transport=tcp network.type=ipv4: 0",
            "network.connection.opened {connection} + network.transport=tcp network.type=ipv4: 1"
        ]
    );
}

#[test]
fn the_overflow_series_has_one_attribute() {
    let nobody = Arc::default();
    let mut metrics = metrics();
    metrics.apply(&Usage {
        overflow: true,
        bytes_sent: 1,
        bytes_received: 2,
        ..usage(&nobody)
    });
    assert_eq!(
        told(&mut metrics),
        ["network.flow.io By + otel.metric.overflow=true: 3"]
    );
}

#[test]
fn round_trip_times_are_counted_up_to_their_bound() {
    assert_eq!((RTT_BOUNDS[0], RTT_BOUNDS[16]), (50e-6, 10.0));
    assert!(RTT_BOUNDS_US.is_sorted());
    let buckets = |rtt_us| {
        let mut rtts = Rtts::default();
        rtts.record(rtt_us);
        rtts.buckets.iter().position(|count| *count == 1)
    };
    assert_eq!(buckets(1), Some(0));
    assert_eq!(buckets(50), Some(0));
    assert_eq!(buckets(51), Some(1));
    assert_eq!(buckets(10_000_000), Some(16));
    assert_eq!(buckets(u32::MAX), Some(17));
}

#[test]
fn instruments_are_in_order_of_their_names() {
    assert!(INSTRUMENTS.iter().map(|i| i.name).is_sorted());
    assert_eq!(INSTRUMENTS[place::RTT].name, metric::NETWORK_TCP_RTT);
    assert_eq!(INSTRUMENTS.len(), place::RTT + 1);
}
