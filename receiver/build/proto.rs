//! The Hubble schemas under `proto/` into Rust, without `protoc`.

use std::path::Path;

use anyhow::Context as _;
use prost::Message as _;

const FILES: &[&str] = &[
    "observer/observer.proto",
    "peer/peer.proto",
    "health/health.proto",
];

/// Messages that stand in configuration files too: filters on flows.
const CONFIGURED: &[&str] = &[
    "FlowFilter",
    "FlowFilter.Experimental",
    "EventTypeFilter",
    "TCPFlags",
    "HTTPHeader",
    "NetworkInterface",
    "Workload",
];

/// Writes one Rust file per protobuf package into `OUT_DIR`; `src/proto.rs` includes them.
pub(crate) fn compile() -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto");
    println!("cargo::rerun-if-changed={}", root.display());
    let files: Vec<_> = FILES.iter().map(|file| root.join(file)).collect();
    let schemas = protox::compile(&files, [&root])?;
    // Field masks look names up in it.
    let descriptors = Path::new(&std::env::var_os("OUT_DIR").context("cargo sets OUT_DIR")?)
        .join("hubble.descriptors");
    std::fs::write(descriptors, schemas.encode_to_vec())?;
    let mut builder = tonic_prost_build::configure();
    for name in CONFIGURED {
        builder = builder.message_attribute(
            format!("flow.{name}"),
            "#[derive(serde::Serialize, serde::Deserialize)] #[serde(default, deny_unknown_fields)]",
        );
    }
    for (field, names) in spellings(&schemas) {
        builder = builder.field_attribute(field, names);
    }
    builder
        // A flow is thirty fields; without the box every response of the stream would be as large as its largest kind.
        .boxed("observer.GetFlowsResponse.response_types.flow")
        .boxed("observer.ExportEvent.response_types.flow")
        .compile_fds(schemas)?;
    Ok(())
}

/// How each field of a [`CONFIGURED`] message is spelled in a file: its name in the schema, or the camelCase one of
/// protobuf's JSON; values of enumerations by name.
fn spellings(schemas: &prost_types::FileDescriptorSet) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for message in schemas
        .file
        .iter()
        .filter(|file| file.package() == "flow")
        .flat_map(|file| &file.message_type)
        .filter(|message| CONFIGURED.contains(&message.name()))
    {
        for field in &message.field {
            let with = match field.type_name().strip_prefix(".flow.") {
                Some(name) if field.r#type() == prost_types::field_descriptor_proto::Type::Enum => {
                    format!(", with = \"crate::proto::names::{}\"", name.to_lowercase())
                }
                _ => String::new(),
            };
            found.push((
                format!("flow.{}.{}", message.name(), field.name()),
                format!(
                    "#[serde(rename = \"{}\", alias = \"{}\"{with})]",
                    field.name(),
                    field.json_name()
                ),
            ));
        }
    }
    found
}
