//! Every plugin with the flows that it counts and those it does not, shown as Prometheus text.

use std::fmt::Write as _;
use std::sync::Arc;

use super::*;
use crate::model::flow::{
    Dns, DropReason, Endpoint, EventType, Http, Ip, IpVersion, Kafka, L4, L7FlowType, L7Record,
    Labels, Layer7, Pod, SctpChunkType, TcpFlags, TrafficDirection, Verdict, Workload,
};
use crate::model::metrics::{AttributeValue, Attributes, Data, Number};
use crate::model::resource::Value;

const SECOND: u64 = 1_000_000_000;

fn metrics(plugins: &[&str]) -> HubbleMetrics {
    let options = HubbleOptions {
        metrics: plugins
            .iter()
            .map(|text| MetricOptions::parse(text))
            .collect(),
        ..HubbleOptions::default()
    };
    HubbleMetrics::new(&options).unwrap()
}

fn labels(attributes: &Attributes) -> String {
    let texts: Vec<_> = attributes
        .iter()
        .map(|(key, value)| match value {
            AttributeValue::Value(Value::Text(text)) => format!("{key}={text}"),
            other => format!("{key}={other:?}"),
        })
        .collect();
    texts.join(",")
}

/// `name{labels} value` for each series, sorted; `end` instead of a value for ended ones.
fn lines(exported: Option<ResourceMetrics>) -> Vec<String> {
    let mut lines = Vec::new();
    for metric in exported.into_iter().flat_map(|exported| exported.metrics) {
        let name = metric.name.trim_start_matches("hubble_");
        match &metric.data {
            Data::Sum { points, .. } => {
                for point in points {
                    let value = match point.value {
                        _ if point.no_recorded_value => "end".to_owned(),
                        Number::Int(n) => n.to_string(),
                        Number::Double(n) => n.to_string(),
                    };
                    lines.push(format!("{name}{{{}}} {value}", labels(&point.attributes)));
                }
            }
            Data::Histogram { points, .. } => {
                for point in points {
                    let count: u64 = point.bucket_counts.iter().sum();
                    let mut line = format!(
                        "{name}{{{}}} {count} {}",
                        labels(&point.attributes),
                        point.sum
                    );
                    if point.no_recorded_value {
                        write!(line, " end").unwrap();
                    }
                    lines.push(line);
                }
            }
            Data::Gauge(_) => panic!("Hubble's metrics have no gauges"),
        }
    }
    lines.sort();
    lines
}

fn counted(plugins: &[&str], flows: &[Flow]) -> Vec<String> {
    let mut metrics = metrics(plugins);
    for flow in flows {
        metrics.observe(flow, &Node::default());
    }
    lines(metrics.export(&ResourceRef::default(), SECOND))
}

fn endpoint(namespace: &str, pod: &str, labels: &[&str]) -> Endpoint {
    Endpoint {
        id: 1,
        identity: 1001,
        pod: Some(Arc::new(Pod {
            namespace: namespace.into(),
            name: pod.into(),
            workloads: vec![Workload {
                name: "w".into(),
                kind: "Deployment".into(),
            }]
            .into(),
        })),
        labels: Some(Arc::new(Labels {
            list: labels.iter().map(|&label| label.into()).collect(),
            ..Labels::default()
        })),
    }
}

fn tcp(flags: u16) -> Flow {
    Flow {
        time_ns: 7,
        verdict: Verdict::FORWARDED,
        event_type: EventType {
            kind: 4,
            sub_type: 0,
        },
        ip: Some(Ip {
            source: Some([10, 0, 0, 1].into()),
            destination: Some([10, 0, 0, 2].into()),
            version: IpVersion::IPv4,
            ..Ip::default()
        }),
        l4: Some(L4::Tcp {
            source_port: 4000,
            destination_port: 80,
            flags: Some(TcpFlags(flags)),
        }),
        is_reply: Some(false),
        direction: TrafficDirection::EGRESS,
        source: endpoint("a", "s", &["k8s:app=", "k8s:k8s-app=shop"]),
        destination: Endpoint {
            identity: 2,
            labels: endpoint("", "", &["cidr:1.0.0.0/8", "reserved:world"]).labels,
            ..Endpoint::default()
        },
        ..Flow::default()
    }
}

