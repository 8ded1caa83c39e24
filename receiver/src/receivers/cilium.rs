//! The Cilium agent's monitor socket: flows, `hubble_*` metrics, log records, exchanges, the Observer API.

pub(crate) mod engine;
pub(crate) mod exchanges;
pub(crate) mod observer;
pub mod source;
