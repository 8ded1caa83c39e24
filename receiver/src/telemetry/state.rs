//! What the program measures about itself: one list of metrics, read at each export and each scrape.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;

use netflume_core::ledger::{Entry, Ledgers, Stage};
use netflume_core::model::metrics::{
    AttributeValue, Attributes, Data, Metric, Number, NumberPoint, ResourceMetrics, Temporality,
};
use netflume_core::model::resource::{ResourceRef, Value};
use netflume_core::semconv::{own, scope};

use crate::platform::process;

/// A value and its attributes.
pub type Reading = (Attributes, Number);

/// How values of an own metric behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Totals since the start.
    Counter,
    /// Last values.
    Gauge,
}

/// One own metric.
#[derive(Clone)]
pub struct Definition {
    /// Name, from [`own`].
    pub name: &'static str,
    /// Unit (UCUM).
    pub unit: &'static str,
    /// One sentence.
    pub description: &'static str,
    /// How its values behave.
    pub kind: Kind,
    /// Its values are whole numbers.
    pub whole: bool,
    /// Reads the values; called from other threads, must not wait.
    pub read: Arc<dyn Fn() -> Vec<Reading> + Send + Sync>,
}

/// All own metrics.
pub struct SelfState {
    resource: ResourceRef,
    started_unix_ns: u64,
    definitions: Mutex<Vec<Definition>>,
}

impl SelfState {
    /// What the ledgers have, processor time, memory, uptime and version. `resource`: the program's own.
    #[must_use]
    pub fn new(resource: ResourceRef, ledgers: &Arc<Ledgers>) -> Self {
        let state = Self {
            resource,
            started_unix_ns: unix_ns(),
            definitions: Mutex::default(),
        };
        let books = |name, description, read: fn(&Entry) -> Vec<Reading>| {
            let ledgers = ledgers.clone();
            Definition {
                name,
                unit: "{item}",
                description,
                kind: if name == own::HELD {
                    Kind::Gauge
                } else {
                    Kind::Counter
                },
                whole: true,
                // Every stage from the start, zeros included: a rate needs a value before the first event.
                read: Arc::new(move || every_stage(&ledgers, read)),
            }
        };
        state.add(books(
            own::RECEIVED,
            "Items that came into a stage.",
            |entry| vec![(Attributes::new(), count(entry.received))],
        ));
        state.add(books(
            own::PASSED,
            "Items that a stage passed on.",
            |entry| vec![(Attributes::new(), count(entry.passed))],
        ));
        state.add(books(
            own::DROPPED,
            "Items that a stage did not pass on, by reason.",
            |entry| {
                let dropped = |(reason, n): &(netflume_core::ledger::Reason, u64)| {
                    (vec![(own::REASON, text(reason.as_str()))], count(*n))
                };
                entry.dropped.iter().map(dropped).collect()
            },
        ));
        state.add(books(own::HELD, "Items that a stage holds.", |entry| {
            let held = i64::try_from(entry.held()).unwrap_or(i64::MAX);
            vec![(Attributes::new(), Number::Int(held))]
        }));
        state.add(io(ledgers));
        for definition in own_process() {
            state.add(definition);
        }
        state
    }

    /// Adds a metric, before [`SelfState::instrument`].
    pub fn add(&self, definition: Definition) {
        self.lock().push(definition);
    }

