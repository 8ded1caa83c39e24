//! The Collector goes away: what fits into the queue arrives later, the rest is in the books to the last item.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result};
use netflume_tests::agent::Agent;
use netflume_tests::collector::Collector;
use netflume_tests::namespace::in_new_namespace;
use netflume_tests::page::Page;
use netflume_tests::traffic;
use netflume_tests::wait;

use crate::support::both_ends_are_exact;

/// Watches a network namespace of its own, where nothing happens but what the test does: what others do would come between any two looks.
/// Short waits, so that the test need not wait; `queue` goes into the queue's settings.
fn config(collector: &Collector, queue: &str) -> String {
    format!(
        "receivers: {{ ebpf: {{ interval: 1s, scope: pod }} }}\n\
         exporters:\n  otlp_grpc:\n    endpoint: \"{}\"\n    sending_queue: {{ {queue} }}\n    \
         retry_on_failure: {{ initial_interval: 100ms, max_interval: 300ms }}\n\
         extensions: {{ prometheus: {{ endpoint: \"127.0.0.1:0\" }} }}\n\
         service: {{ telemetry: {{ export: false }} }}\n",
        collector.endpoint()
    )
}

/// Our own counters, as our page shows them.
struct Books {
    received: u64,
    passed: u64,
    dropped: u64,
}

/// What the export queue took in, what the Collector answered for, and what was lost on that way.
fn books(page: SocketAddr) -> Result<Books> {
    let page = Page::read(page)?;
    let (queue, export) = (page.stage("queue"), page.stage("export"));
    Ok(Books {
        received: queue.received,
        passed: export.passed,
        dropped: queue.dropped + export.dropped,
    })
}

#[test]
#[ignore = "needs root, a BTF kernel and the Collector"]
fn an_outage_within_the_queue_loses_nothing_and_sends_nothing_twice() -> Result<()> {
    in_new_namespace(within_the_queue)
}

fn within_the_queue() -> Result<()> {
    let ip = Ipv4Addr::LOCALHOST.into();
    let mut collector = Collector::start()?;
    let mut agent = Agent::watching(Some(&config(&collector, "queue_size: 1000")), &[])?;
    let page = agent.listens("extensions.prometheus")?;
    let before = traffic::tcp(ip, 1_000, 2_000)?;
    both_ends_are_exact(&collector, &before)?;

    collector.stop()?;
    let during = traffic::tcp(ip, 3_000, 4_000)?;
    let at_first = books(page)?;
    wait::until("items of the outage wait in the queue", || {
        let books = books(page).ok()?;
        (books.received >= at_first.received + 20).then_some(())
    })?;

    collector.restart()?;
    let after = traffic::udp(ip, 5, 600, 700)?;
    for exchange in [before, during, after] {
        both_ends_are_exact(&collector, &exchange)?;
    }
    assert_eq!(books(page)?.dropped, 0);
    let status = agent.stop()?;
    assert!(status.success(), "{status}: {}", agent.stderr());
    Ok(())
}

#[test]
#[ignore = "needs root, a BTF kernel and the Collector"]
fn what_an_outage_beyond_the_queue_lost_is_in_the_books_to_the_item() -> Result<()> {
    in_new_namespace(beyond_the_queue)
}

fn beyond_the_queue() -> Result<()> {
    let ip = Ipv4Addr::LOCALHOST.into();
    let mut collector = Collector::start()?;
    let mut agent = Agent::watching(Some(&config(&collector, "queue_size: 3")), &[])?;
    let page = agent.listens("extensions.prometheus")?;
    both_ends_are_exact(&collector, &traffic::tcp(ip, 1, 2)?)?;

    collector.stop()?;
    wait::until("the queue overflows", || {
        traffic::tcp(ip, 10, 20).ok()?;
        (books(page).ok()?.dropped > 30).then_some(())
    })?;
    collector.restart()?;
    // Points of metrics keep coming with each interval; between two of them everything has been answered for.
    let mut seen = String::new();
    wait::until("the books balance with the Collector's files", || {
        let books = books(page).ok()?;
        let arrived = (collector.logs().ok()?.len() + collector.points().ok()?.len()) as u64;
        seen = format!(
            "queue received {}, Collector answered for {}, lost {}; its files hold {arrived}",
            books.received, books.passed, books.dropped
        );
        let balanced = books.received == books.passed + books.dropped && books.passed == arrived;
        balanced.then_some(())
    })
    .with_context(|| format!("{seen}\n{}", agent.stderr()))?;
    agent.stop()?;
    Ok(())
}
