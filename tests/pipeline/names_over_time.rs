//! Names at the time of the event, and series that end with their pod: recordings whose times the tests choose, replayed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use netflume_core::decode::recording::Writer;
use netflume_core::enrich::cilium::answer::Answer;
use netflume_core::model::batch::{Batch, BatchKind};
use netflume_tests::monitor::Messages;
use netflume_tests::otlp_json::{self, Log};
use serde_json::Value;

use crate::exchanges::replayed;

/// 2026-05-13T10:00:00Z, the time of the fixtures.
const START_NS: u64 = 1_778_666_400_000_000_000;
const SECOND: u64 = 1_000_000_000;

/// Their place in `agent.gob`.
const WEB_DELETED: usize = 13;
const API_TAKES_THE_ADDRESS_OF_WEB: usize = 44;
const API_UPSERTED: usize = 46;
const API_DELETED: [usize; 2] = [47, 49];
/// In `trace.gob`: from web to api, which runs on another node; from web to 198.51.100.34.
const WEB_TO_API: usize = 11;
const WEB_TO_WORLD: usize = 20;
/// In `l7.gob`: one.example.com is 198.51.100.34, for web.
const ANSWER: usize = 187;

const WEB: &str = "web-7d4b9c6f5-x2x1z";
const API: &str = "api-5f6d-7k7k7";

/// A recording that begins with the answers of the agent.
struct Recording {
    folder: tempfile::TempDir,
    file: PathBuf,
    writer: Writer<File>,
    messages: [Vec<Vec<u8>>; 3],
}

impl Recording {
    fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("recording");
        let trace = Messages::of("trace")?;
        let messages = [
            Messages::of("agent")?.events,
            trace.events,
            Messages::of("l7")?.events,
        ];
        let mut recording = Self {
            writer: Writer::new(File::create(&file)?)?,
            folder,
            file,
            messages,
        };
        let answers = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/cilium/1.19.4/api");
        for path in ["healthz", "endpoint", "identity", "ip", "fqdn/cache"] {
            let body = fs::read(answers.join(format!("{}.json", path.replace('/', "-"))))?;
            let answer = Answer {
                asked_ns: START_NS,
                path,
                body: &body,
            };
            recording.write(BatchKind::CILIUM_API, 0, answer.to_bytes())?;
        }
        recording.write(BatchKind::CILIUM_MONITOR, 0, trace.definitions)?;
        Ok(recording)
    }

    fn write(&mut self, kind: BatchKind, second: u64, bytes: Vec<u8>) -> Result<()> {
        let batch = Batch {
            kind,
            unix_ns: START_NS + second * SECOND,
            boot_ns: second * SECOND,
            bytes,
        };
        Ok(self.writer.write(&batch)?)
    }

    fn events(&mut self, of: usize, second: u64, places: &[usize]) -> Result<()> {
        let messages = &self.messages[of];
        let bytes = places.iter().flat_map(|place| messages[*place].clone());
        let bytes = bytes.collect();
        self.write(BatchKind::CILIUM_MONITOR, second, bytes)
    }

    fn agent(&mut self, second: u64, places: &[usize]) -> Result<()> {
        self.events(0, second, places)
    }

    fn flow(&mut self, second: u64, place: usize) -> Result<()> {
        self.events(1, second, &[place])
    }

    fn dns_answer(&mut self, second: u64) -> Result<()> {
        self.events(2, second, &[ANSWER])
    }

    /// What the program makes of it: OTLP requests.
    fn replay(mut self) -> Result<Vec<Value>> {
        self.writer.flush()?;
        let text = replayed(self.folder.path(), &self.file)?;
        let requests = text.lines().map(serde_json::from_str);
        Ok(requests.collect::<Result<_, _>>()?)
    }
}

/// The records of packets.
fn traces(requests: &[Value]) -> Result<Vec<Log>> {
    let mut traces = Vec::new();
    for request in requests {
        let logs = otlp_json::logs(request)?.into_iter();
        traces.extend(logs.filter(|log| log.event_name == "cilium.trace"));
    }
    Ok(traces)
}

