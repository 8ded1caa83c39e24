//! From the bytes of the monitor socket to counted metrics, a datapath event allocates nothing.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use netflume_core::aggregate::hubble::{HubbleMetrics, HubbleOptions};
use netflume_core::decode::cilium::{Monitor, Payload};
use netflume_core::enrich::cilium::{Directory, Flows};
use netflume_core::model::cilium::CiliumEvent;
use netflume_core::model::flow::{Node, message_type};

#[path = "support/cilium_world.rs"]
mod cilium_world;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|n| n.set(n.get() + 1));
        // SAFETY: the caller's contract is that of this method.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract is that of this method.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What a run of a stream saw.
struct Run {
    /// The events that allocated: number, message type, allocations.
    allocated: Vec<(usize, u8, u64)>,
    /// Flows by message type.
    flows: [u32; 256],
}

/// Runs a stream.
fn run(
    stream: &[u8],
    flows: &mut Flows,
    metrics: &mut HubbleMetrics,
    directory: &Directory,
) -> Run {
    let node = Node::default();
    let mut monitor = Monitor::default();
    let mut rest = stream;
    let mut run = Run {
        allocated: Vec::new(),
        flows: [0; 256],
    };
    let mut number = 0;
    while !rest.is_empty() {
        let before = ALLOCATIONS.with(Cell::get);
        let (payload, next) = monitor.next(rest).expect("a sound stream");
        rest = next;
        let Some(payload) = payload else {
            continue;
        };
        let event = flows.payload(&payload, 1, directory);
        if let Ok(CiliumEvent::Flow(flow)) = &event {
            metrics.observe(flow, &node);
            run.flows[usize::from(flow.event_type.kind)] += 1;
        }
        drop(event);
        let after = ALLOCATIONS.with(Cell::get);
        number += 1;
        if after > before
            // The first value of a connection makes the table of its fields.
            && number > 1
            && let Payload::Sample { data, .. } = payload
        {
            run.allocated.push((
                number,
                data.first().copied().unwrap_or_default(),
                after - before,
            ));
        }
    }
    run
}

#[test]
fn datapath_events_allocate_nothing_up_to_the_metrics() {
    let directory = cilium_world::directory();
    let mut flows = Flows::default();
    let mut metrics = HubbleMetrics::new(&HubbleOptions::default()).unwrap();
    let (mut covered, mut made_series) = ([0; 256], false);
    for release in ["1.18.6", "1.19.4"] {
        for stream in ["drop", "trace", "verdict", "packet", "other"] {
            let bytes =
                std::fs::read(cilium_world::fixture(&format!("{release}/{stream}.gob"))).unwrap();
            // The first run makes the series.
            let first = run(&bytes, &mut flows, &mut metrics, &directory);
            made_series |= !first.allocated.is_empty();
            let second = run(&bytes, &mut flows, &mut metrics, &directory);
            assert_eq!(first.flows, second.flows);
            for (sum, flows) in covered.iter_mut().zip(second.flows) {
                *sum += flows;
            }
            let of_datapath: Vec<_> = second
                .allocated
                .iter()
                .filter(|(_, kind, _)| *kind < message_type::ACCESS_LOG)
                .collect();
            assert!(
                of_datapath.is_empty(),
                "{release} {stream}: {of_datapath:?}"
            );
        }
    }
    assert!(
        made_series,
        "new series are allocated, so the counter works"
    );
    for kind in [
        message_type::DROP,
        message_type::TRACE,
        message_type::POLICY_VERDICT,
        message_type::CAPTURE,
        message_type::TRACE_SOCK,
    ] {
        let flows = covered[usize::from(kind)];
        assert!(flows > 20, "type {kind}: {flows} flows");
    }
}
