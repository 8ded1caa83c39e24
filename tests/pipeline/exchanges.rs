//! The fixtures' L7 access logs through the program: spans and metrics of exchanges, named by the agent's API.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use netflume_core::decode::recording::Writer;
use netflume_core::model::batch::{Batch, BatchKind};
use netflume_tests::agent::{self, Agent};
use netflume_tests::fake_collector::FakeCollector;
use netflume_tests::monitor::{Messages, Monitor};
use netflume_tests::page::Page;
use netflume_tests::{agent_api, wait};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind, status::StatusCode};

/// Time of the fixtures' first request (2026-05-13T10:00:00Z and a bit).
const START_NS: u64 = 1_778_666_400_000_123_456;
const MS: u64 = 1_000_000;

/// A span with the attributes of its resource.
#[derive(Clone, Debug)]
struct Told {
    resource: BTreeMap<String, String>,
    attributes: BTreeMap<String, String>,
    span: Span,
}

impl Told {
    fn get(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }
}

fn map(list: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |kv: &KeyValue| match kv.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    };
    list.iter().map(|kv| (kv.key.clone(), text(kv))).collect()
}

fn spans(collector: &FakeCollector) -> Vec<Told> {
    let requests = collector.traces().into_iter();
    let resources = requests.flat_map(|request| request.resource_spans);
    let told = resources.flat_map(|of| {
        let resource = map(&of.resource.unwrap_or_default().attributes);
        let spans = of.scope_spans.into_iter().flat_map(|scope| scope.spans);
        spans.map(move |span| Told {
            resource: resource.clone(),
            attributes: map(&span.attributes),
            span,
        })
    });
    told.collect()
}

#[test]
fn each_exchange_of_the_access_logs_is_one_span_and_one_value_of_a_metric() -> Result<()> {
    let collector = FakeCollector::start()?;
    let folder = tempfile::tempdir()?;
    let monitor = Monitor::listen(&folder.path().join("monitor1_2.sock"))?;
    let api = folder.path().join("cilium.sock");
    agent_api::serve(&api)?;
    let config = folder.path().join("netflume.yaml");
    // On a busy machine a request that is sent again because its answer was late arrives twice.
    let text = format!(
        "receivers: {{ cilium: {{ socket: {}, api_socket: {}, request_timeout: 1s }} }}\n\
         exporters: {{ otlp_grpc: {{ endpoint: {}, timeout: 1m }} }}\n\
         extensions: {{ prometheus: {{ endpoint: \"127.0.0.1:0\" }} }}\n",
        monitor.path().display(),
        api.display(),
        collector.endpoint(),
    );
    std::fs::write(&config, text)?;
    let config = config.display().to_string();
    let mut agent = Agent::start(&["run", "--config", &config], &[])?;
    let page = agent.listens("extensions.prometheus")?;
    let mut client = monitor.accept()?;
    agent.says("receivers.cilium knows 8 endpoints")?;
    let messages = Messages::of("l7")?;
    client.send(&messages.definitions)?;
    client.send_all(&messages.events)?;
    let books = wait::until("every request is answered or given up", || {
        let page = Page::read(page).ok()?;
        let (decode, stage) = (page.stage("decode"), page.stage("exchanges"));
        let is_read = decode.received == messages.events.len() as u64;
        (is_read && stage.is_balanced()).then_some(stage)
    })?;
    let made = Page::read(page)?.stage("spans");
    ensure!(made.is_balanced() && made.dropped == 0, "{made:?}");
    let spans = wait::until("every span arrives", || {
        let spans = spans(&collector);
        (spans.len() as u64 == made.passed).then_some(spans)
    })?;
    ensure!(
        books.received > 150 && books.passed >= made.passed && made.passed > 60,
        "{books:?} {made:?}"
    );

    let ids: BTreeSet<_> = spans.iter().map(|told| &told.span.span_id).collect();
    ensure!(ids.len() == spans.len(), "span ids are there twice");
    for told in &spans {
        let failed = told
            .span
            .status
            .as_ref()
            .is_some_and(|s| s.code == StatusCode::Error as i32);
        ensure!(failed != told.get("error.type").is_empty(), "{told:?}");
        ensure!(told.span.trace_id.len() == 16 && told.span.span_id.len() == 8);
        ensure!(told.span.start_time_unix_nano <= told.span.end_time_unix_nano);
    }
    eleven_requests(&spans)?;
    records_name_their_spans(&collector, &spans)?;
    let of = |name: &str, value: &str| spans.iter().filter(|told| told.get(name) == value).count();
    ensure!(of("error.type", "policy_denied") > 1);
    ensure!(of("error.type", "timeout") > 1);
    ensure!(of("dns.response_code", "NOERROR") > 10);
    ensure!(of("messaging.system", "kafka") > 0);

    let kind = |kind: SpanKind, name: &str| {
        let of_kind = spans.iter().filter(|told| told.span.kind == kind as i32);
        of_kind.filter(|told| !told.get(name).is_empty()).count() as u64
    };
    let questions = spans
        .iter()
        .filter(|told| told.span.name.starts_with("DNS"))
        .count() as u64;
    let expected = [
        (
            "http_client_request_duration_seconds_count",
            kind(SpanKind::Client, "http.request.method"),
        ),
        (
            "http_server_request_duration_seconds_count",
            kind(SpanKind::Server, "http.request.method"),
        ),
        ("dns_lookup_duration_seconds_count", questions),
    ];
    for (metric, count) in expected {
        ensure!(count > 0, "no exchange for {metric}");
        wait::until(metric, || {
            (Page::read(page).ok()?.count(metric, &[]) == count).then_some(())
        })?;
    }
    agent.stop()?;
    Ok(())
}

