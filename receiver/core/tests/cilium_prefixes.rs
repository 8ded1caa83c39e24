//! A message of the monitor socket that ends anywhere: an error, or a flow that says less; never a panic, never a different flow.

use std::collections::BTreeSet;

use netflume_core::decode::cilium::{Monitor, Options as DecodeOptions, Payload};
use netflume_core::decode::gob;
use netflume_core::enrich::cilium::{Directory, Flows, Options};
use netflume_core::model::cilium::CiliumEvent;
use netflume_core::model::flow::{Flow, message_type};

#[path = "support/cilium_world.rs"]
mod cilium_world;

const RELEASES: [(&str, (u16, u16)); 2] = [("1.18.6", (1, 18)), ("1.19.4", (1, 19))];

/// The streams of a release.
fn streams(release: &str) -> Vec<Vec<u8>> {
    let folder = std::fs::read_dir(cilium_world::fixture(release)).expect("the fixtures");
    let mut paths: Vec<_> = folder
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "gob"));
    paths.sort();
    assert!(paths.len() >= 7, "streams of {release}: {paths:?}");
    paths
        .iter()
        .map(|path| std::fs::read(path).expect("a stream"))
        .collect()
}

/// The events of all streams of a release, each once.
fn events(release: &str) -> BTreeSet<Vec<u8>> {
    let mut events = BTreeSet::new();
    for stream in streams(release) {
        let (mut monitor, mut rest) = (Monitor::default(), stream.as_slice());
        while !rest.is_empty() {
            let (payload, after) = monitor.next(rest).expect("a sound stream");
            rest = after;
            if let Some(Payload::Sample { data, .. }) = payload {
                events.insert(data.to_vec());
            }
        }
    }
    events
}

fn decoder(agent: Option<(u16, u16)>) -> Flows {
    Flows::new(Options {
        decode: DecodeOptions { agent },
        ..Options::default()
    })
}

/// The event without its number.
fn decode(data: &[u8], flows: &mut Flows, directory: &Directory) -> Option<CiliumEvent> {
    let payload = Payload::Sample { data, cpu: 1 };
    let mut event = flows.payload(&payload, 1, directory).ok()?;
    if let CiliumEvent::Flow(flow) = &mut event {
        flow.uuid = [0; 16];
    }
    Some(event)
}

/// What stands in the fixed part of a datapath event, and so is there in full or not at all.
fn fixed(flow: &Flow) -> impl PartialEq + std::fmt::Debug {
    (
        (flow.verdict, flow.drop_reason, flow.event_type),
        (flow.auth_type, flow.policy_match_type, flow.trace_reason),
        (flow.observation_point, flow.debug_capture_point),
        (flow.proxy_port, flow.ip_trace_id, flow.is_reply),
        (flow.interface.clone(), flow.file, flow.socket_cookie),
        (flow.cgroup_id, flow.sock_xlate_point),
    )
}

/// Which headers were read.
fn headers(flow: &Flow) -> [bool; 4] {
    [
        flow.ethernet.is_some() || flow.tunnel.is_some(),
        flow.ip.is_some() || flow.tunnel.is_some(),
        flow.l4.is_some() || flow.tunnel.is_some(),
        flow.tunnel.is_some(),
    ]
}

fn check(cut: &CiliumEvent, whole: &CiliumEvent) {
    match (cut, whole) {
        (CiliumEvent::Flow(cut), CiliumEvent::Flow(whole))
            if whole.event_type.kind < message_type::ACCESS_LOG =>
        {
            assert_eq!(fixed(cut), fixed(whole));
            let pairs = headers(cut).into_iter().zip(headers(whole));
            for (cut, whole) in pairs {
                assert!(whole || !cut, "a header that the whole event does not have");
            }
        }
        // All else is one value: it is there or it is not.
        (cut, whole) => assert_eq!(cut, whole),
    }
}

#[test]
fn every_prefix_of_every_event_is_an_error_or_says_less() {
    let directory = cilium_world::directory();
    let (mut prefixes, mut flows) = (0_u64, 0_u64);
    let mut seen = BTreeSet::new();
    for (release, agent) in RELEASES {
        let mut known = decoder(Some(agent));
        let mut unknown = decoder(None);
        let mut before = Vec::new();
        for event in events(release) {
            let of_datapath = event
                .first()
                .is_some_and(|kind| *kind < message_type::ACCESS_LOG);
            // Access logs and notifications are the same bytes in both releases.
            if !of_datapath && !seen.insert(event.clone()) {
                continue;
            }
            let whole = decode(&event, &mut known, &directory);
            // What this event has in common with the one before was cut there.
            let common = event
                .iter()
                .zip(&before)
                .take_while(|(a, b)| a == b)
                .count();
            for end in common..event.len() {
                let cut = decode(&event[..end], &mut known, &directory);
                prefixes += 1;
                if let (Some(cut), Some(whole)) = (&cut, &whole) {
                    flows += 1;
                    check(cut, whole);
                }
                // Without the agent's version lengths decide, and a cut can be taken for another layout; it is read all the same.
                if of_datapath {
                    decode(&event[..end], &mut unknown, &directory);
                }
            }
            before = event;
        }
    }
    assert!(
        prefixes > 300_000 && flows > 20_000,
        "{prefixes} prefixes, {flows} of them flows"
    );
}

/// A stream that was cut at any byte: the message at the cut is known to be incomplete, those before it are as they were.
#[test]
fn every_prefix_of_every_stream_waits_for_more() {
    for (release, _) in RELEASES {
        for stream in streams(release) {
            let (mut monitor, mut rest) = (Monitor::default(), stream.as_slice());
            while !rest.is_empty() {
                let (_, after) = monitor.clone().next(rest).expect("a sound stream");
                for end in 0..rest.len() - after.len() {
                    assert_eq!(gob::frame(&rest[..end]), Ok(None));
                    assert!(monitor.clone().next(&rest[..end]).is_err());
                }
                (_, rest) = monitor.next(rest).expect("a sound stream");
            }
        }
    }
}
