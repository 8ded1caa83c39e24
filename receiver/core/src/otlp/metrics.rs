//! Metric points to requests.

use crate::model::metrics::{
    AttributeValue, Attributes, Data, Exemplar, HistogramPoint, Metric, Number, NumberPoint,
    ResourceMetrics, Temporality,
};
use crate::model::request::{Request, Signal};
use crate::otlp::request::{MAX_REQUEST_BYTES, RequestBuilder};
use crate::otlp::resource::as_any;
use crate::otlp::wire::{self, Any};

/// Fields of `Metric`.
mod metric {
    pub(super) const NAME: u8 = 1;
    pub(super) const DESCRIPTION: u8 = 2;
    pub(super) const UNIT: u8 = 3;
    pub(super) const GAUGE: u8 = 5;
    pub(super) const SUM: u8 = 7;
    pub(super) const HISTOGRAM: u8 = 9;
}

/// Fields of `Gauge`, `Sum` and `Histogram`.
mod data {
    pub(super) const POINTS: u8 = 1;
    pub(super) const TEMPORALITY: u8 = 2;
    pub(super) const MONOTONIC: u8 = 3;
}

/// Fields of `NumberDataPoint` and `HistogramDataPoint`; the first two are the same in both.
mod point {
    pub(super) const START: u8 = 2;
    pub(super) const TIME: u8 = 3;
    pub(super) const NUMBER_DOUBLE: u8 = 4;
    pub(super) const NUMBER_EXEMPLARS: u8 = 5;
    pub(super) const NUMBER_INT: u8 = 6;
    pub(super) const NUMBER_ATTRIBUTES: u8 = 7;
    pub(super) const NUMBER_FLAGS: u8 = 8;
    pub(super) const HISTOGRAM_COUNT: u8 = 4;
    pub(super) const HISTOGRAM_SUM: u8 = 5;
    pub(super) const HISTOGRAM_BUCKETS: u8 = 6;
    pub(super) const HISTOGRAM_BOUNDS: u8 = 7;
    pub(super) const HISTOGRAM_EXEMPLARS: u8 = 8;
    pub(super) const HISTOGRAM_ATTRIBUTES: u8 = 9;
    pub(super) const HISTOGRAM_FLAGS: u8 = 10;
}

/// Fields of `Exemplar`.
mod exemplar {
    pub(super) const TIME: u8 = 2;
    pub(super) const DOUBLE: u8 = 3;
    pub(super) const SPAN_ID: u8 = 4;
    pub(super) const TRACE_ID: u8 = 5;
    pub(super) const ATTRIBUTES: u8 = 7;
}

/// `DataPointFlags` NO_RECORDED_VALUE_MASK.
const NO_RECORDED_VALUE: u64 = 1;

/// How metrics are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricsOptions {
    /// The largest request, bytes before compression. Default: 3.5 MiB, because a Collector takes 4 MiB.
    pub max_request_bytes: usize,
}

impl Default for MetricsOptions {
    fn default() -> Self {
        Self {
            max_request_bytes: MAX_REQUEST_BYTES,
        }
    }
}

/// Writes metrics, grouped by resource and scope, into requests counted in data points.
///
/// A series that ends (`no_recorded_value`) stands in a metric of its own behind the living ones: the Collector's Prometheus
/// exporter stops reading a metric at such a point.
#[derive(Debug)]
pub struct MetricsEncoder {
    requests: RequestBuilder,
    /// Points of one metric that fill a message of it; then another one begins.
    points_bytes_max: usize,
    /// Points of the metric that is being written.
    points: Vec<u8>,
}

impl MetricsEncoder {
    /// An empty encoder.
    #[must_use]
    pub fn new(options: MetricsOptions) -> Self {
        Self {
            requests: RequestBuilder::new(Signal::Metrics, options.max_request_bytes),
            points_bytes_max: options.max_request_bytes / 4,
            points: Vec::new(),
        }
    }

    /// Adds the metrics of one resource. Gives back the requests that became full.
    #[must_use = "a request that is not exported is lost"]
    pub fn push(&mut self, metrics: &ResourceMetrics) -> Vec<Request> {
        let mut full = Vec::new();
        for metric in &metrics.metrics {
            match &metric.data {
                Data::Sum { points, .. } | Data::Gauge(points) => {
                    self.metric(
                        metrics,
                        metric,
                        points,
                        |p| p.no_recorded_value,
                        number,
                        &mut full,
                    );
                }
                Data::Histogram { points, bounds, .. } => {
                    let write =
                        |out: &mut Vec<u8>, point: &HistogramPoint| histogram(out, point, bounds);
                    self.metric(
                        metrics,
                        metric,
                        points,
                        |p| p.no_recorded_value,
                        write,
                        &mut full,
                    );
                }
            }
        }
        full
    }

    /// The request of what was added and not given back yet, if there is any.
    #[must_use = "a request that is not exported is lost"]
    pub fn finish(&mut self) -> Option<Request> {
        self.requests.finish()
    }

