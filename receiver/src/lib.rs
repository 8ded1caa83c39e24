//! What the network really did, as OpenTelemetry.
//!
//! One road for every source; the modules stand in the order in which data meets them:
//!
//! | module | turns | into |
//! | --- | --- | --- |
//! | [`source`] | sockets, kernel maps and rings, recorded files | batches of bytes |
//! | [`decode`] | bytes | events of [`model`] |
//! | [`enrich`] | an event | who it was: process, container, host, identity |
//! | [`aggregate`] | events, now | records and metric points |
//! | [`otlp`] | records and points | protobuf requests |
//! | [`export`] | requests | what the Collector accepted; or lines on the console |
//!
//! Beside the road: [`serve`] (health, Prometheus text, Observer API), the [`ledger`] in which every stage books what it
//! received, passed on and dropped, [`config`], [`limits`] and [`telemetry`]. Only [`pipeline`] knows them all.

pub mod cli;
pub mod config;
pub mod directories;
pub mod export;
pub mod pipeline;
pub mod proto;
pub mod serve;
pub mod source;
pub mod telemetry;
