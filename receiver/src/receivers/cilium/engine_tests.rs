use netflume_core::decode::cilium::queue_loss;
use netflume_core::enrich::host::Host;
use netflume_core::model::batch::BatchKind;
use netflume_core::model::metrics::{AttributeValue, Data, Number};
use netflume_core::model::resource::Value;
use netflume_core::semconv::hubble::metric;

use super::*;
use crate::directories::host::Roots;
use crate::serve::observer::{Capacity, ring};

fn context(flows: Option<FlowPublisher>) -> EngineContext {
    let nowhere: std::path::PathBuf = "/dev/null".into();
    EngineContext {
        origin: Origin::Recorded,
        host: Host::default(),
        roots: Roots {
            root: nowhere.clone(),
            proc: nowhere.clone(),
            cgroup: nowhere,
        },
        own: ResourceRef::default(),
        sinks: Sinks {
            exporter: None,
            console: None,
            ledger: Arc::default(),
        },
        flows,
    }
}

#[test]
fn what_our_own_queue_lost_is_counted_by_event_and_goes_to_clients_and_records() {
    let ring = ring(Capacity::default(), Arc::default());
    let context = context(Some(FlowPublisher::new(ring.clone())));
    let ledger = Arc::clone(&context.sinks.ledger);
    let options = CiliumOptions::default();
    let mut engine = CiliumEngine::new(&options, &Settings::default(), context).unwrap();
    for count in [40, 2] {
        let batch = Batch {
            kind: BatchKind::CILIUM_QUEUE_LOSS,
            unix_ns: 5_000,
            boot_ns: 0,
            bytes: queue_loss::encode(count, 1_000, 2_000),
        };
        engine.feed(&batch).unwrap();
    }
    engine.finish(Now::default()).unwrap();
    assert_eq!(ring.len(), 2);
    assert_eq!(ledger.entry(Stage::Logs).received, 2);
    let totals = engine.totals(Now::default());
    let lost = totals
        .iter()
        .flat_map(|of| &of.metrics)
        .find(|metric| metric.name == metric::LOST_EVENTS)
        .unwrap();
    let Data::Sum { points, .. } = &lost.data else {
        panic!("{lost:?}");
    };
    let source = AttributeValue::Value(Value::Text("observer_events_queue".into()));
    assert_eq!(points[0].attributes, [("source", source)]);
    assert_eq!(points[0].value, Number::Int(42));
}
