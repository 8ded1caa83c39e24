//! Every field of a filter, with flows that match and flows that do not.

use std::sync::Arc;

use super::*;
use crate::model::flow::{
    DropReason, Endpoint, EventType, Http, Interface, Ip, IpVersion, L4, L7Record, Labels, Layer7,
    Pod, Service, TcpFlags, TraceParent, TrafficDirection, Verdict, Workload,
};

fn node() -> Node {
    Node {
        name: "prod/node-1.example".into(),
        labels: vec!["k8s:zone=a".into()],
        ..Node::default()
    }
}

fn endpoint(namespace: &str, name: &str, identity: u32, labels: &[&str]) -> Endpoint {
    Endpoint {
        id: 7,
        identity,
        pod: Some(Arc::new(Pod {
            namespace: namespace.into(),
            name: name.into(),
            workloads: vec![Workload {
                name: "shop".into(),
                kind: "Deployment".into(),
            }]
            .into(),
        })),
        labels: Some(Arc::new(Labels {
            list: labels.iter().map(|&label| label.into()).collect(),
            cluster_name: "prod".into(),
        })),
    }
}

/// A dropped SYN from `default/shop-1` to `kube-system/dns-1`.
fn packet() -> Flow {
    Flow {
        uuid: [0xab; 16],
        verdict: Verdict::DROPPED,
        drop_reason: DropReason::POLICY_DENIED,
        event_type: EventType {
            kind: 1,
            sub_type: 133,
        },
        ip: Some(Ip {
            source: Some([10, 0, 0, 1].into()),
            destination: Some([10, 1, 0, 2].into()),
            source_xlated: Some([192, 0, 2, 9].into()),
            version: IpVersion::IPv4,
            encrypted: true,
        }),
        l4: Some(L4::Tcp {
            source_port: 4000,
            destination_port: 53,
            flags: Some(TcpFlags(TcpFlags::SYN.0 | TcpFlags::ECE.0)),
        }),
        source: endpoint("default", "shop-1", 1001, &["k8s:app=shop"]),
        destination: endpoint("kube-system", "dns-1", 2, &["reserved:world"]),
        destination_names: Some(Arc::new(["one.example.com".into()])),
        destination_service: Some(Arc::new(Service {
            name: "dns".into(),
            namespace: "kube-system".into(),
        })),
        direction: TrafficDirection::EGRESS,
        interface: Some(Interface {
            index: 4,
            name: Some("eth0".into()),
        }),
        ip_trace_id: 42,
        ..Flow::default()
    }
}

/// A response to `GET http://shop/cart?id=1`.
fn message() -> Flow {
    Flow {
        verdict: Verdict::FORWARDED,
        event_type: EventType {
            kind: 129,
            sub_type: 0,
        },
        is_reply: Some(true),
        l7: Some(Box::new(Layer7 {
            record: L7Record::Http(Http {
                code: 404,
                method: "GET".into(),
                url: "http://shop/cart?id=1".into(),
                protocol: "HTTP/1.1".into(),
                headers: vec![("X-User".into(), "a".into())],
            }),
            trace: Some(TraceParent {
                trace_id: *b"0123456789abcdef",
                span_id: [1; 8],
                flags: 1,
            }),
            ..Layer7::default()
        })),
        ..Flow::default()
    }
}

fn passes(json: &str, flow: &Flow) -> bool {
    let filter: FlowFilter = serde_json::from_str(json).unwrap();
    let included = FlowFilters::compile(std::slice::from_ref(&filter), &[]).unwrap();
    let excluded = FlowFilters::compile(&[], &[filter]).unwrap();
    let pass = included.pass(flow, &node());
    assert_eq!(excluded.pass(flow, &node()), !pass, "{json}");
    pass
}

