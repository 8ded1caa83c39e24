//! A server with flows in its ring.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use netflume::serve::observer::{self, FlowRing, ObserverOptions, RingWriter};
use netflume_core::ledger::Ledger;
use netflume_core::model::cilium::{
    AgentEvent, AgentNotification, CiliumEvent, DebugEvent, LostEvent,
};
use netflume_core::model::flow::{
    AgentEventType, DebugEventType, DropReason, Endpoint, Ethernet, EventType, Flow, FlowType,
    Http, Ip, IpVersion, L4, L7FlowType, L7Record, Labels, Layer7, LostEventSource, Node, Pod,
    Service, Summary, TcpFlags, TraceObservationPoint, TraceReason, TrafficDirection, Verdict,
    Workload,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A running server.
pub(crate) struct Server {
    pub(crate) writer: RingWriter,
    pub(crate) ring: FlowRing,
    pub(crate) endpoint: String,
    pub(crate) ledger: Arc<Ledger>,
    stop: CancellationToken,
    task: JoinHandle<Result<(), observer::ObserverError>>,
}

impl Server {
    pub(crate) async fn start(options: &ObserverOptions) -> Result<Self> {
        let ledger = Arc::new(Ledger::default());
        let ring = observer::ring(options.capacity, ledger.clone());
        let writer = ring.writer();
        writer.set_node(node());
        let server = observer::bind(options, ring.clone()).await?;
        let endpoint = server.endpoint().to_owned();
        let stop = CancellationToken::new();
        let task = tokio::spawn(server.serve(stop.clone()));
        Ok(Self {
            writer,
            ring,
            endpoint,
            ledger,
            stop,
            task,
        })
    }

    /// Publishes events.
    pub(crate) fn publish(&mut self, events: impl IntoIterator<Item = CiliumEvent>) {
        for event in events {
            self.writer.push(event);
        }
        self.writer.flush();
    }

    pub(crate) async fn stop(self) -> Result<()> {
        self.stop.cancel();
        tokio::time::timeout(Duration::from_secs(30), self.task)
            .await
            .context("the server did not stop")???;
        Ok(())
    }
}

pub(crate) fn node() -> Node {
    Node {
        name: "prod/node-a".into(),
        labels: vec!["zone=a".into()],
        emitter_name: "netflume".into(),
        emitter_version: "0.1.0".into(),
        ..Node::default()
    }
}

pub(crate) fn now_ns() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

fn endpoint(id: u32, namespace: &str, pod: &str, label: &str) -> Endpoint {
    Endpoint {
        id,
        identity: 1000 + id,
        pod: Some(Arc::new(Pod {
            namespace: namespace.into(),
            name: pod.into(),
            workloads: [Workload {
                name: "shop".into(),
                kind: "Deployment".into(),
            }]
            .into(),
        })),
        labels: Some(Arc::new(Labels {
            list: [label.into()].into(),
            cluster_name: "prod".into(),
        })),
    }
}

/// A forwarded SYN from `shop/web-1` to `shop/db-0`, port 5432.
pub(crate) fn packet(time_ns: u64) -> Flow {
    Flow {
        time_ns,
        uuid: u128::from(time_ns).to_be_bytes(),
        verdict: Verdict::FORWARDED,
        flow_type: FlowType::L3_L4,
        event_type: EventType {
            kind: 4,
            sub_type: 3,
        },
        ethernet: Some(Ethernet {
            source: [2, 0, 0, 0, 0, 1],
            destination: [2, 0, 0, 0, 0, 2],
        }),
        ip: Some(Ip {
            source: Some([10, 0, 0, 1].into()),
            destination: Some([10, 0, 0, 2].into()),
            version: IpVersion::IPv4,
            ..Ip::default()
        }),
        l4: Some(L4::Tcp {
            source_port: 40_000,
            destination_port: 5432,
            flags: Some(TcpFlags::SYN),
        }),
        source: endpoint(1, "shop", "web-1", "k8s:app=web"),
        destination: endpoint(2, "shop", "db-0", "k8s:app=db"),
        destination_service: Some(Arc::new(Service {
            name: "db".into(),
            namespace: "shop".into(),
        })),
        is_reply: Some(false),
        direction: TrafficDirection::EGRESS,
        observation_point: TraceObservationPoint::TO_STACK,
        trace_reason: TraceReason::NEW,
        summary: Summary::L4,
        ..Flow::default()
    }
}

/// A packet to port 53 that policy denied.
pub(crate) fn denied(time_ns: u64) -> Flow {
    Flow {
        verdict: Verdict::DROPPED,
        drop_reason: DropReason::POLICY_DENIED,
        event_type: EventType {
            kind: 1,
            sub_type: 133,
        },
        l4: Some(L4::Udp {
            source_port: 40_000,
            destination_port: 53,
        }),
        is_reply: None,
        observation_point: TraceObservationPoint::default(),
        trace_reason: TraceReason::default(),
        ..packet(time_ns)
    }
}

/// A response to `GET /cart`.
pub(crate) fn message(time_ns: u64) -> Flow {
    Flow {
        flow_type: FlowType::L7,
        event_type: EventType {
            kind: 129,
            sub_type: 0,
        },
        ethernet: None,
        l4: Some(L4::Tcp {
            source_port: 8080,
            destination_port: 40_000,
            flags: None,
        }),
        is_reply: Some(true),
        l7: Some(Box::new(Layer7 {
            kind: L7FlowType::RESPONSE,
            latency_ns: 12_000_000,
            record: L7Record::Http(Http {
                code: 404,
                method: "GET".into(),
                url: "http://shop/cart?id=1".into(),
                protocol: "HTTP/1.1".into(),
                headers: vec![("X-User".into(), "a".into())],
            }),
            ..Layer7::default()
        })),
        observation_point: TraceObservationPoint::default(),
        trace_reason: TraceReason::default(),
        summary: Summary::L7,
        ..packet(time_ns)
    }
}

pub(crate) fn agent(time_ns: u64) -> CiliumEvent {
    CiliumEvent::Agent(AgentEvent {
        time_ns,
        kind: AgentEventType::POLICY_UPDATED,
        notification: AgentNotification::PolicyUpdate {
            labels: vec!["k8s:policy=x".into()],
            revision: 7,
            rule_count: 2,
        },
    })
}

pub(crate) fn debug(time_ns: u64) -> CiliumEvent {
    CiliumEvent::Debug(DebugEvent {
        time_ns,
        kind: DebugEventType::DBG_CT_VERDICT,
        hash: 9,
        args: [1, 2, 3],
        cpu: 4,
        ..DebugEvent::default()
    })
}

pub(crate) fn lost(time_ns: u64) -> CiliumEvent {
    CiliumEvent::Lost(LostEvent {
        time_ns,
        source: LostEventSource::PERF_EVENT_RING_BUFFER,
        count: 5,
        cpu: Some(1),
        ..LostEvent::default()
    })
}
