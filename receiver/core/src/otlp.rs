//! Records and points to OTLP protobuf bytes.

pub mod cilium_logs;
pub mod hubble;
pub mod logs;
pub mod metrics;
pub mod request;
pub mod resource;
pub mod spans;
pub mod text;
pub mod wire;
