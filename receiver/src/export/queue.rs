//! The bounded queue: requests come in without waiting, leave when a consumer is free, and take up room until they are
//! answered for.
//!
//! What does not fit is refused: the newest is dropped, as in the Collector, so that what was promised room keeps it and
//! an outage has one gap, at its end. Metrics leave one request at a time: a backend that adds up deltas, or drops points
//! older than the last one, needs them in order.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::export::options::{QueueOptions, Sizer};
use crate::export::pack::Packed;
use netflume_core::ledger::{Ledger, Reason, Stage};
use netflume_core::model::request::Signal;

/// The queue. Shared by reference.
#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
    changed: Notify,
    size_max: u64,
    sizer: Sizer,
    bytes_max: u64,
    ledger: Arc<Ledger>,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Packed>,
    /// What waits or is under way.
    held: Held,
    /// A request of metrics is under way.
    metrics_out: bool,
    closed: bool,
}

/// How much a queue holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Held {
    /// Requests.
    pub requests: u64,
    /// Log records, data points, spans.
    pub items: u64,
    /// Bytes after compression.
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
    fn of(request: &Packed) -> Self {
        Self {
            requests: 1,
            items: request.items,
            bytes: request.payload.len() as u64,
        }
    }

    fn plus(self, other: Self) -> Self {
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
    pub(crate) fn new(options: &QueueOptions, ledger: Arc<Ledger>) -> Self {
        // Without a queue there is room for what is under way, and nothing else.
        let (size_max, sizer) = match options.enabled {
            true => (options.queue_size, options.sizer),
            false => (options.num_consumers.max(1) as u64, Sizer::Requests),
        };
        Self {
            state: Mutex::default(),
            changed: Notify::new(),
            size_max,
            sizer,
            bytes_max: options.max_bytes,
            ledger,
        }
    }

    /// Takes a request, or drops it, counted, and says false.
    pub(crate) fn push(&self, request: Packed) -> bool {
        let mut state = self.lock();
        self.ledger.received(Stage::Queue, request.items);
        let held = state.held.plus(Held::of(&request));
        // A request larger than the whole queue is let in when it is alone: it would never fit.
        let fits = state.held.requests == 0
            || held.size(self.sizer) <= self.size_max && held.bytes <= self.bytes_max;
        if state.closed || !fits {
            let reason = if state.closed {
                Reason::Shutdown
            } else {
                Reason::QueueFull
            };
            self.ledger.dropped(Stage::Queue, reason, request.items);
            return false;
        }
        state.held = held;
        state.waiting.push_back(request);
        drop(state);
        self.changed.notify_one();
        true
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
                if let Some(request) = state.take() {
                    self.ledger.passed(Stage::Queue, request.items);
                    self.ledger.received(Stage::Export, request.items);
                    return Some(Lease {
                        queue: self.clone(),
                        held: Held::of(&request),
                        open: request.items,
                        request,
                    });
                }
                if state.closed && state.waiting.is_empty() {
                    return None;
                }
            }
            changed.await;
        }
    }

    /// Takes nothing more; what is there may still leave.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_waiters();
    }

    /// Drops what still waits, counted.
    pub(crate) fn clear(&self) {
        let waiting = std::mem::take(&mut self.lock().waiting);
        for request in waiting {
            self.ledger
                .dropped(Stage::Queue, Reason::Shutdown, request.items);
            self.release(request.signal, Held::of(&request), false);
        }
    }

    /// What waits or is under way.
    pub(crate) fn held(&self) -> Held {
        self.lock().held
    }

    /// Requests that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.lock().waiting.len()
    }

    fn release(&self, signal: Signal, held: Held, was_out: bool) {
        let mut state = self.lock();
        state.held = state.held.minus(held);
        if was_out && signal == Signal::Metrics {
            state.metrics_out = false;
        }
        drop(state);
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is whole between any two statements that could panic, so a poisoned lock is as good as another.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The first request that may leave.
    fn take(&mut self) -> Option<Packed> {
        let may_leave = |request: &Packed| request.signal != Signal::Metrics || !self.metrics_out;
        let at = self.waiting.iter().position(may_leave)?;
        let request = self.waiting.remove(at)?;
        self.metrics_out |= request.signal == Signal::Metrics;
        Some(request)
    }
}

