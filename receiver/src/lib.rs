//! What the network really did, as OpenTelemetry.
//!
//! The shell around [`netflume_core`]; the modules stand in the order in which data meets them:
//!
//! | module | turns | into |
//! | --- | --- | --- |
//! | [`receivers`] | sockets, kernel maps and rings | batches of bytes, and through [`netflume_core`] requests |
//! | [`directories`] | `/proc`, cgroups, agents' APIs | what events are enriched from |
//! | [`export`] | requests | what the Collector accepted; or lines on the console |
//!
//! Beside it: [`serve`] (health, Prometheus text, Observer API), [`config`], [`cli`] and [`telemetry`]. Only [`pipeline`] knows them
//! all.

pub mod cli;
pub mod config;
pub mod directories;
pub mod export;
mod from_files;
pub mod pipeline;
pub(crate) mod platform;
pub mod proto;
pub mod receivers;
pub mod serve;
pub mod telemetry;
#[cfg(test)]
mod written;
