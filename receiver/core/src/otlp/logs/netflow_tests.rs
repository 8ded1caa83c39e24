//! What the log records say, read back with the independent decoder.

use std::collections::BTreeMap;
use std::sync::Arc;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value as Wire};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::model::netflow::{ConnectError, Process};
use crate::model::request::Signal;
use crate::model::resource::{Resource, Value};
use crate::otlp::logs::{LogBody, LogsEncoder, LogsOptions};

fn record() -> NetflowRecord {
    NetflowRecord {
        unix_ns: 1_700_000_000_000_000_000,
        transport: Transport::Tcp,
        direction: Direction::Outgoing,
        role: Role::Client,
        local: Endpoint::from("10.0.2.15:40000".parse::<std::net::SocketAddr>().unwrap()),
        peer: Endpoint::from("93.184.216.34:443".parse::<std::net::SocketAddr>().unwrap()),
        client_port_masked: true,
        overflow: false,
        peer_nat: None,
        peer_domain: None,
        local_kubernetes: None,
        peer_kubernetes: None,
        process: Arc::new(Process {
            pid: 4711,
            executable_name: "curl".into(),
            executable_path: Some("/usr/bin/curl".into()),
            command_line: Some("curl -s https://example.org".into()),
            container_id: None,
        }),
        netns: 4_026_531_840,
        preexisting: false,
        bytes_read: 14_336,
        bytes_written: 1_229,
        packets_read: 0,
        packets_written: 0,
        retransmits: 2,
        rtt_us: 12_000,
        rtt_var_us: 400,
        tcp_closed: 1,
        tcp_established: 1,
        failed: vec![],
        resource: Arc::new(Resource {
            attributes: vec![("host.name", Value::Text("node-a".into()))],
            extra: vec![],
        }),
    }
}

/// A map of the pairs; a key that stands twice fails.
fn map(pairs: Vec<KeyValue>) -> BTreeMap<String, Wire> {
    let len = pairs.len();
    let map: BTreeMap<_, _> = pairs
        .into_iter()
        .map(|kv| (kv.key, kv.value.unwrap().value.unwrap()))
        .collect();
    assert_eq!(map.len(), len, "a key stands once");
    map
}

/// The record, its body and its attributes, as a Collector sees them.
fn written_with(
    options: LogsOptions,
    record: &NetflowRecord,
) -> (LogRecord, BTreeMap<String, Wire>, BTreeMap<String, Wire>) {
    let mut encoder = LogsEncoder::new(options);
    assert_eq!(encoder.push(&Netflow::from(record)), None);
    let request = encoder.finish().unwrap();
    assert_eq!((request.signal, request.items), (Signal::Logs, 1));
    let mut log = ExportLogsServiceRequest::decode(request.body)
        .unwrap()
        .resource_logs
        .remove(0)
        .scope_logs
        .remove(0)
        .log_records
        .remove(0);
    let body = match log.body.take().and_then(|body| body.value) {
        Some(Wire::KvlistValue(list)) => map(list.values),
        None => BTreeMap::new(),
        other => panic!("a body of another kind: {other:?}"),
    };
    let attributes = map(std::mem::take(&mut log.attributes));
    (log, body, attributes)
}

fn written(record: &NetflowRecord) -> (BTreeMap<String, Wire>, BTreeMap<String, Wire>) {
    let (_, body, attributes) = written_with(LogsOptions::default(), record);
    (body, attributes)
}

fn text(value: impl Into<String>) -> Wire {
    Wire::StringValue(value.into())
}

fn pairs(pairs: &[(&str, Wire)]) -> BTreeMap<String, Wire> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), value.clone()))
        .collect()
}

#[test]
fn an_outgoing_tcp_flow_has_every_tag_and_field_under_its_name_and_type() {
    let (log, body, attributes) = written_with(LogsOptions::default(), &record());
    assert_eq!(
        log,
        LogRecord {
            time_unix_nano: 1_700_000_000_000_000_000,
            observed_time_unix_nano: 1_700_000_000_000_000_000,
            severity_number: 9,
            severity_text: "INFO".into(),
            event_name: "netflow".into(),
            ..LogRecord::default()
        }
    );
    let expected = pairs(&[
        ("direction", text("outgoing")),
        ("src_ip", text("10.0.2.15")),
        ("src_port", text("*")),
        ("src_ip_type", text("private")),
        ("dst_ip", text("93.184.216.34")),
        ("dst_port", text("443")),
        ("dst_ip_type", text("other")),
        ("family", text("IPv4")),
        ("pid", text("4711")),
        ("process_name", text("curl")),
        ("transport", text("tcp")),
        ("source", text("netflow")),
        ("host", text("node-a")),
        ("netns", text("4026531840")),
        ("conn_side", text("client")),
        ("bytes_read", Wire::IntValue(14_336)),
        ("bytes_written", Wire::IntValue(1_229)),
        ("retransmits", Wire::IntValue(2)),
        ("rtt", Wire::IntValue(12_000)),
        ("rtt_var", Wire::IntValue(400)),
        ("tcp_closed", Wire::IntValue(1)),
        ("tcp_established", Wire::IntValue(1)),
    ]);
    assert_eq!(body, expected);
    let expected = pairs(&[
        ("client.address", text("10.0.2.15")),
        ("network.local.address", text("10.0.2.15")),
        ("network.peer.address", text("93.184.216.34")),
        ("network.peer.port", Wire::IntValue(443)),
        ("network.transport", text("tcp")),
        ("network.type", text("ipv4")),
        ("process.command_line", text("curl -s https://example.org")),
        ("process.executable.name", text("curl")),
        ("process.executable.path", text("/usr/bin/curl")),
        ("process.pid", Wire::IntValue(4711)),
        ("server.address", text("93.184.216.34")),
        ("server.port", Wire::IntValue(443)),
    ]);
    assert_eq!(attributes, expected);
}

