//! What an event of the monitor socket costs: gob alone, up to the flow, up to Hubble's default metrics, up to JSON, up to a log record
//! in an OTLP request; and the log record alone, with what its bytes come down to.
//!
//! `NETFLUME_CILIUM_STREAM` names the stream, by which the figures compare with those that `cargo xtask oracle bench` has of
//! Hubble on the same bytes. Without it: traces, drops and verdicts of the fixtures of 1.19.4, one after the other.

#![expect(clippy::print_stdout, reason = "what was measured")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use netflume_core::aggregate::hubble::{HubbleMetrics, HubbleOptions};
use netflume_core::decode::cilium::{Monitor, Payload};
use netflume_core::enrich::cilium::{Directory, Flows};
use netflume_core::model::cilium::CiliumEvent;
use netflume_core::model::flow::Node;
use netflume_core::model::request::Request;
use netflume_core::model::resource::{Resource, ResourceRef, Value};
use netflume_core::otlp::hubble::json;
use netflume_core::otlp::logs::cilium::CiliumLog;
use netflume_core::otlp::logs::{LogsEncoder, LogsOptions};

#[path = "../tests/support/cilium_world.rs"]
mod cilium_world;
#[path = "shared/compressed.rs"]
mod compressed;

use compressed::{gzip, zstd};

fn stream() -> Vec<u8> {
    if let Some(path) = std::env::var_os("NETFLUME_CILIUM_STREAM") {
        return std::fs::read(path).expect("the stream that NETFLUME_CILIUM_STREAM names");
    }
    let names = ["trace", "drop", "verdict"];
    let read = |name| std::fs::read(cilium_world::fixture(&format!("1.19.4/{name}.gob")));
    let streams = names.map(|name| read(name).expect("the fixtures"));
    streams.concat()
}

fn payloads(stream: &[u8], mut each: impl FnMut(&Payload<'_>)) -> u64 {
    let mut monitor = Monitor::default();
    let (mut rest, mut count) = (stream, 0);
    while !rest.is_empty() {
        let (payload, next) = monitor.next(rest).expect("a sound stream");
        rest = next;
        if let Some(payload) = payload {
            each(&payload);
            count += 1;
        }
    }
    count
}

fn flows(
    stream: &[u8],
    flows: &mut Flows,
    directory: &Directory,
    mut each: impl FnMut(&CiliumEvent),
) {
    payloads(stream, |payload| {
        if let Ok(event) = flows.payload(payload, 1, directory) {
            each(&event);
        }
    });
}

fn cilium(c: &mut Criterion) {
    let stream = stream();
    let directory = cilium_world::directory();
    let node = Node::default();
    let mut group = c.benchmark_group("cilium");
    group.throughput(Throughput::Elements(payloads(&stream, |_| {})));
    group
        .measurement_time(Duration::from_secs(5))
        .sample_size(20);
    group.bench_function("gob", |b| {
        b.iter(|| payloads(&stream, |payload| _ = black_box(payload)));
    });
    let mut made = Flows::default();
    group.bench_function("gob_flow", |b| {
        b.iter(|| flows(&stream, &mut made, &directory, |event| _ = black_box(event)));
    });
    let mut metrics = HubbleMetrics::new(&HubbleOptions::default()).expect("default options");
    group.bench_function("gob_flow_metrics", |b| {
        b.iter(|| {
            flows(&stream, &mut made, &directory, |event| {
                if let CiliumEvent::Flow(flow) = event {
                    metrics.observe(flow, &node);
                }
            });
        });
    });
    let mut text = String::new();
    group.bench_function("gob_flow_json", |b| {
        b.iter(|| {
            flows(&stream, &mut made, &directory, |event| {
                text.clear();
                json::event(event, &node, &mut text);
                black_box(&text);
            });
        });
    });
    let mut encoder = LogsEncoder::new(LogsOptions::default());
    let resource = resource();
    group.bench_function("gob_flow_log", |b| {
        b.iter(|| {
            flows(&stream, &mut made, &directory, |event| {
                black_box(push(&mut encoder, event, &node, &resource));
            });
            black_box(encoder.finish())
        });
    });
    group.finish();
}

/// As the engine makes it.
fn node() -> Node {
    Node {
        name: "node-a.example".to_owned(),
        emitter_name: "netflume".to_owned(),
        emitter_version: env!("CARGO_PKG_VERSION").to_owned(),
        ..Node::default()
    }
}

fn resource() -> ResourceRef {
    let text = |text: &str| Value::Text(text.into());
    Arc::new(Resource {
        attributes: vec![
            ("host.id", text("4d63009a8d0f11eeaad74c796ed8e320")),
            ("host.name", text("node-a.example")),
            ("os.type", text("linux")),
        ],
        extra: vec![],
    })
}

/// Writes an event's record. Gives back the request of those before it if it did not fit any more.
fn push(
    encoder: &mut LogsEncoder,
    event: &CiliumEvent,
    node: &Node,
    resource: &ResourceRef,
) -> Option<Request> {
    encoder.push(&CiliumLog {
        event,
        span: None,
        node,
        resource,
    })
}

/// Every request of all events.
fn encode(
    encoder: &mut LogsEncoder,
    events: &[CiliumEvent],
    node: &Node,
    resource: &ResourceRef,
    mut each: impl FnMut(Request),
) {
    for event in events {
        if let Some(request) = push(encoder, event, node, resource) {
            each(request);
        }
    }
    if let Some(request) = encoder.finish() {
        each(request);
    }
}

fn logs(c: &mut Criterion) {
    let (mut made, directory) = (Flows::default(), cilium_world::directory());
    let (node, resource) = (node(), resource());
    let mut events = Vec::new();
    flows(&stream(), &mut made, &directory, |event| {
        events.push(event.clone());
    });
    let mut sizes = [0; 6];
    let mut encoder = LogsEncoder::new(LogsOptions::default());
    encode(&mut encoder, &events, &node, &resource, |request| {
        let body = &request.body;
        sizes[0] += body.len();
        for (size, level) in sizes[1..4].iter_mut().zip([1, 3, 6]) {
            *size += gzip(body, level);
        }
        for (size, level) in sizes[4..].iter_mut().zip([1, 3]) {
            *size += zstd(body, level);
        }
    });
    let [bytes, gzip1, gzip3, gzip6, zstd1, zstd3] =
        sizes.map(|size| size as f64 / events.len() as f64);
    println!(
        "bytes a record: {bytes:.0}; gzip 1: {gzip1:.1}, 3: {gzip3:.1}, 6: {gzip6:.1}; zstd 1: {zstd1:.1}, 3: {zstd3:.1}"
    );
    let mut group = c.benchmark_group("cilium records");
    group.throughput(Throughput::Elements(events.len() as u64));
    group
        .measurement_time(Duration::from_secs(5))
        .sample_size(20);
    group.bench_function("uncompressed", |b| {
        b.iter(|| {
            encode(&mut encoder, &events, &node, &resource, |request| {
                drop(black_box(request))
            })
        });
    });
    for level in [1, 3, 6] {
        group.bench_function(format!("gzip {level}"), |b| {
            b.iter(|| {
                encode(&mut encoder, &events, &node, &resource, |request| {
                    black_box(gzip(&request.body, level));
                });
            });
        });
    }
    for level in [1, 3] {
        group.bench_function(format!("zstd {level}"), |b| {
            b.iter(|| {
                encode(&mut encoder, &events, &node, &resource, |request| {
                    black_box(zstd(&request.body, level));
                });
            });
        });
    }
    group.finish();
}

criterion_group!(benches, cilium, logs);
criterion_main!(benches);
