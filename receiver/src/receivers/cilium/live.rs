//! The agent's monitor socket as a live source: hands on what its reading thread has framed.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use netflume_core::decode::cilium::queue_loss;
use netflume_core::model::batch::{Batch, BatchKind};

use crate::platform::clock;
use crate::receivers::cilium::source::{Batches, CiliumSource};
use crate::receivers::{Settings, Source, SourceContext, SourceError, SourceReport, Waker};

/// Batches that are handed on at once, so that time passes for the engine under any load.
const BATCHES_MAX: usize = 16;
/// Losses are reported at most so often, as Hubble does.
const LOSS_INTERVAL: Duration = Duration::from_secs(1);
/// At the end: between two looks whether the reading thread is over.
const LAST_WAIT: Duration = Duration::from_millis(10);

/// The reading thread and what it has read.
pub(crate) struct CiliumLive {
    reader: CiliumSource,
    batches: Batches,
    socket: PathBuf,
    /// When losses are reported next.
    loss_due: Instant,
}

impl CiliumLive {
    pub(crate) fn start(socket: PathBuf, context: &SourceContext) -> std::io::Result<Self> {
        let (reader, batches) = CiliumSource::start(
            socket.clone(),
            context.ledger.clone(),
            context.health.clone(),
        )?;
        Ok(Self {
            reader,
            batches,
            socket,
            loss_due: Instant::now(),
        })
    }

    /// What had no room to wait, as a batch of its own.
    fn report_loss(&mut self, batches: &mut Vec<Batch>) {
        let Some(loss) = self.batches.take_loss() else {
            return;
        };
        let now = clock::now();
        batches.push(Batch {
            kind: BatchKind::CILIUM_QUEUE_LOSS,
            unix_ns: now.unix_ns,
            boot_ns: now.boot_ns,
            bytes: queue_loss::encode(loss.count, loss.first_ns, loss.last_ns),
        });
        self.loss_due = Instant::now() + LOSS_INTERVAL;
    }
}

impl Source for CiliumLive {
    fn read(&mut self, deadline: Instant, batches: &mut Vec<Batch>) -> Result<(), SourceError> {
        if Instant::now() >= self.loss_due {
            self.report_loss(batches);
        }
        let wait = deadline.saturating_duration_since(Instant::now());
        let Ok(first) = self.batches.recv_timeout(wait) else {
            return match self.reader.is_finished() {
                true => Err(SourceError::new("the reading thread is gone")),
                false => Ok(()),
            };
        };
        batches.push(first);
        while batches.len() < BATCHES_MAX
            && let Ok(batch) = self.batches.try_recv()
        {
            batches.push(batch);
        }
        // An empty one only ended the wait.
        batches.retain(|batch| !batch.bytes.is_empty());
        Ok(())
    }

    fn reconfigure(&mut self, _: &Settings) {}

    fn waker(&self) -> Waker {
        self.batches.waker()
    }

    fn finish(&mut self, batches: &mut Vec<Batch>) {
        self.reader.stop();
        while !self.reader.is_finished() {
            batches.extend(self.batches.recv_timeout(LAST_WAIT));
        }
        batches.extend(std::iter::from_fn(|| self.batches.try_recv().ok()));
        self.report_loss(batches);
        batches.retain(|batch| !batch.bytes.is_empty());
    }

    fn report(&self) -> SourceReport {
        SourceReport {
            summary: format!("Cilium events of {}", self.socket.display()),
            costs: Vec::new(),
        }
    }
}
