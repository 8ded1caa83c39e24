//! Text in access logs and notifications may hold any bytes: what is not UTF-8 is replaced, and the event is there.

use netflume_core::decode::cilium::{Monitor, Payload};
use netflume_core::enrich::cilium::{Directory, Flows};
use netflume_core::model::flow::message_type;

#[path = "support/cilium_world.rs"]
#[expect(dead_code, reason = "only the path of the fixtures is used")]
mod cilium_world;

/// Access logs and notifications of the fixtures that become events.
fn events() -> Vec<Vec<u8>> {
    let mut events = Vec::new();
    for name in ["l7", "agent"] {
        let path = cilium_world::fixture(&format!("1.19.4/{name}.gob"));
        let stream = std::fs::read(path).expect("a stream");
        let (mut monitor, mut rest) = (Monitor::default(), stream.as_slice());
        while !rest.is_empty() {
            let (payload, after) = monitor.next(rest).expect("a sound stream");
            rest = after;
            if let Some(Payload::Sample { data, .. }) = payload
                && data[0] >= message_type::ACCESS_LOG
                && shown(data).is_some()
            {
                events.push(data.to_vec());
            }
        }
    }
    events
}

/// Everything that is known of the event.
fn shown(data: &[u8]) -> Option<String> {
    let payload = Payload::Sample { data, cpu: 0 };
    let event = Flows::default().payload(&payload, 1, &Directory::default());
    event.ok().map(|event| format!("{event:?}"))
}

#[test]
fn a_byte_that_is_no_text_is_replaced_and_the_event_is_there() {
    let events = events();
    for (word, what) in [
        ("items", "URL"),
        ("GET", "method"),
        ("HTTP/1.1", "protocol"),
        ("curl", "value of a header"),
        ("User-Agent", "name of a header"),
        ("name.example", "DNS name"),
        ("c.example", "alias in a DNS answer"),
        ("proxy", "source of a DNS answer"),
        ("produce", "Kafka operation"),
        ("orders", "Kafka topic"),
        ("cassandra", "generic protocol"),
        ("select", "generic field"),
        ("k8s-app", "key of a label"),
        ("kube-dns", "value of a label"),
        ("eth0", "zone of an address"),
        ("storefront", "text of a notification"),
    ] {
        let mut replaced = 0;
        for event in &events {
            // The value stands behind the definitions: the last place.
            let place = event
                .windows(word.len())
                .rposition(|at| at == word.as_bytes());
            let Some(place) = place else { continue };
            let mut event = event.clone();
            event[place] = 0xff;
            let shown = shown(&event).unwrap_or_else(|| panic!("{what}: the event is gone"));
            replaced += usize::from(shown.contains('\u{fffd}'));
        }
        assert!(replaced > 0, "no event shows the {what}");
    }
}
