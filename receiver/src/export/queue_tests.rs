//! What a queue takes, refuses and gives back.

use std::sync::mpsc::{Receiver, channel};
use std::task::Poll;

use bytes::Bytes;

use super::*;
use netflume_core::model::request::Signal;

fn queue(options: &QueueOptions) -> (Arc<Queue>, Arc<Ledger>) {
    let ledger = Arc::new(Ledger::default());
    let queue = Queue::new(options, Compression::None, None);
    (Arc::new(queue), ledger)
}

/// A queue whose compressor is the test.
fn compressing(options: &QueueOptions) -> (Arc<Queue>, Receiver<Unpacked>, Arc<Ledger>) {
    let ledger = Arc::new(Ledger::default());
    let (compressor, requests) = channel();
    let queue = Queue::new(options, Compression::Gzip, Some(compressor));
    (Arc::new(queue), requests, ledger)
}

fn request(bytes: usize, items: u64) -> Request {
    Request {
        signal: Signal::Logs,
        body: Bytes::from(vec![0; bytes]),
        items,
    }
}

#[tokio::test]
async fn requests_leave_in_order_and_the_ledger_balances() {
    let (queue, ledger) = queue(&QueueOptions::default());
    for items in 1..=3 {
        assert!(queue.push(request(10, items), &ledger));
    }
    let held = Held {
        requests: 3,
        items: 6,
        bytes: 30,
    };
    assert_eq!((queue.waiting(), queue.held()), (3, held));
    for items in 1..=3 {
        let mut lease = queue.pop().await.unwrap();
        assert_eq!(lease.request.items, items);
        lease.accepted(items);
    }
    assert_eq!((queue.waiting(), queue.held()), (0, Held::default()));
    assert_eq!(ledger.entry(Stage::Queue).held(), 0);
    assert_eq!(ledger.entry(Stage::Export).passed, 6);
    assert_eq!(ledger.entry(Stage::Export).held(), 0);
}

#[tokio::test]
async fn the_newest_is_refused_when_there_is_no_room_by_count_or_bytes() {
    for options in [
        QueueOptions {
            queue_size: 2,
            ..QueueOptions::default()
        },
        QueueOptions {
            queue_size: 3,
            sizer: Sizer::Items,
            ..QueueOptions::default()
        },
        QueueOptions {
            queue_size: 29,
            sizer: Sizer::Bytes,
            ..QueueOptions::default()
        },
        QueueOptions {
            max_bytes: 25,
            ..QueueOptions::default()
        },
    ] {
        let (queue, ledger) = queue(&options);
        let taken: Vec<_> = (1..=4)
            .map(|items| queue.push(request(10, items), &ledger))
            .collect();
        assert_eq!(taken, [true, true, false, false]);
        assert_eq!(
            ledger.entry(Stage::Queue).dropped,
            [(Reason::QueueFull, 3 + 4)]
        );
        // What is under way still takes up room.
        let lease = queue.pop().await.unwrap();
        assert!(!queue.push(request(10, 1), &ledger));
        drop(lease);
        assert!(queue.push(request(10, 1), &ledger));
    }
}

#[tokio::test]
async fn a_request_larger_than_the_queue_is_let_in_alone() {
    let (queue, ledger) = queue(&QueueOptions {
        max_bytes: 5,
        ..QueueOptions::default()
    });
    assert!(queue.push(request(10, 1), &ledger));
    assert!(!queue.push(request(1, 1), &ledger));
}

#[tokio::test]
async fn without_a_queue_only_what_is_under_way_has_room() {
    let options = QueueOptions {
        enabled: false,
        num_consumers: 2,
        ..QueueOptions::default()
    };
    let (queue, ledger) = queue(&options);
    let taken: Vec<_> = (0..3).map(|_| queue.push(request(1, 1), &ledger)).collect();
    assert_eq!(taken, [true, true, false]);
}

#[tokio::test]
async fn what_is_compressed_leaves_in_order_and_takes_up_less() {
    let (queue, requests, ledger) = compressing(&QueueOptions::default());
    for items in 1..=2 {
        assert!(queue.push(request(100_000, items), &ledger));
    }
    assert_eq!((queue.waiting(), queue.held().bytes), (2, 200_000));
    assert_eq!(
        at_once(&queue).await,
        None,
        "nothing leaves before it is compressed"
    );
    for unpacked in requests.try_iter() {
        unpacked.pack();
    }
    let held = queue.held();
    assert!(held.requests == 2 && held.bytes < 2000, "{held:?}");
    for items in 1..=2 {
        let lease = queue.pop().await.unwrap();
        assert_eq!(
            (lease.request.items, lease.request.compression),
            (items, Compression::Gzip)
        );
    }
    assert_eq!(queue.held(), Held::default());
    assert_eq!(ledger.entry(Stage::Queue).held(), 0);
}

