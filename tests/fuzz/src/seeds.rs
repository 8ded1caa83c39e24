//! What the fuzzers start from: the fixtures, pieces of them, and a few inputs laid out here.

use std::fs;
use std::io;
use std::path::Path;

use netflume::config::{Config, print};
use netflume_core::decode::cilium::agent::Notification;
use netflume_core::decode::cilium::{self, Definitions, Event, Monitor, Options, Payload};
use netflume_core::enrich::cilium::answer::{Answer, LISTS};
use netflume_core::model::flow::message_type;
use netflume_ebpf::{ConnectionRecord, Header, ListenerRecord, kind, phase, transport};
use zerocopy::IntoBytes;

/// The seeds of a target.
///
/// # Errors
/// A fixture cannot be read.
pub fn of(target: &str) -> io::Result<Vec<Vec<u8>>> {
    Ok(match target {
        "btf" => vec![small_btf()],
        "cilium_access_log" => of_type(message_type::ACCESS_LOG)?,
        "cilium_agent" => agent_notifications()?,
        "cilium_api" => api_answers()?,
        "cilium_event" | "cilium_flow" => cilium_events()?,
        "cilium_monitor" => cilium_streams()?,
        "config" => configurations(),
        // Streams of both kinds: payloads, and the agent's own events.
        "gob" => [
            cilium_streams()?,
            of_type(message_type::ACCESS_LOG)?,
            of_type(message_type::AGENT)?,
        ]
        .concat(),
        "kernel_record" => vec![kernel_records()],
        // Behind the fixed part of a trace notification stands the packet.
        "packet_head" => cilium_events()?
            .iter()
            .filter(|event| event.first() == Some(&message_type::TRACE))
            .filter_map(|event| event.get(48..).map(<[u8]>::to_vec))
            .collect(),
        _ => files(target, "bin")?,
    })
}

/// The fixtures of a folder.
fn files(folder: &str, extension: &str) -> io::Result<Vec<Vec<u8>>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fixtures")
        .join(folder);
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        paths.push(entry?.path());
    }
    paths.sort();
    paths.retain(|path| path.extension().is_some_and(|e| e == extension));
    paths.iter().map(fs::read).collect()
}

fn cilium_streams() -> io::Result<Vec<Vec<u8>>> {
    let mut streams = files("cilium/1.18.6", "gob")?;
    streams.append(&mut files("cilium/1.19.4", "gob")?);
    Ok(streams)
}

/// The events of all streams, each once.
fn cilium_events() -> io::Result<Vec<Vec<u8>>> {
    let mut events = Vec::new();
    for stream in cilium_streams()? {
        let mut monitor = Monitor::default();
        let mut rest = stream.as_slice();
        while !rest.is_empty() {
            let (payload, after) = monitor.next(rest).map_err(io::Error::other)?;
            rest = after;
            if let Some(Payload::Sample { data, .. }) = payload {
                events.push(data.to_vec());
            }
        }
    }
    events.append(&mut files("cilium/layouts", "bin")?);
    events.sort();
    events.dedup();
    Ok(events)
}

/// The events of a message type, without it.
fn of_type(kind: u8) -> io::Result<Vec<Vec<u8>>> {
    let events = cilium_events()?;
    let of_type = events.iter().filter_map(|event| event.split_first());
    Ok(of_type
        .filter(|(found, _)| **found == kind)
        .map(|(_, data)| data.to_vec())
        .collect())
}

/// Number and text of every notification.
fn agent_notifications() -> io::Result<Vec<Vec<u8>>> {
    let mut definitions = Definitions::default();
    let mut seeds = Vec::new();
    for event in cilium_events()? {
        let event = cilium::event(&event, &Options::default(), &mut definitions);
        if let Ok(Event::Agent(Notification { kind, text })) = event {
            let kind = u8::try_from(kind).unwrap_or(u8::MAX);
            seeds.push([&[kind], text.as_bytes()].concat());
        }
    }
    Ok(seeds)
}