#[test]
fn packets_match_by_each_field() {
    for right in [
        "{}",
        r#"{"source_ip":["10.0.0.1"]}"#,
        r#"{"source_ip":["1.1.1.1","10.0.0.0/8"]}"#,
        r#"{"destination_ip":["10.1.0.0/16"]}"#,
        r#"{"source_ip_xlated":["192.0.2.9"]}"#,
        r#"{"source_pod":["shop"]}"#,
        r#"{"destination_pod":["kube-system/"]}"#,
        r#"{"destination_service":["kube-system/d"]}"#,
        r#"{"destination_fqdn":["*.example.com"]}"#,
        r#"{"source_label":["app in (shop)"]}"#,
        r#"{"destination_label":["reserved:world"]}"#,
        r#"{"node_labels":["zone=a"]}"#,
        r#"{"source_identity":[5,1001]}"#,
        r#"{"destination_identity":[2]}"#,
        r#"{"source_port":["4000"]}"#,
        r#"{"destination_port":["53"]}"#,
        r#"{"source_workload":[{"kind":"Deployment"}]}"#,
        r#"{"destination_cluster_name":["prod"]}"#,
        r#"{"verdict":["DROPPED"]}"#,
        r#"{"drop_reason_desc":["POLICY_DENIED"]}"#,
        r#"{"event_type":[{"type":4},{"type":1}]}"#,
        r#"{"event_type":[{"type":1,"match_sub_type":true,"sub_type":133}]}"#,
        r#"{"protocol":["TCP"]}"#,
        r#"{"reply":[false]}"#,
        r#"{"encrypted":[true]}"#,
        r#"{"tcp_flags":[{"FIN":true},{"SYN":true,"ECE":true}]}"#,
        r#"{"node_name":["prod/node-*"]}"#,
        r#"{"ip_version":["IPv4"]}"#,
        r#"{"uuid":["ABABABAB-abab-4bab-abab-abababababab"]}"#,
        r#"{"traffic_direction":["EGRESS"]}"#,
        r#"{"interface":[{"name":"eth0"}]}"#,
        r#"{"interface":[{"index":4}]}"#,
        r#"{"ip_trace_id":[42]}"#,
        r#"{"source_pod":["shop"],"destination_port":["53"],"verdict":["DROPPED"]}"#,
    ] {
        assert!(passes(right, &packet()), "{right}");
    }
    for wrong in [
        r#"{"source_ip":["10.0.0.2"]}"#,
        r#"{"source_ip":["2001:db8::/32"]}"#,
        r#"{"destination_ip":["10.0.0.1"]}"#,
        r#"{"source_ip_xlated":["10.0.0.1"]}"#,
        r#"{"source_pod":["dns"]}"#,
        r#"{"destination_pod":["dns"]}"#,
        r#"{"source_service":["kube-system/"]}"#,
        r#"{"source_fqdn":["*"]}"#,
        r#"{"source_label":["app=x"]}"#,
        r#"{"node_labels":["zone=b"]}"#,
        r#"{"source_identity":[2]}"#,
        r#"{"source_port":["53"]}"#,
        r#"{"source_workload":[{"name":"shop","kind":"Job"}]}"#,
        r#"{"source_cluster_name":["test"]}"#,
        r#"{"verdict":["FORWARDED"]}"#,
        r#"{"drop_reason_desc":["POLICY_DENY"]}"#,
        r#"{"event_type":[{"type":1,"match_sub_type":true}]}"#,
        r#"{"protocol":["udp","icmp","http"]}"#,
        r#"{"reply":[true]}"#,
        r#"{"encrypted":[false]}"#,
        r#"{"tcp_flags":[{"SYN":true,"ACK":true}]}"#,
        r#"{"node_name":["test/"]}"#,
        r#"{"ip_version":["IPv6"]}"#,
        r#"{"uuid":["00000000-0000-4000-8000-000000000000"]}"#,
        r#"{"traffic_direction":["INGRESS"]}"#,
        r#"{"interface":[{"index":4,"name":"eth1"}]}"#,
        r#"{"ip_trace_id":[1]}"#,
        r#"{"trace_id":["30313233343536373839616263646566"]}"#,
        r#"{"http_method":["GET"]}"#,
        r#"{"dns_query":["."]}"#,
        r#"{"source_pod":["shop"],"destination_port":["54"]}"#,
    ] {
        assert!(!passes(wrong, &packet()), "{wrong}");
    }
}

