//! The OTLP exporter: takes requests without waiting, sends them, and books what became of every item.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::export::client::{Client, ClientError, Failure};
use crate::export::options::{ExporterOptions, RetryOptions};
use crate::export::pack::Packed;
use crate::export::queue::{Held, Lease, Queue};
use crate::export::retry::{self, Backoff, Verdict};
use crate::export::split;
use crate::export::status::{EndpointStatus, Reporter};
use netflume_core::ledger::{Ledger, Reason, Stage};
use netflume_core::model::request::{Request, Signal};

/// Starts exporters.
#[derive(Debug)]
pub struct Exporter;

/// A running exporter. Clones are the same exporter.
#[derive(Clone, Debug)]
pub struct ExporterHandle(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    queue: Arc<Queue>,
    ledger: Arc<Ledger>,
    routes: [Option<Route>; 3],
    retry: RetryOptions,
    /// True when the end has begun.
    ending: watch::Sender<bool>,
    consumers: Mutex<Vec<JoinHandle<()>>>,
}

/// The way of one signal.
#[derive(Debug)]
struct Route {
    client: Client,
    compression: crate::export::options::Compression,
    reporter: Arc<Reporter>,
}

/// What became of one try of one request.
enum Outcome {
    /// All its items are booked.
    Done,
    /// It is to be sent as these.
    Halves(Packed, Packed),
}

impl Exporter {
    /// Starts sending; connections are made when the first request comes. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When an endpoint, a header or a TLS file cannot be used.
    pub fn start(
        options: &ExporterOptions,
        ledger: Arc<Ledger>,
    ) -> Result<ExporterHandle, ClientError> {
        let mut targets = Vec::new();
        let mut reporters: Vec<Arc<Reporter>> = Vec::new();
        let mut route = |signal| {
            let settings = options.signal(signal);
            let Some(client) = Client::new(signal, settings, &options.keepalive, &mut targets)?
            else {
                return Ok(None);
            };
            let at = targets
                .iter()
                .position(|target| Arc::ptr_eq(target, &client.target))
                .unwrap_or_default();
            if reporters.len() <= at {
                reporters.push(Reporter::new(&client.target.endpoint));
            }
            let reporter = reporters[at].clone();
            let compression = settings.compression;
            Ok(Some(Route {
                client,
                compression,
                reporter,
            }))
        };
        let routes = [
            route(Signal::Logs)?,
            route(Signal::Metrics)?,
            route(Signal::Traces)?,
        ];
        let inner = Arc::new(Inner {
            queue: Arc::new(Queue::new(&options.sending_queue, ledger.clone())),
            ledger,
            routes,
            retry: options.retry_on_failure.clone(),
            ending: watch::Sender::new(false),
            consumers: Mutex::default(),
        });
        let consumers = (0..options.sending_queue.num_consumers.max(1))
            .map(|_| tokio::spawn(consume(inner.clone())));
        *inner
            .consumers
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = consumers.collect();
        Ok(ExporterHandle(inner))
    }
}

impl ExporterHandle {
    /// Whether a signal has an endpoint; requests of others are dropped, counted.
    #[must_use]
    pub fn exports(&self, signal: Signal) -> bool {
        self.0.route(signal).is_some()
    }

    /// Takes a request: compresses it and puts it into the queue, or drops it, counted. Never waits.
    pub fn push(&self, request: Request) {
        let Some(route) = self.0.route(request.signal) else {
            self.0.ledger.received(Stage::Queue, request.items);
            self.0
                .ledger
                .dropped(Stage::Queue, Reason::Filtered, request.items);
            return;
        };
        let (signal, items) = (request.signal, request.items);
        let taken = self.0.queue.push(Packed::new(request, route.compression));
        if !taken && !*self.0.ending.borrow() {
            route
                .reporter
                .queue_full(signal, items, self.0.queue.held());
        }
    }

    /// Requests that wait for a free consumer.
    #[must_use]
    pub fn queue_len(&self) -> usize {
        self.0.queue.waiting()
    }

    /// What waits or is under way.
    #[must_use]
    pub fn held(&self) -> Held {
        self.0.queue.held()
    }

    /// How each receiver is doing.
    #[must_use]
    pub fn status(&self) -> Vec<EndpointStatus> {
        let mut reporters: Vec<&Arc<Reporter>> = Vec::new();
        for route in self.0.routes.iter().flatten() {
            if !reporters
                .iter()
                .any(|known| Arc::ptr_eq(known, &route.reporter))
            {
                reporters.push(&route.reporter);
            }
        }
        reporters
            .into_iter()
            .map(|reporter| reporter.status())
            .collect()
    }