/// Each log record of a layer-7 request names a span, and its response the same one.
fn records_name_their_spans(collector: &FakeCollector, spans: &[Told]) -> Result<()> {
    // They come by other requests than the spans.
    let of_span = |record: &LogRecord| spans.iter().any(|told| told.span.span_id == record.span_id);
    let records = wait::until("every span has a record, most have two", || {
        let mut records = records(collector);
        records.retain(of_span);
        let named: BTreeSet<_> = records.iter().map(|record| &record.span_id).collect();
        (named.len() == spans.len() && records.len() > named.len() + 40).then_some(records)
    })?;
    for told in spans {
        let span = &told.span;
        let of_this = |record: &&LogRecord| record.span_id == span.span_id;
        let records: Vec<_> = records.iter().filter(of_this).collect();
        ensure!(records.len() <= 2, "{records:?}");
        for record in records {
            ensure!(record.trace_id == span.trace_id, "{record:?} {span:?}");
            ensure!(record.flags == span.flags & 0xff && record.flags & 1 == 1);
        }
    }
    Ok(())
}

fn records(collector: &FakeCollector) -> Vec<LogRecord> {
    let requests = collector.logs().into_iter();
    let resources = requests.flat_map(|request| request.resource_logs);
    let scopes = resources.flat_map(|of| of.scope_logs);
    let records = scopes.flat_map(|scope| scope.log_records);
    records
        .filter(|record| record.event_name == "cilium.l7")
        .collect()
}

