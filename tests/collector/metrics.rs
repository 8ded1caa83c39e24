//! The same connections as metrics: in OTLP, and under their Prometheus names.

use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use netflume_tests::agent::Agent;
use netflume_tests::collector::Collector;
use netflume_tests::http;
use netflume_tests::otlp_json::Point;
use netflume_tests::traffic::{self, Exchange};
use netflume_tests::wait;

use crate::support::watch;

/// The last point of the one series of `metric` that fits the server's port, the role and the other attributes.
fn last(
    collector: &Collector,
    exchange: &Exchange,
    metric: &str,
    role: &str,
    more: &[(&str, &str)],
) -> Result<Point> {
    let mut points = collector.points()?;
    points.retain(|point| {
        point.metric == metric
            && point
                .attributes
                .get("server.port")
                .and_then(serde_json::Value::as_u64)
                == Some(exchange.server.port().into())
            && point.attributes["network.connection.role"] == role
            && more
                .iter()
                .all(|(key, value)| point.attributes[*key] == *value)
    });
    points
        .pop()
        .with_context(|| format!("no point of {metric}, {role}, {more:?}"))
}

#[test]
#[ignore = "needs root, a BTF kernel and the Collector"]
fn metrics_say_what_the_connections_did() -> Result<()> {
    let collector = Collector::start()?;
    let (tcp, udp) = watch(&collector, || {
        let ip = Ipv4Addr::LOCALHOST.into();
        Ok((
            traffic::tcp(ip, 4_000, 9_000)?,
            traffic::udp(ip, 3, 10, 20)?,
        ))
    })?;
    wait::until("the metrics of both", || {
        let there = |exchange| last(&collector, exchange, "network.flow.io", "server", &[]).is_ok();
        (there(&tcp) && there(&udp)).then_some(())
    })?;

    for (exchange, transport) in [(&tcp, "tcp"), (&udp, "udp")] {
        let bytes = [
            ("client", "transmit", exchange.request_bytes),
            ("client", "receive", exchange.reply_bytes),
            ("server", "transmit", exchange.reply_bytes),
            ("server", "receive", exchange.request_bytes),
        ];
        for (role, direction, expected) in bytes {
            let more = [
                ("network.io.direction", direction),
                ("network.transport", transport),
            ];
            let point = last(&collector, exchange, "network.flow.io", role, &more)?;
            assert_eq!(point.value, expected as f64, "{point:#?}");
            assert_eq!((point.unit.as_str(), point.kind.as_str()), ("By", "sum"));
            assert_eq!((point.temporality, point.monotonic), (2, true));
            assert!(point.start_unix_nano < point.time_unix_nano);
            assert_eq!(point.attributes["network.type"], "ipv4");
            assert!(point.resource.contains_key("service.name"), "{point:#?}");
            assert!(point.resource.contains_key("host.name"), "{point:#?}");
        }
    }
    for role in ["client", "server"] {
        for (metric, expected) in [
            ("network.connection.opened", 1.0),
            ("network.connection.closed", 1.0),
            ("network.connection.active", 0.0),
        ] {
            let point = last(&collector, &tcp, metric, role, &[])?;
            assert_eq!(point.value, expected, "{point:#?}");
            assert_eq!(point.unit, "{connection}");
        }
        let rtt = last(&collector, &tcp, "network.tcp.rtt", role, &[])?;
        assert_eq!(
            (rtt.unit.as_str(), rtt.kind.as_str(), rtt.count > 0),
            ("s", "histogram", true)
        );
        assert!(rtt.value > 0.0 && rtt.value < 1.0, "{rtt:#?}");
        for direction in ["transmit", "receive"] {
            let more = [("network.io.direction", direction)];
            let packets = last(&collector, &udp, "network.flow.packet.count", role, &more)?;
            assert_eq!(packets.value, 3.0, "{packets:#?}");
            assert_eq!(packets.unit, "{packet}");
        }
    }
    Ok(())
}

/// A query that works on netflume's own page works on a Prometheus behind the Collector too.
#[test]
#[ignore = "needs root, a BTF kernel and the Collector"]
fn prometheus_names_are_the_same_through_the_collector_and_from_our_own_page() -> Result<()> {
    let collector = Collector::with("prometheus")?;
    let config = format!(
        "receivers: {{ ebpf: {{ interval: 1s }} }}\n\
         exporters: {{ otlp_grpc: {{ endpoint: \"{}\" }} }}\n\
         extensions: {{ prometheus: {{ endpoint: \"127.0.0.1:0\" }} }}\n",
        collector.endpoint()
    );
    let mut agent = Agent::watching(Some(&config), &[])?;
    let own = agent.listens("extensions.prometheus")?;
    let exchange = traffic::tcp(Ipv4Addr::LOCALHOST.into(), 123, 45)?;
    let port = exchange.server.port().to_string();
    let of_exchange = |address| -> Option<Vec<(String, String, String, f64)>> {
        let samples = http::samples(&http::get(address, "/metrics").ok()?).ok()?;
        let mut found: Vec<_> = samples
            .into_iter()
            .filter(|sample| sample.labels.get("server_port") == Some(&port))
            .filter(|sample| !sample.metric.starts_with("network_tcp_rtt"))
            .map(|mut sample| {
                let mut label = |name| sample.labels.remove(name).unwrap_or_default();
                let (role, way) = (
                    label("network_connection_role"),
                    label("network_io_direction"),
                );
                (sample.metric, role, way, sample.value)
            })
            .collect();
        found.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
        (!found.is_empty()).then_some(found)
    };
    let mut seen = (None, None);
    wait::until("the same samples on both pages", || {
        seen = (of_exchange(own), of_exchange(collector.prometheus()));
        (seen.0.is_some() && seen.0 == seen.1).then_some(())
    })
    .with_context(|| format!("{seen:#?}"))?;
    let sent = (
        "network_flow_io_bytes_total".into(),
        "client".into(),
        "transmit".into(),
        123.0,
    );
    assert!(seen.0.unwrap_or_default().contains(&sent));
    agent.stop()?;
    Ok(())
}
