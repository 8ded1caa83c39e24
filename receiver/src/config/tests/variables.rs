//! The `OTEL_*` variables: which of them counts, and what becomes of those that cannot be used.

use std::time::Duration;

use super::read;
use crate::config::{Overrides, Problems, parse};
use crate::export::options::Compression;
use netflume_core::model::metrics::Temporality;
use netflume_core::model::request::Signal;

#[test]
fn the_file_wins_over_a_signals_variable_and_that_over_the_generic_one() {
    let variables = |name: &str| match name {
        "OTEL_EXPORTER_OTLP_ENDPOINT" => Some("http://generic:4317".to_owned()),
        "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT" => Some("https://logs:4317".to_owned()),
        "OTEL_EXPORTER_OTLP_TIMEOUT" => Some("1500".to_owned()),
        "OTEL_EXPORTER_OTLP_LOGS_TIMEOUT" => Some("2500".to_owned()),
        "OTEL_EXPORTER_OTLP_COMPRESSION" => Some("none".to_owned()),
        "OTEL_EXPORTER_OTLP_HEADERS" => Some("authorization=Bearer%20x".to_owned()),
        "OTEL_EXPORTER_OTLP_INSECURE" => Some("TRUE".to_owned()),
        "OTEL_EXPORTER_OTLP_CERTIFICATE" => Some("/ca".to_owned()),
        "OTEL_EXPORTER_OTLP_CLIENT_KEY" => Some("/key".to_owned()),
        "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE" => Some("/cert".to_owned()),
        "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE" => Some("lowmemory".to_owned()),
        _ => None,
    };
    let loaded = read("exporters: { otlp_grpc: { timeout: 7s } }\n", &variables).unwrap();
    assert_eq!(loaded.warnings, []);
    assert_eq!(loaded.config.metrics.temporality, Temporality::Delta);
    let otlp = loaded.config.exporters.otlp_grpc.unwrap();
    let (logs, metrics) = (
        otlp.client_for(Signal::Logs),
        otlp.client_for(Signal::Metrics),
    );
    assert_eq!(logs.endpoint, "https://logs:4317");
    assert_eq!(metrics.endpoint, "http://generic:4317");
    assert_eq!(
        (logs.timeout, metrics.timeout),
        (Duration::from_secs(7), Duration::from_secs(7))
    );
    assert_eq!(metrics.compression, Compression::None);
    assert_eq!(
        metrics.headers,
        [("authorization".to_owned(), "Bearer x".to_owned())]
    );
    assert!(metrics.tls.insecure);
    assert_eq!(metrics.tls.ca_file, Some("/ca".into()));
    assert_eq!(
        (metrics.tls.cert_file, metrics.tls.key_file),
        (Some("/cert".into()), Some("/key".into()))
    );
}

#[test]
fn an_endpoint_variable_never_becomes_another_destination() {
    let read = |name: &'static str, endpoint: &'static str| {
        let variables = move |asked: &str| (asked == name).then(|| endpoint.to_owned());
        parse(None, &variables, Overrides::default())
    };
    for (name, signal) in [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", Signal::Traces),
        ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", Signal::Logs),
        ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", Signal::Metrics),
    ] {
        for (endpoint, used, path) in [
            (
                "http://collector:4318/v1/logs",
                "http://collector:4318",
                "/v1/logs",
            ),
            (" https://collector/otlp/ ", "https://collector", "/otlp/"),
            ("collector:4317/", "collector:4317/", ""),
        ] {
            let loaded = read(name, endpoint).unwrap();
            let otlp = loaded.config.exporters.otlp_grpc.unwrap();
            assert_eq!(otlp.client_for(signal).endpoint, used);
            let ignored =
                format!("{name}: path `{path}`: OTLP over gRPC has none; requests go to {used}");
            let expected = if path.is_empty() { "" } else { &ignored };
            assert_eq!(Problems(loaded.warnings).to_string(), expected);
        }
        for (endpoint, why) in [
            ("ftp://collector:4317", "found scheme `ftp`"),
            ("grpc://collector:4317/path", "found scheme `grpc`"),
            ("http://collector:70000", "which is not host:port"),
            ("http://collector", "without a port"),
            ("http://collector/v1/logs", "without a port"),
            ("https://user:hush@collector:4317", "has a user name"),
        ] {
            let problems = read(name, endpoint).unwrap_err().to_string();
            assert!(problems.starts_with(name), "{problems}");
            assert!(problems.contains(why), "{endpoint}: {problems}");
            assert!(!problems.contains("hush"), "{problems}");
        }
    }
}

#[test]
fn wrong_variables_are_reported_and_ignored() {
    let variables = |name: &str| match name {
        "OTEL_EXPORTER_OTLP_ENDPOINT" => Some("http://a:4317".to_owned()),
        "OTEL_EXPORTER_OTLP_PROTOCOL" => Some("http/protobuf".to_owned()),
        "OTEL_EXPORTER_OTLP_TIMEOUT" => Some("5s".to_owned()),
        "OTEL_EXPORTER_OTLP_COMPRESSION" => Some(String::new()),
        "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION" => Some("gzp".to_owned()),
        "OTEL_EXPORTER_OTLP_HEADERS" => Some("secret".to_owned()),
        "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION" => Some("base2".to_owned()),
        _ => None,
    };
    let loaded = parse(None, &variables, Overrides::default()).unwrap();
    let otlp = loaded.config.exporters.otlp_grpc.unwrap();
    assert_eq!(otlp.client.timeout, Duration::from_secs(5));
    assert_eq!(
        otlp.client_for(Signal::Traces).compression,
        Compression::Gzip
    );
    assert_eq!(
        Problems(loaded.warnings).to_string(),
        "\
OTEL_EXPORTER_OTLP_TRACES_COMPRESSION: found `gzp`, allowed are gzip, zstd, none (did you mean `gzip`?)
OTEL_EXPORTER_OTLP_TIMEOUT: found `5s`, allowed is a whole number of milliseconds
OTEL_EXPORTER_OTLP_HEADERS: not of the form `key1=value1,key2=value2` (values percent-encoded)
OTEL_EXPORTER_OTLP_PROTOCOL: found `http/protobuf`, netflume speaks grpc only (port 4317 of a Collector); grpc is used
OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION: found `base2`, allowed is explicit_bucket_histogram"
    );
}
