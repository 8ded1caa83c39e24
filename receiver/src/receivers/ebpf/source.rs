//! Our kernel programs: loaded, attached, read. Socket life in, batches of records ([`netflume_ebpf`]) out.
//!
//! [`KernelSource::drain`] takes what the programs sent since the last look: ended connections, failures, listeners.
//! [`KernelSource::collect`] also asks the kernel for every open connection, once an interval. Nothing is attached exclusively,
//! and everything is detached when the source is dropped or the process dies.

mod connects;
mod entries;
mod hooks;
mod load;
mod missed;
mod pass;
mod probe;
mod routes;
mod udp;

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use aya::maps::{Array, MapData, PerCpuArray, RingBuf};
use aya::{Ebpf, Pod};
use netflume_ebpf::{Control, counter};
use thiserror::Error;

use crate::platform::clock;
use netflume_core::decode::kernel::records;
use netflume_core::ledger::{Ledger, Reason, Stage};
use netflume_core::model::batch::{Batch, BatchKind};

pub use super::options::{Connects, KernelOptions, Pass, Scope};
pub use hooks::{Hook, HookState, KernelReport};
pub use probe::probe;

/// Why the kernel source cannot work.
#[derive(Debug, Error)]
pub enum SourceError {
    /// The process may not load kernel programs.
    #[error("no right to load kernel programs: grant {missing} (or run as root)")]
    NotPermitted {
        /// The capabilities that are missing.
        missing: String,
    },
    /// The kernel does not describe its own structures.
    #[error(
        "no kernel type information (BTF) at {path}: {reason}; it needs a kernel built with CONFIG_DEBUG_INFO_BTF"
    )]
    NoBtf {
        /// Where it was looked for.
        path: &'static str,
        /// What happened there.
        reason: String,
    },
    /// The kernel lacks something without which there are no records.
    #[error("this kernel does not have what the programs need: {0}")]
    Unsupported(String),
    /// The kernel refused a program.
    #[error("the kernel refused {program}: {reason}")]
    Load {
        /// Program or object.
        program: &'static str,
        /// The error and, if there is one, the last lines of the verifier's log.
        reason: String,
    },
    /// A map or an iterator could not be used.
    #[error("cannot {action}: {reason}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The error.
        reason: String,
    },
}

/// The running programs.
pub struct KernelSource {
    // Dropped first to last: links before the maps that they write to.
    ebpf: Ebpf,
    ring: RingBuf<MapData>,
    control: Array<MapData, ControlWords>,
    counters: PerCpuArray<MapData, u64>,
    booked: [u64; counter::COUNT as usize],
    missed: missed::Missed,
    /// A full map was reported.
    full: bool,
    max_udp_flows: u32,
    udp: Option<udp::Udp>,
    passes: pass::Passes,
    entries: Option<entries::Entries>,
    second_looks: u64,
    pass: u32,
    words: Control,
    last_pass_bytes: usize,
    report: KernelReport,
    ledger: Arc<Ledger>,
}

/// What the programs are told, as aya wants it.
#[derive(Clone, Copy, Debug, Default)]
#[repr(transparent)]
struct ControlWords(Control);

// SAFETY: numbers without padding, which `IntoBytes` and `FromBytes` of `Control` prove; any bits are valid.
unsafe impl Pod for ControlWords {}

impl KernelSource {
    /// Loads and attaches what this kernel offers, finds the connections that are open already.
    ///
    /// # Errors
    /// [`SourceError`]: what to grant, or what the kernel lacks.
    pub fn start(options: &KernelOptions, ledger: Arc<Ledger>) -> Result<Self, SourceError> {
        let loaded = load::load(options)?;
        let mut source = Self {
            ebpf: loaded.ebpf,
            ring: loaded.ring,
            control: loaded.control,
            counters: loaded.counters,
            booked: [0; counter::COUNT as usize],
            missed: missed::Missed::default(),
            full: false,
            max_udp_flows: options.max_udp_flows,
            udp: loaded.udp,
            passes: loaded.passes,
            entries: loaded.entries,
            second_looks: 0,
            pass: 0,
            words: loaded.words,
            last_pass_bytes: 0,
            report: loaded.report,
            ledger,
        };
        // Marks our own sockets that are older than the hooks, so that no later pass tells them or their other end.
        source.write_control()?;
        source.pass(&mut Vec::new())?;
        if source.entries.is_some() {
            entries::find_older(&mut source.ebpf, &loaded.kernel_types, &source.report);
        }
        drop(loaded.kernel_types);
        give_memory_back();
        Ok(source)
    }

