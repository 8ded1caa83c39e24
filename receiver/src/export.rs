//! Delivery: queue, retry, gRPC; or lines on the console.

pub mod client;
pub mod console;
pub mod endpoint;
pub mod exporter;
pub mod json_lines;
pub mod options;
mod pack;
pub mod queue;
pub mod retry;
pub mod sinks;
mod split;
pub mod status;
pub mod tls;
