//! The OTLP exporter: takes requests without waiting, sends them, and books what became of every item.

use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::export::client::{Client, ClientError, Failure};
use crate::export::options::{Compression, ExporterOptions, RetryOptions, SignalOptions};
use crate::export::pack::Packed;
use crate::export::queue::{Held, Lease, Queue, Unpacked};
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

/// The exporter that is in use, if any is: a reload may put another one in its place.
pub type CurrentExporter = Arc<Mutex<Option<ExporterHandle>>>;

#[derive(Debug)]
struct Inner {
    routes: [Option<Route>; 3],
    retry: RetryOptions,
    /// True when the end has begun.
    ending: watch::Sender<bool>,
    consumers: Mutex<Vec<JoinHandle<()>>>,
}

/// The way of one signal. Each has a queue of its own, so that a burst of one pushes no other out.
#[derive(Debug)]
struct Route {
    client: Client,
    queue: Arc<Queue>,
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
    pub fn start(options: &ExporterOptions) -> Result<ExporterHandle, ClientError> {
        let mut targets = Vec::new();
        let mut reporters: Vec<Arc<Reporter>> = Vec::new();
        let compressor = compressor(options)?;
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
            let queue = Queue::new(
                &options.sending_queue,
                settings.compression,
                compressor.clone(),
            );
            Ok(Some(Route {
                client,
                queue: Arc::new(queue),
                reporter: reporters[at].clone(),
            }))
        };
        let routes = [
            route(Signal::Logs)?,
            route(Signal::Metrics)?,
            route(Signal::Traces)?,
        ];
        let inner = Arc::new(Inner {
            routes,
            retry: options.retry_on_failure.clone(),
            ending: watch::Sender::new(false),
            consumers: Mutex::default(),
        });
        let mut consumers = Vec::new();
        for signal in [Signal::Logs, Signal::Metrics, Signal::Traces] {
            // Metrics leave one request at a time: a backend that adds up deltas, or drops points older than the last one,
            // needs them in order.
            let count = match signal {
                Signal::Metrics => 1,
                Signal::Logs | Signal::Traces => options.sending_queue.num_consumers.max(1),
            };
            if inner.route(signal).is_some() {
                consumers.extend((0..count).map(|_| tokio::spawn(consume(inner.clone(), signal))));
            }
        }
        *inner
            .consumers
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = consumers;
        Ok(ExporterHandle(inner))
    }
}

impl ExporterHandle {
    /// Whether a signal has an endpoint; requests of others are dropped, counted.
    #[must_use]
    pub fn exports(&self, signal: Signal) -> bool {
        self.0.route(signal).is_some()
    }

    /// Takes a request, whose items `ledger` counts, into the queue of its signal, or drops it, counted. Waits while what came before is being compressed (as
    /// long as compressing here would take), and for the receiver only with
    /// [`block_on_overflow`](crate::export::options::QueueOptions::block_on_overflow).
    pub fn push(&self, request: Request, ledger: &Arc<Ledger>) {
        let Some(route) = self.0.route(request.signal) else {
            ledger.received(Stage::Queue, request.items);
            ledger.dropped(Stage::Queue, Reason::NotExported, request.items);
            return;
        };
        let (signal, items) = (request.signal, request.items);
        let taken = route.queue.push(request, ledger);
        if !taken && !*self.0.ending.borrow() {
            route.reporter.queue_full(signal, items, route.queue.held());
        }
    }

    /// Requests that wait for a free consumer, of all signals.
    #[must_use]
    pub fn queue_len(&self) -> usize {
        self.0.waiting()
    }

    /// What waits or is under way, of all signals.
    #[must_use]
    pub fn held(&self) -> Held {
        self.0.held()
    }

