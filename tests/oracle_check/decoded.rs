//! A fixture's stream through netflume's decoders.

use anyhow::{Result, bail};
use netflume_core::decode::cilium::{Monitor, Options as DecodeOptions};
use netflume_core::enrich::cilium::redaction::Redaction;
use netflume_core::enrich::cilium::{Directory, Flows, Options};
use netflume_core::model::cilium::CiliumEvent;
use netflume_core::model::flow::Node;
use netflume_core::otlp::hubble::json;
use serde_json::{Value, json};

use super::fixtures;

/// What `world.json` says of the events: their node, the time of a stream's first (2026-05-13T10:00:00Z), and the time between two.
pub(crate) const NODE: &str = "default/node-a";
const START_NS: u64 = 1_778_666_400_000_000_000;
const STEP_NS: u64 = 1_000_001;

/// The node as Hubble of that release describes it.
pub(crate) fn node(release: &str) -> Node {
    let says_emitter = release != "1.18.6";
    Node {
        name: NODE.into(),
        emitter_name: if says_emitter {
            "Hubble".into()
        } else {
            String::new()
        },
        emitter_version: if says_emitter {
            release.into()
        } else {
            String::new()
        },
        ..Node::default()
    }
}

/// The agent's version as our configuration and its API tell it.
pub(crate) fn version(release: &str) -> Option<(u16, u16)> {
    let mut parts = release.split('.').map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

/// Every event of a stream, or the text of the error. Redaction is Hubble's default. Where the bytes alone do not tell the layout, the agent's version
/// helps if it is known.
pub(crate) fn events(
    directory: &Directory,
    release: &str,
    stream: &str,
    agent_known: bool,
) -> Result<Vec<Result<CiliumEvent, String>>> {
    let bytes = fixtures::stream(release, stream)?;
    let mut flows = Flows::new(Options {
        decode: DecodeOptions {
            agent: version(release).filter(|_| agent_known),
        },
        redaction: Redaction::hubble(),
        ..Options::default()
    });
    let mut monitor = Monitor::default();
    let mut rest = bytes.as_slice();
    let mut events = Vec::new();
    while !rest.is_empty() {
        let (payload, next) = match monitor.next(rest) {
            Ok(read) => read,
            Err(error) => bail!("{release}/{stream}, after {} events: {error}", events.len()),
        };
        rest = next;
        if let Some(payload) = payload {
            let time_ns = START_NS + events.len() as u64 * STEP_NS;
            let event = flows.payload(&payload, time_ns, directory);
            events.push(event.map_err(|error| error.to_string()));
        }
    }
    Ok(events)
}

/// An event under the key and with the fields of Hubble's JSON.
pub(crate) fn as_json(event: &CiliumEvent, node: &Node) -> Result<Value> {
    let mut text = String::new();
    json::event(event, node, &mut text);
    let said: Value = serde_json::from_str(&text)?;
    Ok(match event {
        CiliumEvent::Flow(_) => json!({ "flow": said }),
        CiliumEvent::Agent(_) => json!({ "agent_event": said }),
        CiliumEvent::Debug(_) => json!({ "debug_event": said }),
        CiliumEvent::Lost(_) => json!({ "lost_events": said }),
    })
}
