//! Whatever happens in whatever order, totals are kept: every interval's records together are what the connections did.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::tests::{Host, at};
use super::*;
use crate::aggregate::network_metrics::NetworkMetrics;
use crate::aggregate::series;
use crate::model::metrics::{Data, Number, ResourceMetrics};
use crate::model::netflow::Owner;

/// What happens to one of a few connections, or to all.
#[derive(Clone, Copy, Debug)]
enum Step {
    Open(u8),
    /// It moves bytes; nobody looks.
    Data(u8, u16, u16),
    /// The pass sees it.
    See(u8),
    /// An old observation of it comes late.
    SeeOld(u8),
    /// It ends and the end is seen.
    Close(u8),
    Fail(u8),
    Interval,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..12_u8).prop_map(Step::Open),
        6 => (0..12_u8, any::<u16>(), any::<u16>()).prop_map(|(n, s, r)| Step::Data(n, s, r)),
        6 => (0..12_u8).prop_map(Step::See),
        2 => (0..12_u8).prop_map(Step::SeeOld),
        2 => (0..12_u8).prop_map(Step::Close),
        1 => (0..12_u8).prop_map(Step::Fail),
        2 => Just(Step::Interval),
    ]
}

/// Sums over everything that was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Told {
    sent: u64,
    received: u64,
    opened: u64,
    closed: u64,
    failed: u64,
}

/// Sums of the metrics, from their first to their last collection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Metrics {
    bytes: u64,
    opened: u64,
    closed: u64,
    failed: u64,
    active: u64,
}

impl Metrics {
    fn of(metrics: &[ResourceMetrics]) -> Self {
        let mut sums = Self::default();
        for metric in metrics.iter().flat_map(|of| &of.metrics) {
            let Data::Sum { points, .. } = &metric.data else {
                continue;
            };
            let sum: i64 = points
                .iter()
                .map(|point| match point.value {
                    Number::Int(value) => value,
                    Number::Double(_) => 0,
                })
                .sum();
            let into = match metric.name {
                "network.flow.io" => &mut sums.bytes,
                "network.connection.opened" => &mut sums.opened,
                "network.connection.closed" => &mut sums.closed,
                "network.connection.failed" => &mut sums.failed,
                "network.connection.active" => &mut sums.active,
                _ => continue,
            };
            *into = u64::try_from(sum).unwrap();
        }
        sums
    }
}

/// The kernel and the table beside each other.
struct World {
    host: Host,
    metrics: NetworkMetrics,
    now: u64,
    /// What lives, with the observation before the newest.
    alive: BTreeMap<u8, (ConnectionState, ConnectionState)>,
    /// What happened.
    happened: Told,
    told: Told,
    told_by_metrics: Metrics,
    overflow_rows: u64,
    /// Connections may be taken for lost.
    expires: bool,
}

impl World {
    fn new(options: Options) -> Self {
        Self {
            expires: options.expire_after_passes > 0,
            host: Host::new(options),
            metrics: NetworkMetrics::new(series::Options::default(), &Arc::default(), 0),
            now: 1,
            alive: BTreeMap::new(),
            happened: Told::default(),
            told: Told::default(),
            told_by_metrics: Metrics::default(),
            overflow_rows: 0,
        }
    }

    fn step(&mut self, step: Step) {
        self.now += 1;
        let now = self.now;
        match step {
            Step::Open(n) => {
                if !self.alive.contains_key(&n) {
                    self.happened.opened += 1;
                    let state = ConnectionState {
                        id: u64::from(n),
                        boot_time_ns: now,
                        opened_boot_time_ns: now,
                        role: if n % 3 == 0 {
                            Role::Server
                        } else {
                            Role::Client
                        },
                        local: at(1, 100 + u16::from(n)),
                        peer: at(n % 4, 200 + u16::from(n)),
                        owner: Owner {
                            pid: u32::from(n % 2) + 1,
                            ..Owner::default()
                        },
                        ..ConnectionState::default()
                    };
                    self.alive.insert(n, (state, state));
                    self.host.see(state);
                }
            }
            Step::Data(n, sent, received) => {
                if let Some((state, before)) = self.alive.get_mut(&n) {
                    *before = *state;
                    state.boot_time_ns = now;
                    state.bytes_sent += u64::from(sent);
                    state.bytes_received += u64::from(received);
                    self.happened.sent += u64::from(sent);
                    self.happened.received += u64::from(received);
                }
            }
            Step::See(n) => {
                if let Some((state, _)) = self.alive.get(&n).copied() {
                    self.host.see(state);
                }
            }
            Step::SeeOld(n) => {
                if let Some((_, before)) = self.alive.get(&n).copied() {
                    self.host.see(before);
                }
            }
            Step::Close(n) => self.end(n, Phase::Closed),
            Step::Fail(n) => {
                // Only what was never established fails.
                let fresh = |(state, _): &(ConnectionState, ConnectionState)| {
                    state.bytes_sent + state.bytes_received == 0
                };
                if self.alive.get(&n).is_some_and(fresh) {
                    self.happened.failed += 1;
                    self.end(n, Phase::Failed);
                }
            }
            Step::Interval => self.interval(),
        }
    }

