//! The configuration changes while events flow: what it changes changes, nothing else does, and no event is lost from sight.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::mpsc::channel;

use anyhow::{Context as _, Result, ensure};
use netflume_core::model::request::Signal;
use netflume_tests::agent::Agent;
use netflume_tests::fake_collector::FakeCollector;
use netflume_tests::monitor::{Client, Messages, Monitor};
use netflume_tests::page::{Page, Stage};
use netflume_tests::wait;
use tempfile::TempDir;

/// netflume with the Cilium receiver beside a monitor socket, and two Collectors to choose from.
struct Setting {
    folder: TempDir,
    collectors: [FakeCollector; 2],
    agent: Agent,
    /// None while a thread of the test sends.
    client: Option<Client>,
    messages: Messages,
    page: SocketAddr,
}

impl Setting {
    /// Sends to the first Collector.
    fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let monitor = Monitor::listen(&folder.path().join("monitor1_2.sock"))?;
        let collectors = [FakeCollector::start()?, FakeCollector::start()?];
        fs::write(
            folder.path().join("netflume.yaml"),
            text(&folder, &collectors[0].endpoint(), ""),
        )?;
        let path = folder.path().join("netflume.yaml").display().to_string();
        let mut agent = Agent::start(&["run", "--config", &path], &[])?;
        let page = agent.listens("extensions.prometheus")?;
        let mut client = monitor.accept()?;
        let messages = Messages::of("trace")?;
        client.send(&messages.definitions)?;
        Ok(Self {
            folder,
            collectors,
            agent,
            client: Some(client),
            messages,
            page,
        })
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("netflume.yaml")
    }

    /// A configuration that sends to one of the Collectors, with more keys of `receivers.cilium`.
    fn text(&self, collector: usize, keys: &str) -> String {
        text(&self.folder, &self.collectors[collector].endpoint(), keys)
    }

    /// Puts a whole new file in the place of the old one.
    fn write(&self, text: &str) -> Result<()> {
        let next = self.folder.path().join("next.yaml");
        fs::write(&next, text)?;
        Ok(fs::rename(next, self.file())?)
    }

    fn send(&mut self) -> Result<u64> {
        let client = self.client.as_mut().context("a thread sends")?;
        client.send_all(&self.messages.events)?;
        Ok(self.messages.events.len() as u64)
    }

    fn page(&self) -> Result<Page> {
        Page::read(self.page)
    }

    /// Waits for so many reloads with this result.
    fn reloads(&self, result: &str, count: u64) -> Result<()> {
        self.until(&format!("{count} {result} reloads"), |page| {
            page.count("netflume_config_reloads_total", &[("result", result)]) == count
        })
    }

    fn until(&self, what: &str, condition: impl Fn(&Page) -> bool) -> Result<()> {
        wait::until(what, || self.page().ok().filter(&condition).map(|_| ()))
            .with_context(|| self.agent.stderr())
    }

    /// Log records that a Collector took.
    fn logs(&self, collector: usize) -> u64 {
        let received = self.collectors[collector].received();
        received
            .iter()
            .filter(|request| request.signal == Signal::Logs && request.taken)
            .map(|request| request.items)
            .sum()
    }
}

fn text(folder: &TempDir, endpoint: &str, keys: &str) -> String {
    let socket = folder.path().join("monitor1_2.sock");
    format!(
        "receivers:\n  cilium:\n    socket: {}\n    api_socket: ''\n{keys}\
         exporters:\n  otlp_grpc: {{endpoint: \"{endpoint}\", compression: none}}\n\
         extensions:\n  prometheus: {{endpoint: 127.0.0.1:0}}\n\
         service: {{telemetry: {{export: false}}}}\n",
        socket.display()
    )
}

#[test]
fn a_changed_file_is_noticed_and_its_endpoint_gets_what_comes_from_then_on() -> Result<()> {
    let mut setting = Setting::start()?;
    let first = setting.send()?;
    setting.until("all is decoded", |page| page.stage("logs").passed == first)?;
    setting.write(&setting.text(1, ""))?;
    setting.reloads("applied", 1)?;
    let second = setting.send()?;
    wait::until("the second Collector has the second half", || {
        (setting.logs(1) == second).then_some(())
    })
    .with_context(|| setting.agent.stderr())?;
    // What the old exporter had still left.
    wait::until("the first Collector has the first half", || {
        (setting.logs(0) == first).then_some(())
    })?;
    ensure!(setting.agent.stop()?.success());
    Ok(())
}

