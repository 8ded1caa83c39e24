//! The decoders of Cilium's monitor socket, from the gob stream to flows, metrics and JSON.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use netflume_core::aggregate::hubble::{HubbleMetrics, HubbleOptions, MetricOptions};
use netflume_core::decode::cilium::agent::{Notification, agent_event};
use netflume_core::decode::cilium::{self, Definitions, Monitor, Options, Payload};
use netflume_core::decode::gob::{self, Types};
use netflume_core::enrich::cilium::answer::Answer;
use netflume_core::enrich::cilium::tracker::Tracker;
use netflume_core::enrich::cilium::update::PodChange;
use netflume_core::enrich::cilium::{Directory, Flows, LocalEndpoint, labels, update};
use netflume_core::model::cilium::{AgentEvent, AgentNotification, CiliumEvent};
use netflume_core::model::flow::{Node, Service, message_type};
use netflume_core::otlp::hubble::json;
use serde_json::Value;

use crate::seeds;

/// The agents whose layouts differ, and an unknown one.
const AGENTS: &[Option<(u16, u16)>] = &[
    None,
    Some((1, 14)),
    Some((1, 16)),
    Some((1, 18)),
    Some((1, 19)),
    Some((1, 20)),
];

/// Any gob stream: every message is read to its end or refused, and no reading goes beyond it.
pub fn gob(data: &[u8]) {
    let mut types = Types::default();
    let mut rest = data;
    while let Ok(Some((content, after))) = gob::frame(rest) {
        assert!(after.len() < rest.len(), "a message without bytes");
        rest = after;
        match types.message(content) {
            Ok(None) => {}
            Ok(Some((id, mut reader))) => {
                let before = reader.rest().len();
                if types.skip(id, &mut reader).is_err() {
                    return;
                }
                assert!(reader.rest().len() < before, "a value without bytes");
            }
            Err(_) => return,
        }
    }
}

/// One message of the monitor socket, as each release of the agent would mean it.
pub fn event(data: &[u8]) {
    for agent in AGENTS {
        let options = Options { agent: *agent };
        // The same bytes are the same event, whatever was read before: nothing, themselves, or other agents' events.
        let mut known = Definitions::default();
        let first = cilium::event(data, &options, &mut known);
        assert_eq!(first, cilium::event(data, &options, &mut known));
        assert_eq!(
            first,
            cilium::event(data, &options, &mut known_from_others())
        );
    }
}

/// The type definitions of events that agents of both releases sent.
fn known_from_others() -> Definitions {
    static KNOWN: OnceLock<Definitions> = OnceLock::new();
    let learn = || {
        let mut known = Definitions::default();
        let events = seeds::of("cilium_event").expect("fixtures");
        for event in events {
            cilium::event(&event, &Options::default(), &mut known).ok();
        }
        known
    };
    KNOWN.get_or_init(learn).clone()
}

/// A connection to the monitor socket: payloads come to an end, and their events are read.
pub fn monitor(data: &[u8]) {
    let mut monitor = Monitor::default();
    let mut definitions = Definitions::default();
    let mut rest = data;
    while let Ok(Some(_)) = gob::frame(rest) {
        let Ok((payload, after)) = monitor.next(rest) else {
            return;
        };
        assert!(after.len() < rest.len(), "a message without bytes");
        let (_, framed) = gob::frame(rest).ok().flatten().expect("it was read");
        assert_eq!(after, framed, "more or less than a message was read");
        rest = after;
        if let Some(Payload::Sample { data, .. }) = payload {
            cilium::event(data, &Options::default(), &mut definitions).ok();
        }
    }
}

/// A message all the way: flow, metrics of every plugin, and JSON that reads back.
pub fn flow(data: &[u8]) {
    let directory = directory();
    let mut flows = Flows::default();
    let payload = Payload::Sample { data, cpu: 1 };
    let Ok(event) = flows.payload(&payload, 1, &directory) else {
        return;
    };
    is_json(&event);
    if let CiliumEvent::Flow(flow) = &event {
        let mut metrics = HubbleMetrics::new(&every_plugin()).expect("sound options");
        metrics.observe(flow, &Node::default());
    }
}

/// An access log, without its message type.
pub fn access_log(data: &[u8]) {
    flow(&[&[message_type::ACCESS_LOG], data].concat());
}

/// An agent notification: its number in the first byte, then its text.
pub fn agent(data: &[u8]) {
    let Some((kind, text)) = data.split_first() else {
        return;
    };
    let text = &*String::from_utf8_lossy(text);
    let notification = Notification {
        kind: u64::from(*kind),
        text: text.into(),
    };
    let event = agent_event(&notification, 1);
    says_what_its_text_says(&event, text);
    // Spaces around JSON mean nothing, and around anything else something.
    let spaced = format!(" {text}\n");
    let spaced = agent_event(
        &Notification {
            text: spaced.as_str().into(),
            ..notification
        },
        1,
    );
    let is_unknown = matches!(event.notification, AgentNotification::Unknown { .. });
    let any_json = serde_json::from_str::<Value>(text).is_ok();
    assert_eq!(
        event == spaced,
        !is_unknown || any_json,
        "{event:?} {spaced:?}"
    );
    let (mut directory, mut pods) = (directory(), Vec::new());
    update::apply(&event, &mut directory, &mut pods);
    // A pod ends once by its addresses: the same notification again ends none.
    if matches!(event.notification, AgentNotification::IpCache(_)) {
        pods.clear();
        update::apply(&event, &mut directory, &mut pods);
        let ends = |change: &PodChange| matches!(change, PodChange::Gone(_));
        assert!(!pods.iter().any(ends), "{event:?} ends {pods:?} again");
    }
    is_json(&CiliumEvent::Agent(event));
}