#[test]
fn a_dns_answer_of_the_access_log_names_the_next_flow() -> Result<()> {
    let mut recording = Recording::new()?;
    recording.flow(1, WEB_TO_WORLD)?;
    recording.dns_answer(2)?;
    recording.flow(2, WEB_TO_WORLD)?;
    recording.flow(60, WEB_TO_WORLD)?;
    let traces = traces(&recording.replay()?)?;
    let names: Vec<_> = traces
        .iter()
        .map(|log| log.body["destination_names"].to_string())
        .collect();
    // By the agent's list; its time to live is 30 s, and no list came after it.
    let listed = r#"["example.com","www.example.com"]"#;
    let both = r#"["example.com","one.example.com","www.example.com"]"#;
    ensure!(names == [listed, both, listed], "{names:?}");
    Ok(())
}

#[test]
fn an_address_has_the_name_of_its_owner_at_the_time_of_the_event() -> Result<()> {
    let mut recording = Recording::new()?;
    recording.flow(1, WEB_TO_WORLD)?;
    recording.agent(2, &[WEB_DELETED])?;
    // Late events of it.
    recording.flow(3, WEB_TO_WORLD)?;
    recording.agent(4, &[API_TAKES_THE_ADDRESS_OF_WEB])?;
    recording.flow(5, WEB_TO_WORLD)?;
    let traces = traces(&recording.replay()?)?;
    let sources: Vec<_> = traces
        .iter()
        .map(|log| {
            let source = &log.body["source"];
            let pod = source["pod_name"].as_str().unwrap_or_default();
            (pod, source["ID"].as_u64().unwrap_or(0))
        })
        .collect();
    ensure!(sources == [(WEB, 77), (WEB, 77), (API, 0)], "{sources:?}");
    Ok(())
}

/// When the series of flows to a pod of another node has which value; none is its end.
fn values(requests: &[Value], pod: &str) -> Result<Vec<(u64, Option<f64>)>> {
    let mut values = Vec::new();
    for request in requests {
        for point in otlp_json::points(request)? {
            let destination = point.attributes.get("destination").and_then(Value::as_str);
            if point.metric == "hubble_flows_processed_total" && destination == Some(pod) {
                let second = point.time_unix_nano.checked_sub(START_NS).context("time")? / SECOND;
                values.push((second, (!point.is_end).then_some(point.value)));
            }
        }
    }
    Ok(values)
}

#[test]
fn the_series_of_a_pod_of_another_node_end_a_minute_after_its_last_address() -> Result<()> {
    let pod = format!("shop/{API}");
    let ends = |comes_back: bool| {
        let mut recording = Recording::new()?;
        recording.flow(1, WEB_TO_API)?;
        recording.agent(20, &API_DELETED[..1])?;
        recording.agent(30, &API_DELETED[1..])?;
        if comes_back {
            recording.agent(40, &[API_UPSERTED])?;
        }
        for second in [60, 80, 120, 140] {
            recording.flow(second, WEB_TO_WORLD)?;
        }
        values(&recording.replay()?, &pod)
    };
    let gone = ends(false)?;
    let there: Vec<_> = gone.iter().filter(|(_, value)| value.is_some()).collect();
    ensure!(
        there.iter().all(|(at, _)| *at < 90) && there.len() > 3,
        "{gone:?}"
    );
    let ended: Vec<_> = gone.iter().filter(|(_, value)| value.is_none()).collect();
    ensure!(ended.len() == 1 && ended[0].0 >= 90, "{gone:?}");
    let back = ends(true)?;
    ensure!(
        back.iter().all(|(_, value)| *value == Some(1.0)),
        "{back:?}"
    );
    ensure!(back.iter().any(|(at, _)| *at >= 120), "{back:?}");
    Ok(())
}
