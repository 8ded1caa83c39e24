//! One console for all threads: what they want shown goes over a bounded hand-over to the one thread that writes.
//!
//! A terminal that does not scroll holds up that thread and nothing else: what does not fit then is dropped, counted, and reported
//! in the last line. For a file or a pipe, whose reader wants all of it, printing waits as long as the output moves.

use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use netflume_core::ledger::{Ledger, Reason, Stage};
use netflume_core::model::request::Request;

use crate::export::console::{Console, ConsoleError, Line, Progress};
use crate::serve::health::Pulse;

/// Bytes that wait for the writer, about; one hand-over that is larger alone is taken.
const WAITING_BYTES_MAX: usize = 8 << 20;
/// Bytes of a line, about.
const LINE_BYTES: usize = 256;
/// Bytes of a hand-over beside its content, about.
const JOB_BYTES: usize = 64;
/// Whoever waits looks again after this.
const LOOK: Duration = Duration::from_millis(250);

/// What happens while the output is behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverflowPolicy {
    /// What does not fit is dropped: for a terminal, which a person may have stopped.
    Drop,
    /// Whoever prints waits as long as the output takes something at least this often; what does not fit then is dropped until it moves
    /// again: for a file or a pipe.
    WaitWhileMoving(Duration),
    /// Whoever prints waits: for a recorded file.
    Wait,
}

/// What is to be written, and whose items they are.
#[derive(Debug)]
struct Job {
    content: Content,
    ledger: Arc<Ledger>,
}

#[derive(Debug)]
enum Content {
    Lines(Vec<Line>),
    Request(Request),
}

impl Content {
    fn items(&self) -> u64 {
        match self {
            Self::Lines(lines) => lines.len() as u64,
            Self::Request(request) => request.items,
        }
    }

    fn bytes(&self) -> usize {
        JOB_BYTES
            + match self {
                Self::Lines(lines) => lines.len() * LINE_BYTES,
                Self::Request(request) => request.body.len(),
            }
    }
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// There is something to write, or nothing any more.
    to_do: Condvar,
    /// There is more room, or nothing writes any more.
    room: Condvar,
    policy: OverflowPolicy,
    output: Arc<Progress>,
}

#[derive(Debug, Default)]
struct State {
    jobs: VecDeque<Job>,
    /// Items that are being written, and whose they are.
    writing: Option<(u64, Arc<Ledger>)>,
    /// Of what waits and what is being written.
    bytes: usize,
    /// Nothing more comes.
    closed: bool,
    /// Nothing waits beyond this time.
    patience_ends: Option<Instant>,
    /// What the output had taken when a wait for it was given up: there is no other wait before it moves again.
    stalled_at: Option<u64>,
    /// The writer is gone, and why if that was no good end.
    ended: bool,
    failed: Option<ConsoleError>,
}

/// Takes what one receiver shows; cheap to clone.
#[derive(Clone, Debug)]
pub struct Printer {
    shared: Arc<Shared>,
    ledger: Arc<Ledger>,
    pulse: Pulse,
}

impl Printer {
    /// The same for a thread that is watched: it is alive while it waits here.
    #[must_use]
    pub fn watched(self, pulse: Pulse) -> Self {
        Self { pulse, ..self }
    }

    /// Shows lines.
    ///
    /// # Errors
    /// The output cannot be written any more; [`Printing::finish`] has the reason.
    pub fn lines(&self, lines: Vec<Line>) -> Result<(), ConsoleError> {
        if lines.is_empty() {
            return Ok(());
        }
        self.hand_over(Content::Lines(lines))
    }

    /// Shows a request as one line of OTLP JSON.
    ///
    /// # Errors
    /// As for [`Printer::lines`].
    pub fn request(&self, request: Request) -> Result<(), ConsoleError> {
        self.hand_over(Content::Request(request))
    }