/// The items of a request that can leave at once.
async fn at_once(queue: &Arc<Queue>) -> Option<u64> {
    let mut pop = std::pin::pin!(queue.pop());
    std::future::poll_fn(|cx| {
        Poll::Ready(match pop.as_mut().poll(cx) {
            Poll::Ready(lease) => lease.map(|lease| lease.request.items),
            Poll::Pending => None,
        })
    })
    .await
}

#[tokio::test]
async fn what_finds_no_room_is_not_compressed() {
    let options = QueueOptions {
        queue_size: 1,
        ..QueueOptions::default()
    };
    let (queue, requests, ledger) = compressing(&options);
    assert!(queue.push(request(1000, 1), &ledger));
    requests.recv().unwrap().pack();
    for _ in 0..3 {
        assert!(!queue.push(request(1000, 1), &ledger));
    }
    assert_eq!(requests.try_iter().count(), 0);
    assert_eq!(ledger.entry(Stage::Queue).dropped, [(Reason::QueueFull, 3)]);
}

#[test]
fn a_burst_waits_for_the_compressor_instead_of_being_dropped() {
    // Uncompressed it fits neither the queue nor the room in front of the compressor.
    let options = QueueOptions {
        max_bytes: 3 * 1024 * 1024,
        ..QueueOptions::default()
    };
    let (queue, requests, ledger) = compressing(&options);
    let compressor = std::thread::spawn(move || requests.into_iter().for_each(Unpacked::pack));
    for _ in 0..20 {
        assert!(queue.push(request(2 * 1024 * 1024, 1), &ledger));
    }
    queue.close();
    compressor.join().unwrap();
    assert_eq!(queue.waiting(), 20);
    assert_eq!(ledger.entry(Stage::Queue).dropped, []);
}

#[test]
fn a_compressor_that_is_gone_leaves_requests_as_they_are() {
    let (queue, requests, ledger) = compressing(&QueueOptions::default());
    drop(requests);
    assert!(queue.push(request(1000, 1), &ledger));
    assert_eq!(queue.waiting(), 1);
}

#[tokio::test]
async fn a_full_queue_is_waited_for_on_request() {
    let options = QueueOptions {
        queue_size: 1,
        block_on_overflow: true,
        ..QueueOptions::default()
    };
    let (queue, ledger) = queue(&options);
    let pushing = tokio::task::spawn_blocking({
        let (queue, ledger) = (queue.clone(), ledger.clone());
        move || (1..=100).all(|items| queue.push(request(1, items), &ledger))
    });
    for items in 1..=100 {
        let mut lease = queue.pop().await.unwrap();
        assert_eq!(lease.request.items, items);
        lease.accepted(items);
    }
    assert!(pushing.await.unwrap());
    assert_eq!(ledger.entry(Stage::Queue).dropped, []);
    // The end does not wait.
    assert!(queue.push(request(1, 1), &ledger));
    let pushing = tokio::task::spawn_blocking({
        let queue = queue.clone();
        move || queue.push(request(1, 2), &ledger)
    });
    queue.close();
    assert!(!pushing.await.unwrap());
}

#[tokio::test]
async fn a_closed_queue_takes_nothing_and_every_consumer_ends_when_it_is_empty() {
    let (queue, requests, ledger) = compressing(&QueueOptions::default());
    assert!(queue.push(request(1, 1), &ledger));
    assert!(queue.push(request(1, 1), &ledger));
    let consume = || {
        let queue = queue.clone();
        tokio::spawn(async move {
            let mut taken = 0;
            while let Some(lease) = queue.pop().await {
                taken += lease.request.items;
            }
            taken
        })
    };
    let consumers: Vec<_> = (0..5).map(|_| consume()).collect();
    // All of them wait: nothing is compressed yet.
    tokio::task::yield_now().await;
    queue.close();
    assert!(!queue.push(request(1, 2), &ledger));
    assert_eq!(ledger.entry(Stage::Queue).dropped, [(Reason::Shutdown, 2)]);
    tokio::task::yield_now().await;
    requests.into_iter().for_each(Unpacked::pack);
    let mut taken = 0;
    for consumer in consumers {
        taken += consumer.await.unwrap();
    }
    assert_eq!(taken, 2);
}

#[tokio::test]
async fn what_is_left_is_counted_as_lost_at_shutdown() {
    let (queue, requests, ledger) = compressing(&QueueOptions::default());
    for items in [5, 7, 9] {
        assert!(queue.push(request(1, items), &ledger));
    }
    for unpacked in requests.try_iter().take(2) {
        unpacked.pack();
    }
    let late = requests.try_recv().unwrap();
    let mut lease = queue.pop().await.unwrap();
    lease.accepted(2);
    drop(lease);
    queue.close();
    queue.clear();
    assert_eq!(ledger.entry(Stage::Export).dropped, [(Reason::Shutdown, 3)]);
    assert_eq!(
        ledger.entry(Stage::Queue).dropped,
        [(Reason::Shutdown, 7 + 9)]
    );
    assert_eq!(queue.held(), Held::default());
    // The compressor may finish what it was at; it is counted already.
    late.pack();
    assert_eq!((queue.waiting(), ledger.entry(Stage::Queue).held()), (0, 0));
}
