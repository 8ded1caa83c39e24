//! The whole program behind the monitor socket: what it takes, and what it costs, ours and the agent's.
//!
//! ```text
//! cargo xtask bench cilium-socket [--seconds N] [--rate EVENTS_A_SECOND] [--reloads N]
//! ```
//!
//! One stream as of a busy node (`oracle mixed`) goes round and round, 100,000 events a second for 60 s if not told otherwise, into
//! `netflume run` with nothing but the Cilium receiver and its `/metrics` page:
//!
//! - from a plain server that only writes bytes: every event must arrive, every byte be decoded, the books be balanced; then once more
//!   with a log record of each, compressed as by default, to a Collector that takes everything and looks into nothing, where the export
//!   queue may drop;
//! - from the agent's own listener, whose queue drops what it cannot hold: that is told apart;
//! - and the agent alone, without a client: the difference is what our connection costs it.
//!
//! With `--reloads N` (as root, because connections of this machine are watched too) it reloads its configuration `N` times under that load instead,
//! and shows what each stage received, passed and dropped.
//!
//! CPU is user and system time of the whole process, start included, as a share of one core; memory is the most that was resident.

#![allow(
    clippy::print_stdout,
    reason = "a benchmark: its figures are its output"
)]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use netflume_tests::agent::Agent;
use netflume_tests::oracle::{Counts, Server};
use netflume_tests::page::{Page, Stage};
use netflume_tests::sink::Sink;
use netflume_tests::wait;

mod reloads;

/// Events of the stream that goes round and round.
const STREAM_EVENTS: u64 = 65_536;
/// What netflume may cost.
const CORE_SHARE_MAX: f64 = 0.5;
const MEMORY_MAX: u64 = 64 << 20;

struct Options {
    seconds: u64,
    rate: u64,
    reloads: u64,
}

impl Options {
    fn read() -> Result<Self> {
        let mut options = Self {
            seconds: 60,
            rate: 100_000,
            reloads: 0,
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(name) = arguments.next() {
            let value = arguments.next().context("a number is missing")?;
            match name.as_str() {
                "--seconds" => options.seconds = value.parse()?,
                "--reloads" => options.reloads = value.parse()?,
                "--rate" => options.rate = value.parse()?,
                _ => bail!("unknown argument {name}"),
            }
        }
        Ok(options)
    }

    fn events(&self) -> u64 {
        // Whole rounds, so that the plain server's count comes out even.
        (self.rate * self.seconds).div_ceil(STREAM_EVENTS) * STREAM_EVENTS
    }

    fn time(&self) -> Duration {
        Duration::from_secs(self.seconds * 3) + wait::patience()
    }
}

/// What a run took and cost.
struct Run {
    page: Page,
    cpu_seconds: f64,
    resident_max: u64,
}

impl Run {
    /// Waits until all that came was decoded, and looks at the process.
    fn settled(agent: &Agent, page: SocketAddr, bytes: u64) -> Result<Self> {
        let mut seen = String::new();
        let page = wait::until_within(wait::patience() * 2, "all is decoded", || {
            let page = Page::read(page).ok()?;
            let stages = ["source", "decode", "logs"].map(|name| page.stage(name));
            seen = format!("{bytes} bytes written; {stages:?}");
            let [socket, decode, logs] = stages;
            let done = socket.bytes == bytes
                && stages.iter().all(Stage::is_balanced)
                && decode.received == socket.passed
                && logs.received == decode.passed;
            done.then_some(page)
        })
        .with_context(|| seen)?;
        Ok(Self {
            page,
            cpu_seconds: cpu_seconds(agent.pid())?,
            resident_max: resident_max(agent.pid())?,
        })
    }

