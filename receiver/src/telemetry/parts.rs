//! Own metrics of the export queue and of the sources.

use std::sync::{Arc, PoisonError};

use crate::export::exporter::{CurrentExporter, ExporterHandle};
use crate::export::queue::Held;
use crate::serve::health::{Health, SourceState};
use crate::telemetry::reloads::Reloads;
use crate::telemetry::state::{Definition, Kind, Reading};
use netflume_core::model::metrics::{AttributeValue, Number};
use netflume_core::model::request::Signal;
use netflume_core::model::resource::Value;
use netflume_core::semconv::own;

/// What the export queue of each signal holds: requests and bytes.
#[must_use]
pub fn queue(exporter: &CurrentExporter) -> [Definition; 2] {
    let gauge = |name, unit, description, of: fn(Held) -> u64| {
        let exporter = exporter.clone();
        definition(name, unit, description, move || {
            let reading = |(signal, held): (Signal, Held)| {
                let signal = AttributeValue::Value(Value::Text(signal.as_str().into()));
                let held = i64::try_from(of(held)).unwrap_or(i64::MAX);
                (vec![(own::SIGNAL, signal)], Number::Int(held))
            };
            let exporter = exporter.lock().unwrap_or_else(PoisonError::into_inner);
            let held = exporter.iter().flat_map(ExporterHandle::held_by_signal);
            held.map(reading).collect()
        })
    };
    [
        gauge(
            own::QUEUE_SIZE,
            "{request}",
            "Requests in the export queue of a signal, those under way included.",
            |held| held.requests,
        ),
        gauge(
            own::QUEUE_USAGE,
            "By",
            "Bytes in the export queue of a signal, after compression.",
            |held| held.bytes,
        ),
    ]
}

/// Which configuration is in effect, and how reloads ended.
#[must_use]
pub fn reloads(reloads: &Arc<Reloads>) -> [Definition; 3] {
    let gauge = |name, unit, description, read: fn(&Reloads) -> Vec<Reading>| {
        let reloads = Arc::clone(reloads);
        definition(name, unit, description, move || read(&reloads))
    };
    [
        gauge(
            own::CONFIG_GENERATION,
            "",
            "Configurations that were in effect so far, by the hash of the present one.",
            |reloads| {
                let (generation, hash) = reloads.generation();
                let hash = AttributeValue::Value(Value::Text(hash.into()));
                vec![(vec![(own::CONFIG_HASH, hash)], Number::Int(generation))]
            },
        ),
        Definition {
            whole: false,
            ..gauge(
                own::CONFIG_RELOAD_TIME,
                "s",
                "When the configuration was last reloaded, seconds since 1970; by result.",
                Reloads::times,
            )
        },
        Definition {
            kind: Kind::Counter,
            ..gauge(
                own::CONFIG_RELOADS,
                "{reload}",
                "Reloads of the configuration, by result.",
                Reloads::counts,
            )
        },
    ]
}

/// Whether each source delivers.
#[must_use]
pub fn sources(health: &Arc<Health>) -> Definition {
    let health = health.clone();
    definition(
        own::SOURCE_UP,
        "",
        "1 while the source delivers, else 0.",
        move || {
            let up = |(name, state): (&str, SourceState)| {
                let name = AttributeValue::Value(Value::Text(name.into()));
                let up = i64::from(state == SourceState::Running);
                (vec![(own::RECEIVER, name)], Number::Int(up))
            };
            health.sources().into_iter().map(up).collect()
        },
    )
}

fn definition(
    name: &'static str,
    unit: &'static str,
    description: &'static str,
    read: impl Fn() -> Vec<Reading> + Send + Sync + 'static,
) -> Definition {
    Definition {
        name,
        unit,
        description,
        kind: Kind::Gauge,
        whole: true,
        read: Arc::new(read),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::export::exporter::Exporter;
    use crate::export::options::ExporterOptions;

    #[tokio::test]
    async fn the_empty_queue_of_each_exported_signal_and_a_failed_source_are_reported() {
        let mut options = ExporterOptions::default();
        for signal in [&mut options.logs, &mut options.metrics] {
            signal.endpoint = Some("http://localhost:4317".into());
        }
        let exporter = Exporter::start(&options).unwrap();
        let empty = ["logs", "metrics"].map(|signal| {
            let signal = AttributeValue::Value(Value::Text(signal.into()));
            (vec![(own::SIGNAL, signal)], Number::Int(0))
        });
        for definition in queue(&Arc::new(Mutex::new(Some(exporter)))) {
            assert_eq!((definition.read)(), empty);
        }
        let health = Arc::new(Health::default());
        health.source("ebpf", SourceState::Running);
        health.source("cilium", SourceState::Failed("gone".to_owned()));
        let values: Vec<_> = (sources(&health).read)()
            .into_iter()
            .map(|(_, value)| value)
            .collect();
        assert_eq!(values, [Number::Int(0), Number::Int(1)]);
    }
}