    /// All values now, as the scrape wants them.
    #[must_use]
    pub fn metrics(&self) -> Vec<ResourceMetrics> {
        let now = unix_ns();
        let definitions = self.lock().clone();
        let metrics = definitions
            .into_iter()
            .map(|definition| {
                let is_counter = definition.kind == Kind::Counter;
                let point = |(attributes, value)| NumberPoint {
                    attributes,
                    start_unix_ns: if is_counter { self.started_unix_ns } else { 0 },
                    unix_ns: now,
                    value,
                    exemplars: Vec::new(),
                    no_recorded_value: false,
                };
                let points = (definition.read)().into_iter().map(point).collect();
                Metric {
                    name: definition.name,
                    unit: definition.unit,
                    description: definition.description,
                    data: match definition.kind {
                        Kind::Counter => Data::Sum {
                            monotonic: true,
                            temporality: Temporality::Cumulative,
                            points,
                        },
                        Kind::Gauge => Data::Gauge(points),
                    },
                }
            })
            .collect();
        vec![ResourceMetrics {
            resource: self.resource.clone(),
            scope: scope::SELF,
            metrics,
        }]
    }

    /// Makes an observable instrument of the OpenTelemetry SDK of each metric.
    pub fn instrument(&self, meter: &Meter) {
        for definition in self.lock().clone() {
            let read = definition.read;
            // The SDK keeps the callback for as long as the provider lives; the handle itself does nothing.
            macro_rules! observe {
                ($make:ident, $convert:expr) => {
                    drop(
                        meter
                            .$make(definition.name)
                            .with_unit(definition.unit)
                            .with_description(definition.description)
                            .with_callback(move |observer| {
                                for (attributes, value) in read() {
                                    observer.observe($convert(value), &key_values(&attributes));
                                }
                            })
                            .build(),
                    )
                };
            }
            match (definition.kind, definition.whole) {
                (Kind::Counter, true) => observe!(u64_observable_counter, unsigned),
                (Kind::Counter, false) => observe!(f64_observable_counter, real),
                (Kind::Gauge, true) => observe!(i64_observable_gauge, whole),
                (Kind::Gauge, false) => observe!(f64_observable_gauge, real),
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Definition>> {
        self.definitions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Every stage of every receiver from the start, zeros included: a rate needs a value before the first event.
fn every_stage(ledgers: &Ledgers, read: fn(&Entry) -> Vec<Reading>) -> Vec<Reading> {
    let mut readings = Vec::new();
    for ledger in ledgers.all() {
        for stage in Stage::ALL {
            for (mut attributes, value) in read(&ledger.entry(*stage)) {
                attributes.push((own::RECEIVER, text(ledger.receiver())));
                attributes.push((own::STAGE, text(stage.as_str())));
                readings.push((attributes, value));
            }
        }
    }
    readings
}

/// Bytes of the stages that count them.
fn io(ledgers: &Arc<Ledgers>) -> Definition {
    let ledgers = ledgers.clone();
    Definition {
        name: own::IO,
        unit: "By",
        description: "Bytes that came into a stage which counts them.",
        kind: Kind::Counter,
        whole: true,
        read: Arc::new(move || {
            let mut bytes = every_stage(&ledgers, |entry| {
                vec![(Attributes::new(), count(entry.bytes))]
            });
            bytes.retain(|(_, bytes)| *bytes != Number::Int(0));
            bytes
        }),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "definitions with whole numbers hold no others"
)]
fn whole(value: Number) -> i64 {
    match value {
        Number::Int(value) => value,
        Number::Double(value) => value as i64,
    }
}

fn unsigned(value: Number) -> u64 {
    u64::try_from(whole(value)).unwrap_or(0)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of a lifetime are below 2^53"
)]
fn real(value: Number) -> f64 {
    match value {
        Number::Int(value) => value as f64,
        Number::Double(value) => value,
    }
}

fn text(value: &str) -> AttributeValue {
    AttributeValue::Value(Value::Text(value.into()))
}

fn count(n: u64) -> Number {
    Number::Int(i64::try_from(n).unwrap_or(i64::MAX))
}

fn key_values(attributes: &Attributes) -> Vec<KeyValue> {
    attributes
        .iter()
        .map(|(key, value)| match value {
            AttributeValue::Value(Value::Text(text)) => KeyValue::new(*key, text.to_string()),
            AttributeValue::Value(Value::Int(number)) => KeyValue::new(*key, *number),
            AttributeValue::Value(Value::List(texts)) => KeyValue::new(*key, texts.join(",")),
            AttributeValue::Bool(flag) => KeyValue::new(*key, *flag),
        })
        .collect()
}

fn unix_ns() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
        })
}

fn own_process() -> [Definition; 4] {
    let started = Instant::now();
    let definition =
        |name, unit, description, kind, read: Arc<dyn Fn() -> Option<Reading> + Send + Sync>| {
            Definition {
                name,
                unit,
                description,
                kind,
                whole: unit != "s",
                read: Arc::new(move || read().into_iter().collect()),
            }
        };
    [
        definition(
            own::CPU_TIME,
            "s",
            "Processor time of all threads of the program.",
            Kind::Counter,
            Arc::new(|| {
                let seconds = process::cpu_time()?.as_secs_f64();
                Some((Attributes::new(), Number::Double(seconds)))
            }),
        ),
        definition(
            own::MEMORY_USAGE,
            "By",
            "Resident memory of the program.",
            Kind::Gauge,
            Arc::new(|| Some((Attributes::new(), count(process::resident_bytes()?)))),
        ),
        definition(
            own::UPTIME,
            "s",
            "Time since the program started.",
            Kind::Gauge,
            Arc::new(move || {
                let uptime = started.elapsed().as_secs_f64();
                Some((Attributes::new(), Number::Double(uptime)))
            }),
        ),
        definition(
            own::BUILD,
            "",
            "Always 1; the label tells the version.",
            Kind::Gauge,
            Arc::new(|| {
                let version = text(env!("CARGO_PKG_VERSION"));
                Some((vec![(own::VERSION, version)], Number::Int(1)))
            }),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::exposition::{Format, write};
    use netflume_core::ledger::Reason;

    #[test]
    fn the_books_of_each_receiver_and_the_process_are_reported() {
        let ledgers = Arc::new(Ledgers::default());
        let ledger = ledgers.of("ebpf");
        ledgers.of("cilium").received(Stage::Queue, 2);
        ledger.received(Stage::Queue, 10);
        ledger.passed(Stage::Queue, 6);
        ledger.dropped(Stage::Queue, Reason::QueueFull, 3);
        let resource = ResourceRef::default();
        let state = SelfState::new(resource.clone(), &ledgers);
        state.add(Definition {
            name: own::QUEUE_SIZE,
            unit: "{request}",
            description: "Requests.",
            kind: Kind::Gauge,
            whole: true,
            read: Arc::new(|| vec![(Attributes::new(), Number::Int(7))]),
        });
        let text = write(&state.metrics(), &resource, Format::Text);
        for line in [
            "netflume_received_total{receiver=\"cilium\",stage=\"queue\"} 2",
            "netflume_received_total{receiver=\"ebpf\",stage=\"queue\"} 10",
            "netflume_passed_total{receiver=\"ebpf\",stage=\"queue\"} 6",
            "netflume_dropped_total{reason=\"queue_full\",receiver=\"ebpf\",stage=\"queue\"} 3",
            "netflume_held{receiver=\"ebpf\",stage=\"queue\"} 1",
            "netflume_received_total{receiver=\"ebpf\",stage=\"source\"} 0",
            "netflume_queue_size 7",
            concat!(
                "netflume_build_info{version=\"",
                env!("CARGO_PKG_VERSION"),
                "\"} 1"
            ),
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        for name in [
            "netflume_cpu_time_seconds_total ",
            "netflume_memory_usage_bytes ",
            "netflume_uptime_seconds ",
        ] {
            assert!(
                text.lines().any(|found| found.starts_with(name)),
                "{name}\n{text}"
            );
        }
    }

    #[test]
    fn the_process_is_measured() {
        assert!(process::resident_bytes().is_some_and(|bytes| bytes > 100_000));
        assert!(process::cpu_time().is_some_and(|time| time.as_secs() < 1_000_000));
    }
}
