//! Metric points, ready to be written: the OTLP metrics data model, as far as we use it.

use crate::model::resource::{ResourceRef, Value};

/// The metrics of one resource.
#[derive(Clone, Debug, PartialEq)]
pub struct ResourceMetrics {
    /// Whose they are.
    pub resource: ResourceRef,
    /// Instrumentation scope, for example `netflume.netflow`.
    pub scope: &'static str,
    /// The metrics.
    pub metrics: Vec<Metric>,
}

/// One metric with its points.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// Name, from [`crate::semconv`].
    pub name: &'static str,
    /// Unit (UCUM).
    pub unit: &'static str,
    /// One sentence.
    pub description: &'static str,
    /// Kind and points.
    pub data: Data,
}

/// How values add up over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Temporality {
    /// Totals since the series began.
    #[default]
    Cumulative,
    /// Changes since the previous point.
    Delta,
}

/// Kind and points of a metric.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// A sum.
    Sum {
        /// Never decreases.
        monotonic: bool,
        /// Cumulative or delta.
        temporality: Temporality,
        /// The points.
        points: Vec<NumberPoint>,
    },
    /// A last value.
    Gauge(Vec<NumberPoint>),
    /// A histogram with explicit bounds.
    Histogram {
        /// Cumulative or delta.
        temporality: Temporality,
        /// Upper bounds, inclusive, strictly increasing.
        bounds: &'static [f64],
        /// The points.
        points: Vec<HistogramPoint>,
    },
}

impl Data {
    /// How many points.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Sum { points, .. } | Self::Gauge(points) => points.len(),
            Self::Histogram { points, .. } => points.len(),
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A value that was measured, and in which trace.
#[derive(Clone, Debug, PartialEq)]
pub struct Exemplar {
    /// What is known of it beside the attributes of its series.
    pub attributes: Attributes,
    /// When it was measured, nanoseconds since 1970.
    pub unix_ns: u64,
    /// The value; of a sum what was added.
    pub value: f64,
    /// Never zero.
    pub trace_id: [u8; 16],
    /// Never zero.
    pub span_id: [u8; 8],
}

/// Attributes of a point: key and value, sorted by key.
pub type Attributes = Vec<(&'static str, AttributeValue)>;

/// A point attribute's value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AttributeValue {
    /// Text or number.
    Value(Value),
    /// True or false (`otel.metric.overflow`).
    Bool(bool),
}

/// A point of a sum or a gauge.
#[derive(Clone, Debug, PartialEq)]
pub struct NumberPoint {
    /// The series.
    pub attributes: Attributes,
    /// When the series began (cumulative) or the previous point (delta), nanoseconds since 1970; zero for gauges.
    pub start_unix_ns: u64,
    /// Nanoseconds since 1970.
    pub unix_ns: u64,
    /// The value.
    pub value: Number,
    /// Some of what it consists of; of gauges none.
    pub exemplars: Vec<Exemplar>,
    /// The series ends here; the value means nothing.
    pub no_recorded_value: bool,
}

/// A number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// Whole.
    Int(i64),
    /// Real.
    Double(f64),
}

/// A point of a histogram.
#[derive(Clone, Debug, PartialEq)]
pub struct HistogramPoint {
    /// The series.
    pub attributes: Attributes,
    /// As in [`NumberPoint`].
    pub start_unix_ns: u64,
    /// Nanoseconds since 1970.
    pub unix_ns: u64,
    /// One more than bounds.
    pub bucket_counts: Vec<u64>,
    /// Sum of all values.
    pub sum: f64,
    /// Some of the values, at most one for each bucket.
    pub exemplars: Vec<Exemplar>,
    /// The series ends here.
    pub no_recorded_value: bool,
}
