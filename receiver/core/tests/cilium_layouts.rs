//! Layouts of the agents of which no recording exists (1.14 to 1.17 and 1.20): the vectors and tables of
//! `tests/fixtures/cilium/layouts/vectors.yaml`, which are laid out by hand, not recorded.

use std::collections::{BTreeMap, BTreeSet};

use netflume_core::decode::cilium::{Options as DecodeOptions, Payload};
use netflume_core::enrich::cilium::{Directory, Flows, Options};
use netflume_core::model::cilium::CiliumEvent;
use netflume_core::model::flow::{DropReason, Node, TraceObservationPoint, texts};
use netflume_core::otlp::hubble::json;
use serde::Deserialize;
use serde_json::Value;

#[path = "support/cilium_world.rs"]
mod cilium_world;

/// Null where there is none.
type Name = Option<String>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vectors {
    packets: BTreeMap<String, String>,
    vectors: Vec<Vector>,
    trace_points: Vec<(u8, String, String, u8, String)>,
    files: Vec<(u8, Name, Name, Name)>,
    drop_reasons: Vec<(u32, Name, Name)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vector {
    what: String,
    agents: Vec<String>,
    #[serde(default)]
    bytes: String,
    packet: Option<String>,
    file: Option<String>,
    flow: Option<Fields>,
    debug: Option<Fields>,
    agent: Option<Fields>,
}

/// Path of a field, with dots, and what it must be; null: absent.
type Fields = BTreeMap<String, Value>;

fn vectors() -> Vectors {
    let text = std::fs::read_to_string(cilium_world::fixture("layouts/vectors.yaml"));
    serde_yaml::from_str(&text.expect("the vectors")).expect("vectors.yaml")
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    let byte = |pair: &[u8]| {
        let pair = std::str::from_utf8(pair).expect("ASCII");
        u8::from_str_radix(pair, 16).unwrap_or_else(|_| panic!("`{pair}` in {text}"))
    };
    digits.chunks(2).map(byte).collect()
}

impl Vectors {
    /// The `Data` of a vector, padded as the perf ring does it.
    fn data(&self, vector: &Vector) -> Vec<u8> {
        if let Some(file) = &vector.file {
            let path = cilium_world::fixture(&format!("layouts/{file}"));
            return std::fs::read(path).expect("the file of a vector");
        }
        let packet = vector.packet.as_ref();
        let packet = packet.map_or_else(Vec::new, |name| hex(&self.packets[name]));
        let length = u16::try_from(packet.len()).expect("a short packet");
        let [low, high] = length.to_le_bytes();
        let without_comments = |line: &str| line.split('#').next().unwrap_or("").to_owned();
        let text: String = vector.bytes.lines().map(without_comments).collect();
        let text = text
            .replace("{n}", &format!("{low:02x}{high:02x}"))
            .replace("{N}", &format!("{low:02x}{high:02x}0000"));
        let mut data = hex(&text);
        data.extend(packet);
        while data.len() % 8 != 4 {
            data.push(0xee);
        }
        data
    }
}

fn version(agent: &str) -> (u16, u16) {
    let (major, minor) = agent.split_once('.').expect("major.minor");
    (
        major.parse().expect("a number"),
        minor.parse().expect("a number"),
    )
}

fn decode(data: &[u8], agent: Option<&str>, directory: &Directory) -> Option<CiliumEvent> {
    let mut flows = Flows::new(Options {
        decode: DecodeOptions {
            agent: agent.map(version),
        },
        ..Options::default()
    });
    let payload = Payload::Sample { data, cpu: 1 };
    flows.payload(&payload, 1, directory).ok()
}

fn shown(event: &CiliumEvent) -> Value {
    let mut text = String::new();
    json::event(event, &Node::default(), &mut text);
    serde_json::from_str(&text).expect("JSON")
}

fn check(shown: &Value, fields: &Fields, what: &str) {
    for (path, wanted) in fields {
        let found = path
            .split('.')
            .try_fold(shown, |value, key| value.get(key))
            .unwrap_or(&Value::Null);
        assert_eq!(found, wanted, "{what}: {path} of {shown}");
    }
}

#[test]
fn vectors_become_what_hubble_shows() {
    let vectors = vectors();
    let directory = cilium_world::directory();
    let mut kinds = BTreeSet::new();
    for vector in &vectors.vectors {
        let data = vectors.data(vector);
        for agent in &vector.agents {
            let what = format!("{agent}, {}", vector.what);
            let event = decode(&data, Some(agent), &directory);
            let fields = match &event {
                None => None,
                Some(CiliumEvent::Flow(_)) => vector.flow.as_ref(),
                Some(CiliumEvent::Debug(_)) => vector.debug.as_ref(),
                Some(CiliumEvent::Agent(_)) => vector.agent.as_ref(),
                Some(other) => panic!("{what}: {other:?}"),
            };
            assert_eq!(
                event.is_some(),
                vector.flow.is_some() || vector.debug.is_some() || vector.agent.is_some(),
                "{what}: {event:?}"
            );
            if let Some(event) = &event {
                check(&shown(event), fields.expect(&what), &what);
            }
            kinds.insert((data[0], agent.as_str()));
        }
    }
    // Every message type of every agent.
    for agent in ["1.14", "1.15", "1.16", "1.17", "1.20"] {
        for kind in [1, 2, 3, 4, 5, 7, 129] {
            assert!(kinds.contains(&(kind, agent)), "type {kind} of {agent}");
        }
    }
}

/// Lengths and version bytes tell nearly all layouts.
#[test]
fn without_the_agents_version_the_same_is_read() {
    let vectors = vectors();
    let directory = cilium_world::directory();
    for vector in &vectors.vectors {
        // The bytes of this address look like the head of the newer layout.
        if vector.what.ends_with("1.1.1.1") {
            continue;
        }
        let data = vectors.data(vector);
        let agent = vector.agents.last().map(String::as_str);
        let known = decode(&data, agent, &directory).as_ref().map(shown);
        let guessed = decode(&data, None, &directory).as_ref().map(shown);
        assert_eq!(guessed, known, "{}", vector.what);
    }
}

#[test]
fn observation_points_have_their_names() {
    let vectors = vectors();
    let directory = cilium_world::directory();
    let traces = vectors.vectors.iter().filter(|vector| {
        vector.what.starts_with("trace version 1, to-proxy")
            || vector.what.starts_with("trace version 2, 56")
    });
    let mut seen = 0;
    for trace in traces {
        let mut data = vectors.data(trace);
        for (number, name, flow_name, flow_number, since) in &vectors.trace_points {
            assert_eq!(texts::observation_point_name(*number), Some(name.as_str()));
            for agent in trace
                .agents
                .iter()
                .filter(|agent| version(agent) >= version(since))
            {
                data[1] = *number;
                let Some(CiliumEvent::Flow(flow)) = decode(&data, Some(agent), &directory) else {
                    panic!("{agent}: {name} is no flow");
                };
                assert_eq!(flow.observation_point, TraceObservationPoint(*flow_number));
                assert_eq!(flow.observation_point.to_string(), *flow_name, "{agent}");
                assert_eq!(flow.event_type.sub_type, *number);
                seen += 1;
            }
        }
    }
    assert_eq!(seen, 4 * 12 + 14);
    assert_eq!(texts::observation_point_name(14), None);
}

#[test]
fn source_files_have_the_names_of_their_release() {
    let vectors = vectors();
    let directory = cilium_world::directory();
    let drops = vectors.vectors.iter().filter(|vector| {
        vector.what.starts_with("drop version 1, 36 bytes")
            || vector.what == "drop version 3, 48 bytes"
    });
    for drop in drops {
        let mut data = vectors.data(drop);
        for (number, in_1_14, in_1_15, in_1_20) in &vectors.files {
            data[30] = *number;
            for agent in &drop.agents {
                let name = match agent.as_str() {
                    "1.14" => in_1_14,
                    "1.20" => in_1_20,
                    _ => in_1_15,
                };
                let unknown = || format!("unknown({number})");
                let event = decode(&data, Some(agent), &directory).expect("a flow");
                let shown = shown(&event);
                assert_eq!(
                    shown["file"]["name"].as_str().map(str::to_owned),
                    Some(name.clone().unwrap_or_else(unknown)),
                    "{agent}"
                );
            }
        }
    }
}

#[test]
fn drop_reasons_have_their_names() {
    let vectors = vectors();
    let names: BTreeMap<_, _> = vectors
        .drop_reasons
        .iter()
        .map(|(number, name, text)| (*number, (name.as_deref(), text.as_deref())))
        .collect();
    assert_eq!(names.len(), 93);
    for number in 0..=255 {
        let (name, text) = names.get(&number).copied().unwrap_or_default();
        assert_eq!(DropReason(number).name(), name, "{number}");
        assert_eq!(texts::drop_reason_text(number), text, "{number}");
    }
}
