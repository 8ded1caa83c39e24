//! The protobuf messages of Hubble's package `flow`, made at build time from the schemas under `proto/`.
//!
//! They are the outer form only: flows live in [`crate::model`] and become these types when a client asks for them.

pub mod names;

/// Package `flow`: flows, filters, agent and debug events.
#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::pedantic,
    clippy::restriction,
    reason = "generated code; the schemas carry the comments"
)]
pub mod flow {
    include!(concat!(env!("OUT_DIR"), "/flow.rs"));
}
