//! The books: what every stage received, passed on and dropped, by reason.
//!
//! Counters are process-wide totals that only grow. The rule that tests check is `received = passed + dropped + held`,
//! where `held` is what a stage still keeps (a queue's content).

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

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
        /// Kernel programs: sockets and connections that their maps and rings took or refused.
        Kernel = "kernel",
        /// The Cilium monitor socket: messages.
        Cilium = "cilium",
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
        /// A filter or scope said no.
        Filtered = "filtered",
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

const STAGES: usize = Stage::ALL.len();
const REASONS: usize = Reason::ALL.len();

/// The counters of all stages. One per pipeline; shared by reference.
#[derive(Debug)]
pub struct Ledger {
    received: [AtomicU64; STAGES],
    passed: [AtomicU64; STAGES],
    dropped: [[AtomicU64; REASONS]; STAGES],
    bytes: [AtomicU64; STAGES],
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
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
}
