use std::sync::Arc;

use prost::Message as _;
use serde_json::{Value, json};

use super::json::{Json, event, export_event};
use super::timestamp::time;
use super::*;
use crate::key;
use crate::model::cilium::{DebugEvent, LostEvent};
use crate::model::flow::{
    BpfFile, DebugEventType, DropReason, Endpoint, Ethernet, EventType, Flow, FlowType, Interface,
    Ip, IpVersion, L4, Labels, LostEventSource, Pod, Summary, TcpFlags, TrafficDirection, Verdict,
    Workload, texts::FileNumbering,
};
use crate::otlp::pairs::KeyValues;

fn node() -> Node {
    Node {
        name: "blue/a".into(),
        emitter_name: "netflume".into(),
        emitter_version: "1".into(),
        ..Node::default()
    }
}

fn dropped() -> Flow {
    Flow {
        time_ns: 1_767_323_045_000_500_000,
        uuid: [7; 16],
        verdict: Verdict::DROPPED,
        drop_reason: DropReason(206),
        flow_type: FlowType::L3_L4,
        event_type: EventType {
            kind: 1,
            sub_type: 206,
        },
        ethernet: Some(Ethernet {
            source: [2, 0, 0, 0, 0, 0x1a],
            destination: [2, 0, 0, 0, 0, 2],
        }),
        ip: Some(Ip {
            source: Some("::ffff:10.0.0.1".parse().unwrap()),
            destination: Some("fd00::2".parse().unwrap()),
            version: IpVersion::IPv6,
            ..Ip::default()
        }),
        l4: Some(L4::Tcp {
            source_port: 1,
            destination_port: 0,
            flags: Some(TcpFlags(0x12)),
        }),
        source: Endpoint {
            id: 7,
            identity: 1001,
            pod: Some(Arc::new(Pod {
                namespace: "shop".into(),
                name: "we\"b\n\u{1}".into(),
                workloads: Box::new([Workload {
                    name: "web".into(),
                    kind: "Deployment".into(),
                }]),
            })),
            labels: Some(Arc::new(Labels {
                list: Box::new(["a".into(), "b".into()]),
                cluster_name: "blue".into(),
            })),
        },
        is_reply: Some(false),
        direction: TrafficDirection::EGRESS,
        interface: Some(Interface {
            index: 2,
            name: None,
        }),
        file: Some(BpfFile {
            id: 99,
            numbering: FileNumbering::V3,
            line: 7,
        }),
        socket_cookie: u64::MAX,
        summary: Summary::L4,
        ..Flow::default()
    }
}

fn expected() -> Value {
    json!({
        "time": "2026-01-02T03:04:05.000500Z",
        "uuid": "07070707-0707-4707-8707-070707070707",
        "emitter": {"name": "netflume", "version": "1"},
        "verdict": "DROPPED",
        "drop_reason": 206,
        "ethernet": {"source": "02:00:00:00:00:1a", "destination": "02:00:00:00:00:02"},
        "IP": {"source": "10.0.0.1", "destination": "fd00::2", "ipVersion": "IPv6"},
        "l4": {"TCP": {"source_port": 1, "flags": {"SYN": true, "ACK": true}}},
        "source": {
            "ID": 7, "identity": 1001, "cluster_name": "blue", "namespace": "shop", "labels": ["a", "b"],
            "pod_name": "we\"b\n\u{1}", "workloads": [{"name": "web", "kind": "Deployment"}],
        },
        "destination": {},
        "Type": "L3_L4",
        "node_name": "blue/a",
        "event_type": {"type": 1, "sub_type": 206},
        "traffic_direction": "EGRESS",
        "file": {"name": "unknown(99)", "line": 7},
        "drop_reason_desc": 206,
        "is_reply": false,
        "interface": {"index": 2},
        "socket_cookie": "18446744073709551615",
        "Summary": "TCP Flags: SYN, ACK",
    })
}