fn dropped() -> Flow {
    Flow {
        verdict: Verdict::DROPPED,
        drop_reason: DropReason::POLICY_DENIED,
        event_type: EventType {
            kind: 1,
            sub_type: 133,
        },
        is_reply: None,
        ..tcp(2)
    }
}

fn l7(kind: L7FlowType, record: L7Record) -> Flow {
    Flow {
        event_type: EventType {
            kind: 129,
            sub_type: 0,
        },
        is_reply: Some(kind == L7FlowType::RESPONSE),
        l7: Some(Box::new(Layer7 {
            kind,
            latency_ns: 250_000_000,
            record,
            ..Layer7::default()
        })),
        ..tcp(0)
    }
}

fn http(kind: L7FlowType) -> Flow {
    l7(
        kind,
        L7Record::Http(Http {
            code: 200,
            method: "GET".into(),
            protocol: "HTTP/1.1".into(),
            ..Http::default()
        }),
    )
}

#[test]
fn the_five_of_the_default_have_their_labels() {
    let defaults = counted(DEFAULT_METRICS, &[tcp(2), tcp(2), dropped()]);
    assert_eq!(
        defaults,
        [
            "drop_total{destination=reserved:world,protocol=TCP,reason=POLICY_DENIED,source=a/s} 1",
            "flows_processed_total{destination=reserved:world,protocol=TCP,subtype=,type=Drop,verdict=DROPPED} 1",
            "flows_processed_total{destination=reserved:world,protocol=TCP,subtype=to-endpoint,type=Trace,verdict=FORWARDED} 2",
            "tcp_flags_total{destination=reserved:world,family=IPv4,flag=SYN,source=a/s} 2",
        ]
    );
    let mut handler = HandlerMetrics::default();
    handler.answered(200, 0.3, 1);
    handler.answered(200, 0.005, 1);
    assert_eq!(
        lines(handler.snapshot(&ResourceRef::default(), SECOND)),
        [
            "metrics_http_handler_request_duration_seconds{code=200} 2 0.305",
            "metrics_http_handler_requests_total{code=200} 2",
        ]
    );
}

#[test]
fn contexts_name_the_ends() {
    let with = |options: &str| counted(&[&format!("drop:{options}")], &[dropped()]).remove(0);
    for (options, expected) in [
        (
            "sourceContext=pod",
            "protocol=TCP,reason=POLICY_DENIED,source=a/s",
        ),
        (
            "SOURCECONTEXT=Pod-Name",
            "protocol=TCP,reason=POLICY_DENIED,source=s",
        ),
        (
            "sourceContext=namespace",
            "protocol=TCP,reason=POLICY_DENIED,source=a",
        ),
        (
            "sourceContext=workload",
            "protocol=TCP,reason=POLICY_DENIED,source=a/w",
        ),
        (
            "sourceContext=workload-name",
            "protocol=TCP,reason=POLICY_DENIED,source=w",
        ),
        (
            "sourceContext=app",
            "protocol=TCP,reason=POLICY_DENIED,source=shop",
        ),
        (
            "sourceContext=dns|ip",
            "protocol=TCP,reason=POLICY_DENIED,source=10.0.0.1",
        ),
        (
            "sourceContext=reserved-identity",
            "protocol=TCP,reason=POLICY_DENIED,source=",
        ),
        (
            "destinationContext=identity",
            "destination=cidr:1.0.0.0/8,reserved:world,protocol=TCP,reason=POLICY_DENIED",
        ),
        (
            "destinationContext=pod",
            "destination=,protocol=TCP,reason=POLICY_DENIED",
        ),
        (
            "sourceEgressContext=ip;sourceIngressContext=pod",
            "protocol=TCP,reason=POLICY_DENIED,source=10.0.0.1",
        ),
        (
            "sourceIngressContext=pod",
            "protocol=TCP,reason=POLICY_DENIED,source=",
        ),
        (
            "sourceContext=namespace;sourceIngressContext=pod",
            "protocol=TCP,reason=POLICY_DENIED,source=a",
        ),
        (
            "labelsContext=traffic_direction,source_ip,destination_ip,source_workload_kind,source_app",
            "destination_ip=10.0.0.2,protocol=TCP,reason=POLICY_DENIED,source_app=shop,source_ip=10.0.0.1,\
             source_workload_kind=Deployment,traffic_direction=egress",
        ),
    ] {
        assert_eq!(
            with(options),
            format!("drop_total{{{expected}}} 1"),
            "{options}"
        );
    }
    let mut api_server = dropped();
    api_server.source = endpoint("", "", &["reserved:kube-apiserver", "reserved:remote-node"]);
    api_server.destination = endpoint("", "", &["reserved:host", "reserved:kube-apiserver"]);
    assert_eq!(
        counted(
            &["drop:sourceContext=reserved-identity;destinationContext=reserved-identity"],
            &[api_server]
        ),
        [
            "drop_total{destination=reserved:kube-apiserver,protocol=TCP,reason=POLICY_DENIED,source=reserved:kube-apiserver} 1"
        ]
    );
}

