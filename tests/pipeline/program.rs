//! The program from its sources to its outputs: its threads, its page, what it writes to a pipe, and how it ends.

use std::io::Read as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ChildStdout;

use anyhow::{Context as _, Result, ensure};
use netflume_tests::agent::Agent;
use netflume_tests::monitor::{Client, Messages, Monitor};
use netflume_tests::page::{Page, Stage};
use netflume_tests::wait;
use tempfile::TempDir;

/// netflume with nothing but the Cilium receiver, and the agent that it is connected to.
struct Running {
    agent: Agent,
    page: SocketAddr,
    health: SocketAddr,
    client: Client,
    messages: Messages,
    sent: u64,
    _monitor: Monitor,
    _folder: TempDir,
}

impl Running {
    /// With these further keys of the configuration.
    fn start(more: &str) -> Result<Self> {
        let (folder, monitor, config) = place(more)?;
        let agent = Agent::start(&["run", "--config", &config], &[])?;
        Self::connected(agent, folder, monitor)
    }

    /// The same, and the pipe behind its standard output, to which it writes JSON.
    fn piped(more: &str) -> Result<(Self, ChildStdout)> {
        let (folder, monitor, config) = place(more)?;
        let (agent, pipe) = Agent::piped(&["run", "--config", &config, "--output", "json"])?;
        Ok((Self::connected(agent, folder, monitor)?, pipe))
    }

    fn connected(mut agent: Agent, folder: TempDir, monitor: Monitor) -> Result<Self> {
        let page = agent.listens("extensions.prometheus")?;
        let health = agent.listens("extensions.health")?;
        let mut client = monitor.accept()?;
        let messages = Messages::of("l7")?;
        client.send(&messages.definitions)?;
        Ok(Self {
            agent,
            page,
            health,
            client,
            messages,
            sent: 0,
            _monitor: monitor,
            _folder: folder,
        })
    }

    /// Sends the access logs of the fixtures so many times.
    fn send(&mut self, times: usize) -> Result<()> {
        let all = self.messages.events.concat();
        for _ in 0..times {
            self.client.send(&all)?;
            self.sent += self.messages.events.len() as u64;
        }
        Ok(())
    }

    /// Sends what may wait for the engine (16 MiB), so that nothing is lost there: records of more than may wait for the writer (8 MiB).
    fn send_more_than_waits_for_the_writer(&mut self) -> Result<()> {
        let each = self.messages.events.concat().len();
        self.send((15 << 20) / each)
    }

    /// A page that is asked for after everything that was sent is decoded.
    fn decoded(&self) -> Result<Page> {
        self.done("decode", |decode| decode.received == self.sent)
    }

    /// A page that is asked for after `stage` has done with all that it received, and that is all there is.
    fn done(&self, stage: &str, is_all: impl Fn(&Stage) -> bool) -> Result<Page> {
        wait::while_moving(&format!("stage {stage} has done"), || {
            let Ok(page) = Page::read(self.page) else {
                return (0, None);
            };
            let stage = page.stage(stage);
            let done = is_all(&stage) && stage.is_balanced();
            (stage.passed, done.then_some(()))
        })?;
        Page::read(self.page)
    }
}

fn place(more: &str) -> Result<(TempDir, Monitor, String)> {
    let folder = tempfile::tempdir()?;
    let monitor = Monitor::listen(&folder.path().join("monitor1_2.sock"))?;
    let config = folder.path().join("netflume.yaml");
    let text = format!(
        "receivers: {{ cilium: {{ socket: {}, api_socket: \"\" }} }}\n\
         extensions: {{ prometheus: {{ endpoint: \"127.0.0.1:0\" }}, health: {{ endpoint: \"127.0.0.1:0\" }} }}\n\
         {more}\n",
        monitor.path().display()
    );
    std::fs::write(&config, text)?;
    Ok((folder, monitor, path_text(&config)))
}

fn path_text(path: &Path) -> String {
    path.display().to_string()
}

#[test]
fn with_the_cilium_receiver_alone_its_threads_are_watched_and_alive() -> Result<()> {
    let mut running = Running::start("")?;
    running
        .agent
        .threads_are_alive(running.health, &["cilium", "cilium-read"])?;
    ensure!(running.agent.stop()?.success());
    Ok(())
}

/// What the page shows is what happened until it was asked for, as totals, whatever OTLP gets.
#[test]
fn a_page_is_collected_when_it_is_asked_for_and_has_totals_beside_delta() -> Result<()> {
    let mut running = Running::start("metrics: { temporality: delta }")?;
    let mut before = [0; 3];
    for _ in 0..3 {
        running.send(1)?;
        let page = running.decoded()?;
        let now = [
            page.count("hubble_flows_processed_total", &[]),
            page.count("http_server_request_duration_seconds_count", &[]),
            page.count("dns_lookup_duration_seconds_count", &[]),
        ];
        ensure!(now[0] == page.stage("decode").passed, "{now:?}");
        for (now, before) in now.iter().zip(before) {
            ensure!(*now > before, "{now} after {before}");
        }
        before = now;
    }
    ensure!(running.agent.stop()?.success());
    Ok(())
}

#[test]
fn a_pipe_that_is_read_slowly_gets_every_record() -> Result<()> {
    let (mut running, mut pipe) = Running::piped("service: { shutdown_timeout: 10m }")?;
    let reader = std::thread::spawn(move || {
        // As slow as it can be: one small read at a time, each followed by what others have to do.
        let (mut text, mut some) = (Vec::new(), [0; 16 * 1024]);
        loop {
            match pipe.read(&mut some) {
                Ok(0) | Err(_) => return text,
                Ok(count) => text.extend_from_slice(&some[..count]),
            }
            std::thread::yield_now();
        }
    });
    running.send_more_than_waits_for_the_writer()?;
    let made = running.decoded()?.stage("logs");
    running.done("console", |console| console.received >= made.passed)?;
    ensure!(
        running.agent.stop()?.success(),
        "{}",
        running.agent.stderr()
    );
    let text = reader.join().ok().context("the reader")?;
    let written = String::from_utf8(text)?.matches("\"eventName\":").count() as u64;
    ensure!(written == made.passed, "{written} of {made:?}");
    let stderr = running.agent.stderr();
    ensure!(!stderr.contains("did not get"), "{stderr}");
    Ok(())
}

#[test]
fn a_pipe_that_nobody_reads_is_left_at_the_end_and_the_exit_status_shows_it() -> Result<()> {
    let (mut running, pipe) = Running::piped("service: { shutdown_timeout: 1s }")?;
    running.send_more_than_waits_for_the_writer()?;
    let status = running.agent.stop()?;
    drop(pipe);
    let stderr = running.agent.stderr();
    ensure!(status.code() == Some(1), "{status}: {stderr}");
    let line = stderr
        .lines()
        .find(|line| line.contains("did not get from console to stdout"));
    let line = line.with_context(|| stderr.clone())?;
    ensure!(
        line.starts_with("netflume: ") && line.contains("queue_full"),
        "{line}"
    );
    Ok(())
}
