//! Bounded sets of metric series: changes in, points with a start time of their own out.
//!
//! A series is one resource, one instrument, one set of attributes. It starts at the collection before the one that first told it,
//! so its first value counts as change; when it was quiet for [`Options::ttl_ns`] it ends with a point that says so and is
//! forgotten, and if it comes again it starts anew. Beyond [`Options::limit`] series of one instrument and resource the rest is
//! one series, `otel.metric.overflow`, so totals stay exact.

use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::model::metrics::{
    AttributeValue, Attributes, Data, HistogramPoint, Metric, Number, NumberPoint, ResourceMetrics,
    Temporality,
};
use crate::model::resource::ResourceRef;
use crate::semconv::attribute::OTEL_METRIC_OVERFLOW;

/// One metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Instrument {
    /// Name, from [`crate::semconv`].
    pub name: &'static str,
    /// Unit (UCUM).
    pub unit: &'static str,
    /// One sentence.
    pub description: &'static str,
    /// How its values add up.
    pub kind: Kind,
}

/// How the values of an instrument add up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// A sum that only grows.
    Counter,
    /// A sum that grows and shrinks. Always cumulative, as the delta preference of the OTLP exporter specification has it.
    UpDown,
    /// As [`Kind::UpDown`], but what is added between two collections is the whole value: what nothing is added to is zero.
    Level,
    /// A distribution over these upper bounds, inclusive, strictly increasing.
    Histogram(&'static [f64]),
}

/// Bounds of a set of series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Series of one instrument and resource. Default 2000, as the metrics SDK specification has it.
    pub limit: usize,
    /// Resources; those beyond are told under the first one. Default 4096.
    pub max_resources: usize,
    /// A series that was quiet for so long ends. Default 5 minutes, nanoseconds.
    pub ttl_ns: u64,
    /// Of counters and histograms. Default: cumulative.
    pub temporality: Temporality,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            limit: 2000,
            max_resources: 4096,
            ttl_ns: 300_000_000_000,
            temporality: Temporality::Cumulative,
        }
    }
}

/// The series of some instruments, by resource.
#[derive(Debug)]
pub struct SeriesSet {
    scope: &'static str,
    instruments: &'static [Instrument],
    options: Options,
    resources: Vec<OfResource>,
    by_content: HashMap<ResourceRef, usize, RandomState>,
    /// By address; [`OfResource::met_as`] holds the references, so that no address is used again while it is a key.
    by_address: HashMap<usize, usize, RandomState>,
    collected_ns: u64,
    overflowed: u64,
}

#[derive(Debug)]
struct OfResource {
    resource: ResourceRef,
    /// Other references to an equal resource.
    met_as: Vec<ResourceRef>,
    /// One for each instrument.
    stores: Vec<Store>,
}

#[derive(Debug, Default)]
struct Store {
    series: Vec<Series>,
    by_attributes: HashMap<Attributes, usize, RandomState>,
}

#[derive(Debug)]
struct Series {
    attributes: Attributes,
    /// Beginning of the series, or time of its previous delta point.
    start_ns: u64,
    /// The collection that last told a change.
    changed_ns: u64,
    changed: bool,
    value: Value,
}

#[derive(Debug)]
enum Value {
    Sum(i64),
    Histogram { counts: Vec<u64>, sum: f64 },
}

impl SeriesSet {
    /// No series. `rest` is the resource of what goes beyond [`Options::max_resources`]; `unix_ns` is now.
    #[must_use]
    pub fn new(
        scope: &'static str,
        instruments: &'static [Instrument],
        options: Options,
        rest: &ResourceRef,
        unix_ns: u64,
    ) -> Self {
        let mut set = Self {
            scope,
            instruments,
            options,
            resources: Vec::new(),
            by_content: HashMap::default(),
            by_address: HashMap::default(),
            collected_ns: unix_ns,
            overflowed: 0,
        };
        set.add_resource(rest);
        set
    }

