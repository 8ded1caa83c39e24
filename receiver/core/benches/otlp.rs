//! Full netflow records to OTLP bytes, on one core:
//!
//! ```text
//! cargo xtask bench --bench otlp
//! ```
//!
//! A full record has every tag and field of the set, names of both ends' Kubernetes objects included, and the attributes beside
//! the body; 64 resources take turns. `elem/s` is records a second. Target: 1,500,000 uncompressed.

#![expect(clippy::print_stdout, reason = "what was measured")]

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use netflume_core::model::metrics::{
    AttributeValue, Data, HistogramPoint, Metric, Number, NumberPoint, ResourceMetrics, Temporality,
};
use netflume_core::model::netflow::NetflowRecord;
use netflume_core::model::request::Request;
use netflume_core::model::resource::Value;
use netflume_core::otlp::logs::netflow::Netflow;
use netflume_core::otlp::logs::{LogBody, LogsEncoder, LogsOptions};
use netflume_core::otlp::metrics::{MetricsEncoder, MetricsOptions};

#[path = "shared/compressed.rs"]
mod compressed;
#[path = "shared/full_records.rs"]
mod full_records;

use compressed::{gzip, zstd};
use full_records::{RECORDS, records, resource};

/// Every request of all records.
fn encode(encoder: &mut LogsEncoder, records: &[NetflowRecord], mut each: impl FnMut(Request)) {
    for record in records {
        if let Some(request) = encoder.push(&Netflow::from(record)) {
            each(request);
        }
    }
    if let Some(request) = encoder.finish() {
        each(request);
    }
}

fn logs(c: &mut Criterion) {
    let records = records();
    let mut sizes = [0; 3];
    encode(
        &mut LogsEncoder::new(LogsOptions::default()),
        &records,
        |request| {
            sizes[0] += request.body.len();
            sizes[1] += gzip(&request.body, 1);
            sizes[2] += zstd(&request.body, 1);
        },
    );
    let bytes = sizes.map(|size| size as f64 / f64::from(RECORDS));
    println!(
        "bytes a record: {:.0}, gzip {:.1}, zstd {:.1}",
        bytes[0], bytes[1], bytes[2]
    );

    let mut group = c.benchmark_group("netflow records");
    group.throughput(Throughput::Elements(RECORDS.into()));
    group
        .measurement_time(Duration::from_secs(5))
        .sample_size(30);
    let mut encoder = LogsEncoder::new(LogsOptions::default());
    group.bench_function("uncompressed", |b| {
        b.iter(|| {
            encode(&mut encoder, &records, |request| {
                drop(std::hint::black_box(request))
            })
        });
    });
    let mut without_body = LogsEncoder::new(LogsOptions {
        body: LogBody::None,
        ..LogsOptions::default()
    });
    group.bench_function("uncompressed, no body", |b| {
        b.iter(|| {
            encode(&mut without_body, &records, |request| {
                drop(std::hint::black_box(request))
            })
        });
    });
    for level in [1, 6] {
        group.bench_function(format!("gzip {level}"), |b| {
            b.iter(|| {
                encode(&mut encoder, &records, |request| {
                    std::hint::black_box(gzip(&request.body, level));
                })
            });
        });
    }
    for level in [1, 3] {
        group.bench_function(format!("zstd {level}"), |b| {
            b.iter(|| {
                encode(&mut encoder, &records, |request| {
                    std::hint::black_box(zstd(&request.body, level));
                });
            });
        });
    }
    group.finish();
}

fn points() -> ResourceMetrics {
    const BOUNDS: &[f64] = &[0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0];
    let attributes = |n: i64| {
        let text = |text: &str| AttributeValue::Value(Value::Text(text.into()));
        vec![
            ("network.transport", text("tcp")),
            ("network.type", text("ipv4")),
            ("process.executable.name", text("checkout")),
            ("server.port", AttributeValue::Value(Value::Int(n))),
        ]
    };
    let (start_unix_ns, unix_ns) = (1_700_000_000_000_000_000, 1_700_000_010_000_000_000);
    let number = |n| NumberPoint {
        attributes: attributes(n),
        start_unix_ns,
        unix_ns,
        value: Number::Int(n * 1000),
        exemplars: Vec::new(),
        no_recorded_value: false,
    };
    let histogram = |n| HistogramPoint {
        attributes: attributes(n),
        start_unix_ns,
        unix_ns,
        bucket_counts: vec![3; BOUNDS.len() + 1],
        sum: 1.5,
        exemplars: Vec::new(),
        no_recorded_value: false,
    };
    let metric = |name, data| Metric {
        name,
        unit: "By",
        description: "Payload bytes of connections.",
        data,
    };
    let temporality = Temporality::Cumulative;
    ResourceMetrics {
        resource: resource(0),
        scope: "netflume.netflow",
        metrics: vec![
            metric(
                "network.flow.io",
                Data::Sum {
                    monotonic: true,
                    temporality,
                    points: (0..1000).map(number).collect(),
                },
            ),
            metric(
                "network.tcp.rtt",
                Data::Histogram {
                    temporality,
                    bounds: BOUNDS,
                    points: (0..1000).map(histogram).collect(),
                },
            ),
        ],
    }
}

fn metrics(c: &mut Criterion) {
    let points = points();
    let mut encoder = MetricsEncoder::new(MetricsOptions::default());
    let mut group = c.benchmark_group("metric points");
    group.throughput(Throughput::Elements(2000)).sample_size(30);
    group.bench_function("uncompressed", |b| {
        b.iter(|| std::hint::black_box((encoder.push(&points), encoder.finish())));
    });
    group.finish();
}

criterion_group!(benches, logs, metrics);
criterion_main!(benches);
