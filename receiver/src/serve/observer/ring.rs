//! The ring of recent events: one writer that never waits, many readers that never hold it up.
//!
//! The writer collects events and publishes them in chunks; a chunk is never changed again. Readers take a reference to a chunk
//! and look at its events in place, so that filtering needs neither a lock nor a copy. The one lock guards the list of chunks and
//! is held for a push or a look-up; the writer only tries it, and publishes with the next chunk when a reader was quicker.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use tokio::sync::watch;

use netflume_core::ledger::{Ledger, Reason, Stage};
use netflume_core::model::cilium::CiliumEvent;
use netflume_core::model::flow::Node;

/// Events after which a chunk is published without being asked for.
const CHUNK: usize = 256;

/// Bytes of events after which a chunk is published, so that large events are held, sent and given up by few at a time.
const CHUNK_BYTES: usize = 256 << 10;

/// Unpublished events above which the writer gives up the oldest.
const MAX_PENDING: usize = 4 * CHUNK;

/// Bytes of unpublished events above which the writer gives up the oldest.
const MAX_PENDING_BYTES: usize = 4 * CHUNK_BYTES;

/// A run of events. Event `i` has the number `first + i` since the start.
#[derive(Debug)]
pub(super) struct Chunk {
    pub first: u64,
    pub events: Vec<CiliumEvent>,
    /// What they take.
    bytes: usize,
}

impl Chunk {
    /// The number after the last event.
    pub(super) const fn end(&self) -> u64 {
        self.first + self.events.len() as u64
    }
}

/// The readers' side; cheap to clone.
#[derive(Clone, Debug)]
pub struct FlowRing(Arc<Shared>);

/// The writer's side.
#[derive(Debug)]
pub struct RingWriter {
    shared: Arc<Shared>,
    pending: Vec<CiliumEvent>,
    pending_bytes: usize,
    /// Number of the first pending event.
    first: u64,
}

#[derive(Debug)]
struct Shared {
    capacity: Capacity,
    ledger: Arc<Ledger>,
    chunks: Mutex<Chunks>,
    end: watch::Sender<u64>,
    seen_flows: AtomicU64,
    /// Time of the first flow, nanoseconds since 1970; zero before it.
    first_flow_ns: AtomicU64,
    missed: AtomicU64,
    node: watch::Sender<Arc<Node>>,
}

#[derive(Debug, Default)]
struct Chunks {
    list: VecDeque<Arc<Chunk>>,
    events: usize,
    bytes: usize,
}

/// How much a ring keeps; at least its newest chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Events at most.
    pub events: usize,
    /// Bytes of memory that they take at most, about; what they share with others (names, labels, services) is left out.
    pub bytes: usize,
}

impl Default for Capacity {
    /// As many events as Hubble, and 8 MiB.
    fn default() -> Self {
        Self {
            events: 4095,
            bytes: 8 << 20,
        }
    }
}

/// What a reader gets.
#[derive(Debug)]
pub(super) enum Read {
    /// Events from this place of the chunk on.
    Events(Arc<Chunk>, usize),
    /// So many events were overwritten before they could be read.
    Missed(u64),
    /// Nothing new.
    End,
}

/// A reader with its place.
#[derive(Debug)]
pub(super) struct Reader {
    ring: FlowRing,
    next: u64,
}

/// An empty ring.
#[must_use]
pub fn ring(capacity: Capacity, ledger: Arc<Ledger>) -> FlowRing {
    FlowRing(Arc::new(Shared {
        capacity,
        ledger,
        chunks: Mutex::default(),
        end: watch::Sender::new(0),
        seen_flows: AtomicU64::new(0),
        first_flow_ns: AtomicU64::new(0),
        missed: AtomicU64::new(0),
        node: watch::Sender::default(),
    }))
}

impl RingWriter {
    /// Takes an event; it is seen after the next [`RingWriter::flush`], or by itself when enough have come together.
    pub fn push(&mut self, event: CiliumEvent) {
        if let CiliumEvent::Flow(flow) = &event
            && self.shared.seen_flows.fetch_add(1, Relaxed) == 0
        {
            self.shared.first_flow_ns.store(flow.time_ns, Relaxed);
        }
        self.pending_bytes += event.bytes();
        self.pending.push(event);
        if self.pending.len().is_multiple_of(CHUNK) || self.pending_bytes >= CHUNK_BYTES {
            self.flush();
        }
    }