    /// What is used, what is not, and why.
    #[must_use]
    pub fn report(&self) -> &KernelReport {
        &self.report
    }

    /// In how many passes the remembered connections were asked one by one, because descriptors had not led to all of them.
    #[must_use]
    pub fn second_looks(&self) -> u64 {
        self.second_looks
    }

    /// Appends what the programs sent since the last call; nothing, if there is nothing.
    pub fn drain(&mut self, batches: &mut Vec<Batch>) {
        let mut bytes = Vec::new();
        self.drain_ring(&mut bytes);
        self.push(bytes, batches);
    }

    /// Appends what the programs sent, and one observation of every open connection and listener. Records are in order of kernel
    /// time across both, so that an observation that was made before a close comes before it.
    ///
    /// # Errors
    /// [`SourceError::Io`] when the kernel's iterator fails; what the ring held is appended all the same.
    pub fn collect(&mut self, batches: &mut Vec<Batch>) -> Result<(), SourceError> {
        self.drain(batches);
        let mut found = Vec::with_capacity(self.last_pass_bytes);
        self.words.udp_epoch ^= 1;
        let result = self.write_control();
        // Where the programs do not know of the new interval, they still count in the old one.
        let begun = result.is_ok();
        let result = result.and_then(|()| self.pass(&mut found));
        if !begun {
            self.words.udp_epoch ^= 1;
        } else if let Some(udp) = &mut self.udp {
            let count = udp.read(self.words.udp_epoch ^ 1, clock::now().boot_ns, &mut found);
            self.ledger.received(Stage::Source, count);
            self.ledger.passed(Stage::Source, count);
        }
        self.last_pass_bytes = found.len();
        let mut meanwhile = Vec::new();
        self.drain_ring(&mut meanwhile);
        let bytes = if meanwhile.is_empty() {
            found
        } else {
            merge(&found, &meanwhile)
        };
        self.push(bytes, batches);
        let unknown_peers = self.book();
        if let Some(udp) = &mut self.udp
            && unknown_peers > 0
        {
            udp.hook_sends(&mut self.ebpf, &mut self.report);
        }
        result
    }

    /// One iterator pass: appends a record for each open connection and listener.
    fn pass(&mut self, bytes: &mut Vec<u8>) -> Result<(), SourceError> {
        let length = bytes.len();
        let before = entries::Before::pass(&self.counters);
        let mut result = self.passes.run(&mut self.ebpf, bytes);
        if let Some(entries) = &self.entries
            && result.is_ok()
            && !before.is_some_and(|before| before.all_seen(&self.counters))
        {
            self.second_looks += 1;
            result = entries.read(bytes);
        }
        let count = records(bytes.get(length..).unwrap_or_default()).count() as u64;
        self.ledger.received(Stage::Source, count);
        self.ledger.passed(Stage::Source, count);
        result
    }

    /// Begins the next pass and gives the programs what they need to know.
    fn write_control(&mut self) -> Result<(), SourceError> {
        self.pass = self.pass.wrapping_add(1).max(1);
        self.words.pass = self.pass;
        self.words.udp_send_hooks = self
            .udp
            .as_ref()
            .is_some_and(udp::Udp::has_send_hooks)
            .into();
        load::write(&mut self.control, self.words)
    }

    fn drain_ring(&mut self, bytes: &mut Vec<u8>) {
        let mut count = 0;
        while let Some(record) = self.ring.next() {
            bytes.extend_from_slice(&record);
            count += 1;
        }
        // What waits in the ring is not booked as held: the kernel does not count what it could send.
        self.ledger.received(Stage::Source, count);
        self.ledger.passed(Stage::Source, count);
    }

    fn push(&self, mut bytes: Vec<u8>, batches: &mut Vec<Batch>) {
        if !bytes.is_empty() {
            if self.words.connects == netflume_ebpf::connects::ATTEMPTS {
                routes::fill_in_reasons(&mut bytes);
            }
            let now = clock::now();
            batches.push(Batch {
                kind: BatchKind::KERNEL,
                unix_ns: now.unix_ns,
                boot_ns: now.boot_ns,
                bytes,
            });
        }
    }

