//! What is lost, and what is not, when the Collector is away.

use std::time::{Duration, Instant};

use netflume::export::options::QueueOptions;
use netflume_core::ledger::{Reason, Stage};
use netflume_core::model::request::{Request, Signal};
use netflume_core::otlp::logs::netflow::Netflow;
use netflume_core::otlp::logs::{LogsEncoder, LogsOptions};
use netflume_tests::fake_collector::{FakeCollector, Reply};
use netflume_tests::wait;
use tonic::Code;

use crate::harness::{self, Running, SOON, logs, logs_from, metrics, names, options, traces};

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_while_the_collector_is_away() {
    let mut collector = FakeCollector::start().unwrap();
    let running = Running::start(&options(&collector.endpoint()));
    running.push(logs_from(0, 10));
    running.settled();
    collector.stop();
    for n in 1..30 {
        running.push(logs_from(n * 10, 10));
    }
    let failing = wait::until("the outage is seen", || {
        running.exporter.status()[0].failing.clone()
    })
    .unwrap();
    assert_eq!(
        (failing.code, failing.signal),
        ("UNAVAILABLE", Signal::Logs)
    );
    assert!(failing.message.contains("connect"), "{}", failing.message);
    assert!(running.exporter.queue_len() > 0);
    collector.restart().unwrap();
    running.settled();
    assert_eq!((running.delivered(), running.lost()), (300, vec![]));
    let mut expected: Vec<_> = (0..300).map(|n| format!("record-{n}")).collect();
    expected.sort();
    assert_eq!(names(&collector.logs()), expected);
    assert!(running.exporter.status()[0].failing.is_none());
    running.stop().await;
}

