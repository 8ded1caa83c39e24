//! Spans to requests.

use crate::model::metrics::AttributeValue;
use crate::model::request::{Request, Signal};
use crate::model::span::{SpanKind, SpanRecord, SpanStatus};
use crate::otlp::request::{MAX_REQUEST_BYTES, RequestBuilder};
use crate::otlp::resource::as_any;
use crate::otlp::wire::{self, Any};

/// Fields of `Span`.
mod field {
    pub(super) const TRACE_ID: u8 = 1;
    pub(super) const SPAN_ID: u8 = 2;
    pub(super) const PARENT_SPAN_ID: u8 = 4;
    pub(super) const NAME: u8 = 5;
    pub(super) const KIND: u8 = 6;
    pub(super) const START: u8 = 7;
    pub(super) const END: u8 = 8;
    pub(super) const ATTRIBUTES: u8 = 9;
    pub(super) const STATUS: u8 = 15;
    pub(super) const FLAGS: u8 = 16;
}

/// Fields of `Status`.
mod status {
    pub(super) const MESSAGE: u8 = 2;
    pub(super) const CODE: u8 = 3;
}

/// `SpanFlags` CONTEXT_HAS_IS_REMOTE_MASK: the next bit means something.
const HAS_IS_REMOTE: u32 = 0x100;
/// `SpanFlags` CONTEXT_IS_REMOTE_MASK: the parent is in another process.
const IS_REMOTE: u32 = 0x200;

/// How spans are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpansOptions {
    /// The largest request, bytes before compression. Default: 3.5 MiB, because a Collector takes 4 MiB.
    pub max_request_bytes: usize,
}

impl Default for SpansOptions {
    fn default() -> Self {
        Self {
            max_request_bytes: MAX_REQUEST_BYTES,
        }
    }
}

/// Writes spans, grouped by resource and scope, into requests.
#[derive(Debug)]
pub struct SpansEncoder {
    requests: RequestBuilder,
}

impl SpansEncoder {
    /// An empty encoder.
    #[must_use]
    pub fn new(options: SpansOptions) -> Self {
        Self {
            requests: RequestBuilder::new(Signal::Traces, options.max_request_bytes),
        }
    }

    /// Adds a span. Gives back the request of those before it if it did not fit any more.
    #[must_use = "a request that is not exported is lost"]
    pub fn push(&mut self, span: &SpanRecord) -> Option<Request> {
        self.requests
            .add(&span.resource, span.scope, 1, |out, _| write(out, span))
    }

    /// The request of all spans that were added and not given back yet, if there are any.
    #[must_use = "a request that is not exported is lost"]
    pub fn finish(&mut self) -> Option<Request> {
        self.requests.finish()
    }
}