#[test]
fn an_incoming_flow_masks_the_peers_port_and_is_the_server() {
    let (body, attributes) = written(&NetflowRecord {
        direction: Direction::Incoming,
        role: Role::Server,
        ..record()
    });
    assert_eq!(body["direction"], text("incoming"));
    assert_eq!(
        (&body["src_port"], &body["dst_port"]),
        (&text("40000"), &text("*"))
    );
    assert_eq!(attributes["server.port"], Wire::IntValue(40_000));
    assert_eq!(attributes["client.address"], text("93.184.216.34"));
    assert!(
        !attributes.contains_key("client.port") && !attributes.contains_key("network.peer.port")
    );
}

#[test]
fn every_port_is_written_when_nothing_is_masked_and_roles_only_when_known() {
    let (body, attributes) = written(&NetflowRecord {
        client_port_masked: false,
        role: Role::Unknown,
        ..record()
    });
    assert_eq!(
        (&body["src_port"], &body["dst_port"]),
        (&text("40000"), &text("443"))
    );
    assert_eq!(attributes["network.local.port"], Wire::IntValue(40_000));
    assert!(!body.contains_key("conn_side"));
    assert!(
        !attributes
            .keys()
            .any(|key| key.starts_with("client.") || key.starts_with("server."))
    );
}

#[test]
fn udp_has_datagrams_and_no_tcp_fields() {
    let (body, _) = written(&NetflowRecord {
        transport: Transport::Udp,
        packets_read: 3,
        packets_written: 4,
        ..record()
    });
    assert_eq!(
        (&body["packets_read"], &body["packets_written"]),
        (&Wire::IntValue(3), &Wire::IntValue(4))
    );
    for name in [
        "retransmits",
        "rtt",
        "rtt_var",
        "tcp_closed",
        "tcp_established",
    ] {
        assert!(!body.contains_key(name), "{name}");
    }
}

#[test]
fn the_kind_of_an_address_is_the_first_that_fits() {
    for (ip, kind, family) in [
        ("10.1.2.3", "private", "IPv4"),
        ("172.16.0.1", "private", "IPv4"),
        ("192.168.0.1", "private", "IPv4"),
        ("127.0.0.53", "loopback", "IPv4"),
        ("224.0.0.251", "multicast", "IPv4"),
        ("169.254.1.1", "other", "IPv4"),
        ("100.64.0.1", "other", "IPv4"),
        ("8.8.8.8", "other", "IPv4"),
        ("fd00::1", "private", "IPv6"),
        ("::1", "loopback", "IPv6"),
        ("ff02::fb", "multicast", "IPv6"),
        ("fe80::1", "other", "IPv6"),
        ("2001:db8::1", "other", "IPv6"),
        ("::ffff:10.0.0.1", "private", "IPv4"),
    ] {
        let address: IpAddr = ip.parse().unwrap();
        let peer = Endpoint::from(std::net::SocketAddr::new(address, 53));
        let (body, attributes) = written(&NetflowRecord { peer, ..record() });
        assert_eq!(
            (&body["dst_ip_type"], &body["family"]),
            (&text(kind), &text(family)),
            "{ip}"
        );
        assert_eq!(body["dst_ip"], text(address.to_canonical().to_string()));
        assert_eq!(
            attributes["network.type"],
            text(family.to_lowercase()),
            "{ip}"
        );
    }
}

#[test]
fn failures_are_written_in_sum_and_by_reason() {
    let (body, attributes) = written(&NetflowRecord {
        failed: vec![(ConnectError::TimedOut, 1), (ConnectError::Refused, 3)],
        ..record()
    });
    assert_eq!(body["tcp_failed"], Wire::IntValue(4));
    let Wire::KvlistValue(by) = &body["tcp_failed_by"] else {
        panic!("not a map")
    };
    let expected = pairs(&[
        ("connection_refused", Wire::IntValue(3)),
        ("timeout", Wire::IntValue(1)),
    ]);
    assert_eq!(map(by.values.clone()), expected);
    assert_eq!(attributes["error.type"], text("connection_refused"));
}