    /// Adds to a sum. `instrument` is its place in the list of instruments; `attributes` are sorted by key. An instrument that is
    /// not in the list, or is a histogram, takes nothing.
    pub fn add(
        &mut self,
        resource: &ResourceRef,
        instrument: usize,
        attributes: &[(&'static str, AttributeValue)],
        change: i64,
    ) {
        if let Some(Value::Sum(value)) = self.value(resource, instrument, attributes) {
            *value = value.saturating_add(change);
        }
    }

    /// Adds to a histogram: values counted by its bounds (one count more than bounds) and their sum. An instrument that is not in
    /// the list, or is no histogram, takes nothing.
    pub fn add_histogram(
        &mut self,
        resource: &ResourceRef,
        instrument: usize,
        attributes: &[(&'static str, AttributeValue)],
        bucket_counts: impl IntoIterator<Item = u64>,
        bucket_sum: f64,
    ) {
        if let Some(Value::Histogram { counts, sum }) = self.value(resource, instrument, attributes)
        {
            for (count, more) in counts.iter_mut().zip(bucket_counts) {
                *count += more;
            }
            *sum += bucket_sum;
        }
    }

    /// Adds one value to a histogram.
    pub fn record(
        &mut self,
        resource: &ResourceRef,
        instrument: usize,
        attributes: &[(&'static str, AttributeValue)],
        value: f64,
    ) {
        let Some(Kind::Histogram(bounds)) = self.instruments.get(instrument).map(|i| i.kind) else {
            return;
        };
        let bucket = bounds.partition_point(|bound| *bound < value);
        let counts = (0..=bounds.len()).map(|n| u64::from(n == bucket));
        self.add_histogram(resource, instrument, attributes, counts, value);
    }

    /// Series that live, overflow series included.
    #[must_use]
    pub fn len(&self) -> usize {
        let stores = self.resources.iter().flat_map(|of| &of.stores);
        stores.map(|store| store.series.len()).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Changes that went into an overflow series, since the start.
    #[must_use]
    pub fn overflowed(&self) -> u64 {
        self.overflowed
    }

    /// The points of this moment. Series that end come last in their metric.
    pub fn collect(&mut self, unix_ns: u64) -> Vec<ResourceMetrics> {
        let mut all = Vec::new();
        for of in &mut self.resources {
            let mut metrics = Vec::new();
            for (store, instrument) in of.stores.iter_mut().zip(self.instruments) {
                let temporality = match instrument.kind {
                    Kind::Counter | Kind::Histogram(_) => self.options.temporality,
                    Kind::UpDown | Kind::Level => Temporality::Cumulative,
                };
                let points = store.collect(unix_ns, &self.options, temporality, instrument.kind);
                if let Some(data) = points.into_data(instrument.kind, temporality) {
                    metrics.push(Metric {
                        name: instrument.name,
                        unit: instrument.unit,
                        description: instrument.description,
                        data,
                    });
                }
            }
            if !metrics.is_empty() {
                all.push(ResourceMetrics {
                    resource: of.resource.clone(),
                    scope: self.scope,
                    metrics,
                });
            }
        }
        self.collected_ns = unix_ns;
        self.forget_empty_resources();
        all
    }

    fn value(
        &mut self,
        resource: &ResourceRef,
        instrument: usize,
        attributes: &[(&'static str, AttributeValue)],
    ) -> Option<&mut Value> {
        let kind = self.instruments.get(instrument)?.kind;
        let (number, full) = self.resource(resource);
        let of = self.resources.get_mut(number)?;
        let store = of.stores.get_mut(instrument)?;
        let rest = [(OTEL_METRIC_OVERFLOW, AttributeValue::Bool(true))];
        let known = store.by_attributes.get(attributes).copied();
        let known = known.filter(|_| !full);
        let place = match known {
            Some(place) => place,
            None => {
                // The series of the rest is there in addition to the limit.
                let over = full || attributes != rest && store.room_is_used(self.options.limit);
                self.overflowed += u64::from(over);
                let attributes = if over { &rest } else { attributes };
                store.place(attributes, kind, self.collected_ns)
            }
        };
        let series = store.series.get_mut(place)?;
        series.changed = true;
        Some(&mut series.value)
    }

    /// The place of a resource, and whether it had no place of its own.
    fn resource(&mut self, resource: &ResourceRef) -> (usize, bool) {
        let address = Arc::as_ptr(resource).addr();
        if let Some(&number) = self.by_address.get(&address) {
            return (number, false);
        }
        if let Some(&number) = self.by_content.get(resource) {
            self.resources[number].met_as.push(resource.clone());
            self.by_address.insert(address, number);
            return (number, false);
        }
        if self.resources.len() >= self.options.max_resources.max(1) {
            return (0, true);
        }
        (self.add_resource(resource), false)
    }

    fn add_resource(&mut self, resource: &ResourceRef) -> usize {
        let number = self.resources.len();
        self.resources.push(OfResource {
            resource: resource.clone(),
            met_as: Vec::new(),
            stores: self.instruments.iter().map(|_| Store::default()).collect(),
        });
        self.by_content.insert(resource.clone(), number);
        self.by_address.insert(Arc::as_ptr(resource).addr(), number);
        number
    }

    /// The first one stays: it is that of the rest.
    fn forget_empty_resources(&mut self) {
        let empty = |of: &OfResource| of.stores.iter().all(|store| store.series.is_empty());
        // Equal resources met under many addresses are let go too, or they would pile up.
        let piled = |of: &OfResource| of.met_as.len() > 64;
        if !self.resources.iter().skip(1).any(empty) && !self.resources.iter().any(piled) {
            return;
        }
        let mut number = 0;
        self.resources.retain(|of| {
            number += 1;
            number == 1 || !empty(of)
        });
        self.by_content.clear();
        self.by_address.clear();
        for (number, of) in self.resources.iter_mut().enumerate() {
            of.met_as.clear();
            let address = Arc::as_ptr(&of.resource).addr();
            self.by_content.insert(of.resource.clone(), number);
            self.by_address.insert(address, number);
        }
    }
}

impl Store {
    fn room_is_used(&self, limit: usize) -> bool {
        let rest = [(OTEL_METRIC_OVERFLOW, AttributeValue::Bool(true))];
        let own = usize::from(self.by_attributes.contains_key(rest.as_slice()));
        self.series.len() - own >= limit
    }

    fn place(
        &mut self,
        attributes: &[(&'static str, AttributeValue)],
        kind: Kind,
        start_ns: u64,
    ) -> usize {
        if let Some(&place) = self.by_attributes.get(attributes) {
            return place;
        }
        let place = self.series.len();
        self.series.push(Series {
            attributes: attributes.to_vec(),
            start_ns,
            changed_ns: start_ns,
            changed: true,
            value: match kind {
                Kind::Histogram(bounds) => Value::Histogram {
                    counts: vec![0; bounds.len() + 1],
                    sum: 0.0,
                },
                Kind::Counter | Kind::UpDown | Kind::Level => Value::Sum(0),
            },
        });
        self.by_attributes.insert(attributes.to_vec(), place);
        place
    }

    fn collect(
        &mut self,
        unix_ns: u64,
        options: &Options,
        temporality: Temporality,
        kind: Kind,
    ) -> Points {
        let mut points = Points::default();
        let mut ended = Vec::new();
        for series in &mut self.series {
            if series.changed {
                series.changed_ns = unix_ns;
            }
            if unix_ns.saturating_sub(series.changed_ns) >= options.ttl_ns {
                ended.push(series.attributes.clone());
                continue;
            }
            let changed = std::mem::take(&mut series.changed);
            if temporality == Temporality::Delta && !changed {
                continue;
            }
            points.push(series, unix_ns, false);
            if temporality == Temporality::Delta {
                // The next window joins this one without a gap.
                series.start_ns = unix_ns;
            }
            if temporality == Temporality::Delta || kind == Kind::Level {
                series.value.reset();
            }
        }
        if !ended.is_empty() {
            for attributes in &ended {
                if let Some(place) = self.by_attributes.remove(attributes)
                    && temporality == Temporality::Cumulative
                {
                    points.push(&self.series[place], unix_ns, true);
                }
            }
            let known = &self.by_attributes;
            self.series
                .retain(|series| known.contains_key(&series.attributes));
            for (place, series) in self.series.iter().enumerate() {
                if let Some(known) = self.by_attributes.get_mut(&series.attributes) {
                    *known = place;
                }
            }
        }
        points
    }
}

impl Value {
    fn reset(&mut self) {
        match self {
            Self::Sum(value) => *value = 0,
            Self::Histogram { counts, sum } => {
                counts.fill(0);
                *sum = 0.0;
            }
        }
    }
}

/// Points of one metric.
#[derive(Default)]
struct Points {
    numbers: Vec<NumberPoint>,
    histograms: Vec<HistogramPoint>,
}

impl Points {
    fn push(&mut self, series: &Series, unix_ns: u64, ends: bool) {
        let attributes = series.attributes.clone();
        let start_unix_ns = series.start_ns;
        match &series.value {
            Value::Sum(value) => self.numbers.push(NumberPoint {
                attributes,
                start_unix_ns,
                unix_ns,
                value: Number::Int(if ends { 0 } else { *value }),
                no_recorded_value: ends,
            }),
            Value::Histogram { counts, sum } => self.histograms.push(HistogramPoint {
                attributes,
                start_unix_ns,
                unix_ns,
                bucket_counts: if ends {
                    vec![0; counts.len()]
                } else {
                    counts.clone()
                },
                sum: if ends { 0.0 } else { *sum },
                no_recorded_value: ends,
            }),
        }
    }

    fn into_data(self, kind: Kind, temporality: Temporality) -> Option<Data> {
        match kind {
            Kind::Histogram(bounds) => (!self.histograms.is_empty()).then_some(Data::Histogram {
                temporality,
                bounds,
                points: self.histograms,
            }),
            Kind::Counter | Kind::UpDown | Kind::Level => {
                (!self.numbers.is_empty()).then_some(Data::Sum {
                    monotonic: kind == Kind::Counter,
                    temporality,
                    points: self.numbers,
                })
            }
        }
    }
}

#[cfg(test)]
#[path = "series_tests.rs"]
mod tests;