    fn end(&mut self, n: u8, phase: Phase) {
        if let Some((state, before)) = self.alive.remove(&n) {
            self.happened.closed += 1;
            self.host.see(ConnectionState {
                phase,
                boot_time_ns: self.now,
                ..state
            });
            // A pass that was read before the end may come after it.
            self.host.see(before);
        }
    }

    fn interval(&mut self) {
        let Self {
            host,
            metrics,
            told,
            overflow_rows,
            ..
        } = self;
        let mut page = metrics.clone();
        host.table.usage_so_far(|usage| page.apply(usage));
        let page = Metrics::of(&page.totals(self.now));
        host.table.flush(
            1,
            |record| {
                told.sent += record.bytes_written;
                told.received += record.bytes_read;
                told.opened += record.tcp_established;
                told.closed += record.tcp_closed;
                told.failed += record.failed.iter().map(|(_, count)| count).sum::<u64>();
                *overflow_rows += u64::from(record.overflow);
            },
            |usage| metrics.apply(usage),
        );
        self.told_by_metrics = Metrics::of(&self.metrics.collect(self.now));
        if self.expires {
            return;
        }
        assert_eq!(page, self.told_by_metrics, "what a page would have shown");
    }

    /// All that lives is seen once more and the interval ends: now everything is told.
    fn settle(&mut self) {
        for n in 0..12 {
            self.step(Step::See(n));
        }
        self.interval();
    }
}

fn options(group_by: GroupBy) -> Options {
    Options {
        group_by,
        // Nothing vanishes here.
        expire_after_passes: 0,
        ..Options::default()
    }
}

fn run(options: Options, steps: &[Step]) -> World {
    let mut world = World::new(options);
    for step in steps {
        world.step(*step);
    }
    world.settle();
    world
}

proptest! {
    #[test]
    fn any_order_of_events_keeps_the_totals(steps in proptest::collection::vec(step(), 0..150)) {
        let by_service = run(options(GroupBy::Service), &steps);
        let by_connection = run(options(GroupBy::Connection), &steps);
        for world in [&by_service, &by_connection] {
            let (told, happened) = (world.told, world.happened);
            prop_assert_eq!((told.sent, told.received, told.failed), (happened.sent, happened.received, happened.failed));
            // A connection that failed before its opening was told never opened.
            prop_assert_eq!(told.opened - told.closed, world.alive.len() as u64);
            prop_assert!(told.opened <= happened.opened);
        }
        prop_assert_eq!(by_service.told, by_connection.told);
    }

    #[test]
    fn metrics_have_the_totals_of_the_records(steps in proptest::collection::vec(step(), 0..150)) {
        let world = run(options(GroupBy::Service), &steps);
        let Told { sent, received, opened, closed, failed } = world.told;
        let expected = Metrics {
            bytes: sent + received,
            opened,
            closed,
            failed,
            active: world.alive.len() as u64,
        };
        prop_assert_eq!(world.told_by_metrics, expected);
    }

    #[test]
    fn overflow_keeps_the_totals(
        steps in proptest::collection::vec(step(), 0..150),
        max_flows in 1_usize..4,
        max_connections in 1_usize..6,
    ) {
        let small = Options { max_flows, max_connections, ..options(GroupBy::Connection) };
        let mut world = run(small, &steps);
        // What had no room is told when it closes.
        for n in 0..12 {
            world.step(Step::Close(n));
        }
        world.interval();
        let all = run(options(GroupBy::Connection), &steps);
        let (told, happened) = (world.told, all.happened);
        prop_assert_eq!((told.sent, told.received, told.failed), (happened.sent, happened.received, happened.failed));
        prop_assert_eq!(told.opened, told.closed);
        prop_assert_eq!(world.host.table.stats().connections, 0);
        let ledger = Ledger::default();
        world.host.table.book(&ledger);
        prop_assert_eq!(ledger.entry(Stage::Netflow).held(), 0);
    }

    #[test]
    fn what_vanishes_and_comes_back_is_told_once(
        steps in proptest::collection::vec(step(), 0..200),
        expire_after_passes in 1_u32..4,
    ) {
        let world = run(Options { expire_after_passes, ..options(GroupBy::Service) }, &steps);
        let (told, happened) = (world.told, world.happened);
        prop_assert_eq!((told.sent, told.received), (happened.sent, happened.received));
        prop_assert_eq!(told.opened - told.closed, world.alive.len() as u64);
        prop_assert_eq!(world.told_by_metrics.active, world.alive.len() as u64);
    }
}
