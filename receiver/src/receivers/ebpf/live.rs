//! The kernel as a live source: waits for the programs' ring, and asks the kernel for every open connection once an interval.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use netflume_core::model::batch::{Batch, BatchKind};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use crate::platform::clock;
use crate::receivers::ebpf::options::EbpfOptions;
use crate::receivers::ebpf::source::{self, KernelSource};
use crate::receivers::{Source, SourceContext, SourceError, SourceReport, Waker};
use crate::serve::health::SourceState;

/// The first interval, so that there is something to see soon; each after it is twice as long, up to what is configured.
const FIRST_INTERVAL: Duration = Duration::from_secs(1);

/// Two looks at all open connections are at least so far apart when somebody asks for the newest numbers.
const REFRESH: Duration = Duration::from_secs(1);

/// The running programs, and when they are asked next.
pub(crate) struct EbpfSource {
    kernel: KernelSource,
    /// Ends a wait early.
    wake: Arc<OwnedFd>,
    interval: Duration,
    /// Of the interval under way.
    length: Duration,
    due: Instant,
    /// When the kernel was last asked for its open connections.
    asked: Instant,
}

impl EbpfSource {
    pub(crate) fn start(
        options: &EbpfOptions,
        context: &SourceContext,
    ) -> Result<Self, source::SourceError> {
        let kernel = KernelSource::start(&options.kernel_options(), Arc::clone(&context.ledger))?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(|error| {
            source::SourceError::Io {
                action: "make an eventfd",
                reason: error.to_string(),
            }
        })?;
        context.health.source("ebpf", SourceState::Running);
        let length = FIRST_INTERVAL.min(options.interval);
        Ok(Self {
            kernel,
            wake: Arc::new(wake),
            interval: options.interval,
            length,
            due: Instant::now() + length,
            asked: Instant::now(),
        })
    }

    /// Until the ring has something, the time has come, or the wait is ended.
    fn wait(&self, until: Instant) {
        let left = until.saturating_duration_since(Instant::now());
        let mut fds = [
            PollFd::new(&self.kernel, PollFlags::IN),
            PollFd::new(&*self.wake, PollFlags::IN),
        ];
        let timeout = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(1),
            tv_nsec: left.subsec_nanos().into(),
        };
        // An interrupted wait is only a short one.
        let _ready = poll(&mut fds, Some(&timeout));
        if fds[1].revents().contains(PollFlags::IN) {
            // Emptied, so that the next wait is one. Nothing to read means that it was emptied already.
            let _emptied = rustix::io::read(&*self.wake, &mut [0; 8]);
        }
    }

    /// Everything of an interval, and its end.
    fn collect(&mut self, batches: &mut Vec<Batch>) -> Result<(), SourceError> {
        let collected = self.kernel.collect(batches).map_err(SourceError::new);
        self.asked = Instant::now();
        let now = clock::now();
        batches.push(Batch {
            kind: BatchKind::INTERVAL,
            unix_ns: now.unix_ns,
            boot_ns: now.boot_ns,
            bytes: Vec::new(),
        });
        collected
    }
}

impl Source for EbpfSource {
    fn read(&mut self, deadline: Instant, batches: &mut Vec<Batch>) -> Result<(), SourceError> {
        self.wait(deadline.min(self.due));
        if Instant::now() < self.due {
            self.kernel.drain(batches);
            return Ok(());
        }
        self.length = (self.length * 2).min(self.interval);
        // After a pause (a stopped machine) the missed intervals are not made up.
        self.due = (self.due + self.length).max(Instant::now());
        self.collect(batches)
    }

    fn refresh(&mut self, batches: &mut Vec<Batch>) -> Result<(), SourceError> {
        if self.asked.elapsed() < REFRESH {
            self.kernel.drain(batches);
            return Ok(());
        }
        self.asked = Instant::now();
        self.kernel.collect(batches).map_err(SourceError::new)
    }

    fn waker(&self) -> Waker {
        let wake = Arc::clone(&self.wake);
        Waker::new(move || {
            // Full means that it is awake already.
            let _full = rustix::io::write(&*wake, &1_u64.to_ne_bytes());
        })
    }

    fn finish(&mut self, batches: &mut Vec<Batch>) {
        if let Err(error) = self.collect(batches) {
            tracing::warn!(%error, "receivers.ebpf: the last interval is incomplete");
        }
    }

    fn report(&self) -> SourceReport {
        let report = self.kernel.report();
        SourceReport {
            summary: report.to_string(),
            costs: report.costs(),
        }
    }
}
