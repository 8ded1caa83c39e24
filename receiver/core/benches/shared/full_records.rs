//! Netflow records with every tag and field, for the benchmarks.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use netflume_core::model::netflow::{
    ConnectError, Direction, Endpoint, KubernetesNames, NetflowRecord, Process, Role, Transport,
};
use netflume_core::model::resource::{Resource, ResourceRef, Value};

/// What one interval of a busy node may hold.
pub(crate) const RECORDS: u32 = 10_000;
/// Processes that have connections.
const RESOURCES: u32 = 64;

/// One of the resources.
pub(crate) fn resource(number: u32) -> ResourceRef {
    let text = |text: String| Value::Text(text.into());
    Arc::new(Resource {
        attributes: vec![
            ("container.id", text(format!("{number:064x}"))),
            ("host.id", text("4d63009a8d0f11eeaad74c796ed8e320".into())),
            ("host.name", text("node-a.example".into())),
            ("k8s.namespace.name", text("shop".into())),
            (
                "k8s.pod.name",
                text(format!("checkout-7c9d8f5b6-{number:05}")),
            ),
            ("os.type", text("linux".into())),
            ("process.executable.name", text("checkout".into())),
            ("process.pid", Value::Int(4000 + i64::from(number))),
            (
                "service.instance.id",
                text(format!("shop.checkout-{number}.checkout")),
            ),
            ("service.name", text("checkout".into())),
        ],
        extra: vec![],
    })
}

fn names(what: &str) -> Option<Arc<KubernetesNames>> {
    Some(Arc::new(KubernetesNames {
        namespace: Some("shop".into()),
        pod: Some(format!("{what}-7c9d8f5b6-x2x9k")),
        deployment: Some(what.into()),
        service: Some(what.into()),
    }))
}

/// The records.
pub(crate) fn records() -> Vec<NetflowRecord> {
    let resources: Vec<_> = (0..RESOURCES).map(resource).collect();
    let (local_kubernetes, peer_kubernetes) = (names("checkout"), names("payments"));
    let process = Arc::new(Process {
        pid: 4711,
        executable_name: "checkout".into(),
        executable_path: Some("/usr/local/bin/checkout".into()),
        command_line: Some("/usr/local/bin/checkout --listen :8080".into()),
        container_id: None,
    });
    let address = |n: u32, port| {
        let ip = Ipv4Addr::from(0x0af4_0000 + n % 60_000);
        Endpoint::from(SocketAddr::new(IpAddr::V4(ip), port))
    };
    (0..RECORDS)
        .map(|n| NetflowRecord {
            unix_ns: 1_700_000_000_000_000_000,
            transport: Transport::Tcp,
            direction: Direction::Outgoing,
            role: Role::Client,
            local: address(n % RESOURCES, 0),
            peer: address(n, 5432),
            client_port_masked: true,
            overflow: false,
            peer_nat: Some(address(n + 1, 15_432)),
            peer_domain: Some("payments.shop.svc.cluster.local".into()),
            local_kubernetes: local_kubernetes.clone(),
            peer_kubernetes: peer_kubernetes.clone(),
            process: process.clone(),
            netns: 4_026_531_840,
            preexisting: n % 10 == 0,
            bytes_read: u64::from(n) * 1_337,
            bytes_written: u64::from(n) * 337,
            packets_read: 0,
            packets_written: 0,
            retransmits: u64::from(n % 7),
            rtt_us: 400 + n % 1000,
            rtt_var_us: 40 + n % 100,
            tcp_closed: u64::from(n % 3),
            tcp_established: u64::from(n % 4),
            failed: if n % 50 == 0 {
                vec![(ConnectError::Refused, 1)]
            } else {
                vec![]
            },
            resource: resources[(n % RESOURCES) as usize].clone(),
        })
        .collect()
}
