//! Events of the agent's listener on the console and in a real Collector: flows, records and metrics as Hubble's own code has them.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use netflume_tests::collector::Collector;
use netflume_tests::http;
use netflume_tests::oracle::Server;
use netflume_tests::page::Page;
use netflume_tests::wait;
use serde_json::Value;

use crate::support::{Place, is_decoded, payloads, run, stream};

/// What Hubble says of the streams when the agent knows of no endpoint: nothing but the reserved identities.
fn hubble(place: &Place, command: &str, streams: &[&str]) -> Result<String> {
    let known = stream("trace").with_file_name("../world.json");
    let mut known: Value = serde_json::from_str(&fs::read_to_string(known)?)?;
    for (key, list) in known.as_object_mut().context("an object")? {
        let Some(list) = list.as_array_mut() else {
            continue;
        };
        list.retain(|item| key == "identities" && item["id"].as_u64().is_some_and(|id| id < 100));
    }
    let world = place.path("world.json");
    fs::write(&world, known.to_string())?;
    let mut oracle = Command::new(xtask::partner::ORACLE.program()?);
    oracle.arg(command).arg("-world").arg(world);
    xtask::run::output(oracle.args(streams.iter().map(|name| stream(name))))
}

/// A flow without what differs from run to run: when and by whom it was seen. OTLP has whole numbers where JSON has text.
fn timeless(mut flow: Value) -> Value {
    if let Some(id) = flow.pointer_mut("/ip_trace_id/trace_id")
        && let Some(Ok(number)) = id.as_str().map(str::parse::<u64>)
    {
        *id = number.into();
    }
    if let Some(fields) = flow.as_object_mut() {
        fields.retain(|key, _| !["time", "uuid", "emitter", "node_name"].contains(&key.as_str()));
    }
    flow
}

fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_nanos() as u64)
}

#[test]
#[ignore = "needs the oracle and the Collector, which cargo xtask setup builds"]
fn flows_are_on_the_console_and_in_the_collector_as_hubble_has_them() -> Result<()> {
    const STREAMS: [&str; 2] = ["drop", "trace"];
    let place = Place::new()?;
    let started = now_ns();
    let collector = Collector::start()?;
    let mut server = Server::agent(&place.socket(), "-stay -rate 2000", &STREAMS.map(stream))?;
    let exporters = format!(
        "console: {{}}, otlp_grpc: {{ endpoint: \"{}\" }}",
        collector.endpoint()
    );
    let (mut agent, page) = run(&place.socket(), &exporters)?;
    let mut events = 0;
    for name in STREAMS {
        events += payloads(&stream(name))?.0;
    }
    wait::until("all events are decoded", || {
        let page = Page::read(page).ok()?;
        (page.stage("logs").received == events && is_decoded(&page)).then_some(())
    })
    .with_context(|| agent.stderr())?;
    ensure!(server.counts()?.get("dropped") == 0);
    let status = agent.stop()?;
    ensure!(status.success(), "{status}: {}", agent.stderr());

    // Records: Hubble's JSON, one for each event, in order.
    let parsed = hubble(&place, "parse", &STREAMS)?;
    let expected: Vec<Value> = parsed
        .lines()
        .map(|line| {
            Ok(timeless(
                serde_json::from_str::<Value>(line)?["flow"].take(),
            ))
        })
        .collect::<Result<_>>()?;
    let mut logs = Vec::new();
    wait::until("all records", || {
        logs = collector.logs().ok()?;
        logs.retain(|log| log.event_name.starts_with("cilium."));
        (logs.len() as u64 == events).then_some(())
    })?;
    let mut compared = 0;
    for (log, expected) in logs.iter().zip(&expected) {
        // See `differences.md` of the oracle's check: Hubble 1.20 says more of SCTP, and reason 8 has two meanings as long as the agent's
        // API did not tell its version.
        let meant =
            expected["l4"].get("SCTP").is_some() || expected["trace_reason"] == "ENCRYPT_OVERLAY";
        if !meant {
            assert_eq!(&timeless(log.body.clone()), expected, "event {compared}");
        }
        assert!((started..now_ns()).contains(&log.time_unix_nano));
        let name = match expected["event_type"]["type"].as_u64() {
            Some(1) => "cilium.drop",
            _ => "cilium.trace",
        };
        assert_eq!(log.event_name, name);
        for (attribute, field) in [
            ("source.address", "source"),
            ("destination.address", "destination"),
        ] {
            let address = expected["IP"].get(field);
            assert_eq!(
                log.attributes.get(attribute),
                address,
                "{attribute} of {expected}"
            );
        }
        if let Some(tcp) = expected["l4"].get("TCP") {
            assert_eq!(log.attributes["network.transport"], "tcp");
            assert_eq!(log.attributes["source.port"], tcp["source_port"]);
            assert_eq!(log.attributes["destination.port"], tcp["destination_port"]);
        }
        compared += 1;
    }
    assert_eq!(compared, events);

    // Metrics: the last value of each series.
    let text = hubble(&place, "metrics", &STREAMS)?;
    let expected: BTreeMap<_, _> = http::samples(&text)?
        .into_iter()
        .map(|sample| ((sample.metric, sample.labels), sample.value))
        .collect();
    let mut found = BTreeMap::new();
    wait::until("the last metrics", || {
        for point in collector.points().ok()? {
            if !point.metric.starts_with("hubble_") {
                continue;
            }
            let label = |(name, value): (String, Value)| {
                (name, value.as_str().unwrap_or_default().to_owned())
            };
            let labels: BTreeMap<_, _> = point.attributes.into_iter().map(label).collect();
            let name = match point.metric.ends_with("_total") {
                true => point.metric,
                false => format!("{}_total", point.metric),
            };
            found.insert((name, labels), point.value);
        }
        (found == expected).then_some(())
    })
    .with_context(|| format!("{found:#?}\n{expected:#?}"))?;

    // The console: a line for each event, and a known one.
    let lines = agent.stdout();
    assert_eq!(lines.matches("\n").count() as u64, events + 2, "{lines}");
    let known = lines
        .lines()
        .find(|line| line.contains("trace") && line.contains("10.0.0.1"));
    let known = known.context("a line of a trace")?;
    assert!(known.contains("FORWARDED"), "{known}");
    Ok(())
}
