//! The services of Hubble's APIs and of gRPC's health checks, made at build time from the schemas under `proto/`; their messages
//! of package `flow` are [`netflume_core::proto::flow`].

/// All schemas as an encoded `FileDescriptorSet`, those that they import included.
pub(crate) const DESCRIPTORS: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/hubble.descriptors"));

/// Package `observer`: the Observer service.
#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::pedantic,
    clippy::restriction,
    reason = "generated code; the schemas carry the comments"
)]
pub mod observer {
    tonic::include_proto!("observer");
}

/// Package `relay`: states of nodes behind a relay.
#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::pedantic,
    clippy::restriction,
    reason = "generated code; the schemas carry the comments"
)]
pub mod relay {
    tonic::include_proto!("relay");
}

/// Package `peer`: the Peer service.
#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::pedantic,
    clippy::restriction,
    reason = "generated code; the schemas carry the comments"
)]
pub mod peer {
    tonic::include_proto!("peer");
}

/// Package `grpc.health.v1`: the Health service.
#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::pedantic,
    clippy::restriction,
    reason = "generated code; the schemas carry the comments"
)]
pub mod health {
    tonic::include_proto!("grpc.health.v1");
}
