//! The series of one instrument and resource.

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::{Kind, Options, REST};
use crate::model::metrics::{
    AttributeValue, Attributes, Data, HistogramPoint, Number, NumberPoint, Temporality,
};

#[derive(Clone, Debug, Default)]
pub(super) struct Store {
    pub(super) series: Vec<Series>,
    by_attributes: HashMap<Attributes, usize, RandomState>,
}

#[derive(Clone, Debug)]
pub(super) struct Series {
    attributes: Attributes,
    /// Beginning of the series.
    start_ns: u64,
    /// The collection that last told a change.
    changed_ns: u64,
    changed: bool,
    /// Since the beginning.
    total: Value,
    /// What came since the last collection, where that is what is collected.
    window: Option<Window>,
}

/// From one collection to the next.
#[derive(Clone, Debug)]
struct Window {
    start_ns: u64,
    value: Value,
}

#[derive(Clone, Debug)]
enum Value {
    Sum(i64),
    Histogram { counts: Vec<u64>, sum: f64 },
}

impl Store {
    /// Whether there are as many series as the limit allows; that of the rest is there in addition.
    pub(super) fn is_full(&self, limit: usize) -> bool {
        let own = usize::from(self.by_attributes.contains_key(REST.as_slice()));
        self.series.len() - own >= limit
    }

    /// The place of a series that is there.
    pub(super) fn find(&self, attributes: &[(&'static str, AttributeValue)]) -> Option<usize> {
        self.by_attributes.get(attributes).copied()
    }

    /// Makes a series; gives its place.
    pub(super) fn add(
        &mut self,
        attributes: &[(&'static str, AttributeValue)],
        kind: Kind,
        temporality: Temporality,
        start_ns: u64,
    ) -> usize {
        let place = self.series.len();
        let zero = Value::zero(kind);
        self.series.push(Series {
            attributes: attributes.to_vec(),
            start_ns,
            changed_ns: start_ns,
            changed: true,
            window: (kind.temporality(temporality) == Temporality::Delta).then(|| Window {
                start_ns,
                value: zero.clone(),
            }),
            total: zero,
        });
        self.by_attributes.insert(attributes.to_vec(), place);
        place
    }

    /// The points of this moment; ends what was quiet for too long.
    pub(super) fn collect(&mut self, unix_ns: u64, options: &Options, kind: Kind) -> Option<Data> {
        let temporality = kind.temporality(options.temporality);
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
            let attributes = &series.attributes;
            match &mut series.window {
                None => points.push(attributes, series.start_ns, unix_ns, &series.total, false),
                Some(window) => {
                    if changed {
                        points.push(attributes, window.start_ns, unix_ns, &window.value, false);
                        // The next window joins this one without a gap.
                        window.start_ns = unix_ns;
                        window.value.reset();
                    }
                }
            }
            if kind == Kind::Level {
                series.total.reset();
            }
        }
        for attributes in &ended {
            if let Some(place) = self.by_attributes.remove(attributes)
                && let Some(series) = self.series.get(place)
                && series.window.is_none()
            {
                points.push(attributes, series.start_ns, unix_ns, &series.total, true);
            }
        }
        if !ended.is_empty() {
            let known = &self.by_attributes;
            self.series
                .retain(|series| known.contains_key(&series.attributes));
            for (place, series) in self.series.iter().enumerate() {
                if let Some(known) = self.by_attributes.get_mut(&series.attributes) {
                    *known = place;
                }
            }
        }
        points.into_data(kind, temporality)
    }

    /// The totals of this moment; changes nothing.
    pub(super) fn totals(&self, unix_ns: u64, kind: Kind) -> Option<Data> {
        let mut points = Points::default();
        for series in &self.series {
            let Series {
                attributes,
                start_ns,
                total,
                ..
            } = series;
            points.push(attributes, *start_ns, unix_ns, total, false);
        }
        points.into_data(kind, Temporality::Cumulative)
    }
}

impl Series {
    /// Adds to a sum; a histogram takes nothing.
    pub(super) fn add(&mut self, change: i64) {
        self.changed = true;
        for value in self.values() {
            if let Value::Sum(sum) = value {
                *sum = sum.saturating_add(change);
            }
        }
    }

    /// Adds to a histogram; a sum takes nothing.
    pub(super) fn add_histogram(
        &mut self,
        more: &(impl Iterator<Item = u64> + Clone),
        more_sum: f64,
    ) {
        self.changed = true;
        for value in self.values() {
            if let Value::Histogram { counts, sum } = value {
                for (count, more) in counts.iter_mut().zip(more.clone()) {
                    *count += more;
                }
                *sum += more_sum;
            }
        }
    }

    fn values(&mut self) -> impl Iterator<Item = &mut Value> {
        let window = self.window.as_mut().map(|window| &mut window.value);
        std::iter::once(&mut self.total).chain(window)
    }
}

impl Value {
    fn zero(kind: Kind) -> Self {
        match kind {
            Kind::Histogram(bounds) => Self::Histogram {
                counts: vec![0; bounds.len() + 1],
                sum: 0.0,
            },
            Kind::Counter | Kind::UpDown | Kind::Level => Self::Sum(0),
        }
    }

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
    fn push(
        &mut self,
        attributes: &Attributes,
        start_unix_ns: u64,
        unix_ns: u64,
        value: &Value,
        ends: bool,
    ) {
        let attributes = attributes.clone();
        match value {
            Value::Sum(value) => self.numbers.push(NumberPoint {
                attributes,
                start_unix_ns,
                unix_ns,
                value: Number::Int(if ends { 0 } else { *value }),
                exemplars: Vec::new(),
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
                exemplars: Vec::new(),
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
