//! The books: what every stage received, passed on and dropped, by receiver and by reason.
//!
//! Counters are totals that only grow. The rule that tests check is `received = passed + dropped + held`, where `held` is what
//! a stage still keeps (a queue's content). It holds for each receiver, and so for their sum.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

macro_rules! closed_set {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$vdoc])* $variant,)* }
        impl $name {
            /// All values, in order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];
            /// The name on metrics.
            #[must_use]
            pub const fn as_str(self) -> &'static str { match self { $(Self::$variant => $text,)* } }
        }
    };
}

closed_set! {
    /// A place where items (events, records, points, requests) come in and go out.
    Stage {
        /// Where a receiver reads: connections that the kernel programs' maps and rings took or refused, messages of the Cilium
        /// monitor socket.
        Source = "source",
        /// Bytes to events.
        Decode = "decode",
        /// The connection table: observations.
        Netflow = "netflow",
        /// Log records on their way to the exporters.
        Logs = "logs",
        /// Layer-7 requests and responses that are joined.
        Exchanges = "exchanges",
        /// Metric points on their way to the exporters.
        Metrics = "metrics",
        /// Spans on their way to the exporters.
        Spans = "spans",
        /// The export queue: items of requests.
        Queue = "queue",
        /// The OTLP exporter: items that the Collector answered for.
        Export = "export",
        /// Lines on the console.
        Console = "console",
        /// The Observer API's flow ring.
        Observer = "observer",
    }
}

closed_set! {
    /// Why an item went no further. The text is `error.type` of the drop counter.
    Reason {
        /// The kernel ring was full.
        RingFull = "ring_full",
        /// A kernel map was full.
        MapFull = "map_full",
        /// The source went away in the middle of it.
        CutOff = "cut_off",
        /// The kernel left out a run of a program that was under way on the same CPU.
        Nested = "nested",
        /// The bytes made no sense.
        Malformed = "malformed",
        /// A flow that `include` or `exclude` leaves out of the log records.
        NotSelected = "not_selected",
        /// A connection of the loopback interface, where those are left out.
        Loopback = "loopback",
        /// A socket event of a cgroup that is no pod's.
        UnknownCgroup = "unknown_cgroup",
        /// No output takes this signal.
        NotExported = "not_exported",
        /// Left out by sampling: the configured rate, or a caller that does not record its trace.
        Sampled = "sampled",
        /// Nothing changed: there is nothing to say.
        Unchanged = "unchanged",
        /// A bounded table was full; totals live on in its overflow row.
        TableFull = "table_full",
        /// A bounded queue was full.
        QueueFull = "queue_full",
        /// The Collector said no for good.
        Rejected = "rejected",
        /// The Collector took the request but refused some of its items.
        PartialSuccess = "partial_success",
        /// Retried until the time allowed was over.
        RetriesExhausted = "retries_exhausted",
        /// One item alone is over the size limit.
        TooLarge = "too_large",
        /// The deadline at shutdown came first.
        Shutdown = "shutdown",
        /// The output (a terminal, pipe or file) could not be written any more.
        OutputFailed = "output_failed",
        /// A request whose response, or a response whose request, was not seen.
        Unpaired = "unpaired",
        /// The source itself reported that it lost events before we saw them.
        SourceLost = "source_lost",
    }
}

impl Reason {
    /// Whether an item is lost that was wanted: not one that settings leave out, or that brings nothing new.
    #[must_use]
    pub const fn is_loss(self) -> bool {
        !matches!(
            self,
            Self::NotSelected
                | Self::Loopback
                | Self::UnknownCgroup
                | Self::NotExported
                | Self::Sampled
                | Self::Unchanged
        )
    }
}

const STAGES: usize = Stage::ALL.len();
const REASONS: usize = Reason::ALL.len();

/// The counters of all stages for one receiver's items. Shared by reference; what is handed on carries it along.
#[derive(Debug)]
pub struct Ledger {
    receiver: &'static str,
    received: [AtomicU64; STAGES],
    passed: [AtomicU64; STAGES],
    dropped: [[AtomicU64; REASONS]; STAGES],
    bytes: [AtomicU64; STAGES],
}

impl Default for Ledger {
    /// Of a receiver without a name.
    fn default() -> Self {
        Self::new("")
    }
}

/// The ledgers of all receivers.
#[derive(Debug, Default)]
pub struct Ledgers(Mutex<BTreeMap<&'static str, Arc<Ledger>>>);

impl Ledgers {
    /// The ledger of a receiver, the same for each call.
    pub fn of(&self, receiver: &'static str) -> Arc<Ledger> {
        let mut all = self.lock();
        let ledger = all.entry(receiver);
        Arc::clone(ledger.or_insert_with(|| Arc::new(Ledger::new(receiver))))
    }

    /// Those of the receivers that have one, by name.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Ledger>> {
        self.lock().values().cloned().collect()
    }

    /// What one stage has booked so far, for all receivers.
    #[must_use]
    pub fn total(&self, stage: Stage) -> Entry {
        let mut total = Entry::empty(stage);
        for ledger in self.all() {
            total.add(&ledger.entry(stage));
        }
        total
    }

    /// Items that were wanted and are lost, so far.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.all().iter().map(|ledger| ledger.lost()).sum()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Arc<Ledger>>> {
        // The map is whole between any two statements that could panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ledger {
    /// That of a receiver.
    #[must_use]
    pub fn new(receiver: &'static str) -> Self {
        Self {
            receiver,
            received: [const { AtomicU64::new(0) }; STAGES],
            passed: [const { AtomicU64::new(0) }; STAGES],
            dropped: [const { [const { AtomicU64::new(0) }; REASONS] }; STAGES],
            bytes: [const { AtomicU64::new(0) }; STAGES],
        }
    }
}

