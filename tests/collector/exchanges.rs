//! Cilium's access logs into the Collector: spans, named by the agent's API as Cilium's own models write it.

use anyhow::{Context as _, Result, ensure};
use netflume_tests::agent::Agent;
use netflume_tests::collector::Collector;
use netflume_tests::monitor::{Messages, Monitor};
use netflume_tests::oracle::Server;
use netflume_tests::page::Page;
use netflume_tests::wait;
use serde_json::{Value, json};

/// Each span with its resource, from the lines of `traces.jsonl`.
fn spans(collector: &Collector) -> Vec<(Value, Value)> {
    let text = collector.text("traces.jsonl");
    let complete = text.rsplit_once('\n').map_or("", |(complete, _)| complete);
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut all = Vec::new();
    for line in complete.lines() {
        let request: Value = serde_json::from_str(line).unwrap_or_default();
        for of in list(&request["resourceSpans"]) {
            for scope in list(&of["scopeSpans"]) {
                for span in list(&scope["spans"]) {
                    all.push((of["resource"].clone(), span));
                }
            }
        }
    }
    all
}

fn attribute<'a>(of: &'a Value, name: &str) -> &'a Value {
    let found = of["attributes"].as_array().and_then(|list| {
        let found = list.iter().find(|pair| pair["key"] == name);
        found.map(|pair| &pair["value"]["stringValue"])
    });
    found.unwrap_or(&Value::Null)
}

#[test]
#[ignore = "needs the Collector and the oracle, which cargo xtask setup builds"]
fn exchanges_arrive_as_spans_of_the_pods_that_the_agents_api_names() -> Result<()> {
    let collector = Collector::start()?;
    let folder = tempfile::tempdir()?;
    let api = folder.path().join("cilium.sock");
    let _api = Server::api(&api)?;
    let monitor = Monitor::listen(&folder.path().join("monitor1_2.sock"))?;
    let config = folder.path().join("netflume.yaml");
    let text = format!(
        "receivers: {{ cilium: {{ socket: {}, api_socket: {}, request_timeout: 1s }} }}\n\
         exporters: {{ otlp_grpc: {{ endpoint: \"{}\" }} }}\n\
         extensions: {{ prometheus: {{ endpoint: \"127.0.0.1:0\" }} }}\n",
        monitor.path().display(),
        api.display(),
        collector.endpoint(),
    );
    std::fs::write(&config, text)?;
    let mut agent = Agent::start(&["run", "--config", &config.display().to_string()], &[])?;
    let page = agent.listens("extensions.prometheus")?;
    let mut client = monitor.accept()?;
    agent.says("receivers.cilium knows 8 endpoints")?;
    let messages = Messages::of("l7")?;
    client.send(&messages.definitions)?;
    client.send_all(&messages.events)?;
    let made = wait::until("every request is answered or given up", || {
        let page = Page::read(page).ok()?;
        let joined = page.stage("exchanges");
        (joined.received > 150 && joined.is_balanced()).then(|| page.stage("spans").passed)
    })?;
    let spans = wait::until("every span is in the Collector's file", || {
        let spans = spans(&collector);
        (spans.len() as u64 == made).then_some(spans)
    })?;
    let first = spans
        .iter()
        .find(|(_, span)| attribute(span, "url.full") == "http://api.shop.svc:8080/items/0");
    let (resource, span) = first.context("the first request")?;
    ensure!(
        span["traceId"] == "4bf92f3577b34da6a3ce929d0e0e4736",
        "{span}"
    );
    ensure!(span["parentSpanId"] == "00f067aa0ba902b7", "{span}");
    ensure!(
        (&span["name"], &span["kind"]) == (&json!("GET"), &json!(3)),
        "{span}"
    );
    ensure!(span["startTimeUnixNano"] == "1778666400000123456", "{span}");
    ensure!(span["endTimeUnixNano"] == "1778666400007123456", "{span}");
    ensure!(
        attribute(span, "destination.k8s.pod.name") == "api-5f6d-7k7k7",
        "{span}"
    );
    ensure!(
        attribute(resource, "k8s.pod.name") == "web-7d4b9c6f5-x2x1z",
        "{resource}"
    );
    ensure!(attribute(resource, "service.name") == "web", "{resource}");
    ensure!(agent.stop()?.success());
    Ok(())
}