    /// Brings the kernel's own counters into the ledger; tells how many UDP calls had no peer.
    fn book(&mut self) -> u64 {
        let mut grown = [0_u64; counter::COUNT as usize];
        for (slot, booked) in self.booked.iter_mut().enumerate() {
            let counter = u32::try_from(slot).unwrap_or(u32::MAX);
            let Some(total) = total(&self.counters, counter) else {
                continue;
            };
            grown[slot] = std::mem::replace(booked, total).abs_diff(total);
        }
        let of = |slot: u32| grown[slot as usize];
        let refused = of(counter::CONNECTIONS_FULL);
        let overflowed = of(counter::UDP_FULL);
        if overflowed > 0 && !self.full {
            self.full = true;
            tracing::warn!(
                "receivers.ebpf: more than {} pairs of UDP socket and peer in one interval; those beyond are counted together in an \
                 overflow record. receivers.ebpf.max_udp_flows raises the limit. Reported once",
                self.max_udp_flows
            );
        }
        let missed = self.missed.grown(&self.ebpf);
        self.ledger.received(
            Stage::Source,
            of(counter::RING_FULL) + refused + overflowed + missed,
        );
        self.ledger
            .dropped(Stage::Source, Reason::TableFull, overflowed);
        self.ledger.dropped(Stage::Source, Reason::Nested, missed);
        self.ledger
            .dropped(Stage::Source, Reason::RingFull, of(counter::RING_FULL));
        self.ledger.dropped(Stage::Source, Reason::MapFull, refused);
        of(counter::UDP_PEER_UNKNOWN)
    }
}

/// A counter of the programs, over all processors; none: it cannot be read.
fn total(counters: &PerCpuArray<MapData, u64>, counter: u32) -> Option<u64> {
    Some(counters.get(&counter, 0).ok()?.iter().sum())
}

/// Loading had the types of the whole kernel in memory, 10 MiB and more, which the allocator would keep.
fn give_memory_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes no pointers; the allocator locks itself.
    unsafe {
        libc::malloc_trim(0);
    }
}

impl AsFd for KernelSource {
    /// Readable (epoll, poll) when the ring has filled enough that [`KernelSource::drain`] should come before the next interval.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

impl std::fmt::Debug for KernelSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KernelSource")
            .field("pass", &self.pass)
            .field("report", &self.report)
            .finish_non_exhaustive()
    }
}

/// Two runs of records, each in order of time, as one.
fn merge(a: &[u8], b: &[u8]) -> Vec<u8> {
    let (whole_a, whole_b) = (a, b);
    let length = a.len() + b.len();
    let mut merged = Vec::with_capacity(length);
    let (mut a, mut b) = (records(a).peekable(), records(b).peekable());
    loop {
        let next = match (a.peek(), b.peek()) {
            (Some(x), Some(y)) if y.boot_ns < x.boot_ns => b.next(),
            (Some(_), _) => a.next(),
            (None, _) => b.next(),
        };
        match next {
            Some(record) => merged.extend_from_slice(record.bytes),
            // What cannot be taken apart is left as it is, for the decoder to count.
            None if merged.len() < length => return [whole_a, whole_b].concat(),
            None => return merged,
        }
    }
}

#[cfg(test)]
mod tests {
    use netflume_ebpf::{ConnectionRecord, Header, kind};
    use zerocopy::IntoBytes;

    use super::*;

    fn record(boot_ns: u64, id: u64) -> Vec<u8> {
        let header = Header {
            size: u16::try_from(size_of::<ConnectionRecord>()).unwrap(),
            kind: kind::CONNECTION,
            reserved: 0,
            boot_ns,
        };
        ConnectionRecord {
            header,
            id,
            ..Default::default()
        }
        .as_bytes()
        .to_vec()
    }

    #[test]
    fn a_close_during_the_pass_comes_after_the_observation_before_it() {
        let pass = [record(10, 1), record(30, 2)].concat();
        let ring = [record(20, 1), record(40, 2)].concat();
        let times: Vec<u64> = records(&merge(&pass, &ring)).map(|r| r.boot_ns).collect();
        assert_eq!(times, [10, 20, 30, 40]);
        assert_eq!(merge(&pass, &[]), pass);
    }
}
