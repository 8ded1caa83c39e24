//! Recorded files through the program: everything arrives, or the exit status reports that it did not.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Output;

use anyhow::{Result, ensure};
use netflume_core::decode::recording::Writer;
use netflume_core::model::batch::{Batch, BatchKind};
use netflume_tests::agent;
use netflume_tests::fake_collector::{FakeCollector, Reply};
use netflume_tests::monitor::Messages;
use tempfile::TempDir;
use tonic::Code;

const START_NS: u64 = 1_778_666_400_000_123_456;

/// A recording of the traces of the fixtures, `times` times over, the messages of each time one batch. `change` is done to the last one.
fn recording(
    folder: &Path,
    times: u64,
    change: impl Fn(&mut Vec<Vec<u8>>),
) -> Result<(PathBuf, u64)> {
    let file = folder.join("recording");
    let mut writer = Writer::new(File::create(&file)?)?;
    let messages = Messages::of("trace")?;
    for n in 0..times {
        let mut events = messages.events.clone();
        if n + 1 == times {
            change(&mut events);
        }
        if n == 0 {
            events.insert(0, messages.definitions.clone());
        }
        writer.write(&Batch {
            kind: BatchKind::CILIUM_MONITOR,
            unix_ns: START_NS + n * 1_000_000,
            boot_ns: 1 + n * 1_000_000,
            bytes: events.concat(),
        })?;
    }
    writer.flush()?;
    Ok((file, times * messages.events.len() as u64))
}

fn replay(folder: &TempDir, file: &Path, config: &str) -> Result<Output> {
    let path = folder.path().join("netflume.yaml");
    std::fs::write(&path, config)?;
    let mut command = agent::command()?;
    command.arg("replay").arg(file).arg("--config").arg(&path);
    Ok(command.output()?)
}

/// A queue that holds next to nothing, requests that are small, retries that are quick.
fn config(collector: &FakeCollector) -> String {
    format!(
        "exporters:\n  otlp_grpc:\n    endpoint: \"{}\"\n    timeout: 1m\n    max_request_size: 64KiB\n    \
         sending_queue: {{ queue_size: 1, num_consumers: 1 }}\n    \
         retry_on_failure: {{ initial_interval: 20ms, max_interval: 50ms }}\n\
         service: {{ telemetry: {{ export: false }} }}\n",
        collector.endpoint()
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_slow_and_away_for_a_while_gets_everything() -> Result<()> {
    let collector = FakeCollector::start()?;
    let away = [(); 30].map(|()| Reply::Code(Code::Unavailable, "starting"));
    collector.script(away, Reply::Take);
    let folder = tempfile::tempdir()?;
    let (file, events) = recording(folder.path(), 20, |_| {})?;
    let output = replay(&folder, &file, &config(&collector))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{stderr}");
    ensure!(!stderr.contains("did not get"), "{stderr}");
    let records: usize = collector
        .logs()
        .iter()
        .flat_map(|request| &request.resource_logs)
        .flat_map(|resource| &resource.scope_logs)
        .map(|scope| scope.log_records.len())
        .sum();
    ensure!(records as u64 == events, "{records} of {events}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_collector_refuses_is_reported_and_the_exit_status_is_1() -> Result<()> {
    let collector = FakeCollector::start()?;
    collector.script(
        [Reply::Take],
        Reply::Code(Code::PermissionDenied, "not you"),
    );
    let folder = tempfile::tempdir()?;
    let (file, _) = recording(folder.path(), 20, |_| {})?;
    let output = replay(&folder, &file, &config(&collector))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1), "{stderr}");
    let line = stderr.lines().last().unwrap_or_default();
    let taken = collector.taken_items();
    ensure!(taken > 0 && line.starts_with("netflume: "), "{stderr}");
    ensure!(
        line.contains("items did not get from queue to the Collector: ")
            && line.ends_with(" rejected"),
        "{stderr}"
    );
    Ok(())
}

#[test]
fn a_damaged_message_takes_no_other_of_its_batch_with_it() -> Result<()> {
    let folder = tempfile::tempdir()?;
    // A field beyond those of its type; a message of a type that is not defined; one that is no message.
    let (file, events) = recording(folder.path(), 2, |events| {
        if let Some(last) = events[3].last_mut() {
            *last = 0x7f;
        }
        events.insert(10, vec![2, 0x7e, 0]);
    })?;
    let output = replay(&folder, &file, "exporters: { console: {} }\n")?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{stderr}");
    let stdout = String::from_utf8(output.stdout)?;
    let expected = format!("{} records shown, 2 lost", events - 1);
    ensure!(stdout.lines().last() == Some(&expected), "{stdout}");
    Ok(())
}
