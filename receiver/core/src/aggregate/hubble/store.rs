//! The series of one metric: label values into counters and histograms, bounded, without an allocation for known series.
//!
//! A store of its own beside [`crate::aggregate::series`]: the label values of a flow are written as bytes into one buffer that
//! lives on, and looked up by them; an owned key is made only when a series is new.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::key;
use crate::model::flow::TraceParent;
use crate::model::metrics::{
    AttributeValue, Attributes, Data, Exemplar, HistogramPoint, Metric, Number, NumberPoint,
    Temporality,
};
use crate::model::resource::Value;
use crate::semconv::attribute;
use crate::semconv::hubble::label::TRACE_ID;

/// Bounds of all duration histograms: the defaults of the Prometheus client, which no plugin of Hubble changes.
pub(super) const BOUNDS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// What stands about a metric in every export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Description {
    pub name: &'static str,
    /// Empty for counters, `s` for durations.
    pub unit: &'static str,
    pub text: &'static str,
}

/// What a series holds.
pub(super) trait Aggregate: Default {
    /// An OTLP metric of these series.
    fn data<'a>(series: impl Iterator<Item = (Point, &'a Self)>) -> Data
    where
        Self: 'a;
}

/// Where and when a value stands.
pub(super) struct Point {
    attributes: Attributes,
    start_unix_ns: u64,
    unix_ns: u64,
    ended: bool,
}

/// The newest value of a series or bucket that belongs to a trace.
#[derive(Clone, Copy, Debug)]
struct Traced {
    value: f64,
    unix_ns: u64,
    trace: TraceParent,
}

impl Traced {
    fn exemplar(&self) -> Exemplar {
        let label = Value::Text(self.trace.trace_id_text().to_string().into());
        Exemplar {
            // Hubble's own label; dashboards follow it.
            attributes: vec![(TRACE_ID, AttributeValue::Value(label))],
            unix_ns: self.unix_ns,
            value: self.value,
            trace_id: self.trace.trace_id,
            span_id: self.trace.span_id,
        }
    }
}

/// A count of events.
#[derive(Debug, Default)]
pub(super) struct Counter {
    count: u64,
    traced: Option<Box<Traced>>,
}

impl Counter {
    pub(super) fn add(&mut self, count: u64) {
        self.count += count;
    }

    /// Counts one event, which belongs to a trace if there is one.
    pub(super) fn add_traced(&mut self, unix_ns: u64, trace: Option<TraceParent>) {
        self.count += 1;
        if let Some(trace) = trace {
            let newest = Traced {
                value: 1.0,
                unix_ns,
                trace,
            };
            match &mut self.traced {
                Some(traced) => **traced = newest,
                None => self.traced = Some(Box::new(newest)),
            }
        }
    }
}

/// Durations in seconds.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    buckets: [u64; BOUNDS.len() + 1],
    sum: f64,
    /// The newest of each bucket.
    traced: Option<Box<[Option<Traced>; BOUNDS.len() + 1]>>,
}

impl Histogram {
    /// Takes a duration, which belongs to a trace if there is one.
    pub(super) fn observe(&mut self, seconds: f64, unix_ns: u64, trace: Option<TraceParent>) {
        let bucket = BOUNDS.partition_point(|bound| *bound < seconds);
        if let Some(count) = self.buckets.get_mut(bucket) {
            *count += 1;
        }
        self.sum += seconds;
        if let Some(trace) = trace
            && let Some(traced) = self.traced.get_or_insert_default().get_mut(bucket)
        {
            *traced = Some(Traced {
                value: seconds,
                unix_ns,
                trace,
            });
        }
    }
}

impl Aggregate for Counter {
    fn data<'a>(series: impl Iterator<Item = (Point, &'a Self)>) -> Data {
        let points = series.map(|(point, counter)| NumberPoint {
            attributes: point.attributes,
            start_unix_ns: point.start_unix_ns,
            unix_ns: point.unix_ns,
            value: Number::Int(i64::try_from(counter.count).unwrap_or(i64::MAX)),
            exemplars: counter
                .traced
                .iter()
                .map(|traced| traced.exemplar())
                .collect(),
            no_recorded_value: point.ended,
        });
        Data::Sum {
            monotonic: true,
            temporality: Temporality::Cumulative,
            points: points.collect(),
        }
    }
}

impl Aggregate for Histogram {
    fn data<'a>(series: impl Iterator<Item = (Point, &'a Self)>) -> Data {
        let points = series.map(|(point, histogram)| HistogramPoint {
            attributes: point.attributes,
            start_unix_ns: point.start_unix_ns,
            unix_ns: point.unix_ns,
            bucket_counts: histogram.buckets.to_vec(),
            sum: histogram.sum,
            exemplars: histogram
                .traced
                .iter()
                .flat_map(|traced| traced.iter().flatten())
                .map(Traced::exemplar)
                .collect(),
            no_recorded_value: point.ended,
        });
        Data::Histogram {
            temporality: Temporality::Cumulative,
            bounds: BOUNDS,
            points: points.collect(),
        }
    }
}

