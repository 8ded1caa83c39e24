//! Resources to the bytes of the `resource` field of a request, encoded once each and kept.

use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::model::resource::{Resource, ResourceRef, Value};
use crate::otlp::wire::{self, Any};
use crate::semconv;

/// `ResourceLogs.resource`, `ResourceMetrics.resource` and `ResourceSpans.resource`.
const RESOURCE: u8 = 1;
/// `Resource.attributes`.
const ATTRIBUTES: u8 = 1;

/// Resources that are remembered; when one more comes, all are forgotten and encoded anew as they are met.
const CACHE_MAX: usize = 4096;

/// One resource, encoded.
#[derive(Debug, PartialEq, Eq)]
pub struct EncodedResource {
    /// The `resource` field with tag and length.
    pub bytes: Box<[u8]>,
    /// Its `host.name`.
    pub host_name: Option<Arc<str>>,
}

impl EncodedResource {
    /// Encodes a resource. An attribute of `extra` (what the user set) wins over one of the same name.
    #[must_use]
    pub fn new(resource: &Resource) -> Self {
        let mut bytes = Vec::new();
        let mut host_name = None;
        wire::message::<2>(&mut bytes, RESOURCE, |out| {
            for (key, value) in &resource.attributes {
                if resource.extra.iter().any(|(extra, _)| extra == key) {
                    continue;
                }
                if let (&semconv::resource::HOST_NAME, Value::Text(text)) = (key, value) {
                    host_name = Some(text.clone());
                }
                wire::any_kv(out, ATTRIBUTES, key, as_any(value));
            }
            for (key, value) in &resource.extra {
                if key == semconv::resource::HOST_NAME {
                    host_name = Some(value.as_str().into());
                }
                wire::any_kv(out, ATTRIBUTES, key, Any::Text(value));
            }
        });
        Self {
            bytes: bytes.into(),
            host_name,
        }
    }
}

/// A value of the model in the shape in which it is written.
pub(crate) fn as_any(value: &Value) -> Any<'_> {
    match value {
        Value::Text(text) => Any::Text(text),
        Value::Int(value) => Any::Int(*value),
        Value::List(list) => Any::Texts(list),
    }
}

/// Gives each distinct resource a number and its encoded form.
///
/// Two shared pointers to equal resources get one number. Numbers are valid until [`ResourceCache::shrink`] returns true.
#[derive(Debug, Default)]
pub struct ResourceCache {
    /// By address; the reference is held so that no address is used again while it is a key.
    by_pointer: HashMap<usize, (ResourceRef, usize), FixedState>,
    by_content: HashMap<ResourceRef, usize, FixedState>,
    encoded: Vec<Arc<EncodedResource>>,
}

impl ResourceCache {
    /// The number of a resource.
    pub fn number(&mut self, resource: &ResourceRef) -> usize {
        let address = Arc::as_ptr(resource) as usize;
        if let Some((_, number)) = self.by_pointer.get(&address) {
            return *number;
        }
        let number = match self.by_content.get(resource) {
            Some(number) => *number,
            None => {
                let number = self.encoded.len();
                self.encoded.push(Arc::new(EncodedResource::new(resource)));
                self.by_content.insert(resource.clone(), number);
                number
            }
        };
        self.by_pointer.insert(address, (resource.clone(), number));
        number
    }

    /// The resource with that number.
    ///
    /// # Panics
    /// When the number was not given by this cache since it last forgot.
    #[must_use]
    pub fn encoded(&self, number: usize) -> &Arc<EncodedResource> {
        &self.encoded[number]
    }

    /// Forgets everything if there is too much of it. Called between requests, when no number is in use.
    pub fn shrink(&mut self) -> bool {
        let full = self.by_pointer.len() >= CACHE_MAX;
        if full {
            *self = Self::default();
        }
        full
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::logs::v1::ResourceLogs;
    use prost::Message as _;

    fn resource(name: &str) -> ResourceRef {
        Arc::new(Resource {
            attributes: vec![
                (semconv::resource::HOST_NAME, Value::Text("node-a".into())),
                (semconv::resource::PROCESS_PID, Value::Int(7)),
                (semconv::resource::SERVICE_NAME, Value::Text(name.into())),
                (
                    "process.command_args",
                    Value::List(vec!["a".into(), "b".into()]),
                ),
            ],
            extra: vec![],
        })
    }

    fn decoded(encoded: &EncodedResource) -> Vec<(String, String)> {
        let resource = ResourceLogs::decode(&*encoded.bytes)
            .unwrap()
            .resource
            .unwrap();
        let text = |kv: opentelemetry_proto::tonic::common::v1::KeyValue| {
            (kv.key, format!("{:?}", kv.value.unwrap().value.unwrap()))
        };
        resource.attributes.into_iter().map(text).collect()
    }

    #[test]
    fn every_kind_of_value_is_written() {
        let attributes = decoded(&EncodedResource::new(&resource("shop")));
        assert_eq!(attributes.len(), 4);
        assert_eq!(attributes[1], ("process.pid".into(), "IntValue(7)".into()));
        assert!(attributes[3].1.starts_with("ArrayValue"));
    }

    #[test]
    fn what_the_user_set_wins_and_stands_once() {
        let mut resource = (*resource("found")).clone();
        resource.extra = vec![
            ("service.name".into(), "set".into()),
            ("host.name".into(), "other".into()),
        ];
        let encoded = EncodedResource::new(&resource);
        let attributes = decoded(&encoded);
        let names: Vec<_> = attributes
            .iter()
            .filter(|(key, _)| key == "service.name")
            .collect();
        assert_eq!(
            names,
            [&("service.name".to_owned(), "StringValue(\"set\")".to_owned())]
        );
        assert_eq!(encoded.host_name.as_deref(), Some("other"));
    }

    #[test]
    fn equal_resources_share_a_number_and_others_do_not() {
        let mut cache = ResourceCache::default();
        let (a, again, b) = (resource("a"), resource("a"), resource("b"));
        assert_eq!(cache.number(&a), cache.number(&again));
        assert_ne!(cache.number(&a), cache.number(&b));
        let number = cache.number(&a);
        assert_eq!(cache.encoded(number).host_name.as_deref(), Some("node-a"));
    }

    #[test]
    fn the_cache_is_bounded() {
        let mut cache = ResourceCache::default();
        for i in 0..CACHE_MAX {
            assert!(!cache.shrink());
            cache.number(&resource(&i.to_string()));
        }
        assert!(cache.shrink());
        assert_eq!(
            cache.by_pointer.len() + cache.by_content.len() + cache.encoded.len(),
            0
        );
    }
}