    /// Publishes what was pushed. Call it at the end of every batch.
    pub fn flush(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let shared = self.shared.clone();
        let mut chunks = match shared.chunks.try_lock() {
            Ok(chunks) => chunks,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                self.shed();
                return;
            }
        };
        let count = self.pending.len();
        let bytes = std::mem::take(&mut self.pending_bytes);
        let chunk = Arc::new(Chunk {
            first: self.first,
            events: self.take_pending(),
            bytes,
        });
        self.first = chunk.end();
        let mut old = Vec::new();
        chunks.events += count;
        chunks.bytes += bytes;
        chunks.list.push_back(chunk);
        let Capacity { events, bytes } = shared.capacity;
        while (chunks.events > events || chunks.bytes > bytes) && chunks.list.len() > 1 {
            if let Some(oldest) = chunks.list.pop_front() {
                chunks.events -= oldest.events.len();
                chunks.bytes -= oldest.bytes;
                old.push(oldest);
            }
        }
        drop(chunks);
        self.shared.ledger.received(Stage::Observer, count as u64);
        let left: usize = old.iter().map(|chunk| chunk.events.len()).sum();
        self.shared.ledger.passed(Stage::Observer, left as u64);
        if shared.end.receiver_count() > 0 {
            shared.end.send_replace(self.first);
        }
    }

    /// Who this node is: name, labels and emitter of all flows in the ring.
    pub fn set_node(&self, node: Node) {
        self.shared.node.send_replace(Arc::new(node));
    }

    /// The pending events, in a vector that is not much larger than they are.
    fn take_pending(&mut self) -> Vec<CiliumEvent> {
        if self.pending.len() * 2 > self.pending.capacity() {
            std::mem::take(&mut self.pending)
        } else {
            let mut events = Vec::with_capacity(self.pending.len());
            events.append(&mut self.pending);
            events
        }
    }

    /// Readers kept us from publishing for so long that the oldest must go.
    fn shed(&mut self) {
        while self.pending.len() >= MAX_PENDING || self.pending_bytes >= MAX_PENDING_BYTES {
            let shed = self.pending.drain(..self.pending.len().min(CHUNK));
            let (mut count, mut bytes) = (0, 0);
            for event in shed {
                count += 1;
                bytes += event.bytes();
            }
            self.pending_bytes -= bytes;
            // The numbers go on, so that readers see the gap.
            self.first += count;
            self.shared.ledger.received(Stage::Observer, count);
            self.shared
                .ledger
                .dropped(Stage::Observer, Reason::QueueFull, count);
        }
    }
}

impl FlowRing {
    /// The writer's side. There is one at a time; it goes on where the one before ended.
    #[must_use]
    pub fn writer(&self) -> RingWriter {
        RingWriter {
            shared: Arc::clone(&self.0),
            pending: Vec::new(),
            pending_bytes: 0,
            first: self.lock().list.back().map_or(0, |chunk| chunk.end()),
        }
    }