/// A recorded answer of the agent's API: what is read is what was written, and the same answer again ends no pod.
pub fn api(data: &[u8]) {
    let Ok(answer) = Answer::from_bytes(data) else {
        return;
    };
    assert_eq!(answer.to_bytes(), data);
    let mut tracker = Tracker::default();
    for _ in 0..2 {
        let Ok(change) = answer.change() else {
            return;
        };
        tracker.apply(change);
        let pods = tracker.take_pods();
        let ends = |change: &PodChange| matches!(change, PodChange::Gone(_));
        assert!(!pods.iter().any(ends), "{answer:?} ends {pods:?}");
    }
}

/// Compares the event with its text as a reader of any JSON sees it, where there is one that reads it.
fn says_what_its_text_says(event: &AgentEvent, text: &str) {
    // A number that is too large for any reader may stand where ours does not look.
    let Ok(value) = serde_json::from_str::<Value>(text) else {
        return;
    };
    let is_text = |key: &str, found: &str| {
        let expected = value.get(key).and_then(Value::as_str).unwrap_or_default();
        assert_eq!(found, expected, "{key} of {text}");
    };
    let is_number = |key: &str, found: u64| {
        let expected = value.get(key).and_then(Value::as_u64).unwrap_or_default();
        assert_eq!(found, expected, "{key} of {text}");
    };
    match &event.notification {
        AgentNotification::EndpointUpdate {
            id,
            pod_name,
            namespace,
            error,
            ..
        } => {
            is_number("id", *id);
            is_text("pod-name", pod_name);
            is_text("namespace", namespace);
            is_text("error", error);
        }
        AgentNotification::EndpointRegenerate { id, error, .. } => {
            is_number("id", *id);
            is_text("error", error);
        }
        AgentNotification::PolicyUpdate { revision, .. } => is_number("revision", *revision),
        AgentNotification::IpCache(update) => {
            is_text("cidr", &update.cidr);
            is_number("id", update.identity.into());
            is_text("pod-name", &update.pod_name);
        }
        AgentNotification::ServiceUpsert(service) => is_number("id", service.id.into()),
        AgentNotification::ServiceDelete { id } => is_number("id", (*id).into()),
        AgentNotification::AgentStart { .. } | AgentNotification::Unknown { .. } => {}
    }
}

fn is_json(event: &CiliumEvent) {
    let mut text = String::new();
    json::event(event, &Node::default(), &mut text);
    if let Err(error) = serde_json::from_str::<Value>(&text) {
        panic!("{error}: {text}");
    }
}

fn every_plugin() -> HubbleOptions {
    let context = "sourceContext=pod|dns|ip;destinationContext=workload|app|identity;labelsContext=source_ip,destination_pod";
    let plugins = [
        "dns:query;",
        "drop:",
        "flow:",
        "flows-to-world:port;any-drop;",
        "http:",
        "icmp:",
        "kafka:",
        "policy:",
        "port-distribution:",
        "sctp:",
        "tcp:",
    ];
    let parse = |plugin: &&str| MetricOptions::parse(&format!("{plugin}{context}"));
    HubbleOptions {
        metrics: plugins.iter().map(parse).collect(),
        ..HubbleOptions::default()
    }
}

/// Knows some of the addresses and numbers of the seeds.
fn directory() -> Directory {
    let mut directory = Directory::default();
    let text = ["k8s:app=web", "k8s:io.cilium.k8s.policy.cluster=default"];
    let web: [IpAddr; 2] = [[10, 0, 0, 1].into(), [0xfd00, 0, 0, 0, 0, 0, 0, 1].into()];
    let api = IpAddr::from([10, 0, 1, 5]);
    directory.set_identity(1001, text);
    directory.set_endpoint(LocalEndpoint {
        id: 77,
        identity: 1001,
        labels: Arc::new(labels::of(1001, text)),
        addresses: web.to_vec(),
        ..LocalEndpoint::default()
    });
    directory.set_prefix(api, 32, 1004, None);
    directory.set_prefix([0, 0, 0, 0].into(), 0, 2, None);
    directory.set_names(77, api, ["api.shop.svc".into()].into());
    directory.set_service(api, 8080, Arc::new(Service::default()));
    directory.set_interface(2, "eth0".into());
    directory.set_cgroup(4711, web.to_vec());
    directory
}
