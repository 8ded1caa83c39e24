//! Cilium events in Hubble's words: field by field as protobuf's JSON form of `flow.Flow` and its siblings has them (Cilium 1.19.4, original
//! field names in the schema's order, default values left out), into whatever takes [`Fields`].

use crate::model::cilium::CiliumEvent;
use crate::model::flow::Node;
use crate::otlp::fields::Fields;

pub mod debug_text;
mod events;
mod flow;
pub mod json;
mod layer7;
mod timestamp;

pub use timestamp::time;

/// Writes the fields of an event of any kind.
pub fn event_fields(event: &CiliumEvent, node: &Node, out: &mut impl Fields) {
    match event {
        CiliumEvent::Flow(event) => flow::flow(event, node, out),
        CiliumEvent::Agent(event) => events::agent(event, out),
        CiliumEvent::Debug(event) => events::debug(event, out),
        CiliumEvent::Lost(event) => events::lost(event, out),
    }
}

#[cfg(test)]
mod tests;
