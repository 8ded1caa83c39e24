//! Shared parts of the tests.

pub mod agent;
pub mod collector;
pub mod otlp_json;
pub mod traffic;
pub mod wait;
