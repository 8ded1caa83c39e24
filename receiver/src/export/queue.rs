//! The bounded queue of one signal: requests come in, are compressed, leave when a consumer is free, and take up room until
//! they are answered for.
//!
//! ```text
//! push ─ room? ─▶ compress (a thread of its own) ─▶ waiting ─▶ pop ─▶ under way ─▶ answered
//! ```
//!
//! Room is checked before anything is compressed, so that an outage costs no processor time for what it drops. What does not
//! fit is refused: the newest is dropped, as in the Collector, so that what was promised room keeps it and an outage has one
//! gap, at its end. With [`QueueOptions::block_on_overflow`] it waits for room instead.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::export::options::{Compression, QueueOptions, Sizer};
use crate::export::pack::Packed;
use netflume_core::ledger::{Ledger, Reason, Stage};
use netflume_core::model::request::Request;

/// Bytes that wait for the compressor at most; one request that is larger alone is taken. Whoever pushes waits for the compressor
/// beyond it, which costs processor time only: as long as compressing there and then would.
const UNPACKED_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// For the compressor to make room, so that not even a stopped thread holds a source up for ever.
const COMPRESSOR_PATIENCE: Duration = Duration::from_secs(10);

/// The queue. Shared by reference.
#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
    /// Something for consumers changed.
    changed: Notify,
    /// There is more room.
    room: Condvar,
    compression: Compression,
    block_on_overflow: bool,
    size_max: u64,
    sizer: Sizer,
    bytes_max: u64,
    /// Items that the end left behind, here and under way.
    left_behind: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Waiting>,
    /// All that is in the queue or under way.
    held: Held,
    /// The part of it that is not compressed yet, by whose it is.
    unpacked: Vec<(Arc<Ledger>, Held)>,
    /// The way to the compressor; none: the queue is closed, or compresses nothing.
    compressor: Option<Sender<Unpacked>>,
    closed: bool,
    cleared: bool,
}

/// A request that waits, and whose items they are.
#[derive(Debug)]
struct Waiting {
    request: Packed,
    ledger: Arc<Ledger>,
}

/// How much a queue holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Held {
    /// Requests.
    pub requests: u64,
    /// Log records, data points, spans.
    pub items: u64,
    /// Bytes: after compression, of what is compressed already.
    pub bytes: u64,
}

impl std::fmt::Display for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kib = self.bytes.div_ceil(1024);
        write!(
            f,
            "requests: {}, items: {}, KiB: {kib}",
            self.requests, self.items
        )
    }
}

impl Held {
    fn of(items: u64, bytes: usize) -> Self {
        Self {
            requests: 1,
            items,
            bytes: bytes as u64,
        }
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            requests: self.requests + other.requests,
            items: self.items + other.items,
            bytes: self.bytes + other.bytes,
        }
    }

    fn minus(self, other: Self) -> Self {
        Self {
            requests: self.requests - other.requests,
            items: self.items - other.items,
            bytes: self.bytes - other.bytes,
        }
    }

    fn size(self, sizer: Sizer) -> u64 {
        match sizer {
            Sizer::Requests => self.requests,
            Sizer::Items => self.items,
            Sizer::Bytes => self.bytes,
        }
    }
}

impl Queue {
    /// `compressor`: where requests are compressed; without it they are packed as they are.
    pub(crate) fn new(
        options: &QueueOptions,
        compression: Compression,
        compressor: Option<Sender<Unpacked>>,
    ) -> Self {
        // Without a queue there is room for what is under way, and nothing else.
        let (size_max, sizer) = match options.enabled {
            true => (options.queue_size, options.sizer),
            false => (options.num_consumers.max(1) as u64, Sizer::Requests),
        };
        Self {
            state: Mutex::new(State {
                compressor: compressor.filter(|_| compression != Compression::None),
                ..State::default()
            }),
            changed: Notify::new(),
            room: Condvar::new(),
            compression,
            block_on_overflow: options.block_on_overflow,
            size_max,
            sizer,
            bytes_max: options.max_bytes,
            left_behind: AtomicU64::new(0),
        }
    }

