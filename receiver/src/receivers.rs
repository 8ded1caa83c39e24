//! What is read: one folder a receiver, with its options, its source (bytes out of the operating system), its engine (batches
//! through the pure centre to the sinks) and its lines for `doctor`.
//!
//! ```text
//! source (live | recorded) ──batches──▶ driver ──▶ engine ──▶ sinks
//! ```
//!
//! A receiver is one row in [`ALL`]; the driver in [`crate::pipeline`] knows nothing of any of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use netflume_core::aggregate::series;
use netflume_core::enrich::host::Host;
use netflume_core::enrich::service;
use netflume_core::ledger::Ledger;
use netflume_core::model::batch::{Batch, BatchKind, Now};
use netflume_core::model::metrics::ResourceMetrics;
use netflume_core::model::resource::ResourceRef;
use netflume_core::otlp::logs::LogsOptions;
use netflume_core::otlp::metrics::MetricsOptions;
use netflume_core::otlp::spans::SpansOptions;
use serde::Serialize;

use crate::directories::host;
use crate::export::console::ConsoleError;
use crate::export::exporter::ExporterHandle;
use crate::export::sinks::Sinks;
use crate::serve::health::Health;
use crate::serve::observer::publisher::FlowPublisher;

pub mod cilium;
pub mod ebpf;
#[cfg(not(target_os = "linux"))]
mod elsewhere;

/// All receivers, in the order in which they start and are printed.
pub const ALL: &[&dyn Receiver] = &[&ebpf::EbpfReceiver, &cilium::CiliumReceiver];

/// One kind of input: where its bytes come from and what becomes of them.
pub trait Receiver: Send + Sync {
    /// Its key below `receivers` in the configuration; also the name of its threads and of its state.
    fn key(&self) -> &'static str;

    /// Whether it is to run.
    fn is_enabled(&self, settings: &Settings) -> bool;

    /// The kinds of batches that its source makes and its engine takes; no other receiver has them.
    fn kinds(&self) -> &'static [BatchKind];

    /// Whether its engine has flows for the Observer API.
    fn publishes_flows(&self) -> bool {
        false
    }

    /// Starts its live source.
    ///
    /// # Errors
    /// The system does not offer it, or not to us. The driver tries again.
    fn open(
        &self,
        settings: &Settings,
        context: &SourceContext,
    ) -> Result<Box<dyn Source>, SourceError>;

    /// Makes its engine, for live and recorded batches alike.
    ///
    /// # Errors
    /// Its options contradict each other, or a thread cannot be started.
    fn engine(
        &self,
        settings: &Settings,
        context: EngineContext,
    ) -> Result<Box<dyn Engine>, EngineError>;

    /// What takes the batches of its source when they are recorded: `file`, or what hands them on to `file` with other bytes that a replay
    /// needs.
    ///
    /// # Errors
    /// A thread cannot be started.
    fn recorder(
        &self,
        _settings: &Settings,
        file: Box<dyn Engine>,
    ) -> Result<Box<dyn Engine>, EngineError> {
        Ok(file)
    }

    /// What this machine offers to it.
    fn doctor(&self, settings: &Settings) -> Diagnosis;
}

/// Where batches come from. Owned by one thread.
pub trait Source: Send {
    /// Appends what is there; waits for it until `deadline`, or until its [`Waker`] is called, but no longer.
    ///
    /// # Errors
    /// It delivers no more; what was read before is appended all the same. The driver starts it anew.
    fn read(&mut self, deadline: Instant, batches: &mut Vec<Batch>) -> Result<(), SourceError>;

    /// Appends what is new since the last read, as far as it can be had before its time and is worth asking for: somebody looks at
    /// the metrics now. Never waits.
    ///
    /// # Errors
    /// As for [`Source::read`].
    fn refresh(&mut self, _batches: &mut Vec<Batch>) -> Result<(), SourceError> {
        Ok(())
    }

    /// Takes over what may change while it runs. Options that may not stay as they are.
    fn reconfigure(&mut self, settings: &Settings);

    /// Wakes [`Source::read`] from another thread.
    fn waker(&self) -> Waker;

    /// Appends the last batches. No call comes after this one.
    fn finish(&mut self, batches: &mut Vec<Batch>);

    /// How it reads.
    fn report(&self) -> SourceReport;
}

/// Takes batches and makes of them what leaves. Owned by one thread; time is an argument, so that a recorded file gives what
/// the live source gave.
pub trait Engine: Send {
    /// Takes a batch of its receiver's kinds.
    ///
    /// # Errors
    /// The output is gone.
    fn feed(&mut self, batch: &Batch) -> Result<(), EngineError>;

    /// Time passes: called at least every second, and not after [`Engine::finish`].
    ///
    /// # Errors
    /// The output is gone.
    fn tick(&mut self, now: Now) -> Result<(), EngineError>;

    /// The totals of its metrics at this moment, cumulative whatever is exported; changes nothing.
    fn totals(&mut self, _now: Now) -> Vec<ResourceMetrics> {
        Vec::new()
    }

    /// Takes over what may change while it runs, between two batches. Options that may not stay as they are.
    ///
    /// # Errors
    /// An option cannot be used; the old ones stay.
    fn reconfigure(&mut self, change: &Change) -> Result<(), EngineError>;