#[test]
fn drops_without_a_name_show_their_number() {
    let drop = Flow {
        drop_reason: DropReason(206),
        l4: None,
        ..dropped()
    };
    assert_eq!(
        counted(&["drop"], &[drop, tcp(2)]),
        ["drop_total{protocol=Unknown L4,reason=206} 1"]
    );
}

#[test]
fn flows_are_told_apart_by_type_and_subtype() {
    let event = |kind, sub_type| Flow {
        event_type: EventType { kind, sub_type },
        ..tcp(2)
    };
    let generic = l7(L7FlowType::SAMPLE, L7Record::None);
    assert_eq!(
        counted(
            &["flow"],
            &[
                event(4, 3),
                event(4, 99),
                event(3, 4),
                event(5, 0),
                event(7, 1),
                http(L7FlowType::REQUEST),
                generic
            ]
        ),
        [
            "flows_processed_total{protocol=HTTP,subtype=HTTP,type=L7,verdict=FORWARDED} 1",
            "flows_processed_total{protocol=TCP,subtype=,type=Capture,verdict=FORWARDED} 1",
            "flows_processed_total{protocol=TCP,subtype=,type=PolicyVerdict,verdict=FORWARDED} 1",
            "flows_processed_total{protocol=TCP,subtype=,type=Trace,verdict=FORWARDED} 1",
            "flows_processed_total{protocol=TCP,subtype=to-stack,type=Trace,verdict=FORWARDED} 1",
            "flows_processed_total{protocol=Unknown L7,subtype=,type=L7,verdict=FORWARDED} 1",
            "flows_processed_total{protocol=Unknown flow,subtype=7,type=Unknown,verdict=FORWARDED} 1",
        ]
    );
}

#[test]
fn tcp_flags_count_once_each() {
    let redirected = Flow {
        verdict: Verdict::REDIRECTED,
        ..tcp(0x12)
    };
    let without_flags = l7(L7FlowType::REQUEST, L7Record::None);
    assert_eq!(
        counted(
            &["tcp"],
            &[redirected, tcp(0x05), tcp(0x10), dropped(), without_flags]
        ),
        [
            "tcp_flags_total{family=IPv4,flag=FIN} 1",
            "tcp_flags_total{family=IPv4,flag=RST} 1",
            "tcp_flags_total{family=IPv4,flag=SYN-ACK} 1",
        ]
    );
}