/// A request that is under way. It holds its room until it is dropped; items that were not booked by then count as dropped
/// at shutdown, because only the end of the program leaves any.
#[derive(Debug)]
pub(crate) struct Lease {
    queue: Arc<Queue>,
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
        self.queue.ledger.passed(Stage::Export, items);
    }

    /// Books items that go no further.
    pub(crate) fn dropped(&mut self, reason: Reason, items: u64) {
        let items = self.close_items(items);
        self.queue.ledger.dropped(Stage::Export, reason, items);
    }

    fn close_items(&mut self, items: u64) -> u64 {
        let items = items.min(self.open);
        self.open -= items;
        items
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.dropped(Reason::Shutdown, self.open);
        self.queue.release(self.request.signal, self.held, true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::options::Compression;
    use bytes::Bytes;
    use netflume_core::model::request::Request;

    fn queue(options: &QueueOptions) -> (Arc<Queue>, Arc<Ledger>) {
        let ledger = Arc::new(Ledger::default());
        (Arc::new(Queue::new(options, ledger.clone())), ledger)
    }

    fn request(signal: Signal, bytes: usize, items: u64) -> Packed {
        let body = Bytes::from(vec![0; bytes]);
        Packed::new(
            Request {
                signal,
                body,
                items,
            },
            Compression::None,
        )
    }

    #[tokio::test]
    async fn requests_leave_in_order_and_the_books_balance() {
        let (queue, ledger) = queue(&QueueOptions::default());
        for items in 1..=3 {
            assert!(queue.push(request(Signal::Logs, 10, items)));
        }
        let held = Held {
            requests: 3,
            items: 6,
            bytes: 30,
        };
        assert_eq!((queue.waiting(), queue.held()), (3, held));
        for items in 1..=3 {
            let mut lease = queue.pop().await.unwrap();
            assert_eq!(lease.request.items, items);
            lease.accepted(items);
        }
        assert_eq!((queue.waiting(), queue.held()), (0, Held::default()));
        assert_eq!(ledger.entry(Stage::Queue).held(), 0);
        assert_eq!(ledger.entry(Stage::Export).passed, 6);
        assert_eq!(ledger.entry(Stage::Export).held(), 0);
    }

    #[tokio::test]
    async fn the_newest_is_refused_when_there_is_no_room_by_count_or_bytes() {
        for options in [
            QueueOptions {
                queue_size: 2,
                ..QueueOptions::default()
            },
            QueueOptions {
                queue_size: 3,
                sizer: Sizer::Items,
                ..QueueOptions::default()
            },
            QueueOptions {
                queue_size: 29,
                sizer: Sizer::Bytes,
                ..QueueOptions::default()
            },
            QueueOptions {
                max_bytes: 25,
                ..QueueOptions::default()
            },
        ] {
            let (queue, ledger) = queue(&options);
            let taken: Vec<_> = (1..=4)
                .map(|items| queue.push(request(Signal::Logs, 10, items)))
                .collect();
            assert_eq!(taken, [true, true, false, false]);
            assert_eq!(
                ledger.entry(Stage::Queue).dropped,
                [(Reason::QueueFull, 3 + 4)]
            );
            // What is under way still takes up room.
            let lease = queue.pop().await.unwrap();
            assert!(!queue.push(request(Signal::Logs, 10, 1)));
            drop(lease);
            assert!(queue.push(request(Signal::Logs, 10, 1)));
        }
    }

    #[tokio::test]
    async fn a_request_larger_than_the_queue_is_let_in_alone() {
        let (queue, _) = queue(&QueueOptions {
            max_bytes: 5,
            ..QueueOptions::default()
        });
        assert!(queue.push(request(Signal::Logs, 10, 1)));
        assert!(!queue.push(request(Signal::Logs, 1, 1)));
    }

    #[tokio::test]
    async fn without_a_queue_only_what_is_under_way_has_room() {
        let options = QueueOptions {
            enabled: false,
            num_consumers: 2,
            ..QueueOptions::default()
        };
        let (queue, _) = queue(&options);
        let taken: Vec<_> = (0..3)
            .map(|_| queue.push(request(Signal::Logs, 1, 1)))
            .collect();
        assert_eq!(taken, [true, true, false]);
    }

    #[tokio::test]
    async fn metrics_leave_one_at_a_time_and_others_pass_them() {
        let (queue, _) = queue(&QueueOptions::default());
        for (signal, items) in [
            (Signal::Metrics, 1),
            (Signal::Metrics, 2),
            (Signal::Logs, 3),
            (Signal::Traces, 4),
        ] {
            assert!(queue.push(request(signal, 1, items)));
        }
        let first = queue.pop().await.unwrap();
        let others = [queue.pop().await.unwrap(), queue.pop().await.unwrap()];
        assert_eq!(
            (first.request.items, others.map(|lease| lease.request.items)),
            (1, [3, 4])
        );
        let waiting = tokio::spawn({
            let queue = queue.clone();
            async move { queue.pop().await.map(|lease| lease.request.items) }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(first);
        assert_eq!(waiting.await.unwrap(), Some(2));
    }

    #[tokio::test]
    async fn a_closed_queue_takes_nothing_and_ends_when_it_is_empty() {
        let (queue, ledger) = queue(&QueueOptions::default());
        assert!(queue.push(request(Signal::Logs, 1, 1)));
        queue.close();
        assert!(!queue.push(request(Signal::Logs, 1, 2)));
        assert_eq!(ledger.entry(Stage::Queue).dropped, [(Reason::Shutdown, 2)]);
        assert!(queue.pop().await.is_some());
        assert!(queue.pop().await.is_none());
        let idle = tokio::spawn({
            let queue = queue.clone();
            async move { queue.pop().await.is_none() }
        });
        assert!(idle.await.unwrap());
    }

    #[tokio::test]
    async fn what_is_left_is_counted_as_lost_at_shutdown() {
        let (queue, ledger) = queue(&QueueOptions::default());
        for items in [5, 7] {
            assert!(queue.push(request(Signal::Logs, 1, items)));
        }
        let mut lease = queue.pop().await.unwrap();
        lease.accepted(2);
        drop(lease);
        queue.clear();
        assert_eq!(ledger.entry(Stage::Export).dropped, [(Reason::Shutdown, 3)]);
        assert_eq!(ledger.entry(Stage::Queue).dropped, [(Reason::Shutdown, 7)]);
        assert_eq!(queue.held(), Held::default());
    }
}
