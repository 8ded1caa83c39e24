//! The pure centre of netflume: from bytes that were read to OTLP requests that are ready to be sent.
//!
//! The modules stand in the order in which data meets them:
//!
//! | module | turns | into |
//! | --- | --- | --- |
//! | [`decode`] | bytes | events of [`model`] |
//! | [`enrich`] | an event and snapshots | who it was: process, container, host, identity |
//! | [`aggregate`] | events, now | records, metric points, exchanges |
//! | [`otlp`] | records, points, spans | protobuf requests; every name comes from [`semconv`] |
//!
//! Nothing here touches a socket, a file, a clock, a runtime or a kernel: time is an argument, and the crate depends on nothing
//! that could. It is built for targets without an operating system to keep it so. The [`ledger`] counts what each stage received,
//! passed on and dropped.
#![forbid(unsafe_code)]

pub mod aggregate;
pub mod decode;
pub mod enrich;
pub mod ledger;
pub mod model;
pub mod otlp;
pub mod proto;
pub mod semconv;
