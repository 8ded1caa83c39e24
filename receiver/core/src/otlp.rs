//! Records and points to OTLP protobuf bytes.

pub mod fields;
pub mod hubble;
pub mod key;
pub mod logs;
pub mod metrics;
pub mod pairs;
pub mod request;
pub mod resource;
pub mod spans;
pub mod text;
pub mod wire;
