//! What `netflume record` wrote of the socket, `netflume replay` says twice in the same bytes.

use std::fs;
use std::io::BufReader;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use netflume::export::json_lines;
use netflume_core::decode::recording::Reader;
use netflume_core::model::request::{Request, Signal};
use netflume_tests::agent::{self, Agent};
use netflume_tests::oracle::Server;
use netflume_tests::sink::{Message, Sink};
use netflume_tests::wait;
use serde_json::Value;

use crate::support::{Place, STREAMS, config, payloads, payloads_of, stream};

/// Records every stream, as the agent's listener sends it.
fn recording(place: &Place) -> Result<()> {
    let streams = STREAMS.map(stream);
    let mut server = Server::agent(&place.socket(), "-stay -rate 4000", &streams)?;
    fs::write(place.path("record.yaml"), config(&place.socket(), ""))?;
    let [recording, settings] = ["recording", "record.yaml"].map(|name| place.path(name));
    let arguments = [
        "record",
        "--config",
        &settings.to_string_lossy(),
        "--output",
        &recording.to_string_lossy(),
    ];
    let mut agent = Agent::start(&arguments, &[])?;
    wait::until("all is sent", || {
        server.counts().ok()?.is_done().then_some(())
    })
    .with_context(|| agent.stderr())?;
    let counts = server.stop()?;
    ensure!(counts.get("dropped") == 0, "{counts:?}");
    agent.says("the agent closed the connection")?;
    let status = agent.stop()?;
    ensure!(status.success(), "{status}: {}", agent.stderr());

    let (mut expected, mut recorded) = ((0, 0), Vec::new());
    for path in &streams {
        let (samples, losses) = payloads(path)?;
        expected = (expected.0 + samples, expected.1 + losses);
    }
    for batch in Reader::new(BufReader::new(fs::File::open(&recording)?))? {
        recorded.extend(batch?.bytes);
    }
    assert_eq!(payloads_of(&recorded)?, expected);
    assert_eq!(recorded.len() as u64, counts.get("bytes"));
    Ok(())
}

/// Standard output of a replay.
fn replay(recording: &Path, config: &Path, more: &[&str]) -> Result<String> {
    let mut command = Command::new(agent::program()?);
    command.arg("replay").arg(recording).args(more);
    command.arg("--config").arg(config);
    xtask::run::output(&mut command)
}

#[test]
#[ignore = "needs the oracle, which cargo xtask setup builds"]
fn a_recorded_socket_gives_the_same_bytes_on_two_runs() -> Result<()> {
    let place = Place::new()?;
    recording(&place)?;
    let recording = place.path("recording");
    let settings = place.path("replay.yaml");

    fs::write(&settings, config(&place.socket(), ""))?;
    let lines = || replay(&recording, &settings, &["--output", "json"]);
    let (first, second) = (lines()?, lines()?);
    assert_eq!(first, second);
    for told in [
        "cilium.drop",
        "cilium.l7",
        "cilium.agent",
        "hubble_drop_total",
    ] {
        assert!(first.contains(told), "{told} is missing");
    }

    let requests = || -> Result<Vec<Message>> {
        let sink = Sink::start(true)?;
        let otlp = format!(
            "otlp_grpc: {{ endpoint: \"{}\", compression: none }}",
            sink.endpoint()
        );
        fs::write(&settings, config(&place.socket(), &otlp))?;
        replay(&recording, &settings, &[])?;
        // Several are under way at once: the order of arrival says nothing.
        let mut messages = sink.messages();
        messages.sort();
        Ok(messages)
    };
    let (sent, again) = (requests()?, requests()?);
    assert!(sent == again, "{} and {} requests", sent.len(), again.len());

    // The lines are those requests; they escape what JSON may have as it is and a terminal may not.
    let parsed = |line: &str| serde_json::from_str(line).map(|line: Value| line.to_string());
    let mut bodies = Vec::new();
    for (path, body) in sent {
        bodies.push(parsed(&json_lines::encode(&request(&path, body))?)?);
    }
    bodies.sort();
    let mut lines: Vec<String> = first.lines().map(parsed).collect::<Result<_, _>>()?;
    lines.sort_unstable();
    assert!(
        bodies == lines,
        "{} requests, {} lines",
        bodies.len(),
        lines.len()
    );
    Ok(())
}

fn request(path: &str, body: Bytes) -> Request {
    let signal = match path {
        path if path.contains(".logs.") => Signal::Logs,
        path if path.contains(".metrics.") => Signal::Metrics,
        _ => Signal::Traces,
    };
    Request {
        signal,
        body,
        items: 0,
    }
}