/// What the defaults promise: 1,000 changing flows an interval of 10 s, for two minutes.
#[tokio::test(flavor = "multi_thread")]
async fn the_default_queue_holds_two_minutes_many_times_over() {
    let mut collector = FakeCollector::start().unwrap();
    collector.stop();
    let mut options = options(&collector.endpoint());
    options.sending_queue = QueueOptions::default();
    let running = Running::start(&options);
    let mut encoder = LogsEncoder::new(LogsOptions::default());
    let mut requests = 0;
    for interval in 0..12 {
        for flow in 0..1000 {
            assert_eq!(
                encoder.push(&Netflow::from(&harness::record(interval, flow))),
                None
            );
        }
        running.push(encoder.finish().unwrap());
        running.push(metrics(1000));
        requests += 2;
    }
    assert_eq!(running.ledger.entry(Stage::Queue).dropped, []);
    let room = QueueOptions::default();
    wait::until("all that waits is compressed", || {
        let held = running.exporter.held();
        let fits = held.requests * 20 < room.queue_size && held.bytes * 10 < room.max_bytes;
        (held.requests == requests && fits).then_some(())
    })
    .unwrap();
    collector.restart().unwrap();
    running.settled();
    assert_eq!((running.delivered(), running.lost()), (24_000, vec![]));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_books_are_exact_when_the_queue_overflows() {
    let mut collector = FakeCollector::start().unwrap();
    collector.stop();
    let mut options = options(&collector.endpoint());
    options.sending_queue = QueueOptions {
        queue_size: 8,
        num_consumers: 3,
        ..QueueOptions::default()
    };
    let running = Running::start(&options);
    for n in 0..20 {
        running.push(logs_from(n * 10, 10));
    }
    // The newest went: those that came first keep their place.
    let dropped = running.ledger.entry(Stage::Queue).dropped;
    assert_eq!(dropped, [(Reason::QueueFull, 120)]);
    collector.restart().unwrap();
    running.settled();
    let mut expected: Vec<_> = (0..80).map(|n| format!("record-{n}")).collect();
    expected.sort();
    assert_eq!(names(&collector.logs()), expected);
    let queue = running.ledger.entry(Stage::Queue);
    assert_eq!(
        (queue.received, queue.passed, running.delivered()),
        (200, 80, 80)
    );
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_cut_off_by_the_collectors_death_is_sent_again() {
    let mut collector = FakeCollector::start().unwrap();
    collector.script([Reply::Hang], Reply::Take);
    let running = Running::start(&options(&collector.endpoint()));
    running.push(logs(5));
    wait::until("the request came", || {
        (!collector.received().is_empty()).then_some(())
    })
    .unwrap();
    collector.stop();
    collector.restart().unwrap();
    running.settled();
    assert_eq!((running.delivered(), collector.received().len()), (5, 2));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_each_signal_go_out_together_but_metrics_one_at_a_time() {
    let collector = FakeCollector::start().unwrap();
    collector.script([], Reply::Hang);
    let mut options = options(&collector.endpoint());
    options.sending_queue.num_consumers = 4;
    let running = Running::start(&options);
    for _ in 0..5 {
        running.push(metrics(1));
        running.push(logs(1));
        running.push(traces(1));
    }
    let count = |signal| {
        collector
            .received()
            .iter()
            .filter(|request| request.signal == signal)
            .count()
    };
    wait::until("all consumers are busy", || {
        let all = [Signal::Logs, Signal::Metrics, Signal::Traces].map(count);
        (all == [4, 1, 4]).then_some(())
    })
    .unwrap();
    let soon = Some(Duration::from_millis(10));
    assert_eq!(running.exporter.shutdown(soon).await, 15);
    assert_eq!(count(Signal::Metrics), 1);
    running.balanced();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_one_signal_pushes_no_other_out() {
    let mut collector = FakeCollector::start().unwrap();
    collector.stop();
    let mut options = options(&collector.endpoint());
    options.sending_queue.queue_size = 8;
    let running = Running::start(&options);
    for n in 0..20 {
        running.push(logs_from(n, 1));
    }
    for _ in 0..8 {
        running.push(metrics(10));
        running.push(traces(10));
    }
    let dropped = running.ledger.entry(Stage::Queue).dropped;
    assert_eq!(dropped, [(Reason::QueueFull, 12)], "log records only");
    let held: Vec<_> = running
        .exporter
        .held_by_signal()
        .into_iter()
        .map(|(signal, held)| (signal, held.items))
        .collect();
    assert_eq!(
        held,
        [
            (Signal::Logs, 8),
            (Signal::Metrics, 80),
            (Signal::Traces, 80)
        ]
    );
    collector.restart().unwrap();
    running.settled();
    assert_eq!((running.delivered(), running.lost()), (168, vec![]));
    running.stop().await;
}

/// Whatever waits at the end, and in whatever order it is answered: once it is delivered, the stop is over.
#[tokio::test(flavor = "multi_thread")]
async fn shutdown_sends_what_is_there_and_ends_with_the_last_answer() {
    let all: [fn(u64) -> Request; 3] = [logs, metrics, traces];
    for kinds in [&all[..1], &all[1..2], &all[2..], &all[..]] {
        let collector = FakeCollector::start().unwrap();
        let running = Running::start(&options(&collector.endpoint()));
        for _ in 0..50 {
            for request in kinds {
                running.push(request(1));
            }
        }
        let items = 50 * kinds.len() as u64;
        let ledger = running.ledger.clone();
        let begin = Instant::now();
        // As long as a machine may be busy; a consumer that is left asleep takes all of it.
        assert_eq!(running.stop().await, 0);
        let took = begin.elapsed();
        assert!(took < SOON / 2, "{took:?} for {items} items");
        assert_eq!(
            (collector.taken_items(), ledger.entry(Stage::Export).passed),
            (items, items)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_keeps_its_deadline_and_counts_what_is_left() {
    let collector = FakeCollector::start().unwrap();
    collector.script([], Reply::Hang);
    let mut options = options(&collector.endpoint());
    options.sending_queue.num_consumers = 2;
    let running = Running::start(&options);
    for _ in 0..5 {
        running.push(logs(10));
    }
    wait::until("two are under way", || {
        (collector.received().len() == 2).then_some(())
    })
    .unwrap();
    let begin = Instant::now();
    let left = running
        .exporter
        .shutdown(Some(Duration::from_millis(200)))
        .await;
    // A request that nothing answers would take all of its time, [`SOON`].
    assert!(begin.elapsed() < SOON / 2, "{:?}", begin.elapsed());
    assert_eq!(left, 50);
    assert_eq!(running.lost(), [(Reason::Shutdown, 20)]);
    assert_eq!(
        running.ledger.entry(Stage::Queue).dropped,
        [(Reason::Shutdown, 30)]
    );
    running.balanced();
    running.push(logs(1));
    assert_eq!(
        running.ledger.entry(Stage::Queue).dropped,
        [(Reason::Shutdown, 31)]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_does_not_sleep_through_a_wait() {
    let collector = FakeCollector::start().unwrap();
    collector.script([Reply::Code(Code::Unavailable, "starting")], Reply::Take);
    let mut options = options(&collector.endpoint());
    options.retry_on_failure.initial_interval = Duration::from_secs(3600);
    options.retry_on_failure.max_elapsed_time = Duration::ZERO;
    let running = Running::start(&options);
    running.push(logs(4));
    wait::until("it waits for its second try", || {
        running.exporter.status()[0].failing.clone()
    })
    .unwrap();
    assert_eq!(
        running
            .exporter
            .shutdown(Some(Duration::from_secs(20)))
            .await,
        0
    );
    assert_eq!(running.delivered(), 4);
    running.balanced();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_without_an_endpoint_is_not_exported_but_counted() {
    let collector = FakeCollector::start().unwrap();
    let mut options = options(&collector.endpoint());
    options.metrics.endpoint = None;
    let running = Running::start(&options);
    assert!(running.exporter.exports(Signal::Logs) && !running.exporter.exports(Signal::Metrics));
    running.push(metrics(3));
    running.push(logs(2));
    running.settled();
    assert_eq!(
        running.ledger.entry(Stage::Queue).dropped,
        [(Reason::NotExported, 3)]
    );
    assert_eq!(collector.taken_items(), 2);
    running.stop().await;
}