#[test]
fn a_flow_in_json_has_the_fields_names_and_order_of_the_schema() {
    let mut text = String::new();
    event(&CiliumEvent::Flow(dropped()), &node(), &mut text);
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value, expected());
    assert_eq!(text, expected().to_string(), "order");
}

#[test]
fn the_body_of_a_log_record_says_the_same_as_the_json() {
    use opentelemetry_proto::tonic::common::v1::{
        AnyValue, ArrayValue, KeyValueList, any_value::Value as Any,
    };
    fn plain(value: AnyValue) -> Value {
        match value.value.unwrap() {
            Any::StringValue(text) => text.into(),
            Any::BoolValue(value) => value.into(),
            Any::IntValue(value) => value.into(),
            Any::KvlistValue(KeyValueList { values }) => {
                let pairs = values
                    .into_iter()
                    .map(|pair| (pair.key, plain(pair.value.unwrap())));
                Value::Object(pairs.collect())
            }
            Any::ArrayValue(ArrayValue { values }) => values.into_iter().map(plain).collect(),
            other => panic!("{other:?}"),
        }
    }
    let mut bytes = Vec::new();
    let event = CiliumEvent::Flow(dropped());
    event_fields(&event, &node(), &mut KeyValues::new(&mut bytes, 1));
    let list = KeyValueList::decode(&bytes[..]).unwrap();
    let body = AnyValue {
        value: Some(Any::KvlistValue(list)),
    };
    assert_eq!(plain(body), expected());
}

#[test]
fn wrappers_are_written_when_they_are_zero() {
    let debug = DebugEvent {
        kind: DebugEventType::DBG_CT_VERDICT,
        ..DebugEvent::default()
    };
    let lost = LostEvent {
        source: LostEventSource::PERF_EVENT_RING_BUFFER,
        count: 3,
        cpu: Some(0),
        ..LostEvent::default()
    };
    let of = |e| {
        let mut text = String::new();
        export_event(&e, &node(), &mut text);
        serde_json::from_str::<Value>(&text).unwrap()
    };
    assert_eq!(
        of(CiliumEvent::Debug(debug))["debug_event"],
        json!({"type": "DBG_CT_VERDICT", "hash": 0, "arg1": 0, "arg2": 0, "arg3": 0, "cpu": 0,
            "message": "conntrack verdict new, reverse NAT 0"})
    );
    assert_eq!(
        of(CiliumEvent::Lost(lost)),
        json!({"lost_events": {"source": "PERF_EVENT_RING_BUFFER", "num_events_lost": "3", "cpu": 0},
            "node_name": "blue/a", "time": "1970-01-01T00:00:00Z"})
    );
}

#[test]
fn times_have_as_many_digits_as_they_need() {
    for (ns, text) in [
        (0, "1970-01-01T00:00:00Z"),
        (1, "1970-01-01T00:00:00.000000001Z"),
        (951_782_400_120_000_000, "2000-02-29T00:00:00.120Z"),
        (1_767_323_045_000_006_000, "2026-01-02T03:04:05.000006Z"),
        (-1_000_000_000, "1969-12-31T23:59:59Z"),
    ] {
        assert_eq!(time(ns).as_str(), text);
    }
}

proptest::proptest! {
    #[test]
    fn any_text_comes_back_from_json(text in "\\PC*|[\\x00-\\x7f]*") {
        let mut out = String::new();
        let mut json = Json::new(&mut out);
        json.text(key!("a"), &text);
        json.display(key!("b"), &text);
        json.end();
        let value: Value = serde_json::from_str(&out).unwrap();
        proptest::prop_assert_eq!(value, json!({"a": text.clone(), "b": text}));
    }

    #[test]
    fn any_time_comes_back_from_its_text(ns: i64) {
        let text = time(ns);
        proptest::prop_assert_eq!(crate::decode::cilium::timestamp::parse(text.as_str()), Some(ns));
    }
}