/// As they stand in a recording.
fn api_answers() -> io::Result<Vec<Vec<u8>>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/cilium/1.19.4/api");
    let answer = |path: &str| {
        let body = fs::read(folder.join(format!("{}.json", path.replace('/', "-"))))?;
        let answer = Answer {
            asked_ns: 1,
            path,
            body: &body,
        };
        Ok(answer.to_bytes())
    };
    LISTS.into_iter().map(answer).collect()
}

fn configurations() -> Vec<Vec<u8>> {
    let full = "receivers:\n  ebpf: { interval: 1m30s, group_by: connection }\nexporters:\n  otlp_grpc:\n    \
        endpoint: https://collector:4317\n    headers: { authorization: Bearer x }\n    retry_on_failure: { enabled: false }\n\
        service:\n  shutdown_timeout: 2s\n";
    let mut everything = Config::default();
    everything.receivers.ebpf.get_or_insert_default();
    everything.exporters.otlp_grpc.get_or_insert_default();
    everything.exporters.console.get_or_insert_default();
    everything.extensions.health.get_or_insert_default();
    everything.extensions.prometheus.get_or_insert_default();
    vec![
        print::effective(&everything, false).into_bytes(),
        full.into(),
        b"receivers: { ebpf: }\n".to_vec(),
    ]
}

/// A connection and a listener.
fn kernel_records() -> Vec<u8> {
    let header = |kind, size| Header {
        size: u16::try_from(size).unwrap_or(0),
        kind,
        ..Header::default()
    };
    let connection = ConnectionRecord {
        header: header(kind::CONNECTION, size_of::<ConnectionRecord>()),
        phase: phase::OPEN,
        transport: transport::TCP,
        ..ConnectionRecord::default()
    };
    let listener = ListenerRecord {
        header: header(kind::LISTENER, size_of::<ListenerRecord>()),
        transport: transport::UDP,
        listening: 1,
        ..ListenerRecord::default()
    };
    [connection.as_bytes(), listener.as_bytes()].concat()
}

/// BTF (Linux `include/uapi/linux/btf.h`) of `struct outer { int x[2]; struct { int p; int b; } a; }`, a typedef and a function.
fn small_btf() -> Vec<u8> {
    let mut strings = vec![0];
    let mut name = |text: &str| {
        let at = strings.len() as u32;
        strings.extend_from_slice(text.as_bytes());
        strings.push(0);
        at
    };
    let info = |kind: u32, members: u32| kind << 24 | members;
    let words = [
        // 1: int of 32 bits
        vec![name("int"), info(1, 0), 4, 32],
        // 2: array of two of it
        vec![0, info(3, 0), 0, 1, 1, 2],
        // 3: the inner structure: p at bit 0, b at bit 32
        vec![
            name("inner"),
            info(4, 2),
            8,
            name("p"),
            1,
            0,
            name("b"),
            1,
            32,
        ],
        // 4: the outer one: x at bit 0, a at bit 64
        vec![
            name("outer"),
            info(4, 2),
            16,
            name("x"),
            2,
            0,
            name("a"),
            3,
            64,
        ],
        // 5: a typedef; 6: a function prototype; 7: a function
        vec![name("btf_trace_a"), info(8, 0), 4],
        vec![0, info(13, 0), 0],
        vec![name("bpf_iter_a"), info(12, 0), 6],
    ]
    .concat();
    let types: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let mut btf = Vec::new();
    btf.extend_from_slice(&0xeb9f_u16.to_ne_bytes());
    btf.extend_from_slice(&[1, 0]);
    // Length of this header; offset and length of the types, then of the strings.
    for word in [24, 0, types.len(), types.len(), strings.len()] {
        btf.extend_from_slice(&(word as u32).to_ne_bytes());
    }
    btf.extend_from_slice(&types);
    btf.extend_from_slice(&strings);
    btf
}