#[test]
fn the_overflow_row_names_no_addresses() {
    let (body, attributes) = written(&NetflowRecord {
        overflow: true,
        preexisting: true,
        rtt_us: 0,
        local: Endpoint::default(),
        peer: Endpoint::default(),
        process: Arc::default(),
        netns: 0,
        role: Role::Unknown,
        ..record()
    });
    let names: Vec<_> = body.keys().map(String::as_str).collect();
    let expected = [
        "bytes_read",
        "bytes_written",
        "direction",
        "host",
        "overflow",
        "preexisting",
        "retransmits",
        "source",
        "tcp_closed",
        "tcp_established",
        "transport",
    ];
    assert_eq!(names, expected);
    assert_eq!(attributes.keys().collect::<Vec<_>>(), ["network.transport"]);
}

#[test]
fn nat_domain_and_kubernetes_names_have_their_seats() {
    let names = |prefix: &str| {
        Some(Arc::new(KubernetesNames {
            namespace: Some(format!("{prefix}-namespace")),
            pod: Some(format!("{prefix}-pod")),
            deployment: Some(format!("{prefix}-deployment")),
            service: Some(format!("{prefix}-service")),
        }))
    };
    let (body, attributes) = written(&NetflowRecord {
        peer_nat: Some(Endpoint::from(
            "10.244.0.7:8080".parse::<std::net::SocketAddr>().unwrap(),
        )),
        peer_domain: Some("shop.example".into()),
        local_kubernetes: names("a"),
        peer_kubernetes: names("b"),
        ..record()
    });
    assert_eq!(
        (&body["dst_nat_ip"], &body["dst_nat_port"]),
        (&text("10.244.0.7"), &text("8080"))
    );
    assert_eq!(
        (&body["dst_domain"], &body["sub_source"]),
        (&text("shop.example"), &text("K8s"))
    );
    assert_eq!(attributes["server.address"], text("shop.example"));
    for (body_end, attribute_end, prefix) in [("src", "source", "a"), ("dst", "destination", "b")] {
        for (tag, attribute, value) in [
            ("pod_name", "pod.name", "pod"),
            ("deployment_name", "deployment.name", "deployment"),
            ("service_name", "service.name", "service"),
            ("namespace", "namespace.name", "namespace"),
        ] {
            let expected = text(format!("{prefix}-{value}"));
            assert_eq!(body[&format!("{body_end}_k8s_{tag}")], expected);
            assert_eq!(
                attributes[&format!("{attribute_end}.k8s.{attribute}")],
                expected
            );
        }
    }
}

#[test]
fn the_body_can_be_left_out() {
    let options = LogsOptions {
        body: LogBody::None,
        ..LogsOptions::default()
    };
    let (log, body, attributes) = written_with(options, &record());
    assert_eq!((log.event_name.as_str(), body.len()), ("netflow", 0));
    assert_eq!(attributes, written(&record()).1);
}

proptest! {
    #[test]
    fn any_record_is_written_once_with_its_counters_whole(
        (local, peer) in any::<([u8; 16], [u8; 16])>(),
        (local_port, peer_port) in any::<(u16, u16)>(),
        counters in any::<[u64; 6]>(),
        (rtt_us, rtt_var_us, pid, netns) in any::<(u32, u32, u32, u32)>(),
        (udp, incoming, masked, overflow) in any::<(bool, bool, bool, bool)>(),
        name in ".{0,300}",
    ) {
        let record = NetflowRecord {
            transport: if udp { Transport::Udp } else { Transport::Tcp },
            direction: if incoming { Direction::Incoming } else { Direction::Outgoing },
            role: if incoming { Role::Server } else { Role::Unknown },
            local: Endpoint { address: local, port: local_port },
            peer: Endpoint { address: peer, port: peer_port },
            client_port_masked: masked,
            overflow,
            peer_domain: Some(name.as_str().into()),
            process: Arc::new(Process { pid, executable_name: name.clone(), ..Process::default() }),
            netns,
            bytes_read: counters[0],
            bytes_written: counters[1],
            packets_read: counters[2],
            packets_written: counters[3],
            retransmits: counters[4],
            rtt_us,
            rtt_var_us,
            tcp_established: counters[5],
            ..record()
        };
        let (body, attributes) = written(&record);
        prop_assert_eq!(&body["bytes_read"], &Wire::IntValue(int(counters[0])));
        prop_assert_eq!(&body["bytes_written"], &Wire::IntValue(int(counters[1])));
        prop_assert_eq!(&body["dst_domain"], &text(name.clone()));
        prop_assert_eq!(body.contains_key("retransmits"), !udp);
        prop_assert_eq!(body.contains_key("packets_read"), udp);
        prop_assert_eq!(body.contains_key("src_ip"), !overflow);
        prop_assert_eq!(body.contains_key("process_name"), !name.is_empty());
        prop_assert_eq!(body.contains_key("pid"), pid != 0);
        let port = match (masked && !incoming, local_port) {
            _ if overflow => None,
            (true, _) => Some(text("*")),
            (false, 0) => None,
            (false, port) => Some(text(port.to_string())),
        };
        prop_assert_eq!(body.get("src_port"), port.as_ref());
        let ip = (!overflow).then(|| text(record.local.ip().to_string()));
        prop_assert_eq!(attributes.get("network.local.address"), ip.as_ref());
    }
}
