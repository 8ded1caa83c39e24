//! Bounded sets of metric series: changes in, points with a start time of their own out.
//!
//! A series is one resource, one instrument, one set of attributes. It starts at the collection before the one that first told it,
//! so its first value counts as change; when it was quiet for [`Options::ttl_ns`] it ends with a point that says so and is
//! forgotten, and if it comes again it starts anew. Beyond [`Options::limit`] series of one instrument and resource the rest is
//! one series, `otel.metric.overflow`, so totals stay exact; beyond [`Options::max_series`] in all, the rest of an instrument is one
//! series of the first resource.
//!
//! Whatever is collected, totals are kept: [`SeriesSet::totals`] gives them at any time, for pages that want them cumulative.

use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::model::metrics::{AttributeValue, Data, Metric, ResourceMetrics, Temporality};
use crate::model::resource::ResourceRef;
use crate::semconv::attribute::OTEL_METRIC_OVERFLOW;

mod store;

use store::{Series, Store};

/// The attributes of the series that holds the rest.
const REST: [(&str, AttributeValue); 1] = [(OTEL_METRIC_OVERFLOW, AttributeValue::Bool(true))];

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

impl Kind {
    /// How its values are collected where this is preferred.
    fn temporality(self, preferred: Temporality) -> Temporality {
        match self {
            Self::Counter | Self::Histogram(_) => preferred,
            Self::UpDown | Self::Level => Temporality::Cumulative,
        }
    }
}

/// Bounds of a set of series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Series of one instrument and resource. Default 2000, as the metrics SDK specification has it.
    pub limit: usize,
    /// Series of all instruments and resources together; beside them there is one of the rest for each instrument. Default 50,000:
    /// some 400 bytes each.
    pub max_series: usize,
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
            max_series: 50_000,
            max_resources: 4096,
            ttl_ns: 300_000_000_000,
            temporality: Temporality::Cumulative,
        }
    }
}

/// The series of some instruments, by resource.
#[derive(Clone, Debug)]
pub struct SeriesSet {
    scope: &'static str,
    instruments: &'static [Instrument],
    options: Options,
    resources: Vec<OfResource>,
    by_content: HashMap<ResourceRef, usize, RandomState>,
    /// By address; [`OfResource::met_as`] holds the references, so that no address is used again while it is a key.
    by_address: HashMap<usize, usize, RandomState>,
    collected_ns: u64,
    /// Series that live.
    live: usize,
    overflowed: u64,
}

