//! The names that the Cilium agent gives: waited for at the start, and in a recording.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use anyhow::{Result, ensure};
use netflume_core::decode::recording::Reader;
use netflume_core::model::batch::BatchKind;
use netflume_tests::agent::Agent;
use netflume_tests::monitor::{Messages, Monitor};
use netflume_tests::page::Page;
use netflume_tests::{agent_api, wait};

use crate::exchanges::replayed;

const POD: &str = "web-7d4b9c6f5-x2x1z";

fn config(folder: &Path, monitor: &Monitor) -> Result<String> {
    let file = folder.join("netflume.yaml");
    let text = format!(
        "receivers: {{ cilium: {{ socket: {}, api_socket: {}, api_wait: 60s }} }}\n\
         extensions: {{ prometheus: {{ endpoint: \"127.0.0.1:0\" }} }}\n",
        monitor.path().display(),
        folder.join("cilium.sock").display(),
    );
    std::fs::write(&file, text)?;
    Ok(file.display().to_string())
}

#[test]
fn the_first_flows_have_the_names_of_an_agent_that_answers_late() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let monitor = Monitor::listen(&folder.path().join("monitor1_2.sock"))?;
    let agent = agent_api::serve_later(&folder.path().join("cilium.sock"))?;
    let config = config(folder.path(), &monitor)?;
    let mut netflume = Agent::start(&["run", "--config", &config], &[])?;
    let page = netflume.listens("extensions.prometheus")?;
    let mut client = monitor.accept()?;
    let messages = Messages::of("trace")?;
    client.send(&messages.definitions)?;
    client.send_all(&messages.events)?;
    let sent = messages.events.len() as u64;
    wait::until("every message is read", || {
        (Page::read(page).ok()?.source("cilium").passed == sent).then_some(())
    })?;
    ensure!(Page::read(page)?.stage("decode").received == 0);
    drop(agent);
    wait::until("every message is decoded", || {
        (Page::read(page).ok()?.stage("decode").received == sent).then_some(())
    })?;
    let destination = format!("shop/{POD}");
    let flows =
        |page: &Page, labels: &[(&str, &str)]| page.count("hubble_flows_processed_total", labels);
    wait::until("the pod is named", || {
        let named = [("destination", destination.as_str())];
        (flows(&Page::read(page).ok()?, &named) > 10).then_some(())
    })?;
    netflume.stop()?;
    Ok(())
}

/// How many bytes of each kind stand in a recording so far.
fn recorded(file: &Path, kind: BatchKind) -> usize {
    let Ok(file) = File::open(file) else { return 0 };
    let Ok(reader) = Reader::new(BufReader::new(file)) else {
        return 0;
    };
    let batches = reader.filter_map(Result::ok);
    let of_kind = batches.filter(|batch| batch.kind == kind);
    of_kind.map(|batch| batch.bytes.len()).sum()
}

#[test]
fn a_replay_has_the_names_that_the_agent_gave_to_the_recording() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let monitor = Monitor::listen(&folder.path().join("monitor1_2.sock"))?;
    agent_api::serve(&folder.path().join("cilium.sock"))?;
    let config = config(folder.path(), &monitor)?;
    let file = folder.path().join("recording");
    let output = file.display().to_string();
    let arguments = ["record", "--config", &config, "--output", &output];
    let mut netflume = Agent::start(&arguments, &[])?;
    let mut client = monitor.accept()?;
    let messages = Messages::of("trace")?;
    client.send(&messages.definitions)?;
    client.send_all(&messages.events)?;
    let sent = messages.definitions.len() + messages.events.concat().len();
    wait::until("every message is recorded", || {
        (recorded(&file, BatchKind::CILIUM_MONITOR) == sent).then_some(())
    })?;
    netflume.stop()?;
    let kinds: Vec<_> = Reader::new(BufReader::new(File::open(&file)?))?
        .map(|batch| Ok(batch?.kind))
        .collect::<Result<_>>()?;
    ensure!(kinds[0] == BatchKind::CILIUM_API, "{kinds:?}");
    let replay = replayed(folder.path(), &file)?;
    let records: Vec<_> = replay
        .lines()
        .filter(|line| line.contains("resourceLogs"))
        .collect();
    for name in [POD, "api-5f6d-7k7k7", "default/node-a", "lxc77"] {
        ensure!(records.iter().any(|line| line.contains(name)), "no {name}");
    }
    ensure!(replay == replayed(folder.path(), &file)?);
    Ok(())
}