    /// The end: everything that is held leaves or is counted as lost.
    ///
    /// # Errors
    /// The output is gone.
    fn finish(&mut self, now: Now) -> Result<(), EngineError>;
}

/// The settings of all receivers, and what they have in common.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Settings {
    /// Those of each receiver.
    pub receivers: ReceiverOptions,
    /// How log records are written.
    pub logs: LogsOptions,
    /// How metrics are written.
    pub points: MetricsOptions,
    /// How spans are written.
    pub spans: SpansOptions,
    /// How series are kept.
    pub series: series::Options,
    /// How resources are named.
    pub service: service::Options,
}

/// What an engine takes over while it runs.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// Checked as a whole; what an engine may not take over while it runs equals what it has.
    pub settings: Settings,
    /// The exporter from now on. What was handed to the one before still leaves.
    pub exporter: Option<ExporterHandle>,
}

/// Options by receiver; those that are there run.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct ReceiverOptions {
    /// Connections of the running kernel.
    pub ebpf: Option<ebpf::options::EbpfOptions>,
    /// Events of the Cilium agent.
    pub cilium: Option<cilium::options::CiliumOptions>,
}

/// What a source reports to; each receiver has its own.
#[derive(Clone, Debug)]
pub struct SourceContext {
    /// Counts what was read and lost.
    pub ledger: Arc<Ledger>,
    /// Whether it delivers.
    pub health: Arc<Health>,
}

/// Where batches come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From this machine, now: its directories may be asked.
    Live,
    /// From a recorded file: nothing of this machine belongs to it.
    Recorded,
}

/// What an engine works with.
#[derive(Debug)]
pub struct EngineContext {
    /// Where its batches come from.
    pub origin: Origin,
    /// The host that they are of.
    pub host: Host,
    /// Where that host's files are found.
    pub roots: host::Roots,
    /// The program's own resource.
    pub own: ResourceRef,
    /// Where everything goes that it makes, and its ledger.
    pub sinks: Sinks,
    /// For flows that the Observer API serves; only for a receiver that [`Receiver::publishes_flows`].
    pub flows: Option<FlowPublisher>,
}

/// How a source reads, for the person who started the program.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct SourceReport {
    /// In one line.
    pub summary: String,
    /// What second-best ways cost, a line each.
    pub costs: Vec<String>,
}

/// Ends a wait of a source early. Clones wake the same source; may be called from anywhere.
#[derive(Clone)]
pub struct Waker(Arc<dyn Fn() + Send + Sync>);

impl Waker {
    /// By this call, which must not block.
    #[must_use]
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(wake))
    }

    /// Wakes the source.
    pub fn wake(&self) {
        (self.0)();
    }
}

impl std::fmt::Debug for Waker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Waker")
    }
}

/// Why a source does not deliver: one sentence for the person who runs the program.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SourceError(Box<dyn std::error::Error + Send + Sync>);

impl SourceError {
    /// From the receiver's own error.
    pub fn new(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self(error.into())
    }
}

/// Why an engine cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// An option cannot be used.
    #[error("receivers.{key}: {reason}")]
    Options {
        /// The key below `receivers`.
        key: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// It does not answer.
    #[error("the engine does not answer")]
    Stuck,
    /// The console is gone.
    #[error(transparent)]
    Console(#[from] ConsoleError),
    /// A file or a thread.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// What `doctor` found for one receiver.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Diagnosis {
    /// Facts about the machine that bear on it: `BTF yes`.
    pub machine: Vec<String>,
    /// Thing by thing.
    pub findings: Vec<Finding>,
}

/// What `doctor` found about one thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What: `tcp`, `udp`, `cilium`.
    pub name: &'static str,
    /// Whether it can be used.
    pub state: FindingState,
    /// By what it works, or what is missing.
    pub detail: String,
    /// What its absence or its second-best way costs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<String>,
    /// How to get it, or the better way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// Whether a thing can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingState {
    /// It works.
    Ready,
    /// It works in a second-best way.
    Limited,
    /// It is not on this machine; that may be just right.
    Absent,
    /// It is there and refuses us.
    Blocked,
}

impl FindingState {
    /// As it is printed.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Limited => "limited",
            Self::Absent => "absent",
            Self::Blocked => "blocked",
        }
    }
}

/// Intervals that follow each other, measured by the time since boot, which no change of the wall clock moves.
#[derive(Clone, Copy, Debug, Default)]
pub struct Schedule {
    interval_ns: u64,
    due_ns: Option<u64>,
}

impl Schedule {
    /// An interval that begins at the first time that [`Schedule::is_due`] is asked.
    #[must_use]
    pub fn every(interval: Duration) -> Self {
        Self {
            interval_ns: u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX),
            due_ns: None,
        }
    }

    /// Whether an interval is over; the next one begins then. After a pause the missed ones are not made up.
    pub fn is_due(&mut self, now: Now) -> bool {
        let next = now.boot_ns.saturating_add(self.interval_ns);
        // A time far before the due one is of another boot.
        match self.due_ns.filter(|due| *due <= next) {
            Some(due) if now.boot_ns < due => false,
            known => {
                self.due_ns = Some(next);
                known.is_some()
            }
        }
    }
}
