//! An engine's side of the Observer API.

use netflume_core::model::cilium::{CiliumEvent, LostEvent};
use netflume_core::model::flow::{LostEventSource, Node};

use crate::serve::observer::{FlowRing, RingWriter};

/// The engine's side of the ring: what clients see, and what they missed.
#[derive(Debug)]
pub struct FlowPublisher {
    writer: RingWriter,
    ring: FlowRing,
    /// Missed events that were reported already.
    reported: u64,
}

impl FlowPublisher {
    /// Publishes into this ring.
    #[must_use]
    pub fn new(ring: FlowRing) -> Self {
        Self {
            writer: ring.writer(),
            reported: ring.missed(),
            ring,
        }
    }

    /// Takes an event; clients see it after [`FlowPublisher::flush`].
    pub fn push(&mut self, event: CiliumEvent) {
        self.writer.push(event);
    }

    /// Shows clients what was pushed. Never waits for them.
    pub fn flush(&mut self) {
        self.writer.flush();
    }

    /// Whose flows they are.
    pub fn set_node(&self, node: &Node) {
        self.writer.set_node(node.clone());
    }

    /// Events that slow clients missed since the last time, as the loss that Hubble counts; none if there are none.
    #[must_use]
    pub fn missed(&mut self, unix_ns: u64) -> Option<LostEvent> {
        let missed = self.ring.missed();
        let count = missed - std::mem::replace(&mut self.reported, missed);
        (count > 0).then(|| LostEvent {
            time_ns: unix_ns,
            source: LostEventSource::HUBBLE_RING_BUFFER,
            count,
            ..LostEvent::default()
        })
    }
}
