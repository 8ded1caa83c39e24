//! Field masks: `source.pod_name` and the like into a flow that has only these fields.
//!
//! Works on the wire form, with the schemas' own table of names, so that no list of fields can be forgotten.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use prost::Message as _;
use prost::bytes::Buf as _;
use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint};
use prost_types::field_descriptor_proto::Type;
use prost_types::{DescriptorProto, FileDescriptorSet};

use netflume_core::proto::flow::Flow;

/// The schemas as the compiler in `build/proto.rs` saw them.
static SCHEMAS: LazyLock<FileDescriptorSet> = LazyLock::new(|| {
    let bytes = crate::proto::DESCRIPTORS;
    FileDescriptorSet::decode(bytes).unwrap_or_default()
});

/// Fields of a message: number, and which of its own fields; none of these means the whole field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Fields(BTreeMap<u32, Option<Self>>);

/// Which fields of a flow a client wants. The default wants all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FieldMask(Fields);

/// A path that names no field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("field mask: `{0}` is no field of a flow")]
pub(super) struct NoSuchField(String);

impl FieldMask {
    /// Reads paths of names with dots between them.
    pub(super) fn parse(paths: &[String]) -> Result<Self, NoSuchField> {
        let mut mask = Self::default();
        for path in paths {
            mask.0
                .add(".flow.Flow", path)
                .ok_or_else(|| NoSuchField(path.clone()))?;
        }
        Ok(mask)
    }

    /// The flow with only these fields.
    pub(super) fn apply(&self, flow: Flow) -> Flow {
        if self.0.0.is_empty() {
            return flow;
        }
        let mut kept = Vec::new();
        self.0
            .copy(&flow.encode_to_vec(), &mut kept)
            .and_then(|()| Flow::decode(&*kept).ok())
            .unwrap_or_default()
    }
}

impl Fields {
    fn add(&mut self, message: &str, path: &str) -> Option<()> {
        let (name, rest) = path
            .split_once('.')
            .map_or((path, None), |(name, rest)| (name, Some(rest)));
        let descriptor = find(message)?;
        let field = descriptor.field.iter().find(|field| field.name() == name)?;
        let number = u32::try_from(field.number()).ok()?;
        match rest {
            None => {
                self.0.insert(number, None);
            }
            Some(_) if field.r#type() != Type::Message => return None,
            Some(rest) => {
                // Checked also where the whole field is wanted already.
                let mut below = match self.0.get(&number) {
                    Some(Some(below)) => below.clone(),
                    _ => Self::default(),
                };
                below.add(field.type_name(), rest)?;
                if self.0.get(&number) != Some(&None) {
                    self.0.insert(number, Some(below));
                }
            }
        }
        Some(())
    }

    /// Copies the wanted fields of a message in wire form.
    fn copy(&self, message: &[u8], to: &mut Vec<u8>) -> Option<()> {
        let mut rest = message;
        while rest.has_remaining() {
            let start = rest;
            let (number, wire_type) = decode_key(&mut rest).ok()?;
            let content = match wire_type {
                WireType::Varint => {
                    decode_varint(&mut rest).ok()?;
                    None
                }
                WireType::SixtyFourBit => {
                    rest = rest.get(8..)?;
                    None
                }
                WireType::ThirtyTwoBit => {
                    rest = rest.get(4..)?;
                    None
                }
                WireType::LengthDelimited => {
                    let length = usize::try_from(decode_varint(&mut rest).ok()?).ok()?;
                    let content = rest.get(..length)?;
                    rest = rest.get(length..)?;
                    Some(content)
                }
                WireType::StartGroup | WireType::EndGroup => return None,
            };
            match (self.0.get(&number), content) {
                (None, _) => {}
                (Some(Some(below)), Some(content)) => {
                    let mut kept = Vec::new();
                    below.copy(content, &mut kept)?;
                    encode_key(number, WireType::LengthDelimited, to);
                    encode_varint(kept.len() as u64, to);
                    to.extend_from_slice(&kept);
                }
                (Some(_), _) => to.extend_from_slice(start.get(..start.len() - rest.len())?),
            }
        }
        Some(())
    }
}

/// The message with this full name, which begins with a dot.
fn find(name: &str) -> Option<&'static DescriptorProto> {
    SCHEMAS.file.iter().find_map(|file| {
        let name = name.strip_prefix('.')?;
        let mut path = name
            .strip_prefix(file.package())?
            .strip_prefix('.')?
            .split('.');
        let first = path.next()?;
        let top = file
            .message_type
            .iter()
            .find(|message| message.name() == first)?;
        path.try_fold(top, |outer, name| {
            outer
                .nested_type
                .iter()
                .find(|message| message.name() == name)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use netflume_core::proto::flow::{Endpoint, Layer4, Tcp, TcpFlags, Workload, layer4::Protocol};

    fn masked(paths: &[&str], flow: Flow) -> Flow {
        let paths: Vec<_> = paths.iter().map(|&path| path.to_owned()).collect();
        FieldMask::parse(&paths).unwrap().apply(flow)
    }

    fn flow() -> Flow {
        Flow {
            verdict: 2,
            uuid: "u".into(),
            source: Some(Endpoint {
                id: 7,
                pod_name: "p".into(),
                workloads: vec![Workload {
                    name: "w".into(),
                    kind: "Job".into(),
                }],
                ..Endpoint::default()
            }),
            l4: Some(Layer4 {
                protocol: Some(Protocol::Tcp(Tcp {
                    source_port: 1,
                    destination_port: 2,
                    flags: Some(TcpFlags::default()),
                })),
            }),
            ..Flow::default()
        }
    }

    #[test]
    fn only_the_named_fields_are_kept() {
        let kept = masked(
            &[
                "verdict",
                "uuid",
                "source.pod_name",
                "source.workloads.kind",
                "l4.TCP.destination_port",
                "destination",
            ],
            flow(),
        );
        let expected = Flow {
            verdict: 2,
            uuid: "u".into(),
            source: Some(Endpoint {
                pod_name: "p".into(),
                workloads: vec![Workload {
                    kind: "Job".into(),
                    ..Workload::default()
                }],
                ..Endpoint::default()
            }),
            l4: Some(Layer4 {
                protocol: Some(Protocol::Tcp(Tcp {
                    destination_port: 2,
                    ..Tcp::default()
                })),
            }),
            ..Flow::default()
        };
        assert_eq!(kept, expected);
        assert_eq!(masked(&[], flow()), flow());
        assert_eq!(
            masked(&["source", "source.ID"], flow()).source,
            flow().source,
            "the whole includes its parts"
        );
        assert_eq!(
            masked(&["source.ID", "source"], flow()).source,
            flow().source
        );
    }

    #[test]
    fn paths_that_name_nothing_are_refused() {
        for wrong in [
            "",
            "nope",
            "source.nope",
            "verdict.x",
            "source.",
            "time.seconds.x",
            "Source",
        ] {
            let error = FieldMask::parse(&[wrong.to_owned()]).unwrap_err();
            assert_eq!(error, NoSuchField(wrong.to_owned()));
        }
        assert!(
            FieldMask::parse(&["time.seconds".to_owned(), "tunnel.IP.source".to_owned()]).is_ok()
        );
    }
}