    fn print(&self, seconds: f64) {
        let stage = |name| self.page.stage(name);
        let (socket, decode, logs) = (stage("source"), stage("decode"), stage("logs"));
        println!(
            "netflume: {} messages, {} bytes read; {} bytes decoded, {} events; dropped {} + {}",
            socket.received,
            socket.bytes,
            decode.bytes,
            logs.received,
            socket.dropped,
            decode.dropped
        );
        let share = self.cpu_seconds / seconds;
        println!(
            "    {:.1} s of CPU in {seconds:.1} s = {:.1} % of a core; {:.1} MiB resident at most",
            self.cpu_seconds,
            share * 100.0,
            self.resident_max as f64 / f64::from(1 << 20)
        );
        if share > CORE_SHARE_MAX || self.resident_max > MEMORY_MAX {
            println!("    OVER the bound of half a core and 64 MiB");
        }
    }
}

fn main() -> Result<()> {
    let options = Options::read()?;
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("monitor1_2.sock");
    let stream = mixed(folder.path())?;
    println!("{} events at {} a second", options.events(), options.rate);
    if options.reloads > 0 {
        return reloads::run(&options, &socket, &stream, options.reloads);
    }
    let without = plain(&options, &socket, &stream, None)?;
    let with = plain(&options, &socket, &stream, Some(&Sink::start(false)?))?;
    println!(
        "with log records: {:.2} times the CPU of the run without",
        with / without
    );
    let with = agent(&options, &socket, &stream)?;
    let alone = without_client(&options, &socket, &stream)?;
    println!(
        "the agent's own listener: {:.1} s of CPU with our connection, {:.1} s without: we cost it {:.1} % of a core",
        with.seconds("cpu_seconds"),
        alone.seconds("cpu_seconds"),
        (with.seconds("cpu_seconds") - alone.seconds("cpu_seconds")) / with.seconds("seconds")
            * 100.0
    );
    Ok(())
}

/// The stream of a busy node.
fn mixed(folder: &Path) -> Result<PathBuf> {
    let stream = folder.join("mixed.gob");
    let mut oracle = std::process::Command::new(xtask::partner::ORACLE.program()?);
    oracle.args(["mixed", "-n", &STREAM_EVENTS.to_string(), "-out"]);
    xtask::run::output(oracle.arg(&stream))?;
    Ok(stream)
}

fn netflume(socket: &Path, exporters: &str) -> Result<(Agent, SocketAddr)> {
    let config = format!(
        "receivers: {{ cilium: {{ socket: \"{}\", api_socket: \"\" }} }}\n\
         exporters: {{ {exporters} }}\n\
         extensions: {{ prometheus: {{ endpoint: \"127.0.0.1:0\" }} }}\n\
         service: {{ telemetry: {{ export: false }} }}\n",
        socket.display()
    );
    let mut agent = Agent::watching(Some(&config), &[])?;
    let page = agent.listens("extensions.prometheus")?;
    Ok((agent, page))
}

/// Every event must arrive. Gives back the seconds of CPU.
fn plain(options: &Options, socket: &Path, stream: &Path, sink: Option<&Sink>) -> Result<f64> {
    let arguments = format!(
        "-rate {} -repeat {}",
        options.rate,
        options.events() / STREAM_EVENTS
    );
    let exporters = sink.map_or(String::new(), |sink| {
        format!("otlp_grpc: {{ endpoint: \"{}\" }}", sink.endpoint())
    });
    let mut server = Server::raw(socket, &arguments, stream.to_owned())?;
    let (mut agent, page) = netflume(socket, &exporters)?;
    let counts = server.next_counts(options.time())?;
    let run = Run::settled(&agent, page, counts.get("bytes"))?;
    println!(
        "plain server: {} events, {} bytes written in {:.1} s",
        counts.get("events"),
        counts.get("bytes"),
        counts.seconds("seconds")
    );
    run.print(counts.seconds("seconds"));
    ensure!(counts.get("events") == options.events(), "{counts:?}");
    let (read, decoded) = (run.page.source("cilium"), run.page.stage("decode"));
    ensure!(
        read.received == counts.get("events") && read.dropped == 0 && decoded.dropped == 0,
        "not every event was decoded: {read:?} {decoded:?}"
    );
    ensure!(
        decoded.bytes == counts.get("bytes"),
        "{decoded:?} {counts:?}"
    );
    if sink.is_some() {
        let (queue, export) = (run.page.stage("queue"), run.page.stage("export"));
        println!(
            "    with log records: {} items into the export queue, {} answered for, {} dropped",
            queue.received,
            export.passed,
            queue.dropped + export.dropped
        );
    }
    agent.stop()?;
    Ok(run.cpu_seconds)
}

/// The agent's queue may drop; what it wrote must arrive.
fn agent(options: &Options, socket: &Path, stream: &Path) -> Result<Counts> {
    let arguments = format!("-stay -rate {} -count {}", options.rate, options.events());
    let mut server = Server::agent(socket, &arguments, &[stream.to_owned()])?;
    let (mut agent, page) = netflume(socket, "")?;
    let counts = server.next_counts(options.time())?;
    let run = Run::settled(&agent, page, counts.get("bytes"))?;
    println!(
        "the agent's own listener: {} events offered in {:.1} s, its queue dropped {}, {} written, {} bytes",
        counts.get("offered"),
        counts.seconds("seconds"),
        counts.get("dropped"),
        counts.get("written"),
        counts.get("bytes")
    );
    run.print(counts.seconds("seconds"));
    ensure!(
        run.page.source("cilium").received == counts.get("written"),
        "not all that the agent wrote was read"
    );
    agent.stop()?;
    Ok(counts)
}

fn without_client(options: &Options, socket: &Path, stream: &Path) -> Result<Counts> {
    let arguments = format!(
        "-wait 0 -stay -rate {} -count {}",
        options.rate,
        options.events()
    );
    Server::agent(socket, &arguments, &[stream.to_owned()])?.next_counts(options.time())
}

/// Fields 14 and 15 of `/proc/PID/stat` (proc_pid_stat(5)).
fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, rest) = stat.rsplit_once(')').context("no name in stat")?;
    let ticks: u64 = rest
        .split_ascii_whitespace()
        .skip(11)
        .take(2)
        .map(|field| field.parse::<u64>().unwrap_or_default())
        .sum();
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// `VmHWM` of `/proc/PID/status` (proc_pid_status(5)), in bytes.
fn resident_max(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_ascii_whitespace().next());
    Ok(kilobytes.context("no VmHWM")?.parse::<u64>()? * 1024)
}
