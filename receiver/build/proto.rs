//! The Hubble schemas under `proto/` into Rust, without `protoc`.

use std::path::Path;

use anyhow::Context as _;
use prost::Message as _;

const FILES: &[&str] = &[
    "observer/observer.proto",
    "peer/peer.proto",
    "health/health.proto",
];

/// Writes one Rust file per protobuf package into `OUT_DIR`; `src/proto.rs` includes them.
pub(crate) fn compile() -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto");
    println!("cargo::rerun-if-changed={}", root.display());
    let files: Vec<_> = FILES.iter().map(|file| root.join(file)).collect();
    let schemas = protox::compile(&files, [&root])?;
    // Field masks look names up in it, and reflection serves it.
    let descriptors = Path::new(&std::env::var_os("OUT_DIR").context("cargo sets OUT_DIR")?)
        .join("hubble.descriptors");
    std::fs::write(descriptors, schemas.encode_to_vec())?;
    tonic_prost_build::configure()
        .extern_path(".flow", "::netflume_core::proto::flow")
        // A flow is thirty fields; without the box every response of the stream would be as large as its largest kind.
        .boxed("observer.GetFlowsResponse.response_types.flow")
        .boxed("observer.ExportEvent.response_types.flow")
        .compile_fds(schemas)?;
    Ok(())
}
