//! What Hubble's metrics cost per flow, series known: the five of the default, all plugins, and the default behind a filter.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use netflume_core::aggregate::hubble::{HubbleMetrics, HubbleOptions, MetricOptions};
use netflume_core::model::flow::{
    DropReason, Endpoint, EventType, Flow, Ip, IpVersion, L4, Labels, Node, Pod, TcpFlags,
    TrafficDirection, Verdict,
};

fn endpoint(i: usize) -> Endpoint {
    Endpoint {
        id: 7,
        identity: 1001,
        pod: Some(Arc::new(Pod {
            namespace: format!("namespace-{}", i % 8).into(),
            name: format!("deployment-{i}-6f7c9b5d4-x2v9k").into(),
            ..Pod::default()
        })),
        labels: Some(Arc::new(Labels {
            list: [
                "k8s:app=shop".into(),
                format!("k8s:io.kubernetes.pod.namespace=namespace-{}", i % 8).into(),
            ]
            .into(),
            ..Labels::default()
        })),
    }
}

/// 1024 packets among 64 pods: nine of ten forwarded, of these one of eight with SYN.
fn flows() -> Vec<Flow> {
    let endpoints: Vec<_> = (0..64).map(endpoint).collect();
    (0..1024)
        .map(|i| {
            let is_drop = i % 10 == 0;
            Flow {
                verdict: if is_drop {
                    Verdict::DROPPED
                } else {
                    Verdict::FORWARDED
                },
                drop_reason: if is_drop {
                    DropReason::POLICY_DENIED
                } else {
                    DropReason(0)
                },
                event_type: if is_drop {
                    EventType {
                        kind: 1,
                        sub_type: 133,
                    }
                } else {
                    EventType {
                        kind: 4,
                        sub_type: 0,
                    }
                },
                ip: Some(Ip {
                    source: Some([10, 0, 0, 1].into()),
                    destination: Some([10, 0, 1, 1].into()),
                    version: IpVersion::IPv4,
                    ..Ip::default()
                }),
                l4: Some(L4::Tcp {
                    source_port: 40_000,
                    destination_port: 8080,
                    flags: Some(if i % 8 == 1 {
                        TcpFlags::SYN
                    } else {
                        TcpFlags::ACK
                    }),
                }),
                is_reply: Some(false),
                direction: TrafficDirection::EGRESS,
                source: endpoints[i % 64].clone(),
                destination: endpoints[(i / 16) % 64].clone(),
                ..Flow::default()
            }
        })
        .collect()
}

fn benchmark(c: &mut Criterion) {
    let flows = flows();
    let node = Node::default();
    let mut group = c.benchmark_group("hubble_metrics");
    group.throughput(Throughput::Elements(flows.len() as u64));
    let all = [
        "dns",
        "drop",
        "flow",
        "flows-to-world",
        "httpV2",
        "icmp",
        "policy",
        "port-distribution",
        "sctp",
        "tcp",
    ];
    let all: Vec<_> = all
        .iter()
        .map(|name| {
            MetricOptions::parse(&format!("{name}:sourceContext=pod;destinationContext=pod"))
        })
        .collect();
    let mut filtered = HubbleOptions::default().metrics;
    for metric in &mut filtered {
        metric.exclude_filters = serde_json::from_str(
            r#"[{"source_pod":["kube-system/"]},{"destination_port":["53"]}]"#,
        )
        .expect("a filter");
    }
    for (name, metrics) in [
        ("default", HubbleOptions::default().metrics),
        ("all", all),
        ("filtered", filtered),
    ] {
        let options = HubbleOptions {
            metrics,
            ..HubbleOptions::default()
        };
        let mut metrics = HubbleMetrics::new(&options).expect("options");
        group.bench_function(name, |b| {
            b.iter(|| {
                for flow in &flows {
                    metrics.observe(black_box(flow), &node);
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, benchmark);
criterion_main!(benches);
