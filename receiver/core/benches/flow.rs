//! The connection table and the metrics made from it.
//!
//! ```text
//! cargo xtask bench --bench flow
//! ```
//!
//! Targets: one pass over 20,000 known sockets through `FlowTable::apply` in 8 ms; a table of 100,000 connections in 40 MiB. The
//! size is printed first: what the resident memory of the process grew by, after the pass and after the flush.

#![expect(clippy::print_stdout, reason = "what was measured")]

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput};
use netflume_core::aggregate::netflow::{FlowTable, GroupBy, Options};
use netflume_core::aggregate::network_metrics::NetworkMetrics;
use netflume_core::aggregate::series;
use netflume_core::model::netflow::{
    ConnectionState, Identity, KernelEvent, Owner, Phase, Process, Role, Transport,
};

const SOCKETS: u32 = 20_000;
const PROCESSES: u32 = 50;

/// The sockets of a pass: half of them accepted, spread over processes and peers. `round` moves the counters.
fn pass(sockets: u32, round: u64) -> Vec<KernelEvent> {
    (0..sockets)
        .map(|n| {
            let [_, high, mid, low] = n.to_be_bytes();
            let server = n % 2 == 0;
            let here = Ipv4Addr::new(10, 0, 0, 1);
            let there = Ipv4Addr::new(10, 1 + high, mid, low);
            let client_port = 32_768 + u16::try_from(n % 28_000).unwrap_or(0);
            let mut comm = [0; 16];
            comm[..5].copy_from_slice(b"bench");
            KernelEvent::Connection(ConnectionState {
                // As far apart as sockets are in the kernel's slab.
                id: 0xffff_8880_0000_0000 + u64::from(n) * 2304,
                boot_time_ns: 1_000_000_000 * (round + 2),
                opened_boot_time_ns: 1_000_000_000,
                transport: Transport::Tcp,
                phase: Phase::Open,
                role: if server { Role::Server } else { Role::Client },
                local: (here, if server { 443 } else { client_port }).into(),
                peer: (there, if server { client_port } else { 5432 }).into(),
                netns: 4_026_531_840,
                owner: Owner {
                    pid: 1000 + n % PROCESSES,
                    uid: 0,
                    cgroup_id: 77,
                    comm,
                },
                bytes_sent: 1000 * round,
                bytes_received: 100 * round,
                rtt_us: 80 + n % 1000,
                rtt_var_us: 10,
                ..ConnectionState::default()
            })
        })
        .collect()
}

/// The names of all processes.
struct People(Vec<Arc<Identity>>);

impl People {
    fn new() -> Self {
        let person = |n| {
            Arc::new(Identity {
                process: Arc::new(Process {
                    pid: 1000 + n,
                    executable_name: format!("bench-{n}"),
                    ..Process::default()
                }),
                ..Identity::default()
            })
        };
        Self((0..PROCESSES).map(person).collect())
    }

    fn apply(&self, table: &mut FlowTable, events: &[KernelEvent]) {
        for event in events {
            table.apply(event, |owner, _| {
                self.0[(owner.pid - 1000) as usize % self.0.len()].clone()
            });
        }
    }
}

fn table(group_by: GroupBy) -> FlowTable {
    let options = Options {
        group_by,
        max_connections: 131_072,
        max_flows: 131_072,
        ..Options::default()
    };
    FlowTable::new(options, Arc::default())
}

/// Flushes. Gives the number of records.
fn flush(table: &mut FlowTable) -> u64 {
    let mut records = 0;
    table.flush(
        1,
        |record| {
            black_box(&record);
            records += 1;
        },
        |usage| {
            black_box(usage);
        },
    );
    records
}

/// A table that knows all sockets and has told them.
fn known(group_by: GroupBy, people: &People) -> FlowTable {
    let mut table = table(group_by);
    people.apply(&mut table, &pass(SOCKETS, 1));
    flush(&mut table);
    table
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let figure = line.and_then(|line| line.split_ascii_whitespace().nth(1));
    figure.and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn memory() {
    let people = People::new();
    for (group_by, name) in [
        (GroupBy::Service, "service"),
        (GroupBy::Connection, "connection"),
    ] {
        let events = pass(100_000, 1);
        let before = resident_kib();
        let mut table = table(group_by);
        people.apply(&mut table, &events);
        let filled = resident_kib() - before;
        let records = flush(&mut table);
        let flushed = resident_kib() - before;
        println!(
            "100,000 connections, group_by {name}: {filled} KiB after the pass, {flushed} KiB after a flush of {records} records"
        );
        drop(table);
    }
}

fn benches(c: &mut Criterion) {
    let people = People::new();
    let mut group = c.benchmark_group("pass_20000");
    group.throughput(Throughput::Elements(SOCKETS.into()));
    let rounds: Vec<_> = (2..6).map(|round| pass(SOCKETS, round)).collect();

    let mut unchanged = known(GroupBy::Service, &people);
    let same = pass(SOCKETS, 1);
    group.bench_function("apply_unchanged", |b| {
        b.iter(|| people.apply(&mut unchanged, &same));
    });
    group.bench_function("apply_all_changed", |b| {
        b.iter_batched_ref(
            || known(GroupBy::Service, &people),
            |table| people.apply(table, &rounds[0]),
            BatchSize::PerIteration,
        );
    });
    group.bench_function("apply_first_sight", |b| {
        b.iter_batched_ref(
            || table(GroupBy::Service),
            |table| people.apply(table, &rounds[0]),
            BatchSize::PerIteration,
        );
    });
    group.bench_function("open_and_close_between_passes", |b| {
        let closed: Vec<_> = rounds[0]
            .iter()
            .map(|event| match event {
                KernelEvent::Connection(state) => KernelEvent::Connection(ConnectionState {
                    phase: Phase::Closed,
                    ..*state
                }),
                KernelEvent::Listener(_) | KernelEvent::Overflow(_) => *event,
            })
            .collect();
        b.iter_batched_ref(
            || table(GroupBy::Service),
            |table| people.apply(table, &closed),
            BatchSize::PerIteration,
        );
    });
    for (group_by, name) in [
        (GroupBy::Service, "flush_by_service"),
        (GroupBy::Connection, "flush_by_connection"),
    ] {
        group.bench_function(name, |b| {
            b.iter_batched_ref(
                || {
                    let mut table = known(group_by, &people);
                    people.apply(&mut table, &rounds[0]);
                    table
                },
                flush,
                BatchSize::PerIteration,
            );
        });
    }
    group.bench_function("metrics_of_a_flush", |b| {
        let host = Arc::default();
        let mut metrics = NetworkMetrics::new(series::Options::default(), &host, 0);
        let mut now = 0;
        b.iter_batched_ref(
            || {
                let mut table = known(GroupBy::Service, &people);
                people.apply(&mut table, &rounds[0]);
                table
            },
            |table| {
                now += 1;
                table.flush(now, |_| {}, |usage| metrics.apply(usage));
                metrics.collect(now)
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn main() {
    memory();
    let mut criterion = Criterion::default().configure_from_args();
    benches(&mut criterion);
    criterion.final_summary();
}
