//! The messages of Hubble's package `flow` into Rust, without `protoc`. The services are made by the package `netflume`.

use std::path::Path;

const FILES: &[&str] = &["flow/flow.proto", "flow/filter.proto", "flow/events.proto"];

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

/// Writes `flow.rs` into `OUT_DIR`; `src/proto.rs` includes it.
fn main() -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    println!("cargo::rerun-if-changed={}", root.display());
    let files: Vec<_> = FILES.iter().map(|file| root.join(file)).collect();
    let schemas = protox::compile(&files, [&root])?;
    let mut builder = prost_build::Config::new();
    for name in CONFIGURED {
        builder.message_attribute(
            format!("flow.{name}"),
            "#[derive(serde::Serialize, serde::Deserialize)] #[serde(default, deny_unknown_fields)]",
        );
    }
    for (field, names) in spellings(&schemas) {
        builder.field_attribute(field, names);
    }
    builder.compile_fds(schemas)?;
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
