//! Layer-7 flows in; spans and the metrics of exchanges out. Joined by [`Exchanges`]; what is lost on the way is booked.

use crate::export::console::ConsoleError;
use crate::export::sinks::Sinks;
use netflume_core::aggregate::exchange::owner::Owners;
use netflume_core::aggregate::exchange::red::ExchangeMetrics;
use netflume_core::aggregate::exchange::{
    Exchange, ExchangeOptions, Exchanges, Outcome, said, span,
};
use netflume_core::aggregate::series;
use netflume_core::ledger::{Reason, Stage};
use netflume_core::model::flow::{Flow, L7FlowType};
use netflume_core::model::metrics::ResourceMetrics;
use netflume_core::model::request::Signal;
use netflume_core::model::resource::ResourceRef;
use netflume_core::model::span::SpanContext;
use netflume_core::otlp::spans::{SpansEncoder, SpansOptions};

/// Settings of what becomes of exchanges.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Options {
    pub(crate) table: ExchangeOptions,
    pub(crate) metrics: series::Options,
    pub(crate) spans: SpansOptions,
}

/// The table of requests, and what is made of exchanges.
pub(crate) struct ExchangePublisher {
    table: Exchanges,
    owners: Owners,
    /// None before the first time that is told.
    metrics: Option<ExchangeMetrics>,
    series: series::Options,
    spans: SpansEncoder,
    /// Complete by the flow at hand; kept for its memory.
    done: Vec<Exchange>,
}

impl ExchangePublisher {
    /// `node` is the resource of what belongs to no pod.
    pub(crate) fn new(options: Options, node: ResourceRef) -> Self {
        Self {
            table: Exchanges::new(options.table),
            owners: Owners::new(node),
            metrics: None,
            series: options.metrics,
            spans: SpansEncoder::new(options.spans),
            done: Vec::new(),
        }
    }

    /// Takes over new options; requests that wait, and what was sent to the sinks, stay.
    pub(crate) fn reconfigure(&mut self, timeout_ns: u64, spans: SpansOptions) {
        self.table.set_timeout(timeout_ns);
        self.spans = SpansEncoder::new(spans);
    }

    /// Takes a flow; only layer-7 ones matter. Gives the span that the flow belongs to, if its request is known.
    #[inline]
    pub(crate) fn flow(
        &mut self,
        flow: &Flow,
        sinks: &mut Sinks,
    ) -> Result<Option<SpanContext>, ConsoleError> {
        let Some(l7) = flow.l7.as_deref() else {
            return Ok(None);
        };
        let Self { table, done, .. } = self;
        if !table.observe(flow, |exchange| done.push(exchange)) {
            return Ok(None);
        }
        sinks.ledger.received(Stage::Exchanges, 1);
        let span = match l7.kind {
            L7FlowType::REQUEST => span::context(flow),
            _ => {
                let mut joined = done.iter().filter(|exchange| exchange.response.is_some());
                joined.find_map(|exchange| span::context(exchange.request.as_ref()?))
            }
        };
        self.publish(flow.time_ns, sinks)?;
        Ok(span)
    }

    /// Time goes on: gives up what waits too long.
    pub(crate) fn advance(&mut self, unix_ns: u64, sinks: &mut Sinks) -> Result<(), ConsoleError> {
        let Self { table, done, .. } = self;
        table.expire(unix_ns, |exchange| done.push(exchange));
        self.publish(unix_ns, sinks)
    }

    fn publish(&mut self, unix_ns: u64, sinks: &mut Sinks) -> Result<(), ConsoleError> {
        let series = self.series;
        let metrics = self
            .metrics
            .get_or_insert_with(|| ExchangeMetrics::new(series, self.owners.node(), unix_ns));
        for exchange in self.done.drain(..) {
            let flows = [&exchange.request, &exchange.response];
            let flows = flows.into_iter().flatten().count() as u64;
            let lost = match exchange.outcome {
                Outcome::Answered
                | Outcome::Denied
                | Outcome::Unanswered
                | Outcome::RequestOnly => None,
                Outcome::NoRoom => Some(Reason::TableFull),
                Outcome::Superseded | Outcome::ResponseOnly => Some(Reason::Unpaired),
                Outcome::Repeated => Some(Reason::Unchanged),
            };
            if let Some(reason) = lost {
                sinks.ledger.dropped(Stage::Exchanges, reason, flows);
                continue;
            }
            sinks.ledger.passed(Stage::Exchanges, flows);
            let (Some(request), Some(said)) = (&exchange.request, said::of(&exchange)) else {
                continue;
            };
            let resource = self.owners.of(request);
            metrics.observe(&exchange, &said, &resource);
            if sinks.wants(Signal::Traces)
                && let Some(span) = span::of(&exchange, said, &resource)
            {
                if !span.context.is_sampled() {
                    sinks.ledger.received(Stage::Spans, 1);
                    sinks.ledger.dropped(Stage::Spans, Reason::Sampled, 1);
                } else if sinks.book(Signal::Traces, 1)
                    && let Some(request) = self.spans.push(&span)
                {
                    sinks.send(request)?;
                }
            }
        }
        Ok(())
    }

    /// Sends the spans that were made.
    pub(crate) fn send(&mut self, sinks: &mut Sinks) -> Result<(), ConsoleError> {
        self.spans
            .finish()
            .map_or(Ok(()), |request| sinks.send(request))
    }

    /// The points at the end of an interval.
    pub(crate) fn points(&mut self, unix_ns: u64) -> Vec<ResourceMetrics> {
        self.metrics
            .as_mut()
            .map(|metrics| metrics.collect(unix_ns))
            .unwrap_or_default()
    }

    /// The totals of this moment.
    pub(crate) fn totals(&self, unix_ns: u64) -> Vec<ResourceMetrics> {
        let metrics = self.metrics.as_ref();
        metrics
            .map(|metrics| metrics.totals(unix_ns))
            .unwrap_or_default()
    }

    /// The end: what still waits is given up.
    pub(crate) fn close(&mut self, unix_ns: u64, sinks: &mut Sinks) -> Result<(), ConsoleError> {
        let Self { table, done, .. } = self;
        let waiting = table.close(|exchange| done.push(exchange));
        sinks
            .ledger
            .dropped(Stage::Exchanges, Reason::Shutdown, waiting);
        self.publish(unix_ns, sinks)
    }
}
