//! `netflume record`: the bytes of the sources into a file, as they were read, until a signal ends it.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::mpsc;

use crate::cli::{self, RecordOptions};
use crate::config::Config;
use crate::pipeline::driver::{self, Stop};
use crate::pipeline::{EndSignals, runtime, say};
use crate::receivers::cilium::source::CiliumSource;
use crate::receivers::ebpf::source::KernelSource;
use crate::serve::health::Health;
use crate::telemetry::state::SelfState;
use crate::telemetry::{self, Telemetry};
use netflume_core::decode::recording::Writer;
use netflume_core::ledger::Ledger;
use netflume_core::model::batch::Batch;

/// What was read waits at most this long for the file while nothing more comes.
const IDLE: Duration = Duration::from_secs(1);

/// The file, shared by the threads of the sources.
#[derive(Clone)]
struct Recording(Arc<Mutex<Inner>>);

struct Inner {
    writer: Writer<BufWriter<File>>,
    batches: u64,
    bytes: u64,
}

impl Recording {
    fn create(path: &Path) -> io::Result<Self> {
        let writer = Writer::new(BufWriter::new(File::create(path)?))?;
        Ok(Self(Arc::new(Mutex::new(Inner {
            writer,
            batches: 0,
            bytes: 0,
        }))))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, batch: &Batch) -> io::Result<()> {
        let mut inner = self.lock();
        inner.batches += 1;
        inner.bytes += batch.bytes.len() as u64;
        inner.writer.write(batch)
    }

    fn flush(&self) -> io::Result<()> {
        self.lock().writer.flush()
    }
}

/// Writes source bytes to a file until a signal ends it.
///
/// # Errors
/// No source can be started, or the file cannot be written.
pub fn record(config: &Config, options: &RecordOptions) -> anyhow::Result<ExitCode> {
    let runtime = runtime()?;
    let _inside = runtime.enter();
    let mut signals = EndSignals::listen()?;
    let ledger = Arc::new(Ledger::default());
    let own = telemetry::own_resource(&config.resource);
    let state = SelfState::new(Arc::clone(&own), &ledger);
    let level = config.service.telemetry.level;
    let _lines = Telemetry::start(level, &cli::variable, &own, &state, None)?;
    let kernel = config
        .receivers
        .ebpf
        .as_ref()
        .filter(|ebpf| ebpf.netflow)
        .map(|ebpf| {
            let options = ebpf.kernel_options();
            let source = KernelSource::start(&options, Arc::clone(&ledger))?;
            anyhow::Ok((source, options, ebpf.interval))
        })
        .transpose()
        .context("receivers.ebpf")?;
    let path = options.output.display().to_string();
    let file = Recording::create(&options.output).with_context(|| path.clone())?;
    let stop = Stop::new().context("eventfd")?;
    let (ended, mut end) = mpsc::channel(1);
    let mut threads: Vec<JoinHandle<io::Result<()>>> = Vec::new();
    let mut from = Vec::new();
    if let Some((source, options, interval)) = kernel {
        from.push(source.report().to_string());
        let (file, ended, stop) = (file.clone(), ended.clone(), stop.clone());
        let ledger = Arc::clone(&ledger);
        threads.push(std::thread::spawn(move || {
            let health = Health::default();
            let read = driver::read(
                Ok(source),
                &options,
                interval,
                &stop,
                &health,
                &ledger,
                |batch| file.write(batch),
            );
            // Whoever waits may be gone already, or know of another end.
            let _told = ended.try_send(());
            read
        }));
    }
    let mut cilium = None;
    if let Some(receiver) = &config.receivers.cilium {
        let socket = receiver.socket.clone();
        from.push(format!("Cilium events of {}", socket.display()));
        let (source, batches) =
            CiliumSource::start(socket, ledger, Arc::default()).context("receivers.cilium")?;
        cilium = Some(source);
        let (file, ended) = (file.clone(), ended.clone());
        threads.push(std::thread::spawn(move || {
            let written = loop {
                let written = match batches.recv_timeout(IDLE) {
                    Ok(batch) => file.write(&batch),
                    Err(RecvTimeoutError::Timeout) => file.flush(),
                    Err(RecvTimeoutError::Disconnected) => break Ok(()),
                };
                if written.is_err() {
                    break written;
                }
            };
            let _told = ended.try_send(());
            written
        }));
    }
    if threads.is_empty() {
        anyhow::bail!("no receiver is enabled that can be recorded: `ebpf` or `cilium`");
    }
    say(&format!(
        "{}\nrecording to {path} (Ctrl-C stops)",
        from.join(", ")
    ));
    runtime.block_on(async {
        tokio::select! {
            () = signals.received() => {}
            _ = end.recv() => {}
        }
    });
    stop.stop();
    drop(cilium);
    for thread in threads {
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            .with_context(|| path.clone())?;
    }
    file.flush().with_context(|| path.clone())?;
    let recorded = file.lock();
    say(&format!(
        "{path}: {} batches, {} bytes of records",
        recorded.batches, recorded.bytes
    ));
    Ok(ExitCode::SUCCESS)
}
