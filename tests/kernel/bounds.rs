//! Full maps and rings: counted, and the books balance.

use netflume::receivers::ebpf::source::KernelOptions;
use netflume_core::ledger::Reason;
use netflume_core::model::netflow::Phase;

use crate::support::{Pair, Watch, options, pair};

pub(crate) fn dropped(watch: &Watch, reason: Reason) -> u64 {
    let books = watch.books();
    books
        .dropped
        .iter()
        .find(|(r, _)| *r == reason)
        .map_or(0, |(_, n)| *n)
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn a_full_connection_map_is_counted_and_bytes_stay_exact() {
    let mut watch = Watch::with(&KernelOptions {
        max_connections: 4,
        ..options()
    });
    let mut pairs: Vec<Pair> = (0..20).map(|_| pair("127.0.0.1:0")).collect();
    for pair in &mut pairs {
        pair.exchange(10, 20);
    }
    watch.collect();
    let refused = dropped(&watch, Reason::MapFull);
    assert!(refused >= 36, "40 ends, room for 4: {refused}");
    let ends: Vec<_> = pairs.iter().map(|p| (p.a, p.b)).collect();
    for &(a, b) in &ends {
        let open = watch.last(a, b);
        assert_eq!(
            (open.bytes_sent, open.owner.pid),
            (10, std::process::id()),
            "the iterator still finds the owner"
        );
    }
    pairs.into_iter().for_each(Pair::close);
    for (a, b) in ends {
        let end = watch.closed(a, b);
        assert_eq!(
            (end.phase, end.bytes_sent, end.bytes_received),
            (Phase::Closed, 10, 20)
        );
    }
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn a_full_ring_is_counted_and_the_books_balance() {
    let mut watch = Watch::with(&KernelOptions {
        ring_bytes: 4096,
        ..options()
    });
    for _ in 0..100 {
        pair("127.0.0.1:0").close();
    }
    watch.drain();
    watch.collect();
    assert!(
        dropped(&watch, Reason::RingFull) >= 100,
        "{:?}",
        watch.books()
    );
    // Other sockets of the machine go on meanwhile; what is still in the ring is what is held.
    let held = watch.books().held();
    assert!((0..=22).contains(&held), "{:?}", watch.books());
}