#[test]
fn a_live_key_changes_what_comes_after_it_and_counters_go_on() -> Result<()> {
    let mut setting = Setting::start()?;
    let first = setting.send()?;
    setting.until("all is decoded", |page| page.stage("logs").passed == first)?;
    setting.write(&setting.text(0, "    logs: {enabled: false}\n"))?;
    setting.agent.hang_up()?;
    setting.until("the reload", |page| {
        page.count("netflume_config_reloads_total", &[("result", "applied")]) > 0
    })?;
    let second = setting.send()?;
    setting.until("all is decoded", |page| {
        page.stage("decode").passed == first + second
    })?;
    let page = setting.page()?;
    ensure!(
        page.stage("logs").received == first,
        "no log records after the reload"
    );
    let generation = page.sum("netflume_config_generation", &[]);
    ensure!(generation >= 2.0, "{generation}");
    let connections = setting.agent.stderr().matches("reads").count();
    ensure!(
        connections == 1,
        "the socket is not opened again for a live key"
    );
    Ok(())
}

#[test]
fn an_invalid_file_is_refused_whole_and_reported_with_its_line() -> Result<()> {
    let mut setting = Setting::start()?;
    setting.write(&setting.text(1, "    sockett: /x\n"))?;
    setting.reloads("refused", 1)?;
    setting
        .agent
        .says("netflume.yaml:5:5: receivers.cilium.sockett: unknown key, did you mean `socket`?")?;
    let sent = setting.send()?;
    wait::until("the old Collector goes on", || {
        (setting.logs(0) == sent).then_some(())
    })?;
    ensure!(setting.logs(1) == 0);
    Ok(())
}

#[test]
fn another_socket_restarts_the_receiver_alone_and_reads_there() -> Result<()> {
    let mut setting = Setting::start()?;
    let first = setting.send()?;
    setting.until("all is decoded", |page| page.stage("logs").passed == first)?;
    let other = setting.folder.path().join("other.sock");
    let monitor = Monitor::listen(&other)?;
    let text = setting.text(0, "").replace("monitor1_2.sock", "other.sock");
    setting.write(&text)?;
    let client = monitor.accept();
    let mut client = client.with_context(|| setting.agent.stderr())?;
    client.send(&setting.messages.definitions)?;
    setting.client = Some(client);
    let second = setting.send()?;
    wait::until("all log records arrive", || {
        (setting.logs(0) == first + second).then_some(())
    })
    .with_context(|| {
        let (arrived, page) = (setting.logs(0), setting.page());
        format!("{arrived} of {first} + {second} arrived, {page:#?}")
    })
    .with_context(|| setting.agent.stderr())?;
    // The end of the old one is not the end of the program.
    setting.write(&text.replace("other.sock\n", "other.sock\n    request_timeout: 7s\n"))?;
    setting.reloads("applied", 2)
}

#[test]
fn reloads_under_load_lose_no_event_from_sight() -> Result<()> {
    const RELOADS: u64 = 20;
    let mut setting = Setting::start()?;
    let mut client = setting.client.take().context("nothing sends yet")?;
    let events = setting.messages.events.clone();
    let (rounds, asked) = channel::<()>();
    let sender = std::thread::spawn(move || -> Result<u64> {
        let mut sent = 0;
        for () in asked {
            client.send_all(&events)?;
            sent += events.len() as u64;
        }
        Ok(sent)
    });
    for n in 0..RELOADS {
        let keys = match n % 3 {
            0 => "    logs: {sampling_rate: 0.5}\n",
            1 => "    redact: {http_urlquery: false}\n",
            _ => "    request_timeout: 7s\n",
        };
        let collector = usize::try_from(n % 2)?;
        // Under way while the reload is.
        for _ in 0..5 {
            rounds.send(())?;
        }
        setting.write(&setting.text(collector, keys))?;
        setting.agent.hang_up()?;
        setting.until("the next reload", |page| {
            page.count("netflume_config_reloads_total", &[("result", "applied")]) > n
        })?;
    }
    drop(rounds);
    let sent = sender.join().expect("the sender does not panic")?;
    let stages = ["source", "decode", "logs", "queue", "export"];
    setting.until("everything is accounted for", |page| {
        stages
            .iter()
            .all(|stage| page.stage_of("cilium", stage).is_balanced())
            && page.source("cilium").received == sent
    })?;
    let page = setting.page()?;
    let stage = |name| -> Stage { page.stage_of("cilium", name) };
    ensure!(stage("decode").received == page.source("cilium").passed);
    ensure!(stage("logs").received == stage("decode").passed);
    ensure!(stage("queue").received >= stage("logs").passed);
    ensure!(stage("export").received == stage("queue").passed);
    ensure!(stage("export").passed > 0 && stage("export").dropped == 0);
    ensure!(setting.agent.stop()?.success());
    Ok(())
}
