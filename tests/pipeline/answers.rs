//! What becomes of a request by what the Collector answers.

use std::time::Duration;

use netflume::export::options::Compression;
use netflume_core::ledger::Reason;
use netflume_core::model::request::Signal;
use netflume_tests::fake_collector::{FakeCollector, Reply};
use tonic::Code;

use crate::harness::{Running, logs, logs_from, logs_of_size, metrics, names, options, traces};

const RETRYABLE: [Code; 6] = [
    Code::Cancelled,
    Code::DeadlineExceeded,
    Code::Aborted,
    Code::OutOfRange,
    Code::Unavailable,
    Code::DataLoss,
];
const PERMANENT: [Code; 9] = [
    Code::Unknown,
    Code::InvalidArgument,
    Code::NotFound,
    Code::AlreadyExists,
    Code::PermissionDenied,
    Code::FailedPrecondition,
    Code::Unimplemented,
    Code::Internal,
    Code::Unauthenticated,
];

#[tokio::test(flavor = "multi_thread")]
async fn a_retryable_code_is_sent_again_until_it_is_taken() {
    for code in RETRYABLE {
        let collector = FakeCollector::start().unwrap();
        collector.script(
            [Reply::Code(code, "not now"), Reply::Code(code, "not now")],
            Reply::Take,
        );
        let running = Running::start(&options(&collector.endpoint()));
        running.push(logs(3));
        running.settled();
        assert_eq!(
            (running.delivered(), running.lost()),
            (3, vec![]),
            "{code:?}"
        );
        assert_eq!(collector.received().len(), 3, "{code:?}");
        assert!(running.exporter.status()[0].failing.is_none());
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permanent_code_is_not_sent_again_and_its_items_are_counted() {
    for code in PERMANENT {
        let collector = FakeCollector::start().unwrap();
        collector.script([Reply::Code(code, "no\nnever")], Reply::Take);
        let running = Running::start(&options(&collector.endpoint()));
        running.push(logs(3));
        running.settled();
        assert_eq!(
            (running.delivered(), running.lost()),
            (0, vec![(Reason::Rejected, 3)]),
            "{code:?}"
        );
        let refused = running.exporter.status()[0].refused.clone().unwrap();
        assert_eq!(
            (refused.signal, refused.message.as_str()),
            (Signal::Logs, "no\nnever"),
            "{code:?}"
        );
        // The next one is taken: a refusal says nothing about others.
        running.push(logs(2));
        running.settled();
        assert_eq!(
            (running.delivered(), collector.received().len()),
            (2, 2),
            "{code:?}"
        );
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn resource_exhausted_is_sent_again_only_with_retry_info() {
    let collector = FakeCollector::start().unwrap();
    let delay = Duration::from_millis(300);
    collector.script(
        [Reply::Throttle(Code::ResourceExhausted, delay)],
        Reply::Take,
    );
    let running = Running::start(&options(&collector.endpoint()));
    running.push(logs(3));
    running.settled();
    let received = collector.received();
    assert_eq!((running.delivered(), received.len()), (3, 2));
    assert!(
        received[1].at - received[0].at >= delay,
        "the wait that was asked for was kept"
    );

    collector.script([Reply::Code(Code::ResourceExhausted, "quota")], Reply::Take);
    running.push(logs(4));
    running.settled();
    assert_eq!(running.lost(), [(Reason::Rejected, 4)]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_info_of_another_code_is_kept_too() {
    let collector = FakeCollector::start().unwrap();
    let delay = Duration::from_millis(300);
    collector.script([Reply::Throttle(Code::Unavailable, delay)], Reply::Take);
    let running = Running::start(&options(&collector.endpoint()));
    running.push(logs(1));
    running.settled();
    let received = collector.received();
    assert!(received[1].at - received[0].at >= delay);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partial_success_is_counted_and_never_sent_again() {
    let collector = FakeCollector::start().unwrap();
    let replies = [
        Reply::Partial(2, "too old"),
        Reply::Partial(0, "a warning"),
        Reply::Partial(99, "more than there were"),
    ];
    collector.script(replies, Reply::Take);
    let running = Running::start(&options(&collector.endpoint()));
    for (request, delivered, lost) in [(logs(5), 3, 2), (metrics(4), 7, 2), (traces(3), 7, 5)] {
        running.push(request);
        running.settled();
        assert_eq!(
            (running.delivered(), running.lost()),
            (delivered, vec![(Reason::PartialSuccess, lost)])
        );
    }
    assert_eq!(collector.received().len(), 3);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_too_large_is_halved_until_it_fits() {
    let collector = FakeCollector::start().unwrap();
    collector.refuse_more_than(10);
    let running = Running::start(&options(&collector.endpoint()));
    running.push(logs_from(0, 37));
    running.push(metrics(25));
    running.push(traces(21));
    running.settled();
    assert_eq!(
        (running.delivered(), running.lost()),
        (37 + 25 + 21, vec![])
    );
    assert_eq!(collector.taken_items(), 37 + 25 + 21);
    let mut expected: Vec<_> = (0..37).map(|n| format!("record-{n}")).collect();
    expected.sort();
    assert_eq!(
        names(&collector.logs()),
        expected,
        "each record arrived once"
    );
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_that_is_too_large_alone_is_dropped_and_counted() {
    let collector = FakeCollector::start().unwrap();
    collector.refuse_more_than(0);
    let running = Running::start(&options(&collector.endpoint()));
    running.push(logs(3));
    running.settled();
    assert_eq!(
        (running.delivered(), running.lost()),
        (0, vec![(Reason::TooLarge, 3)])
    );
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_takes_no_large_message_gets_it_in_parts() {
    // The fake's own gRPC library has the usual limit of 4 MiB, and says so in two ways.
    for compression in [Compression::Gzip, Compression::None] {
        let collector = FakeCollector::start().unwrap();
        let mut options = options(&collector.endpoint());
        options.logs.compression = compression;
        let running = Running::start(&options);
        let request = logs_of_size(5000, 1000);
        assert!(request.body.len() > 4 * 1024 * 1024);
        running.push(request);
        running.settled();
        assert_eq!(
            (running.delivered(), running.lost()),
            (5000, vec![]),
            "{compression:?}"
        );
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_hangs_runs_into_the_timeout_and_is_tried_again() {
    let collector = FakeCollector::start().unwrap();
    collector.script([Reply::Hang, Reply::Hang], Reply::Take);
    let mut options = options(&collector.endpoint());
    options.for_all(|signal| signal.timeout = Duration::from_millis(300));
    let running = Running::start(&options);
    running.push(logs(3));
    running.settled();
    assert_eq!((running.delivered(), running.lost()), (3, vec![]));
    // On a busy machine a later answer may be late too.
    assert!(collector.received().len() >= 3);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_end_with_the_time_allowed() {
    let collector = FakeCollector::start().unwrap();
    collector.script([], Reply::Code(Code::Unavailable, "down"));
    let mut options = options(&collector.endpoint());
    // Fifteen times the longest wait, so that a busy machine tries several times too.
    options.retry_on_failure.max_elapsed_time = Duration::from_millis(1500);
    let running = Running::start(&options);
    running.push(logs(3));
    running.settled();
    assert_eq!(running.lost(), [(Reason::RetriesExhausted, 3)]);
    assert!(collector.received().len() > 2, "it was tried several times");
    assert!(running.exporter.status()[0].failing.is_some());

    let mut options = options.clone();
    options.retry_on_failure.enabled = false;
    let once = Running::start(&options);
    let before = collector.received().len();
    once.push(logs(3));
    once.settled();
    assert_eq!(
        (once.lost(), collector.received().len()),
        (vec![(Reason::RetriesExhausted, 3)], before + 1)
    );
    once.stop().await;
    running.stop().await;
}
