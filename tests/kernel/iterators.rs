//! The pass over open connections: complete, in every network namespace, whichever iterator makes it.

use std::collections::BTreeSet;

use netflume::receivers::ebpf::source::{KernelOptions, Pass};
use netflume_core::model::netflow::{Endpoint, Phase};

use crate::support::{Pair, Watch, in_new_namespace, options, own_namespace, pair};

type Seen = BTreeSet<(u32, Endpoint, Endpoint, u64, u64)>;

/// What one pass says about the connections between these ends.
fn pass(pass: Pass, expected: &Seen) -> Seen {
    let mut watch = Watch::with(&KernelOptions { pass, ..options() });
    watch.connections.clear();
    watch.collect();
    let open = watch.connections.iter().filter(|c| c.phase == Phase::Open);
    let seen = open.map(|c| (c.netns, c.local, c.peer, c.bytes_sent, c.bytes_received));
    seen.filter(|s| expected.contains(s)).collect()
}

/// So many connections in the namespace of this thread, each with bytes of its own.
fn connect(count: usize, expected: &mut Seen) -> Vec<Pair> {
    let netns = own_namespace();
    let pairs: Vec<Pair> = (1..=count)
        .map(|i| {
            let mut pair = pair(if i % 2 == 0 { "127.0.0.1:0" } else { "[::1]:0" });
            pair.exchange(i, 2 * i);
            pair
        })
        .collect();
    for (i, pair) in (1..).zip(&pairs) {
        expected.insert((netns, pair.a.into(), pair.b.into(), i, 2 * i));
        expected.insert((netns, pair.b.into(), pair.a.into(), 2 * i, i));
    }
    pairs
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn descriptors_and_namespaces_tell_the_same_connections() {
    let mut expected = Seen::new();
    let here = connect(50, &mut expected);
    in_new_namespace(|| {
        let there = connect(30, &mut expected);
        in_new_namespace(|| {
            let beyond = connect(20, &mut expected);
            assert_eq!(expected.len(), 200);
            for choice in [Pass::TaskFile, Pass::Tcp, Pass::Auto] {
                let seen = pass(choice, &expected);
                let missing: Vec<_> = expected.difference(&seen).collect();
                assert!(missing.is_empty(), "{choice:?} does not tell {missing:?}");
            }
            drop(beyond);
        });
        drop(there);
    });
    drop(here);
}