/// One line of the books.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The stage.
    pub stage: Stage,
    /// Items that came in.
    pub received: u64,
    /// Items that went on.
    pub passed: u64,
    /// Items that went no further; only reasons that occurred.
    pub dropped: Vec<(Reason, u64)>,
    /// Bytes that came in, where the stage counts them: those read from a socket, those decoded.
    pub bytes: u64,
}

impl Entry {
    fn empty(stage: Stage) -> Self {
        Self {
            stage,
            received: 0,
            passed: 0,
            dropped: Vec::new(),
            bytes: 0,
        }
    }

    /// Adds what another ledger has for the same stage.
    fn add(&mut self, other: &Self) {
        self.received += other.received;
        self.passed += other.passed;
        self.bytes += other.bytes;
        for &(reason, count) in &other.dropped {
            match self.dropped.iter_mut().find(|(known, _)| *known == reason) {
                Some((_, sum)) => *sum += count,
                None => self.dropped.push((reason, count)),
            }
        }
    }

    /// All drops.
    #[must_use]
    pub fn dropped_total(&self) -> u64 {
        self.dropped.iter().map(|(_, n)| n).sum()
    }

    /// What came in and is neither passed on nor dropped: still held by the stage.
    #[must_use]
    pub fn held(&self) -> i128 {
        i128::from(self.received) - i128::from(self.passed) - i128::from(self.dropped_total())
    }
}

impl Ledger {
    /// Whose items it counts.
    #[must_use]
    pub fn receiver(&self) -> &'static str {
        self.receiver
    }

    /// Books `n` items that came in.
    pub fn received(&self, stage: Stage, n: u64) {
        self.received[stage as usize].fetch_add(n, Relaxed);
    }

    /// Books `n` items that went on.
    pub fn passed(&self, stage: Stage, n: u64) {
        self.passed[stage as usize].fetch_add(n, Relaxed);
    }

    /// Books `n` items that went no further.
    pub fn dropped(&self, stage: Stage, reason: Reason, n: u64) {
        self.dropped[stage as usize][reason as usize].fetch_add(n, Relaxed);
    }

    /// Books `n` bytes that came in.
    pub fn bytes(&self, stage: Stage, n: u64) {
        self.bytes[stage as usize].fetch_add(n, Relaxed);
    }

    /// What one stage has booked so far.
    #[must_use]
    pub fn entry(&self, stage: Stage) -> Entry {
        let dropped = &self.dropped[stage as usize];
        Entry {
            stage,
            received: self.received[stage as usize].load(Relaxed),
            passed: self.passed[stage as usize].load(Relaxed),
            dropped: Reason::ALL
                .iter()
                .map(|&reason| (reason, dropped[reason as usize].load(Relaxed)))
                .filter(|(_, n)| *n > 0)
                .collect(),
            bytes: self.bytes[stage as usize].load(Relaxed),
        }
    }

    /// Items that were wanted and are lost, so far.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.entries()
            .iter()
            // A request or response that finds no partner is in the records all the same.
            .filter(|entry| entry.stage != Stage::Exchanges)
            .flat_map(|entry| &entry.dropped)
            .filter(|(reason, _)| reason.is_loss())
            .map(|(_, count)| count)
            .sum()
    }

    /// All stages that have booked anything.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        Stage::ALL
            .iter()
            .map(|&stage| self.entry(stage))
            .filter(|e| e.received > 0 || e.passed > 0 || !e.dropped.is_empty())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_neither_passed_nor_dropped_is_held() {
        let ledger = Ledger::default();
        ledger.received(Stage::Queue, 10);
        ledger.passed(Stage::Queue, 6);
        ledger.dropped(Stage::Queue, Reason::QueueFull, 3);
        let entry = ledger.entry(Stage::Queue);
        assert_eq!((entry.dropped_total(), entry.held()), (3, 1));
        assert_eq!(ledger.entries().len(), 1);
    }

    #[test]
    fn each_receiver_has_its_own_lines_and_the_sum_has_all() {
        let ledgers = Ledgers::default();
        for (receiver, dropped) in [("cilium", 3), ("ebpf", 4), ("cilium", 2)] {
            let ledger = ledgers.of(receiver);
            ledger.received(Stage::Export, 10);
            ledger.dropped(Stage::Export, Reason::Rejected, dropped);
        }
        ledgers
            .of("ebpf")
            .dropped(Stage::Export, Reason::Shutdown, 1);
        let held: Vec<_> = ledgers
            .all()
            .iter()
            .map(|of| (of.receiver(), of.entry(Stage::Export).held()))
            .collect();
        assert_eq!(held, [("cilium", 15), ("ebpf", 5)]);
        let total = ledgers.total(Stage::Export);
        assert_eq!((total.received, total.held()), (30, 20));
        assert_eq!(
            total.dropped,
            [(Reason::Rejected, 9), (Reason::Shutdown, 1)]
        );
        assert_eq!(ledgers.lost(), 10);
    }

    #[test]
    fn what_settings_leave_out_is_not_lost() {
        let ledger = Ledger::default();
        for reason in [
            Reason::NotSelected,
            Reason::NotExported,
            Reason::Sampled,
            Reason::Unchanged,
        ] {
            ledger.dropped(Stage::Logs, reason, 1);
        }
        ledger.dropped(Stage::Exchanges, Reason::Unpaired, 1);
        assert_eq!(ledger.lost(), 0);
        ledger.dropped(Stage::Decode, Reason::Malformed, 1);
        assert_eq!(ledger.lost(), 1);
    }
}