#[test]
fn dns_queries_and_responses_are_apart() {
    let dns = |kind, qtypes: &[u16]| {
        l7(
            kind,
            L7Record::Dns(Dns {
                query: "a.b.".into(),
                ips: vec!["1.2.3.4".into(), "1.2.3.5".into()],
                rcode: 3,
                qtypes: qtypes.to_vec(),
                rrtypes: vec![5, 1, 1],
                ..Dns::default()
            }),
        )
    };
    let denied = Flow {
        verdict: Verdict::DROPPED,
        ..dns(L7FlowType::REQUEST, &[1])
    };
    let flows = [
        dns(L7FlowType::REQUEST, &[1, 28]),
        dns(L7FlowType::RESPONSE, &[1]),
        denied,
        dns(L7FlowType::REQUEST, &[28]),
    ];
    assert_eq!(
        counted(&["dns:query;ignoreAAAA"], &flows),
        [
            "dns_queries_total{ips_returned=2,qtypes=A,AAAA,query=a.b.,rcode=} 1",
            "dns_queries_total{ips_returned=2,qtypes=A,query=a.b.,rcode=Policy denied} 1",
            "dns_response_types_total{qtypes=A,query=a.b.,type=A} 2",
            "dns_response_types_total{qtypes=A,query=a.b.,type=CNAME} 1",
            "dns_responses_total{ips_returned=2,qtypes=A,query=a.b.,rcode=Non-Existent Domain} 1",
        ]
    );
    assert_eq!(
        counted(&["dns"], &flows[3..]),
        ["dns_queries_total{ips_returned=2,qtypes=AAAA,rcode=} 1"]
    );
}

#[test]
fn http_keeps_the_ends_and_http_v2_exchanges_them() {
    let flows = [
        http(L7FlowType::REQUEST),
        http(L7FlowType::RESPONSE),
        http(L7FlowType::SAMPLE),
    ];
    assert_eq!(
        counted(&["http:sourceContext=pod"], &flows),
        [
            "http_request_duration_seconds{method=GET,reporter=client,source=a/s} 1 0.25",
            "http_requests_total{method=GET,protocol=HTTP/1.1,reporter=client,source=a/s} 1",
            "http_responses_total{method=GET,protocol=HTTP/1.1,reporter=client,source=a/s,status=200} 1",
        ]
    );
    assert_eq!(
        counted(
            &[
                "httpV2:sourceContext=ip;destinationContext=pod;labelsContext=source_ip,source_pod;exemplars=true"
            ],
            &flows
        ),
        [
            "http_request_duration_seconds{destination=10.0.0.1,method=GET,reporter=client,source=,source_ip=10.0.0.2,\
             source_pod=} 1 0.25",
            "http_requests_total{destination=10.0.0.1,method=GET,protocol=HTTP/1.1,reporter=client,source=,source_ip=10.0.0.2,\
             source_pod=,status=200} 1",
        ]
    );
}

#[test]
fn icmp_kafka_sctp_and_ports_are_counted() {
    let icmp = Flow {
        l4: Some(L4::Icmpv6 { kind: 128, code: 0 }),
        ..dropped()
    };
    let sctp = |chunk_type| Flow {
        l4: Some(L4::Sctp {
            source_port: 1,
            destination_port: 2905,
            chunk_type,
        }),
        ..tcp(0)
    };
    let kafka = l7(
        L7FlowType::REQUEST,
        L7Record::Kafka(Kafka {
            api_key: "produce".into(),
            topic: "t".into(),
            error_code: -1,
            ..Kafka::default()
        }),
    );
    let reply = Flow {
        is_reply: None,
        ..tcp(2)
    };
    assert_eq!(
        counted(
            &["icmp", "kafka", "sctp", "port-distribution"],
            &[
                icmp,
                sctp(SctpChunkType::INIT),
                sctp(SctpChunkType::UNSUPPORTED),
                kafka,
                reply
            ]
        ),
        [
            "icmp_total{family=IPv6,type=EchoRequest} 1",
            "kafka_request_duration_seconds{api_key=produce,reporter=client,topic=t} 1 0.25",
            "kafka_requests_total{api_key=produce,error_code=-1,reporter=client,topic=t} 1",
            "port_distribution_total{port=2905,protocol=SCTP} 2",
            "port_distribution_total{port=80,protocol=TCP} 1",
            "sctp_chunk_types_total{chunk_type=INIT,family=IPv4} 1",
        ]
    );
}

