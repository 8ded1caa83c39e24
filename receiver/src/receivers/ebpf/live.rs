//! The kernel as a live source: waits for the programs' ring, and asks the kernel for every open connection once an interval.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use netflume_core::model::batch::{Batch, BatchKind};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use crate::platform::clock;
use crate::receivers::ebpf::options::EbpfOptions;
use crate::receivers::ebpf::source::{self, KernelSource};
use crate::receivers::{Settings, Source, SourceContext, SourceError, SourceReport, Waker};
use crate::serve::health::{Health, SourceState};

/// The first interval, so that there is something to see soon; each after it is twice as long, up to what is configured.
const FIRST_INTERVAL: Duration = Duration::from_secs(1);
/// So many intervals in a row may be incomplete before everything is started anew: an iterator may fail once, for want of a
/// descriptor or of memory, while the other programs go on.
const INCOMPLETE_MAX: u32 = 3;

/// Key of the receiver.
const KEY: &str = "ebpf";

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
    incomplete: Incomplete,
    health: Arc<Health>,
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
        context.health.source(KEY, SourceState::Running);
        let length = FIRST_INTERVAL.min(options.interval);
        Ok(Self {
            kernel,
            wake: Arc::new(wake),
            interval: options.interval,
            length,
            due: Instant::now() + length,
            asked: Instant::now(),
            incomplete: Incomplete::default(),
            health: Arc::clone(&context.health),
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

    /// Reports what a pass over the kernel's tables could not read; an error once there were too many in a row.
    fn after(&mut self, collected: Result<(), source::SourceError>) -> Result<(), SourceError> {
        let was_incomplete = self.incomplete.in_a_row > 0;
        match &collected {
            Ok(()) if was_incomplete => {
                tracing::info!("receivers.ebpf: intervals are complete again");
                self.health.source(KEY, SourceState::Running);
            }
            Ok(()) => {}
            Err(error) => {
                tracing::warn!(%error, "receivers.ebpf: an interval is incomplete");
                self.health
                    .source(KEY, SourceState::Failed(error.to_string()));
            }
        }
        self.incomplete.after(collected).map_err(SourceError::new)
    }

    /// Everything of an interval, and its end.
    fn collect(&mut self, batches: &mut Vec<Batch>) -> Result<(), source::SourceError> {
        let collected = self.kernel.collect(batches);
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
        let collected = self.collect(batches);
        self.after(collected)
    }

    fn refresh(&mut self, batches: &mut Vec<Batch>) -> Result<(), SourceError> {
        if self.asked.elapsed() < REFRESH {
            self.kernel.drain(batches);
            return Ok(());
        }
        self.asked = Instant::now();
        let collected = self.kernel.collect(batches);
        self.after(collected)
    }

    fn reconfigure(&mut self, settings: &Settings) {
        let Some(options) = &settings.receivers.ebpf else {
            return;
        };
        self.interval = options.interval;
        self.length = self.length.min(self.interval);
        self.due = self.due.min(Instant::now() + self.length);
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

/// Intervals in a row of which a part could not be read.
#[derive(Debug, Default)]
struct Incomplete {
    in_a_row: u32,
}

impl Incomplete {
    /// Passes an error on only when it is one too many.
    fn after<E>(&mut self, result: Result<(), E>) -> Result<(), E> {
        if result.is_ok() {
            self.in_a_row = 0;
            return result;
        }
        self.in_a_row += 1;
        if self.in_a_row < INCOMPLETE_MAX {
            return Ok(());
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_interval_is_no_reason_to_start_anew_but_several_in_a_row_are() {
        let mut incomplete = Incomplete::default();
        let mut after = |result| incomplete.after(result);
        for _ in 0..10 {
            assert_eq!(after(Err("no memory")), Ok(()));
            assert_eq!(after(Err("no memory")), Ok(()));
            assert_eq!(after(Ok(())), Ok(()));
        }
        let results = [(); 3].map(|()| after(Err("gone")));
        assert_eq!(results, [Ok(()), Ok(()), Err("gone")]);
    }
}