    /// Sends what is there within `deadline`, then stops. Gives back how many items were left and are lost; they are
    /// counted. Requests that wait for their next attempt are tried at once, unless the receiver asked for the wait.
    pub async fn shutdown(&self, deadline: Duration) -> u64 {
        let inner = &self.0;
        inner.queue.close();
        inner.ending.send_replace(true);
        let consumers = std::mem::take(
            &mut *inner
                .consumers
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        let before = inner.lost_at_shutdown();
        let end = tokio::time::Instant::now() + deadline;
        for mut consumer in consumers {
            if tokio::time::timeout_at(end, &mut consumer).await.is_err() {
                consumer.abort();
                // A task that was told to stop ends with an error that says so.
                let _stopped = consumer.await.is_err();
            }
        }
        inner.queue.clear();
        let lost = inner.lost_at_shutdown() - before;
        if lost > 0 {
            tracing::error!(
                "{lost} items could not be delivered within {:.1} s and are lost",
                deadline.as_secs_f64()
            );
        }
        lost
    }
}

impl Inner {
    fn route(&self, signal: Signal) -> Option<&Route> {
        self.routes[signal as usize].as_ref()
    }

    fn lost_at_shutdown(&self) -> u64 {
        let lost = |stage| {
            let entry = self.ledger.entry(stage);
            entry
                .dropped
                .iter()
                .filter(|(reason, _)| *reason == Reason::Shutdown)
                .map(|(_, n)| n)
                .sum::<u64>()
        };
        lost(Stage::Queue) + lost(Stage::Export)
    }

    /// Brings a request to its end, whichever that is.
    async fn deliver(&self, lease: &mut Lease) {
        let Some(route) = self.route(lease.request.signal) else {
            return;
        };
        let mut parts = vec![lease.request.clone()];
        while let Some(part) = parts.pop() {
            if let Outcome::Halves(first, second) = self.send(route, &part, lease).await {
                parts.extend([second, first]);
            }
        }
    }

    /// Sends one request until it is taken, refused, or its time is over.
    async fn send(&self, route: &Route, request: &Packed, lease: &mut Lease) -> Outcome {
        let (signal, items) = (request.signal, request.items);
        let reporter = &route.reporter;
        let mut backoff = Backoff::new(&self.retry);
        let begin = Instant::now();
        let mut ending = self.ending.subscribe();
        loop {
            let failure = match route.client.attempt(request).await {
                Ok(answer) => {
                    reporter.answered(signal, true, self.queue.waiting());
                    let rejected = answer.rejected.min(items);
                    lease.accepted(items - rejected);
                    lease.dropped(Reason::PartialSuccess, rejected);
                    if rejected > 0 || !answer.message.is_empty() {
                        reporter.partly_taken(signal, rejected, items, &answer.message);
                    }
                    return Outcome::Done;
                }
                Err(failure) => failure,
            };
            match retry::judge(failure.code, &failure.message, failure.retry_delay) {
                Verdict::Reject => {
                    reporter.answered(signal, false, self.queue.waiting());
                    reporter.refused(signal, &failure, items);
                    lease.dropped(Reason::Rejected, items);
                    return Outcome::Done;
                }
                Verdict::Split => {
                    reporter.answered(signal, false, self.queue.waiting());
                    let halves = request
                        .unpack()
                        .ok()
                        .and_then(|request| split::halves(&request));
                    let Some((first, second)) = halves else {
                        reporter.too_large(signal, &failure, items);
                        lease.dropped(Reason::TooLarge, items);
                        return Outcome::Done;
                    };
                    let pack = |half| Packed::new(half, request.compression);
                    return Outcome::Halves(pack(first), pack(second));
                }
                Verdict::Retry(throttle) => {
                    let wait = backoff.next(begin.elapsed(), throttle, retry::chance());
                    let Some(wait) = wait else {
                        reporter.given_up(signal, &failure, items, begin.elapsed());
                        lease.dropped(Reason::RetriesExhausted, items);
                        return Outcome::Done;
                    };
                    self.pause(reporter, signal, &failure, wait, &mut ending)
                        .await;
                }
            }
        }
    }

    /// Waits before the next attempt; the beginning of the end cuts it short.
    async fn pause(
        &self,
        reporter: &Reporter,
        signal: Signal,
        failure: &Failure,
        wait: Duration,
        ending: &mut watch::Receiver<bool>,
    ) {
        reporter.failed(signal, failure, wait, self.queue.held());
        let asked_for = failure.retry_delay.is_some();
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            // Seen once by each request: after that it waits as before, until the deadline.
            Ok(()) = ending.changed(), if !asked_for => {}
        }
    }
}

async fn consume(inner: Arc<Inner>) {
    while let Some(mut lease) = inner.queue.pop().await {
        inner.deliver(&mut lease).await;
    }
}