    /// How many events the ring is made for.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.0.capacity.events
    }

    /// Bytes of memory that the events in it take, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// When the first flow was seen, nanoseconds since 1970; none before it.
    #[must_use]
    pub(super) fn first_flow_ns(&self) -> Option<u64> {
        Some(self.0.first_flow_ns.load(Relaxed)).filter(|ns| *ns > 0)
    }

    /// How many events it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().events
    }

    /// Whether nothing came yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Flows since the start.
    #[must_use]
    pub fn seen_flows(&self) -> u64 {
        self.0.seen_flows.load(Relaxed)
    }

    /// Events that clients missed because they were slower than the ring, all clients together; for
    /// `hubble_lost_events_total{source="hubble_ring_buffer"}`.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.0.missed.load(Relaxed)
    }

    /// Who this node is.
    #[must_use]
    pub fn node(&self) -> Arc<Node> {
        self.0.node.borrow().clone()
    }

    /// Who this node is, with every change of it.
    pub(super) fn watch_node(&self) -> watch::Receiver<Arc<Node>> {
        self.0.node.subscribe()
    }

    /// All chunks, oldest first.
    pub(super) fn chunks(&self) -> Vec<Arc<Chunk>> {
        self.lock().list.iter().cloned().collect()
    }

    /// A reader whose first event is number `next`.
    pub(super) fn reader(&self, next: u64) -> Reader {
        Reader {
            ring: self.clone(),
            next,
        }
    }

    /// Tells when something new was published.
    pub(super) fn watch(&self) -> watch::Receiver<u64> {
        self.0.end.subscribe()
    }

    /// Books events that a client missed.
    pub(super) fn count_missed(&self, events: u64) {
        self.0.missed.fetch_add(events, Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Chunks> {
        self.0.chunks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reader {
    /// The next events, or why there are none.
    pub(super) fn read(&mut self) -> Read {
        let chunks = self.ring.lock();
        let position = chunks
            .list
            .partition_point(|chunk| chunk.end() <= self.next);
        let Some(chunk) = chunks.list.get(position).cloned() else {
            return Read::End;
        };
        drop(chunks);
        if self.next < chunk.first {
            let missed = chunk.first - self.next;
            self.next = chunk.first;
            return Read::Missed(missed);
        }
        let offset = usize::try_from(self.next - chunk.first).unwrap_or(usize::MAX);
        self.next = chunk.end();
        Read::Events(chunk, offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use netflume_core::model::flow::{Flow, Http, L7Record, Layer7};

    fn flow(time_ns: u64) -> CiliumEvent {
        CiliumEvent::Flow(Flow {
            time_ns,
            ..Flow::default()
        })
    }

    fn events(events: usize) -> Capacity {
        Capacity {
            events,
            bytes: usize::MAX,
        }
    }

    /// A request for a URL of 60 KB.
    fn large(time_ns: u64) -> CiliumEvent {
        CiliumEvent::Flow(Flow {
            time_ns,
            l7: Some(Box::new(Layer7 {
                record: L7Record::Http(Http {
                    url: "a".repeat(60_000).into(),
                    ..Http::default()
                }),
                ..Layer7::default()
            })),
            ..Flow::default()
        })
    }

    fn times(reader: &mut Reader) -> Vec<u64> {
        let mut times = Vec::new();
        loop {
            match reader.read() {
                Read::Events(chunk, offset) => {
                    times.extend(chunk.events[offset..].iter().map(|event| match event {
                        CiliumEvent::Flow(flow) => flow.time_ns,
                        other => panic!("{other:?}"),
                    }))
                }
                Read::Missed(_) => times.push(u64::MAX),
                Read::End => return times,
            }
        }
    }

    #[test]
    fn readers_see_what_was_flushed_in_order() {
        let ring = ring(events(100), Arc::default());
        let mut writer = ring.writer();
        let mut reader = ring.reader(0);
        writer.push(flow(1));
        assert!(ring.is_empty() && times(&mut reader).is_empty());
        writer.flush();
        writer.flush();
        for time in 2..5 {
            writer.push(flow(time));
        }
        writer.flush();
        assert_eq!(times(&mut reader), [1, 2, 3, 4]);
        assert_eq!(
            times(&mut ring.reader(2)),
            [3, 4],
            "from the middle of a chunk"
        );
        assert!(times(&mut reader).is_empty());
        assert_eq!((ring.len(), ring.seen_flows()), (4, 4));
    }

    #[test]
    fn a_slow_reader_learns_how_many_it_missed_and_the_books_balance() {
        let ledger = Arc::new(Ledger::default());
        let ring = ring(events(10), ledger.clone());
        let mut writer = ring.writer();
        let mut reader = ring.reader(0);
        for time in 0..35 {
            writer.push(flow(time));
            if time % 5 == 4 {
                writer.flush();
            }
        }
        assert!(matches!(reader.read(), Read::Missed(25)));
        assert_eq!(times(&mut reader), (25..35).collect::<Vec<_>>());
        let entry = ledger.entry(Stage::Observer);
        assert_eq!((entry.received, entry.passed, entry.held()), (35, 25, 10));
    }

    #[test]
    fn full_chunks_publish_themselves_and_one_is_always_kept() {
        let ring = ring(events(10), Arc::default());
        let mut writer = ring.writer();
        for time in 0..CHUNK as u64 {
            writer.push(flow(time));
        }
        assert_eq!(ring.len(), CHUNK);
        writer.push(flow(1000));
        writer.flush();
        assert_eq!(times(&mut ring.reader(CHUNK as u64)), [1000]);
        assert_eq!(ring.len(), 1);
    }

    #[test]
    fn the_writer_does_not_wait_for_a_reader() {
        let ledger = Arc::new(Ledger::default());
        let ring = ring(events(10_000), ledger.clone());
        let mut writer = ring.writer();
        let held = ring.lock();
        for time in 0..2000 {
            writer.push(flow(time));
        }
        drop(held);
        writer.flush();
        let dropped = ledger.entry(Stage::Observer).dropped_total();
        assert!(dropped > 0 && writer.pending.is_empty());
        let mut reader = ring.reader(0);
        assert!(matches!(reader.read(), Read::Missed(n) if n == dropped));
        assert_eq!(times(&mut reader).len() as u64, 2000 - dropped);
        assert_eq!(
            ledger.entry(Stage::Observer).held(),
            i128::from(2000 - dropped)
        );
    }

    #[test]
    fn large_events_are_bounded_by_their_bytes_and_the_gap_is_seen() {
        let capacity = Capacity {
            events: 4_095,
            bytes: 2 << 20,
        };
        let ledger = Arc::new(Ledger::default());
        let ring = ring(capacity, ledger.clone());
        let mut writer = ring.writer();
        let mut reader = ring.reader(0);
        for time in 0..4_095 {
            writer.push(large(time));
            assert!(ring.bytes() <= capacity.bytes && writer.pending_bytes < MAX_PENDING_BYTES);
        }
        writer.flush();
        let kept = ring.len();
        assert!((20..40).contains(&kept), "{kept} of 60 KB in 2 MiB");
        assert!(
            ring.chunks()
                .iter()
                .all(|chunk| chunk.bytes < CHUNK_BYTES + 62_000)
        );
        assert!(matches!(reader.read(), Read::Missed(n) if n == 4_095 - kept as u64));
        assert_eq!(times(&mut reader).len(), kept);
        assert_eq!(ledger.entry(Stage::Observer).held(), kept as i128);
    }

    #[test]
    fn what_waits_for_a_reader_is_bounded_by_its_bytes() {
        let ring = ring(events(10_000), Arc::default());
        let mut writer = ring.writer();
        let held = ring.lock();
        for time in 0..200 {
            writer.push(large(time));
            assert!(writer.pending_bytes < MAX_PENDING_BYTES);
        }
        drop(held);
    }
}
