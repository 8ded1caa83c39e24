//! The thread of the kernel source: waits for its ring or the next interval, and hands on what it reads.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use crate::platform::clock;
use crate::receivers::ebpf::source::{KernelOptions, KernelSource, SourceError};
use crate::serve::health::{Health, SourceState};
use netflume_core::ledger::Ledger;
use netflume_core::model::batch::{Batch, BatchKind};

/// Name of the source: its configuration key.
pub(super) const EBPF: &str = "ebpf";
/// The first interval, so that there is something to see soon; each after it is twice as long, up to what is configured.
const FIRST_INTERVAL: Duration = Duration::from_secs(1);
/// The longest wait, so that health hears of us.
const BEAT: Duration = Duration::from_secs(1);
/// A source that could not start, or stopped working, is tried again after this.
const RETRY: Duration = Duration::from_secs(30);

/// Wakes the thread for its end. Clones wake the same thread.
#[derive(Clone, Debug)]
pub(super) struct Stop(Arc<OwnedFd>);

impl Stop {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self(Arc::new(eventfd(
            0,
            EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK,
        )?)))
    }

    /// Ends the thread's loop; may be called from anywhere, more than once.
    pub(super) fn stop(&self) {
        // Full means that it was told already.
        let _told = rustix::io::write(&*self.0, &1_u64.to_ne_bytes());
    }
}

/// Reads until told to stop; a source that could not start is tried again. `sink` gets every batch, and an [`BatchKind::Interval`] at the end of each interval and at the very
/// end. `sink` says no by an error, which ends it too.
pub(super) fn read<E>(
    source: Result<KernelSource, SourceError>,
    options: &KernelOptions,
    interval: Duration,
    stop: &Stop,
    health: &Health,
    ledger: &Arc<Ledger>,
    mut sink: impl FnMut(&Batch) -> Result<(), E>,
) -> Result<(), E> {
    let mut source = match source {
        Ok(source) => source,
        Err(error) => match restart(error, options, stop, health, ledger) {
            Some(source) => source,
            None => return Ok(()),
        },
    };
    health.source(EBPF, SourceState::Running);
    let mut length = FIRST_INTERVAL.min(interval);
    let mut due = Instant::now() + length;
    let mut batches = Vec::new();
    loop {
        health.beat();
        let stopped = wait(&source, stop, due);
        let over = stopped || Instant::now() >= due;
        let collected = if over {
            length = (length * 2).min(interval);
            due += length;
            // After a pause (a stopped machine) the missed intervals are not made up.
            due = due.max(Instant::now());
            source.collect(&mut batches)
        } else {
            source.drain(&mut batches);
            Ok(())
        };
        for batch in batches.drain(..) {
            sink(&batch)?;
        }
        if over {
            sink(&interval_end())?;
        }
        if stopped {
            return Ok(());
        }
        if let Err(error) = collected {
            match restart(error, options, stop, health, ledger) {
                Some(again) => source = again,
                None => return Ok(()),
            }
        }
    }
}

fn interval_end() -> Batch {
    let (unix_ns, boot_ns) = clock::now();
    Batch {
        kind: BatchKind::Interval,
        unix_ns,
        boot_ns,
        bytes: Vec::new(),
    }
}

/// Until the ring has something, the interval is over, or the end; true at the end.
fn wait(source: &KernelSource, stop: &Stop, due: Instant) -> bool {
    let left = due.saturating_duration_since(Instant::now()).min(BEAT);
    let mut fds = [
        PollFd::new(source, PollFlags::IN),
        PollFd::new(&*stop.0, PollFlags::IN),
    ];
    let timeout = Timespec {
        tv_sec: i64::try_from(left.as_secs()).unwrap_or(1),
        tv_nsec: left.subsec_nanos().into(),
    };
    // An interrupted wait is only a short one.
    let _ready = poll(&mut fds, Some(&timeout));
    fds[1].revents().contains(PollFlags::IN)
}

/// Starts the source again after it failed, however often it takes; none when told to stop meanwhile.
fn restart(
    error: SourceError,
    options: &KernelOptions,
    stop: &Stop,
    health: &Health,
    ledger: &Arc<Ledger>,
) -> Option<KernelSource> {
    let mut error = error;
    loop {
        tracing::error!(
            "receivers.ebpf does not work: {error}; next try in {} s",
            RETRY.as_secs()
        );
        health.source(EBPF, SourceState::Failed(error.to_string()));
        let until = Instant::now() + RETRY;
        while Instant::now() < until {
            health.beat();
            let mut fds = [PollFd::new(&*stop.0, PollFlags::IN)];
            let timeout = Timespec {
                tv_sec: 1,
                tv_nsec: 0,
            };
            let _ready = poll(&mut fds, Some(&timeout));
            if fds[0].revents().contains(PollFlags::IN) {
                return None;
            }
        }
        match KernelSource::start(options, Arc::clone(ledger)) {
            Ok(source) => {
                tracing::info!("receivers.ebpf works again");
                health.source(EBPF, SourceState::Running);
                return Some(source);
            }
            Err(again) => error = again,
        }
    }
}