#[derive(Clone, Debug)]
struct OfResource {
    resource: ResourceRef,
    /// Other references to an equal resource.
    met_as: Vec<ResourceRef>,
    /// One for each instrument.
    stores: Vec<Store>,
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
            live: 0,
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
        if let Some(series) = self.series(resource, instrument, attributes) {
            series.add(change);
        }
    }

    /// Adds to a histogram: values counted by its bounds (one count more than bounds) and their sum. An instrument that is not in
    /// the list, or is no histogram, takes nothing.
    pub fn add_histogram(
        &mut self,
        resource: &ResourceRef,
        instrument: usize,
        attributes: &[(&'static str, AttributeValue)],
        bucket_counts: impl IntoIterator<Item = u64, IntoIter: Clone>,
        bucket_sum: f64,
    ) {
        if let Some(series) = self.series(resource, instrument, attributes) {
            series.add_histogram(&bucket_counts.into_iter(), bucket_sum);
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
        let options = self.options;
        let mut all = Vec::new();
        for of in &mut self.resources {
            let stores = of.stores.iter_mut().zip(self.instruments);
            let metrics = stores
                .filter_map(|(store, instrument)| {
                    let data = store.collect(unix_ns, &options, instrument.kind)?;
                    Some(instrument.metric(data))
                })
                .collect();
            all.extend(of.metrics(self.scope, metrics));
        }
        self.collected_ns = unix_ns;
        self.forget_empty_resources();
        self.live = self.len();
        all
    }

    /// The totals of this moment, whatever [`Options::temporality`] is; changes nothing.
    #[must_use]
    pub fn totals(&self, unix_ns: u64) -> Vec<ResourceMetrics> {
        let of_resource = |of: &OfResource| {
            let stores = of.stores.iter().zip(self.instruments);
            let metrics = stores
                .filter_map(|(store, instrument)| {
                    let data = store.totals(unix_ns, instrument.kind)?;
                    Some(instrument.metric(data))
                })
                .collect();
            of.metrics(self.scope, metrics)
        };
        self.resources.iter().filter_map(of_resource).collect()
    }

    /// The series that takes a change: its own, or that of the rest. None: the instrument is not in the list.
    fn series(
        &mut self,
        resource: &ResourceRef,
        instrument: usize,
        attributes: &[(&'static str, AttributeValue)],
    ) -> Option<&mut Series> {
        let kind = self.instruments.get(instrument)?.kind;
        let has_room = self.live < self.options.max_series;
        let number = self.resource(resource, has_room);
        let (number, place) = match number.and_then(|number| {
            let place = self.place(number, instrument, attributes, kind, has_room)?;
            Some((number, place))
        }) {
            Some(found) => found,
            None => {
                self.overflowed += 1;
                (0, self.rest(0, instrument, kind)?)
            }
        };
        let store = self.resources.get_mut(number)?.stores.get_mut(instrument)?;
        store.series.get_mut(place)
    }

    /// The place of a series of a resource, made if it is new; that of its rest beyond the limit. None: there is no room.
    fn place(
        &mut self,
        number: usize,
        instrument: usize,
        attributes: &[(&'static str, AttributeValue)],
        kind: Kind,
        has_room: bool,
    ) -> Option<usize> {
        let store = self.resources.get_mut(number)?.stores.get_mut(instrument)?;
        if let Some(place) = store.find(attributes) {
            return Some(place);
        }
        if !has_room {
            return None;
        }
        if attributes != REST && store.is_full(self.options.limit) {
            self.overflowed += 1;
            return self.rest(number, instrument, kind);
        }
        self.live += 1;
        Some(store.add(
            attributes,
            kind,
            self.options.temporality,
            self.collected_ns,
        ))
    }

    /// The place of the series of the rest, made if it is new.
    fn rest(&mut self, number: usize, instrument: usize, kind: Kind) -> Option<usize> {
        let store = self.resources.get_mut(number)?.stores.get_mut(instrument)?;
        if let Some(place) = store.find(&REST) {
            return Some(place);
        }
        self.live += 1;
        Some(store.add(&REST, kind, self.options.temporality, self.collected_ns))
    }

    /// The place of a resource; none if it is new and there is no room for another.
    fn resource(&mut self, resource: &ResourceRef, has_room: bool) -> Option<usize> {
        let address = Arc::as_ptr(resource).addr();
        if let Some(&number) = self.by_address.get(&address) {
            return Some(number);
        }
        if let Some(&number) = self.by_content.get(resource) {
            self.resources[number].met_as.push(resource.clone());
            self.by_address.insert(address, number);
            return Some(number);
        }
        let has_room = has_room && self.resources.len() < self.options.max_resources.max(1);
        has_room.then(|| self.add_resource(resource))
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

impl Instrument {
    fn metric(&self, data: Data) -> Metric {
        Metric {
            name: self.name,
            unit: self.unit,
            description: self.description,
            data,
        }
    }
}

impl OfResource {
    fn metrics(&self, scope: &'static str, metrics: Vec<Metric>) -> Option<ResourceMetrics> {
        (!metrics.is_empty()).then(|| ResourceMetrics {
            resource: self.resource.clone(),
            scope,
            metrics,
        })
    }
}

#[cfg(test)]
#[path = "series_tests.rs"]
mod tests;
