//! Shared parts of the tests.

pub mod agent;
pub mod agent_api;
pub mod collector;
pub mod fake_collector;
pub mod http;
pub mod monitor;
pub mod namespace;
pub mod oracle;
pub mod otlp_json;
pub mod page;
pub mod pki;
pub mod sink;
pub mod traffic;
pub mod wait;
