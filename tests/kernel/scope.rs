//! What is left out on purpose.

use netflume::source::kernel::{KernelOptions, Scope};

use crate::support::{Watch, in_new_namespace, options, pair};

#[test]
#[ignore = "needs root and a BTF kernel"]
fn a_pod_sees_itself_but_not_its_two_neighbours() {
    let neighbour = |work: &(dyn Fn() + Sync)| in_new_namespace(work);
    in_new_namespace(|| {
        let mut watch = Watch::with(&KernelOptions {
            scope: Scope::Pod,
            ..options()
        });
        let mut own = pair("127.0.0.1:0");
        own.exchange(1, 2);
        let (a, b) = (own.a, own.b);
        for _ in 0..2 {
            neighbour(&|| {
                let mut pair = pair("127.0.0.1:0");
                pair.exchange(3, 4);
                pair.close();
            });
        }
        watch.collect();
        own.close();
        watch.closed(a, b);
        watch.closed(b, a);
        let own = crate::support::own_namespace();
        assert!(
            watch.connections.iter().all(|c| c.netns == own),
            "{:?}",
            watch.connections
        );
        assert!(
            watch.listeners.iter().all(|l| l.netns == own),
            "{:?}",
            watch.listeners
        );
    });
}

#[test]
#[ignore = "needs root and a BTF kernel"]
fn loopback_is_left_out_when_told_so() {
    let mut watch = Watch::with(&KernelOptions {
        loopback: false,
        ..options()
    });
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let mut pair = pair(address);
        pair.exchange(5, 6);
        watch.collect();
        let (a, b) = (pair.a, pair.b);
        pair.close();
        watch.collect();
        assert_eq!(watch.about(a, b).len() + watch.about(b, a).len(), 0);
    }
}