    fn hand_over(&self, content: Content) -> Result<(), ConsoleError> {
        let Self { shared, ledger, .. } = self;
        let (items, bytes) = (content.items(), content.bytes());
        ledger.received(Stage::Console, items);
        let mut wait = Wait::default();
        let mut state = shared.lock();
        loop {
            if state.ended {
                drop(state);
                ledger.dropped(Stage::Console, Reason::OutputFailed, items);
                return Err(ConsoleError::Closed);
            }
            if state.bytes == 0 || state.bytes.saturating_add(bytes) <= WAITING_BYTES_MAX {
                state.bytes += bytes;
                state.jobs.push_back(Job {
                    content,
                    ledger: Arc::clone(ledger),
                });
                drop(state);
                shared.to_do.notify_one();
                return Ok(());
            }
            let Some(time) = wait.next(shared, &mut state) else {
                drop(state);
                ledger.dropped(Stage::Console, Reason::QueueFull, items);
                return Ok(());
            };
            self.pulse.beat();
            let waited = shared.room.wait_timeout(state, time);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// One wait for room.
#[derive(Default)]
struct Wait {
    /// What the output had taken when it was last seen to move, and when.
    moved: Option<(u64, Instant)>,
}

impl Wait {
    /// How long to wait before looking again; none: not any longer.
    fn next(&mut self, shared: &Shared, state: &mut State) -> Option<Duration> {
        let now = Instant::now();
        let written = shared.output.written.load(Relaxed);
        let is_awaited = shared.output.is_awaited.load(Relaxed);
        let given_up = state.patience_ends.is_some_and(|end| now >= end);
        match shared.policy {
            OverflowPolicy::Drop => None,
            OverflowPolicy::Wait => Some(LOOK),
            OverflowPolicy::WaitWhileMoving(_) if given_up => None,
            OverflowPolicy::WaitWhileMoving(patience) => {
                let (at, since) = *self.moved.get_or_insert((written, now));
                if at != written || !is_awaited {
                    self.moved = Some((written, now));
                } else if state.stalled_at == Some(written)
                    || now.saturating_duration_since(since) >= patience
                {
                    state.stalled_at = Some(written);
                    return None;
                }
                Some(LOOK.min(patience))
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is whole between any two statements that could panic, so a poisoned lock is as good as another.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The writing thread.
#[derive(Debug)]
pub struct Printing(Arc<Shared>);

impl Printing {
    /// Starts the thread. `lost`: how many items were lost anywhere, for the last line.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(
        console: Console,
        policy: OverflowPolicy,
        lost: impl FnOnce() -> u64 + Send + 'static,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            to_do: Condvar::new(),
            room: Condvar::new(),
            policy,
            output: console.progress(),
        });
        let writer = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("console".to_owned())
            .spawn(move || {
                let printed = print(console, &writer, lost);
                let mut state = writer.lock();
                state.failed = printed.err();
                state.ended = true;
                drop(state);
                writer.room.notify_all();
            })?;
        Ok(Self(shared))
    }

    /// For a receiver, whose items `ledger` counts.
    #[must_use]
    pub fn printer(&self, ledger: Arc<Ledger>) -> Printer {
        Printer {
            shared: Arc::clone(&self.0),
            ledger,
            pulse: Pulse::default(),
        }
    }

    /// The end has begun: nothing waits for the output beyond `allowed` from now, unless the policy is [`OverflowPolicy::Wait`].
    pub fn end_within(&self, allowed: Duration) {
        self.0.lock().patience_ends = Instant::now().checked_add(allowed);
    }

    /// Writes what waits and the last line, once nothing prints any more. An output that does not take it within `allowed` (none: however
    /// long it takes) is left, and what still waited is booked as dropped.
    ///
    /// # Errors
    /// Why the output could not be written.
    pub fn finish(self, allowed: Option<Duration>) -> Result<(), ConsoleError> {
        let shared = self.0;
        let mut state = shared.lock();
        state.closed = true;
        shared.to_do.notify_all();
        let end = allowed.and_then(|allowed| Instant::now().checked_add(allowed));
        while !state.ended {
            let left = end.map_or(LOOK, |end| end.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                break;
            }
            let waited = shared.room.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let (ended, failed) = (state.ended, state.failed.take());
        let mut left: Vec<_> = state.writing.take().into_iter().collect();
        let jobs = state.jobs.drain(..);
        left.extend(jobs.map(|job| (job.content.items(), job.ledger)));
        drop(state);
        let items: u64 = left.iter().map(|(items, _)| items).sum();
        let reason = if ended {
            Reason::OutputFailed
        } else {
            Reason::Shutdown
        };
        if items > 0 && !ended {
            tracing::warn!(items, "exporters.console: the output takes no more");
        }
        for (items, ledger) in left {
            ledger.dropped(Stage::Console, reason, items);
        }
        failed.map_or(Ok(()), Err)
    }
}

fn print(
    mut console: Console,
    shared: &Shared,
    lost: impl FnOnce() -> u64,
) -> Result<(), ConsoleError> {
    let mut state = shared.lock();
    loop {
        let Some(job) = state.jobs.pop_front() else {
            if state.closed {
                break;
            }
            let woken = shared.to_do.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        let Job { content, ledger } = job;
        state.writing = Some((content.items(), Arc::clone(&ledger)));
        drop(state);
        let bytes = content.bytes();
        let shown = match content {
            Content::Lines(lines) => console.lines(&lines, &ledger),
            Content::Request(request) => console.request(&request, &ledger),
        };
        state = shared.lock();
        state.writing = None;
        state.bytes -= bytes;
        shared.room.notify_all();
        shown?;
    }
    drop(state);
    console.finish(lost())
}

#[cfg(test)]
#[path = "printer_tests.rs"]
mod tests;
