//! Records and points to OTLP protobuf bytes.

pub mod logs;
pub mod metrics;
pub mod resource;
pub mod semconv;
pub mod wire;