fn write(out: &mut Vec<u8>, span: &SpanRecord) {
    wire::bytes(out, field::TRACE_ID, &span.context.trace_id);
    wire::bytes(out, field::SPAN_ID, &span.context.span_id);
    let mut flags = u32::from(span.context.flags);
    if let Some(parent) = &span.parent_span_id {
        wire::bytes(out, field::PARENT_SPAN_ID, parent);
        flags |= HAS_IS_REMOTE;
        if span.parent_is_remote {
            flags |= IS_REMOTE;
        }
    }
    if flags != 0 {
        wire::fixed32(out, field::FLAGS, flags);
    }
    wire::bytes(out, field::NAME, span.name.as_bytes());
    let kind = match span.kind {
        SpanKind::Internal => 1,
        SpanKind::Server => 2,
        SpanKind::Client => 3,
        SpanKind::Producer => 4,
        SpanKind::Consumer => 5,
    };
    wire::uint(out, field::KIND, kind);
    wire::fixed64(out, field::START, span.start_unix_ns);
    wire::fixed64(out, field::END, span.end_unix_ns);
    for (key, value) in &span.attributes {
        let value = match value {
            AttributeValue::Value(value) => as_any(value),
            AttributeValue::Bool(value) => Any::Bool(*value),
        };
        wire::any_kv(out, field::ATTRIBUTES, key, value);
    }
    let (code, message) = match &span.status {
        SpanStatus::Unset => return,
        SpanStatus::Ok => (1, None),
        SpanStatus::Error(message) => (2, message.as_deref()),
    };
    wire::message::<1>(out, field::STATUS, |out| {
        if let Some(message) = message {
            wire::bytes(out, status::MESSAGE, message.as_bytes());
        }
        wire::uint(out, status::CODE, code);
    });
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::common::v1::{
        AnyValue, ArrayValue, KeyValue, any_value::Value as Wire,
    };
    use opentelemetry_proto::tonic::trace::v1::{Span, Status};
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;
    use crate::model::resource::{Resource, Value};
    use crate::model::span::SpanContext;

    prop_compose! {
        fn span()(
            (trace_id, span_id, flags) in any::<([u8; 16], [u8; 8], u8)>(),
            parent in prop::option::of(any::<([u8; 8], bool)>()),
            name in ".{1,200}",
            kind in prop::sample::select(vec![
                SpanKind::Server, SpanKind::Client, SpanKind::Producer, SpanKind::Consumer, SpanKind::Internal,
            ]),
            (start_unix_ns, end_unix_ns) in any::<(u64, u64)>(),
            (method, port, reused) in (".{0,20}", any::<i64>(), any::<bool>()),
            status in prop_oneof![
                Just(SpanStatus::Unset), Just(SpanStatus::Ok), prop::option::of(".{1,50}").prop_map(SpanStatus::Error),
            ],
        ) -> SpanRecord {
            SpanRecord {
                resource: Arc::new(Resource::default()),
                scope: "netflume.test",
                context: SpanContext { trace_id, span_id, flags },
                parent_span_id: parent.map(|(id, _)| id),
                parent_is_remote: parent.is_some_and(|(_, remote)| remote),
                name,
                kind,
                start_unix_ns,
                end_unix_ns,
                attributes: vec![
                    ("dns.answers", AttributeValue::Value(Value::List(vec!["10.0.0.1".into(), "::1".into()]))),
                    ("http.request.method", AttributeValue::Value(Value::Text(method.into()))),
                    ("network.connection.reused", AttributeValue::Bool(reused)),
                    ("server.port", AttributeValue::Value(Value::Int(port))),
                ],
                status,
            }
        }
    }

    fn expected(span: &SpanRecord) -> Span {
        let text = |text: &str| Wire::StringValue(text.to_owned());
        let value = |value: &AttributeValue| match value {
            AttributeValue::Bool(truth) => Wire::BoolValue(*truth),
            AttributeValue::Value(Value::Int(int)) => Wire::IntValue(*int),
            AttributeValue::Value(Value::Text(value)) => text(value),
            AttributeValue::Value(Value::List(list)) => Wire::ArrayValue(ArrayValue {
                values: list
                    .iter()
                    .map(|item| AnyValue {
                        value: Some(text(item)),
                    })
                    .collect(),
            }),
        };
        let pair = |(key, v): &(&'static str, AttributeValue)| KeyValue {
            key: (*key).to_owned(),
            value: Some(AnyValue {
                value: Some(value(v)),
            }),
            ..KeyValue::default()
        };
        let status = match &span.status {
            SpanStatus::Unset => None,
            SpanStatus::Ok => Some(Status {
                message: String::new(),
                code: 1,
            }),
            SpanStatus::Error(message) => Some(Status {
                message: message.clone().unwrap_or_default(),
                code: 2,
            }),
        };
        let flags = match (span.parent_span_id, span.parent_is_remote) {
            (None, _) => 0,
            (Some(_), false) => 0x100,
            (Some(_), true) => 0x300,
        };
        Span {
            trace_id: span.context.trace_id.to_vec(),
            span_id: span.context.span_id.to_vec(),
            parent_span_id: span
                .parent_span_id
                .map(|id| id.to_vec())
                .unwrap_or_default(),
            flags: flags | u32::from(span.context.flags),
            name: span.name.clone(),
            kind: match span.kind {
                SpanKind::Internal => 1,
                SpanKind::Server => 2,
                SpanKind::Client => 3,
                SpanKind::Producer => 4,
                SpanKind::Consumer => 5,
            },
            start_time_unix_nano: span.start_unix_ns,
            end_time_unix_nano: span.end_unix_ns,
            attributes: span.attributes.iter().map(pair).collect(),
            status,
            ..Span::default()
        }
    }

    proptest! {
        #[test]
        fn every_span_arrives_as_it_was(spans in prop::collection::vec(span(), 0..10), max_request_bytes in 200usize..5_000) {
            let mut encoder = SpansEncoder::new(SpansOptions { max_request_bytes });
            let mut requests: Vec<_> = spans.iter().filter_map(|span| encoder.push(span)).collect();
            requests.extend(encoder.finish());
            let mut seen = Vec::new();
            for request in requests {
                prop_assert_eq!(request.signal, Signal::Traces);
                let decoded = ExportTraceServiceRequest::decode(request.body).unwrap();
                let scopes = decoded.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
                let before = seen.len();
                seen.extend(scopes.flat_map(|scope| scope.spans));
                prop_assert_eq!((seen.len() - before) as u64, request.items);
            }
            prop_assert_eq!(seen, spans.iter().map(expected).collect::<Vec<_>>());
        }
    }
}