#[test]
fn policy_verdicts_leave_out_the_host() {
    let verdict = |identity| Flow {
        event_type: EventType {
            kind: 5,
            sub_type: 0,
        },
        policy_match_type: 2,
        source: Endpoint {
            identity,
            ..Endpoint::default()
        },
        ..tcp(2)
    };
    assert_eq!(
        counted(
            &["policy"],
            &[
                verdict(1),
                verdict(1001),
                http(L7FlowType::REQUEST),
                dropped()
            ]
        ),
        [
            "policy_verdicts_total{action=forwarded,direction=egress,match=l3-l4} 1",
            "policy_verdicts_total{action=forwarded,direction=egress,match=l7/http} 1",
        ]
    );
}

#[test]
fn flows_to_the_world_leave_out_replies_and_other_drops() {
    let other_drop = Flow {
        drop_reason: DropReason(150),
        ..dropped()
    };
    let reply = Flow {
        is_reply: Some(true),
        ..tcp(2)
    };
    let inside = Flow {
        destination: endpoint("a", "s", &["k8s:app=x"]),
        ..tcp(2)
    };
    let flows = [tcp(2), tcp(0x10), dropped(), other_drop, reply, inside];
    assert_eq!(
        counted(&["flows-to-world:port"], &flows),
        [
            "flows_to_world_total{port=80,protocol=TCP,verdict=DROPPED} 1",
            "flows_to_world_total{port=80,protocol=TCP,verdict=FORWARDED} 2",
        ]
    );
    assert_eq!(
        counted(&["flows-to-world:syn-only;any-drop"], &flows),
        [
            "flows_to_world_total{protocol=TCP,verdict=DROPPED} 2",
            "flows_to_world_total{protocol=TCP,verdict=FORWARDED} 1",
        ]
    );
}

#[test]
fn filters_say_which_flows_count() {
    let options = |filter: &str| HubbleOptions {
        metrics: vec![serde_yaml::from_str(filter).unwrap()],
        ..HubbleOptions::default()
    };
    let mut metrics = HubbleMetrics::new(&options(
        "{name: flow, excludeFilters: [{verdict: [DROPPED]}]}",
    ))
    .unwrap();
    metrics.observe(&dropped(), &Node::default());
    metrics.observe(&tcp(2), &Node::default());
    assert_eq!(
        lines(metrics.snapshot(&ResourceRef::default(), 9)),
        ["flows_processed_total{protocol=TCP,subtype=to-endpoint,type=Trace,verdict=FORWARDED} 1"]
    );
    // New filters keep the series.
    metrics
        .reload(&options(
            "{name: flow, includeFilters: [{verdict: [DROPPED]}]}",
        ))
        .unwrap();
    metrics.observe(&dropped(), &Node::default());
    metrics.observe(&tcp(2), &Node::default());
    assert_eq!(lines(metrics.snapshot(&ResourceRef::default(), 9)).len(), 2);
    assert!(metrics.reload(&options("{name: flows}")).is_err());
    metrics.observe(&dropped(), &Node::default());
    assert!(lines(metrics.snapshot(&ResourceRef::default(), 9))[0].ends_with("verdict=DROPPED} 2"));
}

