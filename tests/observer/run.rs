//! `netflume run` with a monitor socket at one end and clients of its Observer API at the other.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netflume::proto::observer::get_flows_response::ResponseTypes;
use netflume::proto::observer::observer_client::ObserverClient;
use netflume::proto::observer::{GetFlowsRequest, ServerStatusRequest};
use netflume_core::model::printable::is_printable;
use netflume_tests::agent::Agent;
use netflume_tests::http;
use netflume_tests::monitor::{Messages, Monitor};
use netflume_tests::pki::Pki;
use netflume_tests::wait::{self, patience};
use serde_json::Value;
use tempfile::TempDir;
use tonic::transport::Endpoint;
use xtask::partner::HUBBLE;

/// A folder with a monitor socket, and room for the socket of the Observer API.
struct Place {
    monitor: Monitor,
    folder: TempDir,
}

impl Place {
    fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let monitor = Monitor::listen(&folder.path().join("monitor.sock"))?;
        Ok(Self { monitor, folder })
    }

    fn api(&self) -> PathBuf {
        self.folder.path().join("hubble.sock")
    }

    /// The program between the two sockets, with these further keys of the receiver and of the extension, and arguments of `run`.
    fn run(self, receiver: &str, extension: &str, args: &[&str]) -> Result<Running> {
        let config = self.folder.path().join("netflume.yaml");
        let text = format!(
            "receivers: {{ cilium: {{ socket: {}, {receiver} }} }}\n\
             extensions: {{ prometheus: {{ endpoint: \"127.0.0.1:0\" }}, hubble_observer: {{ endpoint: \"unix://{}\", {extension} }} }}\n",
            self.monitor.path().display(),
            self.api().display()
        );
        std::fs::write(&config, text)?;
        let config = config.display().to_string();
        let agent = Agent::start(&[&["run", "--config", &config], args].concat(), &[])?;
        Ok(Running { agent, place: self })
    }
}

/// A running program.
struct Running {
    agent: Agent,
    place: Place,
}

impl Running {
    /// Its program has begun to listen.
    fn start(receiver: &str, extension: &str, args: &[&str]) -> Result<Self> {
        let mut running = Place::new()?.run(receiver, extension, args)?;
        running.agent.says("extensions.hubble_observer listens")?;
        Ok(running)
    }

    fn hubble(&self, arguments: &str) -> Result<Command> {
        let mut command = Command::new(HUBBLE.program()?);
        let server = format!("unix://{}", self.place.api().display());
        command.args(arguments.split_whitespace()).args([
            "--config",
            "/dev/null",
            "--server",
            &server,
        ]);
        Ok(command)
    }
}

/// A running `hubble observe`; its lines come as they are printed, and end with it.
struct Follower(Child, Receiver<Value>);

