//! Own metrics of the export queue and of the sources.

use std::sync::Arc;

use crate::export::exporter::ExporterHandle;
use crate::serve::health::{Health, SourceState};
use crate::telemetry::state::{Definition, Kind, Reading};
use netflume_core::model::metrics::{AttributeValue, Attributes, Number};
use netflume_core::model::resource::Value;
use netflume_core::semconv::own;

/// What the export queue holds: requests and bytes.
#[must_use]
pub fn queue(exporter: &ExporterHandle) -> [Definition; 2] {
    let gauge = |name, unit, description, of: fn(&ExporterHandle) -> u64| {
        let exporter = exporter.clone();
        definition(name, unit, description, move || {
            let held = i64::try_from(of(&exporter)).unwrap_or(i64::MAX);
            vec![(Attributes::new(), Number::Int(held))]
        })
    };
    [
        gauge(
            own::QUEUE_SIZE,
            "{request}",
            "Requests in the export queue, those under way included.",
            |exporter| exporter.held().requests,
        ),
        gauge(
            own::QUEUE_USAGE,
            "By",
            "Bytes in the export queue, after compression.",
            |exporter| exporter.held().bytes,
        ),
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
                (vec![(own::SOURCE, name)], Number::Int(up))
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
    use super::*;
    use crate::export::exporter::Exporter;
    use crate::export::options::ExporterOptions;
    use netflume_core::ledger::Ledger;

    #[tokio::test]
    async fn an_empty_queue_and_a_failed_source_are_told() {
        let exporter =
            Exporter::start(&ExporterOptions::default(), Arc::new(Ledger::default())).unwrap();
        for definition in queue(&exporter) {
            assert_eq!((definition.read)(), [(Attributes::new(), Number::Int(0))]);
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