/// Requests with every known method, in turn at the client's and at the server's proxy.
fn eleven_requests(spans: &[Told]) -> Result<()> {
    let methods = [
        "GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS", "CONNECT", "TRACE", "get", "",
    ];
    let codes = [200, 201, 204, 301, 304, 400, 401, 403, 404, 500, 503];
    for (i, (method, code)) in methods.into_iter().zip(codes).enumerate() {
        let path = format!("/items/{i}");
        let told = spans
            .iter()
            .find(|told| told.get("url.path") == path || told.get("url.full").ends_with(&path))
            .with_context(|| format!("no span of {path}"))?;
        let span = &told.span;
        let at_server = i % 2 == 1;
        let known = i < 9;
        ensure!(span.name == if known { method } else { "HTTP" }, "{told:?}");
        ensure!(told.get("http.request.method") == if known { method } else { "_OTHER" });
        ensure!(told.get("http.response.status_code") == code.to_string());
        let start = START_NS + i as u64 * 100 * MS;
        let end = start + (7 + i as u64 * 31) * MS;
        ensure!(
            (span.start_time_unix_nano, span.end_time_unix_nano) == (start, end),
            "{told:?}"
        );
        let kind = if at_server {
            SpanKind::Server
        } else {
            SpanKind::Client
        };
        ensure!(span.kind == kind as i32, "{told:?}");
        let failed = code >= if at_server { 500 } else { 400 };
        ensure!(
            told.get("error.type")
                == if failed {
                    code.to_string()
                } else {
                    String::new()
                }
        );
        let parent = if i % 3 == 0 {
            ensure!(span.trace_id == 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128.to_be_bytes());
            0x00f0_67aa_0ba9_02b7_u64.to_be_bytes().to_vec()
        } else {
            Vec::new()
        };
        ensure!(span.parent_span_id == parent, "{told:?}");
        // Queries are taken out unless the configuration says otherwise.
        if at_server {
            ensure!(told.get("url.path") == path && told.get("url.query").is_empty());
            ensure!(told.get("client.address") == "fd00::1", "{told:?}");
            ensure!(
                told.resource["k8s.pod.name"] == "api-5f6d-7k7k7",
                "{told:?}"
            );
            ensure!(told.resource["service.name"] == "api");
        } else {
            let full = format!("http://api.shop.svc:8080{path}");
            ensure!(told.get("url.full") == full, "{told:?}");
            ensure!(
                (told.get("server.address"), told.get("server.port")) == ("api.shop.svc", "8080")
            );
            ensure!(
                told.resource["k8s.pod.name"] == "web-7d4b9c6f5-x2x1z",
                "{told:?}"
            );
            ensure!(told.resource["k8s.namespace.name"] == "shop");
        }
        ensure!(
            told.get("source.k8s.pod.name") == "web-7d4b9c6f5-x2x1z",
            "{told:?}"
        );
        ensure!(
            told.get("destination.k8s.pod.name") == "api-5f6d-7k7k7",
            "{told:?}"
        );
    }
    Ok(())
}

/// What a replay of a recording prints as JSON.
pub(crate) fn replayed(folder: &Path, file: &Path) -> Result<String> {
    let config = folder.join("replay.yaml");
    std::fs::write(&config, "exporters: { console: { format: json } }\n")?;
    let output = agent::command()?
        .arg("replay")
        .arg(file)
        .arg("--config")
        .arg(&config)
        .output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}

#[test]
fn a_replayed_recording_gives_the_same_bytes_twice() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("recording");
    let mut writer = Writer::new(File::create(&file)?)?;
    let messages = Messages::of("l7")?;
    let mut batch = |unix_ns: u64, bytes: Vec<u8>| {
        writer.write(&Batch {
            kind: BatchKind::CILIUM_MONITOR,
            unix_ns,
            boot_ns: 0,
            bytes,
        })
    };
    batch(START_NS, messages.definitions.clone())?;
    for (n, events) in (1..).zip(messages.events.chunks(50)) {
        batch(START_NS + n * 20_000 * MS, events.concat())?;
    }
    writer.flush()?;
    let first = replayed(folder.path(), &file)?;
    let spans = first.lines().filter(|line| line.contains("resourceSpans"));
    ensure!(
        spans.clone().count() > 0 && first.contains("/items/10"),
        "no spans"
    );
    let second = replayed(folder.path(), &file)?;
    for (n, (first, second)) in first.lines().zip(second.lines()).enumerate() {
        ensure!(first == second, "line {n}:\n{first}\n{second}");
    }
    ensure!(first == second);
    Ok(())
}
