//! `netflume record`: the bytes of the sources into a file, as they were read, until a signal ends it.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use netflume_core::decode::recording::Writer;
use netflume_core::model::batch::{Batch, Now};
use tokio::sync::mpsc;

use super::driver::Running;
use super::monitor::Monitor;
use super::running::{drive, open};
use super::{print_line, runtime};
use crate::cli::{self, RecordOptions};
use crate::config::Config;
use crate::platform::signals::Signals;
use crate::platform::{Asked, files};
use crate::receivers::{Change, Engine, EngineError, Receiver};
use crate::telemetry::state::SelfState;
use crate::telemetry::{self, Telemetry};

/// The file, shared by the drivers: what an engine is to them.
#[derive(Clone)]
struct Recording(Arc<Mutex<Inner>>);

struct Inner {
    writer: Writer<BufWriter<File>>,
    batches: u64,
    bytes: u64,
}

impl Recording {
    fn create(path: &Path) -> io::Result<Self> {
        let writer = Writer::new(BufWriter::new(files::create_private(path)?))?;
        Ok(Self(Arc::new(Mutex::new(Inner {
            writer,
            batches: 0,
            bytes: 0,
        }))))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine for Recording {
    fn feed(&mut self, batch: &Batch) -> Result<(), EngineError> {
        let mut inner = self.lock();
        inner.batches += 1;
        inner.bytes += batch.bytes.len() as u64;
        Ok(inner.writer.write(batch)?)
    }

    fn tick(&mut self, _: Now) -> Result<(), EngineError> {
        Ok(self.lock().writer.flush()?)
    }

    fn reconfigure(&mut self, _: &Change) -> Result<(), EngineError> {
        Ok(())
    }

    fn finish(&mut self, _: Now) -> Result<(), EngineError> {
        Ok(self.lock().writer.flush()?)
    }
}

/// Writes source bytes to a file until a signal ends it.
///
/// # Errors
/// No source can be started, or the file cannot be written.
pub fn record(
    config: &Config,
    options: &RecordOptions,
    receivers: &[&'static dyn Receiver],
) -> anyhow::Result<ExitCode> {
    let runtime = runtime()?;
    runtime.block_on(async {
        let mut signals = Signals::listen().context("signals")?;
        let monitor = Monitor::default();
        let own = telemetry::own_resource(&config.resource);
        let state = SelfState::new(Arc::clone(&own), &monitor.ledgers);
        let level = config.service.telemetry.level;
        let _lines = Telemetry::start(level, &cli::variable, &own, &state, None)?;
        let settings = config.settings();
        let (opened, report) = open(&settings, receivers, &monitor)?;
        let path = options.output.display().to_string();
        let file = Recording::create(&options.output).with_context(|| path.clone())?;
        let (failed, mut failures) = mpsc::channel(receivers.len().max(1));
        let engine = |receiver: &dyn Receiver| receiver.recorder(&settings, Box::new(file.clone()));
        let running = drive(opened, &settings, &monitor, &failed, engine)?;
        print_line(&format!(
            "{}\nrecording to {path} (Ctrl-C stops)",
            report.summary
        ));
        loop {
            tokio::select! {
                asked = signals.next() => match asked {
                    Asked::End => break,
                    Asked::Reload => {}
                },
                _ = failures.recv() => break,
            }
        }
        running.iter().for_each(Running::stop);
        for running in running {
            tokio::task::block_in_place(|| running.join()).with_context(|| path.clone())?;
        }
        let recorded = file.lock();
        print_line(&format!(
            "{path}: {} batches, {} bytes of records",
            recorded.batches, recorded.bytes
        ));
        Ok(ExitCode::SUCCESS)
    })
}
