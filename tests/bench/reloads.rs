//! Reloads while 100,000 Cilium events a second and connections of this machine come in: nothing may be lost from sight.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use netflume_tests::agent::Agent;
use netflume_tests::oracle::Server;
use netflume_tests::page::{Page, Stage};
use netflume_tests::sink::Sink;
use netflume_tests::wait;

use crate::{Options, STREAM_EVENTS};

/// From where a receiver reads to where the Collector answers.
const STAGES: [&str; 5] = ["source", "decode", "logs", "queue", "export"];

/// Connections to a port of our own, one after the other.
struct Traffic {
    port: String,
    ends: Arc<AtomicBool>,
    made: JoinHandle<Result<u64>>,
}

impl Traffic {
    fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let ends = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&ends);
        let made = std::thread::spawn(move || {
            let mut made = 0;
            while !stop.load(Relaxed) {
                let mut client = TcpStream::connect(address)?;
                let (mut server, _) = listener.accept()?;
                client.write_all(b"netflow")?;
                server.read_exact(&mut [0; 7])?;
                made += 1;
                // About 200 a second: beside the events they are to be a part of the work, not all of it.
                std::thread::sleep(Duration::from_millis(5));
            }
            Ok(made)
        });
        Ok(Self {
            port: address.port().to_string(),
            ends,
            made,
        })
    }

    /// How many there were.
    fn end(self) -> Result<u64> {
        self.ends.store(true, Relaxed);
        self.made.join().expect("the thread does not panic")
    }
}

/// The `n`th configuration: each differs from the one before in live keys, the Collector among them.
fn config(socket: &Path, sinks: &[Sink; 2], n: u64) -> String {
    let sink = sinks[usize::from(n % 2 == 1)].endpoint();
    let keys = match n % 3 {
        0 => "logs: { sampling_rate: 0.5 }",
        1 => "redact: { http_urlquery: false }",
        _ => "request_timeout: 7s",
    };
    format!(
        "receivers:\n  ebpf: {{ interval: 1s }}\n  cilium: {{ socket: \"{}\", api_socket: \"\", {keys} }}\n\
         exporters: {{ otlp_grpc: {{ endpoint: \"{sink}\" }} }}\n\
         extensions: {{ prometheus: {{ endpoint: \"127.0.0.1:0\" }} }}\n\
         service: {{ telemetry: {{ export: false }} }}\n",
        socket.display()
    )
}

/// Reloads `count` times, spread over the time that the events take.
pub(crate) fn run(options: &Options, socket: &Path, stream: &Path, count: u64) -> Result<()> {
    let sinks = [Sink::start(false)?, Sink::start(false)?];
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("netflume.yaml");
    fs::write(&file, config(socket, &sinks, 0))?;
    let repeat = options.events() / STREAM_EVENTS;
    let arguments = format!("-rate {} -repeat {repeat}", options.rate);
    let mut server = Server::raw(socket, &arguments, stream.to_owned())?;
    let mut agent = Agent::start(&["run", "--config", &file.display().to_string()], &[])?;
    let page = agent.listens("extensions.prometheus")?;
    // Printed once the kernel programs are attached.
    agent.says("records go ")?;
    let traffic = Traffic::start()?;
    let begin = Instant::now();
    for n in 1..=count {
        let due = Duration::from_secs_f64(options.seconds as f64 * n as f64 / count as f64);
        std::thread::sleep(due.saturating_sub(begin.elapsed()));
        let next = folder.path().join("next.yaml");
        fs::write(&next, config(socket, &sinks, n))?;
        fs::rename(next, &file)?;
        agent.hang_up()?;
        wait::until("the next reload", || {
            let reloads = applied(&Page::read(page).ok()?);
            (reloads >= n).then_some(())
        })
        .with_context(|| agent.stderr())?;
    }
    let reloading = begin.elapsed();
    let counts = server.next_counts(options.time())?;
    let port = traffic.port.clone();
    let connections = traffic.end()?;
    let page = balanced(page, counts.get("events"), (&port, connections))
        .with_context(|| agent.stderr())?;
    println!(
        "{} reloads in {:.1} s while {} events came in {:.1} s, and {connections} connections were opened and closed",
        applied(&page),
        reloading.as_secs_f64(),
        counts.get("events"),
        counts.seconds("seconds"),
    );
    for receiver in ["cilium", "ebpf"] {
        for name in STAGES {
            let stage = page.stage_of(receiver, name);
            println!(
                "    {receiver:<7}{name:<7} received {:>9} = passed {:>9} + dropped {}",
                stage.received, stage.passed, stage.dropped
            );
        }
    }
    ensure!(agent.stop()?.success());
    Ok(())
}

fn applied(page: &Page) -> u64 {
    page.count("netflume_config_reloads_total", &[("result", "applied")])
}

/// Waits until every event and connection is accounted for, stage by stage and receiver by receiver.
fn balanced(page: SocketAddr, events: u64, (port, connections): (&str, u64)) -> Result<Page> {
    let mut seen = String::new();
    wait::until("everything is accounted for", || {
        let page = Page::read(page).ok()?;
        let books = |receiver| STAGES.map(|stage| page.stage_of(receiver, stage));
        let opened = page.count("network_connection_opened_total", &[("server_port", port)]);
        let (cilium, ebpf) = (books("cilium"), books("ebpf"));
        let is_queued = |receiver| {
            let made = ["logs", "metrics", "spans"].map(|stage| page.stage_of(receiver, stage).passed);
            page.stage_of(receiver, "queue").received == made.iter().sum::<u64>()
        };
        seen = format!("{events} events, {connections} connections; {cilium:?}, {ebpf:?}, {opened} ends opened");
        let done = [&cilium, &ebpf].into_iter().flatten().all(Stage::is_balanced)
            && cilium[0].received == events
            && cilium[1].received == cilium[0].passed
            && cilium[2].received == cilium[1].passed
            && ["cilium", "ebpf"].into_iter().all(is_queued)
            && [&cilium, &ebpf].into_iter().all(|[.., queue, export]| export.received == queue.passed)
            // Each connection has both its ends here.
            && opened == 2 * connections;
        done.then_some(page)
    })
    .with_context(|| seen)
}