impl Follower {
    fn start(mut command: Command) -> Result<Self> {
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let out = BufReader::new(child.stdout.take().context("standard output")?);
        let (to, lines) = mpsc::channel();
        std::thread::spawn(move || {
            let lines = out.lines().map_while(Result::ok);
            for line in lines.map_while(|line| serde_json::from_str(&line).ok()) {
                if to.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self(child, lines))
    }

    fn line(&self) -> Result<Value> {
        self.1.recv_timeout(patience()).context("no line came")
    }

    /// The verdicts of the next flows.
    fn verdicts(&self, count: usize) -> Result<BTreeMap<String, usize>> {
        let mut verdicts = BTreeMap::new();
        for _ in 0..count {
            let line = self.line()?;
            let verdict = line["flow"]["verdict"].as_str();
            *verdicts
                .entry(verdict.context("a flow")?.to_owned())
                .or_default() += 1;
        }
        Ok(verdicts)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
#[ignore = "needs Hubble's command line, which cargo xtask setup builds"]
fn hubble_follows_what_the_agent_sends_and_ends_with_us() -> Result<()> {
    let mut running = Running::start("", "", &[])?;
    let mut client = running.place.monitor.accept()?;
    let (traces, drops, agent) = (
        Messages::of("trace")?,
        Messages::of("drop")?,
        Messages::of("agent")?,
    );
    client.send(&traces.definitions)?;
    client.send_all(&traces.events[..10])?;

    let follower = Follower::start(running.hubble("observe --follow --last 10 --output json")?)?;
    assert_eq!(
        follower.verdicts(10)?,
        BTreeMap::from([("FORWARDED".to_owned(), 10)])
    );
    // One after the other: each is shown before the next is sent.
    for event in &drops.events[..5] {
        client.send(event)?;
        let line = follower.line()?;
        assert_eq!(line["flow"]["verdict"], "DROPPED", "{line}");
    }
    client.send_all(&agent.events)?;
    client.send_all(&traces.events[10..20])?;
    assert_eq!(
        follower.verdicts(10)?,
        BTreeMap::from([("FORWARDED".to_owned(), 10)])
    );

    let output = |arguments: &str| -> Result<String> {
        let output = running.hubble(arguments)?.output()?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "hubble {arguments}: {errors}");
        Ok(String::from_utf8(output.stdout)?)
    };
    let status = output("status")?;
    for part in ["Healthcheck", "Ok", "/4,095"] {
        assert!(status.contains(part), "{part} in {status}");
    }
    let events = output("observe agent-events --last 1000 --output json")?;
    let shown = events.lines().count();

    ensure!(running.agent.stop()?.success());
    // What cannot be read is not shown anywhere.
    assert_eq!(shown, running.agent.stdout().matches("  agent  ").count());
    assert!(shown > agent.events.len() / 2, "{shown} agent events");
    // The stream has ended, not broken off.
    assert!(matches!(
        follower.1.recv_timeout(patience()),
        Err(mpsc::RecvTimeoutError::Disconnected)
    ));
    assert!(!running.place.api().exists(), "the socket is left behind");
    Ok(())
}

#[test]
fn a_socket_that_cannot_be_had_is_said_once_and_the_rest_runs() -> Result<()> {
    let place = Place::new()?;
    std::fs::write(place.api(), "")?;
    let mut running = place.run("", "", &[])?;
    running.agent.says("cannot listen on unix://")?;
    let drops = Messages::of("drop")?;
    let mut client = running.place.monitor.accept()?;
    client.send(&drops.definitions)?;
    client.send_all(&drops.events)?;
    wait::until("the lines of the drops", || {
        let lines = running.agent.stdout().matches("  DROPPED ").count();
        (lines == drops.events.len()).then_some(())
    })?;
    ensure!(running.agent.stop()?.success());
    let said = running.agent.stderr();
    assert!(said.contains("records go to stdout"), "{said}");
    assert_eq!(said.matches("cannot listen on").count(), 1, "{said}");
    assert!(running.place.api().exists(), "what is not ours stays");
    Ok(())
}

#[test]
fn a_key_that_is_not_the_certificates_is_named_before_anything_listens() -> Result<()> {
    let (pki, place) = (Pki::new()?, Place::new()?);
    let config = place.folder.path().join("netflume.yaml");
    let text = format!(
        "receivers: {{ cilium: {{ socket: {}, api_socket: \"\" }} }}\n\
         extensions: {{ hubble_observer: {{ endpoint: \"127.0.0.1:0\", tls: {{ cert_file: {}, key_file: {} }} }} }}\n",
        place.monitor.path().display(),
        pki.server_cert_file().display(),
        pki.client_key_file().display(),
    );
    std::fs::write(&config, text)?;
    let config = config.display().to_string();
    let mut agent = Agent::start(&["run", "--config", &config], &[])?;
    agent.says("they do not belong together")?;
    agent.says("records go to")?;
    ensure!(agent.stop()?.success());
    let stderr = agent.stderr();
    ensure!(!stderr.contains("hubble_observer listens"), "{stderr}");
    Ok(())
}

#[tokio::test]
async fn a_hang_up_signal_reloads_and_ends_nothing() -> Result<()> {
    let mut running = Running::start("", "", &[])?;
    for generation in 2..4 {
        running.agent.hang_up()?;
        running.agent.says(&format!("generation={generation}"))?;
    }
    let endpoint = format!("unix://{}", running.place.api().display());
    let mut client = ObserverClient::connect(endpoint).await?;
    client.server_status(ServerStatusRequest {}).await?;
    ensure!(running.agent.stop()?.success());
    Ok(())
}

#[tokio::test]
async fn what_a_slow_client_misses_is_counted_as_hubble_counts_it() -> Result<()> {
    let mut running = Running::start(
        "logs: { enabled: false }",
        "capacity: 256",
        &["--output", "json"],
    )?;
    let mut monitor = running.place.monitor.accept()?;
    let traces = Messages::of("trace")?;
    monitor.send(&traces.definitions)?;
    // Little on the way to the client, so that the ring soon overtakes it.
    let channel = Endpoint::from_shared(format!("unix://{}", running.place.api().display()))?
        .initial_stream_window_size(65_535)
        .initial_connection_window_size(65_535)
        .connect()
        .await?;
    let mut client = ObserverClient::new(channel);
    let request = GetFlowsRequest {
        number: 1,
        follow: true,
        ..GetFlowsRequest::default()
    };
    monitor.send(&traces.events[0])?;
    let mut stream = client.get_flows(request).await?.into_inner();
    tokio::time::timeout(patience(), stream.message()).await??;
    // Far more than windows and ring hold, while the client reads nothing.
    let many = traces.events.concat();
    for _ in 0..200 {
        monitor.send(&many)?;
    }
    let sent = 1 + 200 * traces.events.len() as u64;
    let (mut reached, mut give_up) = (0, tokio::time::Instant::now() + patience());
    loop {
        let status = client.server_status(ServerStatusRequest {}).await?;
        let seen = status.into_inner().seen_flows;
        if seen == sent {
            break;
        }
        // As long as it goes on, it may take its time.
        if seen > reached {
            (reached, give_up) = (seen, tokio::time::Instant::now() + patience());
        }
        ensure!(
            tokio::time::Instant::now() < give_up,
            "{seen} flows were seen"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // What was overtaken is found out when the client goes on.
    loop {
        let next = tokio::time::timeout(patience(), stream.message()).await??;
        let response = next.context("the stream goes on")?;
        if let Some(ResponseTypes::LostEvents(lost)) = response.response_types {
            ensure!(lost.num_events_lost > 0, "{lost:?}");
            break;
        }
    }
    ensure!(running.agent.stop()?.success());
    let out = running.agent.stdout();
    let lost = out
        .lines()
        .rev()
        .find(|line| line.contains("hubble_lost_events_total"))
        .with_context(|| format!("no such metric:\n{}", running.agent.stderr()))?;
    assert!(lost.contains("hubble_ring_buffer"), "{lost}");
    Ok(())
}

/// All that leaves the program after the access logs of the fixtures: logs and metrics as OTLP, `/metrics`, answers of the Observer API.
async fn what_leaves(receiver: &str) -> Result<String> {
    let mut running = Running::start(receiver, "", &["--output", "json"])?;
    let metrics = running.agent.listens("extensions.prometheus")?;
    let mut monitor = running.place.monitor.accept()?;
    let messages = Messages::of("l7")?;
    monitor.send(&messages.definitions)?;
    for event in &messages.events {
        // A header that is in no list, of the same length.
        monitor.send(&replaced(event, b"X-Request-Id", b"X-Hidden-Val"))?;
    }
    let text = wait::until("the metrics of the requests", || {
        let page = http::get(metrics, "/metrics").ok()?;
        page.contains("hubble_http_requests_total").then_some(page)
    })?;
    let mut client =
        ObserverClient::connect(format!("unix://{}", running.place.api().display())).await?;
    let mut answers = client
        .get_flows(GetFlowsRequest::default())
        .await?
        .into_inner();
    let mut all = text;
    let mut flows = 0;
    while let Some(answer) = answers.message().await? {
        all.push_str(&format!("{answer:?}\n"));
        flows += 1;
    }
    assert!(flows > 50, "{flows} flows");
    ensure!(running.agent.stop()?.success());
    Ok(all + &running.agent.stdout())
}

#[test]
fn what_clients_send_reaches_no_terminal_as_it_is() -> Result<()> {
    let mut running = Running::start("", "", &[])?;
    let mut monitor = running.place.monitor.accept()?;
    let messages = Messages::of("l7")?;
    monitor.send(&messages.definitions)?;
    for event in &messages.events {
        let event = replaced(event, b"GET", b"\x1b[m");
        monitor.send(&replaced(&event, b"HTTP/1.1", b"HTTP\r1\n1"))?;
    }
    wait::until("the requests", || {
        running.agent.stdout().contains(r"\u{1b}[m").then_some(())
    })?;
    ensure!(running.agent.stop()?.success());
    let (out, err) = (running.agent.stdout(), running.agent.stderr());
    assert!(out.contains(r"HTTP\r1\n1"), "{out}");
    for text in [&out, &err] {
        assert!(
            text.chars().all(|c| c == '\n' || is_printable(c)),
            "{text:?}"
        );
    }
    // Each line of the table begins with its time, in columns.
    let is_row = |line: &str| line.starts_with(|c: char| c.is_ascii_digit());
    assert!(out.lines().skip(1).all(is_row), "{out}");
    Ok(())
}

#[test]
fn exemplars_lead_from_requests_to_traces_in_otlp_and_openmetrics() -> Result<()> {
    let receiver = "logs: { enabled: false }, metrics: [\"httpV2:exemplars=true\"]";
    let mut running = Running::start(receiver, "", &["--output", "json"])?;
    let metrics = running.agent.listens("extensions.prometheus")?;
    let mut monitor = running.place.monitor.accept()?;
    let messages = Messages::of("l7")?;
    monitor.send(&messages.definitions)?;
    monitor.send_all(&messages.events)?;
    let page = |accept| http::get_as(metrics, "/metrics", accept).ok();
    let page_with_exemplars = wait::until("exemplars on the page", || {
        page("application/openmetrics-text").filter(|page| page.contains("traceID=\""))
    })?;
    for name in [
        "http_requests_total",
        "http_request_duration_seconds_bucket",
    ] {
        let of = |line: &&str| line.starts_with(&format!("hubble_{name}")) && line.contains(" # {");
        let line = page_with_exemplars.lines().find(of);
        ensure!(
            line.is_some(),
            "no exemplar of {name}:\n{page_with_exemplars}"
        );
    }
    let plain = page("text/plain").context("a page")?;
    assert!(plain.contains("hubble_http_requests_total") && !plain.contains("traceID"));
    ensure!(running.agent.stop()?.success());
    let exported = running.agent.stdout();
    assert!(
        exported.contains("\"exemplars\":[{\"filteredAttributes\""),
        "{exported}"
    );
    Ok(())
}

fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    while let Some(at) = bytes.windows(from.len()).position(|window| window == from) {
        bytes[at..at + from.len()].copy_from_slice(to);
    }
    bytes
}

/// Of the fixtures: a password and a query and a fragment of URLs, the value of a header.
const SECRETS: [&str; 4] = ["secret@", "page=", "#frag", "twice"];

#[tokio::test]
async fn no_secret_leaves_unless_asked_for() -> Result<()> {
    let metrics = "metrics: [\"httpV2:sourceContext=ip\"]";
    let all = what_leaves(metrics).await?;
    for secret in SECRETS {
        assert!(!all.contains(secret), "{secret}");
    }
    assert!(all.contains("X-Hidden-Val") && all.contains("HUBBLE_REDACTED"));
    // They are in what is read, and everywhere else on the way.
    let all = what_leaves(&format!("{metrics}, redact: {{ enabled: false }}")).await?;
    for secret in SECRETS {
        assert!(all.matches(secret).count() >= 2, "{secret}");
    }
    Ok(())
}

#[test]
fn logs_are_what_the_filters_leave_and_metrics_are_whole() -> Result<()> {
    let receiver = "logs: { include: [{ verdict: [DROPPED] }], exclude: [{ protocol: [udp] }] }, metrics: [flow]";
    let mut running = Running::start(receiver, "", &["--output", "json"])?;
    let mut monitor = running.place.monitor.accept()?;
    let (traces, drops) = (Messages::of("trace")?, Messages::of("drop")?);
    monitor.send(&traces.definitions)?;
    monitor.send_all(&traces.events)?;
    monitor.send_all(&drops.events)?;
    wait::until("the drops", || {
        running.agent.stdout().contains("cilium.drop").then_some(())
    })?;
    drop(monitor);
    running.agent.says("closed the connection")?;
    ensure!(running.agent.stop()?.success());
    let out = running.agent.stdout();
    let drops = out.matches("\"cilium.drop\"").count();
    assert!(drops > 0 && drops < 255, "{drops} drops");
    assert!(!out.contains("cilium.trace"));
    assert!(out.contains("\"key\":\"TCP\"") && !out.contains("\"key\":\"UDP\""));
    for kind in ["Trace", "Drop"] {
        assert!(out.contains(&format!("\"{kind}\"")), "metrics of {kind}");
    }
    Ok(())
}