    /// Writes one metric: the living points together, those that end one by one behind them.
    fn metric<P>(
        &mut self,
        metrics: &ResourceMetrics,
        metric: &Metric,
        points: &[P],
        ends: impl Fn(&P) -> bool,
        write: impl Fn(&mut Vec<u8>, &P),
        full: &mut Vec<Request>,
    ) {
        let mut count = 0;
        for point in points.iter().filter(|point| !ends(point)) {
            wire::message::<2>(&mut self.points, data::POINTS, |out| write(out, point));
            count += 1;
            if self.points.len() >= self.points_bytes_max {
                full.extend(self.flush(metrics, metric, count));
                count = 0;
            }
        }
        full.extend(self.flush(metrics, metric, count));
        for point in points.iter().filter(|point| ends(point)) {
            wire::message::<1>(&mut self.points, data::POINTS, |out| write(out, point));
            full.extend(self.flush(metrics, metric, 1));
        }
    }

    /// Makes a metric of the points written so far.
    fn flush(&mut self, metrics: &ResourceMetrics, metric: &Metric, count: u64) -> Option<Request> {
        if count == 0 {
            return None;
        }
        let points = &self.points;
        let request = self
            .requests
            .add(&metrics.resource, metrics.scope, count, |out, _| {
                frame(out, metric, points)
            });
        self.points.clear();
        request
    }
}

/// Writes a `Metric` around its encoded points.
fn frame(out: &mut Vec<u8>, metric: &Metric, points: &[u8]) {
    wire::bytes(out, metric::NAME, metric.name.as_bytes());
    wire::bytes(out, metric::DESCRIPTION, metric.description.as_bytes());
    wire::bytes(out, metric::UNIT, metric.unit.as_bytes());
    let (field, temporality, monotonic) = match &metric.data {
        Data::Gauge(_) => (metric::GAUGE, None, false),
        Data::Sum {
            monotonic,
            temporality,
            ..
        } => (metric::SUM, Some(*temporality), *monotonic),
        Data::Histogram { temporality, .. } => (metric::HISTOGRAM, Some(*temporality), false),
    };
    wire::message::<2>(out, field, |out| {
        out.extend_from_slice(points);
        if let Some(temporality) = temporality {
            let value = match temporality {
                Temporality::Delta => 1,
                Temporality::Cumulative => 2,
            };
            wire::uint(out, data::TEMPORALITY, value);
        }
        if monotonic {
            wire::uint(out, data::MONOTONIC, 1);
        }
    });
}

fn times(out: &mut Vec<u8>, start_unix_ns: u64, unix_ns: u64) {
    if start_unix_ns != 0 {
        wire::fixed64(out, point::START, start_unix_ns);
    }
    wire::fixed64(out, point::TIME, unix_ns);
}

fn attributes(out: &mut Vec<u8>, field: u8, attributes: &Attributes) {
    for (key, value) in attributes {
        let value = match value {
            AttributeValue::Value(value) => as_any(value),
            AttributeValue::Bool(value) => Any::Bool(*value),
        };
        wire::any_kv(out, field, key, value);
    }
}

fn exemplars(out: &mut Vec<u8>, field: u8, exemplars: &[Exemplar]) {
    for exemplar in exemplars {
        wire::message::<2>(out, field, |out| {
            wire::fixed64(out, exemplar::TIME, exemplar.unix_ns);
            wire::fixed64(out, exemplar::DOUBLE, exemplar.value.to_bits());
            wire::bytes(out, exemplar::SPAN_ID, &exemplar.span_id);
            wire::bytes(out, exemplar::TRACE_ID, &exemplar.trace_id);
            attributes(out, exemplar::ATTRIBUTES, &exemplar.attributes);
        });
    }
}

fn number(out: &mut Vec<u8>, point: &NumberPoint) {
    times(out, point.start_unix_ns, point.unix_ns);
    attributes(out, point::NUMBER_ATTRIBUTES, &point.attributes);
    match point.value {
        _ if point.no_recorded_value => wire::uint(out, point::NUMBER_FLAGS, NO_RECORDED_VALUE),
        Number::Int(value) => wire::fixed64(out, point::NUMBER_INT, value as u64),
        Number::Double(value) => wire::fixed64(out, point::NUMBER_DOUBLE, value.to_bits()),
    }
    if !point.no_recorded_value {
        exemplars(out, point::NUMBER_EXEMPLARS, &point.exemplars);
    }
}

fn histogram(out: &mut Vec<u8>, point: &HistogramPoint, bounds: &[f64]) {
    times(out, point.start_unix_ns, point.unix_ns);
    attributes(out, point::HISTOGRAM_ATTRIBUTES, &point.attributes);
    if point.no_recorded_value {
        wire::uint(out, point::HISTOGRAM_FLAGS, NO_RECORDED_VALUE);
        return;
    }
    wire::fixed64(
        out,
        point::HISTOGRAM_COUNT,
        point.bucket_counts.iter().sum(),
    );
    wire::fixed64(out, point::HISTOGRAM_SUM, point.sum.to_bits());
    wire::packed64(out, point::HISTOGRAM_BUCKETS, point.bucket_counts.len());
    for count in &point.bucket_counts {
        wire::packed64_element(out, *count);
    }
    wire::packed64(out, point::HISTOGRAM_BOUNDS, bounds.len());
    for bound in bounds {
        wire::packed64_element(out, bound.to_bits());
    }
    exemplars(out, point::HISTOGRAM_EXEMPLARS, &point.exemplars);
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
