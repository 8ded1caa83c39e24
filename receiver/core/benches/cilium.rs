//! What an event of the monitor socket costs: gob alone, up to the flow, up to Hubble's default metrics, up to JSON.
//!
//! `NETFLUME_CILIUM_STREAM` names the stream, by which the figures compare with those that `cargo xtask oracle bench` has of
//! Hubble on the same bytes. Without it: traces, drops and verdicts of the fixtures of 1.19.4, one after the other.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use netflume_core::aggregate::hubble::{HubbleMetrics, HubbleOptions};
use netflume_core::decode::cilium::{Monitor, Payload};
use netflume_core::enrich::cilium::{Directory, Flows};
use netflume_core::model::cilium::CiliumEvent;
use netflume_core::model::flow::Node;
use netflume_core::otlp::hubble::json;

#[path = "../tests/support/cilium_world.rs"]
mod cilium_world;

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
    group.finish();
}

criterion_group!(benches, cilium);
criterion_main!(benches);