#[test]
fn series_of_a_deleted_pod_end_after_a_minute() {
    let mut metrics = metrics(&[
        "drop:sourceContext=pod",
        "flow:labelsContext=source_pod,source_namespace",
        "tcp:sourceContext=namespace",
    ]);
    let other = Flow {
        source: endpoint("a", "other", &[]),
        ..dropped()
    };
    for flow in [dropped(), other, tcp(2)] {
        metrics.observe(&flow, &Node::default());
    }
    let resource = ResourceRef::default();
    metrics.pod_deleted("a", "s", 10 * SECOND);
    assert!(
        lines(metrics.export(&resource, 69 * SECOND))
            .iter()
            .all(|line| !line.ends_with("end"))
    );
    assert_eq!(
        lines(metrics.export(&resource, 70 * SECOND)),
        [
            "drop_total{protocol=TCP,reason=POLICY_DENIED,source=a/other} 1",
            "drop_total{protocol=TCP,reason=POLICY_DENIED,source=a/s} end",
            "flows_processed_total{protocol=TCP,source_namespace=a,source_pod=other,subtype=,type=Drop,verdict=DROPPED} 1",
            "flows_processed_total{protocol=TCP,source_namespace=a,source_pod=s,subtype=,type=Drop,verdict=DROPPED} end",
            "flows_processed_total{protocol=TCP,source_namespace=a,source_pod=s,subtype=to-endpoint,type=Trace,verdict=FORWARDED} end",
            "tcp_flags_total{family=IPv4,flag=SYN,source=a} 1",
        ]
    );
    assert_eq!(lines(metrics.export(&resource, 71 * SECOND)).len(), 3);
    // It comes back under its old name, and is found.
    metrics.observe(&dropped(), &Node::default());
    metrics.observe(&dropped(), &Node::default());
    assert!(
        lines(metrics.export(&resource, 72 * SECOND))
            .contains(&"drop_total{protocol=TCP,reason=POLICY_DENIED,source=a/s} 2".to_owned())
    );
}

#[test]
fn beyond_the_limit_there_is_one_series_for_the_rest() {
    let options = HubbleOptions {
        metrics: vec![MetricOptions::parse("port-distribution")],
        series_limit: 2,
    };
    let mut metrics = HubbleMetrics::new(&options).unwrap();
    for port in [1, 2, 3, 4, 1] {
        let flow = Flow {
            l4: Some(L4::Udp {
                source_port: 9,
                destination_port: port,
            }),
            ..tcp(0)
        };
        metrics.observe(&flow, &Node::default());
    }
    assert_eq!(
        lines(metrics.export(&ResourceRef::default(), 9)),
        [
            "port_distribution_total{otel.metric.overflow=Bool(true)} 2",
            "port_distribution_total{port=1,protocol=UDP} 2",
            "port_distribution_total{port=2,protocol=UDP} 1",
        ]
    );
}

#[test]
fn lost_events_count_as_in_hubble() {
    let mut metrics = metrics(&[]);
    assert_eq!(metrics.export(&ResourceRef::default(), 1), None);
    for source in [1, 2, 3] {
        metrics.lost(&LostEvent {
            source: LostEventSource(source),
            count: 20,
            ..LostEvent::default()
        });
    }
    assert_eq!(
        lines(metrics.export(&ResourceRef::default(), 1)),
        [
            "lost_events_total{source=hubble_ring_buffer} 20",
            "lost_events_total{source=observer_events_queue} 20",
            "lost_events_total{source=perf_event_ring_buffer} 1",
        ]
    );
}

#[test]
fn wrong_options_are_refused_by_name() {
    let wrong = |plugins: &[&str]| {
        let metrics = plugins
            .iter()
            .map(|text| MetricOptions::parse(text))
            .collect();
        let options = HubbleOptions {
            metrics,
            ..HubbleOptions::default()
        };
        HubbleMetrics::new(&options).unwrap_err().to_string()
    };
    assert!(wrong(&["drops"]).contains("`drops` is no Hubble metric; there are dns, drop, flow"));
    assert!(wrong(&["drop:query"]).contains("`drop` has no option `query`"));
    assert!(wrong(&["drop:sourceContext=pods"]).contains("`pods`"));
    assert!(wrong(&["drop:labelsContext=Source_IP"]).contains("`Source_IP`"));
    assert!(wrong(&["http", "httpV2"]).contains("exclude"));
    assert!(wrong(&["tcp", "tcp:sourceContext=ip"]).contains("twice"));
}