    /// Takes a request, whose items `ledger` counts, or drops it; whether it was taken. Waits for the compressor, if that is behind;
    /// for the network only with [`QueueOptions::block_on_overflow`].
    pub(crate) fn push(self: &Arc<Self>, request: Request, ledger: &Arc<Ledger>) -> bool {
        ledger.received(Stage::Queue, request.items);
        let size = Held::of(request.items, request.body.len());
        let mut state = self.lock();
        let give_up = Instant::now() + COMPRESSOR_PATIENCE;
        loop {
            if state.closed {
                drop(state);
                self.leave_behind(ledger, Stage::Queue, size.items);
                return false;
            }
            if self.has_room(&state, size) {
                break;
            }
            // What is not compressed yet will soon take up less.
            let compressing = state.unpacked().requests > 0;
            if self.block_on_overflow {
                state = self
                    .room
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            } else if compressing && let Some(left) = left_until(give_up) {
                let waited = self.room.wait_timeout(state, left);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
            } else {
                drop(state);
                ledger.dropped(Stage::Queue, Reason::QueueFull, size.items);
                return false;
            }
        }
        state.held = state.held.plus(size);
        let Some(compressor) = &state.compressor else {
            state.waiting.push_back(Waiting {
                request: Packed::new(request, Compression::None),
                ledger: Arc::clone(ledger),
            });
            drop(state);
            self.changed.notify_one();
            return true;
        };
        let unpacked = Unpacked {
            queue: Arc::clone(self),
            ledger: Arc::clone(ledger),
            request,
            size,
        };
        let sent = compressor.send(unpacked);
        let theirs = state.unpacked_of(ledger);
        *theirs = theirs.plus(size);
        drop(state);
        // Without its thread nothing is compressed: the request comes back and goes on as it is.
        if let Err(returned) = sent {
            returned.0.pack();
        }
        true
    }

    fn has_room(&self, state: &State, size: Held) -> bool {
        let held = state.held.plus(size);
        // A request larger than the whole queue is let in when it is alone: it would never fit.
        let fits = state.held.requests == 0
            || held.size(self.sizer) <= self.size_max && held.bytes <= self.bytes_max;
        let unpacked = state.unpacked();
        fits && (unpacked.requests == 0 || unpacked.bytes + size.bytes <= UNPACKED_BYTES_MAX)
    }

    /// Waits for a request that may leave. None when the queue was closed and nothing is left.
    pub(crate) async fn pop(self: &Arc<Self>) -> Option<Lease> {
        loop {
            // Registered before looking, so that nothing that changes in between is missed.
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            {
                let mut state = self.lock();
                if let Some(Waiting { request, ledger }) = state.waiting.pop_front() {
                    let is_last = state.is_over();
                    drop(state);
                    if is_last {
                        self.changed.notify_waiters();
                    }
                    ledger.passed(Stage::Queue, request.items);
                    ledger.received(Stage::Export, request.items);
                    return Some(Lease {
                        queue: self.clone(),
                        ledger,
                        held: Held::of(request.items, request.payload.len()),
                        open: request.items,
                        request,
                    });
                }
                if state.is_over() {
                    return None;
                }
            }
            changed.await;
        }
    }