#[test]
fn messages_match_by_each_field() {
    for right in [
        r#"{"http_status_code":["404"]}"#,
        r#"{"http_status_code":["500","4+"]}"#,
        r#"{"http_status_code":["40+"]}"#,
        r#"{"http_method":["get"]}"#,
        r#"{"http_path":["^/cart$"]}"#,
        r#"{"http_url":["id=\\d"]}"#,
        r#"{"http_url":["/items/{id}","^http://[\\w-]{1,63}/\\pL+\\Q?\\E"]}"#,
        r#"{"http_header":[{"key":"X-User","value":"a"}]}"#,
        r#"{"trace_id":["30313233343536373839616263646566"]}"#,
        r#"{"protocol":["http"]}"#,
        r#"{"reply":[true]}"#,
        r#"{"http_method":["GET"],"event_type":[{"type":129}]}"#,
    ] {
        assert!(passes(right, &message()), "{right}");
    }
    for wrong in [
        r#"{"http_status_code":["41+","200"]}"#,
        r#"{"http_path":["id"]}"#,
        r#"{"http_header":[{"key":"X-User","value":"b"}]}"#,
        r#"{"http_header":[{"key":"x-user","value":"a"}]}"#,
        r#"{"protocol":["dns"]}"#,
        r#"{"source_port":["0"]}"#,
    ] {
        assert!(!passes(wrong, &message()), "{wrong}");
    }
    let unknown = Flow {
        is_reply: None,
        ..message()
    };
    assert!(
        !passes(r#"{"reply":[true,false]}"#, &unknown),
        "not a drop and not known"
    );
}

#[test]
fn lists_are_alternatives_and_exclusion_wins() {
    let filter = |json| serde_json::from_str::<FlowFilter>(json).unwrap();
    let include = [
        filter(r#"{"protocol":["udp"]}"#),
        filter(r#"{"verdict":["DROPPED"]}"#),
    ];
    let exclude = [filter(r#"{"destination_port":["53"]}"#)];
    assert!(
        FlowFilters::compile(&include, &[])
            .unwrap()
            .pass(&packet(), &node())
    );
    assert!(
        !FlowFilters::compile(&include, &exclude)
            .unwrap()
            .pass(&packet(), &node())
    );
    assert!(FlowFilters::default().is_empty());
}

#[test]
fn wrong_values_are_refused_by_name() {
    let wrong = |json: &str| {
        let filter: FlowFilter = serde_json::from_str(json).unwrap();
        FlowFilters::compile(&[filter], &[])
            .unwrap_err()
            .to_string()
    };
    for (json, said) in [
        (r#"{"source_ip":["x"]}"#, "source_ip"),
        (r#"{"source_ip":["10.0.0.0/33"]}"#, "10.0.0.0/33"),
        (r#"{"destination_port":["70000"]}"#, "70000"),
        (r#"{"source_pod":[""]}"#, "empty"),
        (r#"{"source_label":["a ~ b"]}"#, "operator"),
        (r#"{"http_url":["("]}"#, "http_url"),
        (r#"{"http_url":["(x{1000}){1000}"]}"#, "http_url"),
        (r#"{"http_status_code":["9"]}"#, "404"),
        (
            r#"{"http_status_code":["404"],"event_type":[{"type":1}]}"#,
            "129",
        ),
        (r#"{"protocol":["smtp"]}"#, "smtp"),
        (r#"{"uuid":["x"]}"#, "UUID"),
        (r#"{"source_cluster_name":[""]}"#, "source_cluster_name"),
        (r#"{"experimental":{"cel_expression":["true"]}}"#, "CEL"),
        (r#"{"node_name":["a/b/c"]}"#, "slash"),
    ] {
        let text = wrong(json);
        assert!(text.contains(said), "{json}: {text}");
    }
}
