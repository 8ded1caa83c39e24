//! Counting a flow whose series are known allocates nothing.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use netflume_core::aggregate::hubble::{HubbleMetrics, HubbleOptions, MetricOptions};
use netflume_core::model::flow::{
    Dns, Endpoint, EventType, Http, Ip, IpVersion, L4, L7FlowType, L7Record, Labels, Layer7, Node,
    Pod, TcpFlags, TrafficDirection, Verdict,
};
use netflume_core::model::flow::{DropReason, Flow};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|n| n.set(n.get() + 1));
        // SAFETY: the caller's contract is that of this method.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract is that of this method.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn endpoint(pod: &str, label: &str) -> Endpoint {
    Endpoint {
        id: 7,
        identity: 1001,
        pod: Some(Arc::new(Pod {
            namespace: "default".into(),
            name: pod.into(),
            ..Pod::default()
        })),
        labels: Some(Arc::new(Labels {
            list: [label.into()].into(),
            ..Labels::default()
        })),
    }
}

fn flows() -> Vec<Flow> {
    let packet = Flow {
        verdict: Verdict::FORWARDED,
        event_type: EventType {
            kind: 4,
            sub_type: 0,
        },
        ip: Some(Ip {
            source: Some([10, 0, 0, 1].into()),
            destination: Some([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1].into()),
            version: IpVersion::IPv6,
            ..Ip::default()
        }),
        l4: Some(L4::Tcp {
            source_port: 4000,
            destination_port: 80,
            flags: Some(TcpFlags(0x12)),
        }),
        is_reply: Some(false),
        direction: TrafficDirection::EGRESS,
        source: endpoint("client-1", "k8s:app=client"),
        destination: endpoint("", "reserved:world"),
        ..Flow::default()
    };
    let message = |record| Flow {
        event_type: EventType {
            kind: 129,
            sub_type: 0,
        },
        is_reply: Some(true),
        l7: Some(Box::new(Layer7 {
            kind: L7FlowType::RESPONSE,
            latency_ns: 1_000_000,
            record,
            ..Layer7::default()
        })),
        ..packet.clone()
    };
    vec![
        Flow {
            verdict: Verdict::DROPPED,
            drop_reason: DropReason(206),
            event_type: EventType {
                kind: 1,
                sub_type: 206,
            },
            ..packet.clone()
        },
        Flow {
            event_type: EventType {
                kind: 5,
                sub_type: 0,
            },
            ..packet.clone()
        },
        Flow {
            l4: Some(L4::Icmpv4 { kind: 3, code: 99 }),
            ..packet.clone()
        },
        message(L7Record::Http(Http {
            code: 200,
            method: "GET".into(),
            ..Http::default()
        })),
        message(L7Record::Dns(Dns {
            query: "a.b.".into(),
            qtypes: vec![1, 28],
            rrtypes: vec![1],
            ..Dns::default()
        })),
        packet,
    ]
}

#[test]
fn known_series_cost_no_allocation() {
    let context = "sourceContext=pod|ip;destinationContext=workload|dns|reserved-identity;labelsContext=source_ip,destination_ip";
    let metrics = [
        "dns:query;",
        "drop:",
        "flow:",
        "flows-to-world:port;",
        "http:",
        "icmp:",
        "policy:",
        "port-distribution:",
        "tcp:",
    ]
    .iter()
    .map(|plugin| MetricOptions::parse(&format!("{plugin}{context}")))
    .collect();
    let options = HubbleOptions {
        metrics,
        ..HubbleOptions::default()
    };
    let mut metrics = HubbleMetrics::new(&options).unwrap();
    let (flows, node) = (flows(), Node::default());
    let mut rounds = |n: u32| {
        let before = ALLOCATIONS.with(Cell::get);
        for flow in (0..n).flat_map(|_| &flows) {
            metrics.observe(flow, &node);
        }
        ALLOCATIONS.with(Cell::get) - before
    };
    assert_ne!(
        rounds(1),
        0,
        "new series are allocated, so the counter works"
    );
    assert_eq!(rounds(1000), 0);
}