    /// Takes nothing more; what is there may still leave.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.compressor = None;
        drop(state);
        self.changed.notify_waiters();
        self.room.notify_all();
    }

    /// Drops what still waits, counted.
    pub(crate) fn clear(&self) {
        let mut state = self.lock();
        let waiting = std::mem::take(&mut state.waiting);
        let mut gone = std::mem::take(&mut state.unpacked);
        state.cleared = true;
        for Waiting { request, ledger } in waiting {
            gone.push((ledger, Held::of(request.items, request.payload.len())));
        }
        for (_, held) in &gone {
            state.held = state.held.minus(*held);
        }
        drop(state);
        for (ledger, held) in gone {
            self.leave_behind(&ledger, Stage::Queue, held.items);
        }
        self.changed.notify_waiters();
        self.room.notify_all();
    }

    /// What waits or is under way.
    pub(crate) fn held(&self) -> Held {
        self.lock().held
    }

    /// Requests that wait.
    pub(crate) fn waiting(&self) -> usize {
        let state = self.lock();
        state.waiting.len() + usize::try_from(state.unpacked().requests).unwrap_or(usize::MAX)
    }

    /// Items that the end left behind, in the queue and under way.
    pub(crate) fn left_behind(&self) -> u64 {
        self.left_behind.load(Relaxed)
    }

    fn leave_behind(&self, ledger: &Ledger, stage: Stage, items: u64) {
        ledger.dropped(stage, Reason::Shutdown, items);
        self.left_behind.fetch_add(items, Relaxed);
    }

    /// A request was compressed.
    fn packed(&self, size: Held, request: Packed, ledger: Arc<Ledger>) {
        let mut state = self.lock();
        if state.cleared {
            // Counted as lost by whoever cleared.
            return;
        }
        let packed = Held::of(request.items, request.payload.len());
        let theirs = state.unpacked_of(&ledger);
        *theirs = theirs.minus(size);
        state.held = state.held.minus(size).plus(packed);
        state.waiting.push_back(Waiting { request, ledger });
        drop(state);
        self.changed.notify_one();
        self.room.notify_all();
    }

    fn release(&self, held: Held) {
        let mut state = self.lock();
        state.held = state.held.minus(held);
        drop(state);
        self.room.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is whole between any two statements that could panic, so a poisoned lock is as good as another.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Nothing more comes out.
    fn is_over(&self) -> bool {
        self.closed && self.waiting.is_empty() && self.unpacked().requests == 0
    }

    /// What is not compressed yet.
    fn unpacked(&self) -> Held {
        let sizes = self.unpacked.iter().map(|(_, held)| *held);
        sizes.fold(Held::default(), Held::plus)
    }

    fn unpacked_of(&mut self, ledger: &Arc<Ledger>) -> &mut Held {
        let mut known = self.unpacked.iter();
        let at = known.position(|(of, _)| Arc::ptr_eq(of, ledger));
        let at = at.unwrap_or_else(|| {
            self.unpacked.push((Arc::clone(ledger), Held::default()));
            self.unpacked.len() - 1
        });
        &mut self.unpacked[at].1
    }
}

fn left_until(end: Instant) -> Option<Duration> {
    let left = end.saturating_duration_since(Instant::now());
    (!left.is_zero()).then_some(left)
}

/// A request on its way through the compressor.
#[derive(Debug)]
pub(crate) struct Unpacked {
    queue: Arc<Queue>,
    ledger: Arc<Ledger>,
    request: Request,
    size: Held,
}

impl Unpacked {
    /// Compresses it and puts it where consumers find it.
    pub(crate) fn pack(self) {
        let compression = self.queue.compression;
        let packed = Packed::new(self.request, compression);
        self.queue.packed(self.size, packed, self.ledger);
    }
}

/// A request that is under way. It holds its room until it is dropped; items that were not booked by then count as dropped
/// at shutdown, because only the end of the program leaves any.
#[derive(Debug)]
pub(crate) struct Lease {
    queue: Arc<Queue>,
    ledger: Arc<Ledger>,
    /// The request.
    pub(crate) request: Packed,
    held: Held,
    /// Items not booked yet.
    open: u64,
}

impl Lease {
    /// Books items that the receiver took.
    pub(crate) fn accepted(&mut self, items: u64) {
        let items = self.close_items(items);
        self.ledger.passed(Stage::Export, items);
    }

    /// Books items that go no further.
    pub(crate) fn dropped(&mut self, reason: Reason, items: u64) {
        let items = self.close_items(items);
        self.ledger.dropped(Stage::Export, reason, items);
    }

    fn close_items(&mut self, items: u64) -> u64 {
        let items = items.min(self.open);
        self.open -= items;
        items
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let left = std::mem::take(&mut self.open);
        self.queue.leave_behind(&self.ledger, Stage::Export, left);
        self.queue.release(self.held);
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