/// One metric.
#[derive(Debug)]
pub(super) struct Family<A> {
    description: Description,
    /// Labels in the order in which keys are written.
    labels: Vec<&'static str>,
    limit: usize,
    hasher: RandomState,
    /// Positions in `series`.
    table: HashTable<usize>,
    series: Vec<Series<A>>,
    /// What came after `limit`.
    overflow: Option<Series<A>>,
    /// A new series found no room since this was asked last.
    refused: bool,
    /// Keys of removed series whose end was not exported yet.
    ended: Vec<Box<[u8]>>,
}

#[derive(Debug)]
struct Series<A> {
    key: Box<[u8]>,
    hash: u64,
    start_unix_ns: u64,
    /// When it was counted last.
    counted_ns: u64,
    value: A,
}

impl<A: Aggregate> Family<A> {
    pub(super) fn new(description: Description, labels: Vec<&'static str>, limit: usize) -> Self {
        Self {
            description,
            labels,
            limit,
            hasher: RandomState::default(),
            table: HashTable::new(),
            series: Vec::new(),
            overflow: None,
            refused: false,
            ended: Vec::new(),
        }
    }

    /// The series with these label values; the overflow series when it is new and there is no room. `unix_ns` is now.
    pub(super) fn at(&mut self, key: &[u8], unix_ns: u64) -> &mut A {
        let hash = self.hasher.hash_one(key);
        let found = self
            .table
            .find(hash, |&i| {
                self.series.get(i).is_some_and(|s| *s.key == *key)
            })
            .copied();
        let slot = match found {
            Some(i) => i,
            None if self.series.len() < self.limit => {
                let i = self.series.len();
                self.series.push(Series {
                    key: key.into(),
                    hash,
                    start_unix_ns: unix_ns,
                    counted_ns: unix_ns,
                    value: A::default(),
                });
                let series = &self.series;
                self.table
                    .insert_unique(hash, i, |&i| series.get(i).map_or(0, |s| s.hash));
                i
            }
            None => usize::MAX,
        };
        match self.series.get_mut(slot) {
            Some(series) => {
                series.counted_ns = unix_ns;
                &mut series.value
            }
            None => {
                self.refused = true;
                &mut self
                    .overflow
                    .get_or_insert_with(|| Series {
                        key: Box::default(),
                        hash: 0,
                        start_unix_ns: unix_ns,
                        counted_ns: unix_ns,
                        value: A::default(),
                    })
                    .value
            }
        }
    }

    /// Whether a new series found no room since this was asked last.
    pub(super) fn take_refused(&mut self) -> bool {
        std::mem::take(&mut self.refused)
    }

    /// Ends the series that are meant, by their key and the time when they were counted last.
    pub(super) fn end(&mut self, mut is_meant: impl FnMut(&[u8], u64) -> bool) {
        let mut i = 0;
        while let Some(series) = self.series.get(i) {
            if is_meant(&series.key, series.counted_ns) {
                self.remove_at(i);
            } else {
                i += 1;
            }
        }
    }

    fn remove_at(&mut self, i: usize) {
        let last = self.series.len() - 1;
        let removed = self.series.swap_remove(i);
        if let Ok(entry) = self.table.find_entry(removed.hash, |&p| p == i) {
            entry.remove();
        }
        if let Some(moved) = self.series.get(i)
            && let Some(position) = self.table.find_mut(moved.hash, |&p| p == last)
        {
            *position = i;
        }
        self.ended.push(removed.key);
    }

    /// The metric with all its series, and once the end of those that were removed; `None` without any.
    pub(super) fn export(&mut self, unix_ns: u64) -> Option<Metric> {
        let ended = std::mem::take(&mut self.ended);
        self.metric(&ended, unix_ns)
    }

    /// The metric with its series as they are; `None` without any.
    pub(super) fn snapshot(&self, unix_ns: u64) -> Option<Metric> {
        self.metric(&[], unix_ns)
    }

    fn metric(&self, ended: &[Box<[u8]>], unix_ns: u64) -> Option<Metric> {
        let nothing = A::default();
        // Attributes are sorted by name.
        let mut order: Vec<usize> = (0..self.labels.len()).collect();
        order.sort_unstable_by_key(|&i| self.labels.get(i));
        let point = |attributes: Attributes, start_unix_ns: u64, ended: bool| Point {
            attributes,
            start_unix_ns,
            unix_ns,
            ended,
        };
        let ended = ended
            .iter()
            .map(|key| (point(self.attributes(key, &order), unix_ns, true), &nothing));
        let series = self.series.iter().map(|s| {
            (
                point(self.attributes(&s.key, &order), s.start_unix_ns, false),
                &s.value,
            )
        });
        let overflow = self.overflow.iter().map(|s| {
            let attributes = vec![(attribute::OTEL_METRIC_OVERFLOW, AttributeValue::Bool(true))];
            (point(attributes, s.start_unix_ns, false), &s.value)
        });
        // Ends first: a series may have come back since.
        let mut all = ended.chain(series).chain(overflow).peekable();
        all.peek()?;
        Some(Metric {
            name: self.description.name,
            unit: self.description.unit,
            description: self.description.text,
            data: A::data(all),
        })
    }

    fn attributes(&self, key: &[u8], order: &[usize]) -> Attributes {
        let values: Vec<&str> = key::values(key).collect();
        order
            .iter()
            .filter_map(|&i| {
                let value = values.get(i).copied().unwrap_or("");
                let name = *self.labels.get(i)?;
                Some((name, AttributeValue::Value(Value::Text(value.into()))))
            })
            .collect()
    }
}
