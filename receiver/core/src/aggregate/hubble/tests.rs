//! Every plugin with the flows that it counts and those it does not, shown as Prometheus text.

use std::fmt::Write as _;
use std::sync::Arc;

use super::*;
use crate::model::flow::{
    Dns, DropReason, Endpoint, EventType, Http, Ip, IpVersion, Kafka, L4, L7FlowType, L7Record,
    Labels, Layer7, Pod, SctpChunkType, TcpFlags, TraceParent, TrafficDirection, Verdict, Workload,
};
use crate::model::metrics::{AttributeValue, Attributes, Data, Number};
use crate::model::resource::Value;

mod life;
mod plugins;

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
    assert!(wrong(&["drops"]).contains("metric: found `drops`, allowed are dns, drop, flow"));
    assert!(wrong(&["drop:query"]).contains("option of metric `drop`: found `query`"));
    assert!(wrong(&["drop:sourceContext=pods"]).contains("`pods`"));
    assert!(wrong(&["drop:labelsContext=Source_IP"]).contains("`Source_IP`"));
    assert!(wrong(&["http", "httpV2"]).contains("exclude"));
    assert!(wrong(&["tcp", "tcp:sourceContext=ip"]).contains("twice"));
}