    /// What waits or is under way, by signal; only those that are exported.
    #[must_use]
    pub fn held_by_signal(&self) -> Vec<(Signal, Held)> {
        [Signal::Logs, Signal::Metrics, Signal::Traces]
            .into_iter()
            .filter_map(|signal| Some((signal, self.0.route(signal)?.queue.held())))
            .collect()
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

    /// Sends what is there within `deadline` (none: until all is delivered or given up), then stops; see
    /// [`ExporterHandle::shutdown_before`].
    pub async fn shutdown(&self, deadline: Option<Duration>) -> u64 {
        match deadline {
            Some(deadline) => self.shutdown_before(tokio::time::sleep(deadline)).await,
            None => self.shutdown_before(std::future::pending()).await,
        }
    }

    /// Sends what is there before `end` is over, then stops. Gives back how many items were left and are lost; they are counted.
    /// Requests that wait for their next attempt are tried at once, unless the receiver asked for the wait.
    pub async fn shutdown_before(&self, end: impl Future<Output = ()>) -> u64 {
        let inner = &self.0;
        inner.queues().for_each(|queue| queue.close());
        inner.ending.send_replace(true);
        let consumers = std::mem::take(
            &mut *inner
                .consumers
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        let before = inner.left_behind();
        let begin = tokio::time::Instant::now();
        tokio::pin!(end);
        let mut is_over = false;
        for mut consumer in consumers {
            if !is_over {
                tokio::select! {
                    biased;
                    _ = &mut consumer => continue,
                    () = &mut end => is_over = true,
                }
            }
            consumer.abort();
            // A task that was aborted ends with an error that names it.
            let _stopped = consumer.await.is_err();
        }
        inner.queues().for_each(|queue| queue.clear());
        let lost = inner.left_behind() - before;
        if lost > 0 {
            tracing::error!(
                "{lost} items could not be delivered within {:.1} s and are lost",
                begin.elapsed().as_secs_f64()
            );
        }
        lost
    }
}

impl Inner {
    fn route(&self, signal: Signal) -> Option<&Route> {
        self.routes[signal as usize].as_ref()
    }

    fn queues(&self) -> impl Iterator<Item = &Arc<Queue>> {
        self.routes.iter().flatten().map(|route| &route.queue)
    }

    fn waiting(&self) -> usize {
        self.queues().map(|queue| queue.waiting()).sum()
    }

    fn held(&self) -> Held {
        self.queues()
            .fold(Held::default(), |sum, queue| sum.plus(queue.held()))
    }

    fn left_behind(&self) -> u64 {
        self.queues().map(|queue| queue.left_behind()).sum()
    }

    /// Brings a request to its end, whichever that is.
    async fn deliver(&self, route: &Route, lease: &mut Lease) {
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
                    reporter.answered(signal, true, self.waiting());
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
                    reporter.answered(signal, false, self.waiting());
                    reporter.refused(signal, &failure, items);
                    lease.dropped(Reason::Rejected, items);
                    return Outcome::Done;
                }
                Verdict::Split => {
                    reporter.answered(signal, false, self.waiting());
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
        reporter.failed(signal, failure, wait, self.held());
        let asked_for = failure.retry_delay.is_some();
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            // Seen once by each request: after that it waits as before, until the deadline.
            Ok(()) = ending.changed(), if !asked_for => {}
        }
    }
}

async fn consume(inner: Arc<Inner>, signal: Signal) {
    let Some(route) = inner.route(signal) else {
        return;
    };
    while let Some(mut lease) = route.queue.pop().await {
        inner.deliver(route, &mut lease).await;
    }
}

/// The thread that compresses what any signal's queue takes, one request after the other; it ends with the queues. None when
/// nothing is compressed.
fn compressor(options: &ExporterOptions) -> Result<Option<Sender<Unpacked>>, ClientError> {
    let compresses = |signal: &SignalOptions| {
        signal.endpoint.is_some() && signal.compression != Compression::None
    };
    if ![&options.logs, &options.metrics, &options.traces]
        .into_iter()
        .any(compresses)
    {
        return Ok(None);
    }
    // What is in it is bounded by the queues.
    let (sender, requests) = mpsc::channel::<Unpacked>();
    std::thread::Builder::new()
        .name("compress".to_owned())
        .spawn(move || requests.into_iter().for_each(Unpacked::pack))
        .map_err(ClientError::Thread)?;
    Ok(Some(sender))
}
