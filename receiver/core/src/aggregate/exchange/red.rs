//! Rate, errors and duration of exchanges as the semantic conventions count them: one histogram for each protocol and side.
//!
//! What policy denied took as long as the proxy's own answer; what got no response took as long as it was waited for. Series are those
//! of the pod at whose proxy it was seen. `dns.question.name`, which has no bound, is left to spans.

use super::Exchange;
use super::said::Said;
use crate::aggregate::series::{Instrument, Kind, Options, SeriesSet};
use crate::model::metrics::ResourceMetrics;
use crate::model::resource::ResourceRef;
use crate::semconv::exchange::{DURATION_BOUNDS, SCOPE, metric};
use crate::semconv::unit;

/// In order of their names, as [`INSTRUMENTS`].
pub(super) mod place {
    pub(in crate::aggregate) const DNS: usize = 0;
    pub(in crate::aggregate) const HTTP_CLIENT: usize = 1;
    pub(in crate::aggregate) const HTTP_SERVER: usize = 2;
    pub(in crate::aggregate) const MESSAGING: usize = 3;
}

const fn duration(name: &'static str, description: &'static str) -> Instrument {
    Instrument {
        name,
        unit: unit::SECONDS,
        description,
        kind: Kind::Histogram(&DURATION_BOUNDS),
    }
}

const INSTRUMENTS: &[Instrument] = &[
    duration(
        metric::DNS_LOOKUP_DURATION,
        "Duration of DNS questions, to the answer.",
    ),
    duration(
        metric::HTTP_CLIENT_REQUEST_DURATION,
        "Duration of HTTP requests, seen at the client.",
    ),
    duration(
        metric::HTTP_SERVER_REQUEST_DURATION,
        "Duration of HTTP requests, seen at the server.",
    ),
    duration(
        metric::MESSAGING_CLIENT_OPERATION_DURATION,
        "Duration of requests to a messaging system, seen at the client.",
    ),
];

/// The metrics of exchanges.
#[derive(Debug)]
pub struct ExchangeMetrics {
    series: SeriesSet,
}

impl ExchangeMetrics {
    /// No series yet. `node` is the resource of what belongs to no pod; `unix_ns` is now.
    #[must_use]
    pub fn new(options: Options, node: &ResourceRef, unix_ns: u64) -> Self {
        Self {
            series: SeriesSet::new(SCOPE, INSTRUMENTS, options, node, unix_ns),
        }
    }

    /// Counts an exchange, of which this is said, in the series of `resource`.
    pub fn observe(&mut self, exchange: &Exchange, said: &Said, resource: &ResourceRef) {
        if let Some((place, attributes)) = &said.series {
            let seconds = exchange.duration_ns.unwrap_or(0) as f64 / 1e9;
            self.series.record(resource, *place, attributes, seconds);
        }
    }

    /// The totals of this moment; changes nothing.
    #[must_use]
    pub fn totals(&self, unix_ns: u64) -> Vec<ResourceMetrics> {
        self.series.totals(unix_ns)
    }

    /// The points at the end of the interval.
    pub fn collect(&mut self, unix_ns: u64) -> Vec<ResourceMetrics> {
        self.series.collect(unix_ns)
    }
}
