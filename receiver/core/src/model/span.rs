//! Spans, ready to be written: one exchange of two programs, seen by one of them.

use crate::model::metrics::AttributeValue;
use crate::model::resource::ResourceRef;

/// 16 bytes; all zero is invalid (W3C Trace Context).
pub type TraceId = [u8; 16];
/// 8 bytes; all zero is invalid.
pub type SpanId = [u8; 8];

/// W3C trace flag: the caller records its trace.
pub const SAMPLED: u8 = 1;

/// Which span of which trace something belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanContext {
    /// The trace.
    pub trace_id: TraceId,
    /// The span.
    pub span_id: SpanId,
    /// W3C trace flags.
    pub flags: u8,
}

impl SpanContext {
    /// Whether the span is recorded.
    #[must_use]
    pub const fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }
}

/// One span.
#[derive(Clone, Debug, PartialEq)]
pub struct SpanRecord {
    /// Whose it is.
    pub resource: ResourceRef,
    /// Instrumentation scope, from [`crate::semconv::scope`].
    pub scope: &'static str,
    /// Its own ids, and the trace flags.
    pub context: SpanContext,
    /// The span that caused it, when the request carried one.
    pub parent_span_id: Option<SpanId>,
    /// The parent is in another process. Meaningless without a parent.
    pub parent_is_remote: bool,
    /// Low cardinality, by the conventions of the protocol: `GET /users/{id}`.
    pub name: String,
    /// Which side of the exchange it is.
    pub kind: SpanKind,
    /// Nanoseconds since 1970.
    pub start_unix_ns: u64,
    /// Nanoseconds since 1970; never before the start.
    pub end_unix_ns: u64,
    /// Names come from [`crate::semconv`]; sorted by key.
    pub attributes: Vec<(&'static str, AttributeValue)>,
    /// How it ended.
    pub status: SpanStatus,
}

/// Which side of an exchange a span is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SpanKind {
    /// It answered.
    Server,
    /// It asked.
    Client,
    /// It sent a message and does not wait.
    Producer,
    /// It took such a message.
    Consumer,
    /// Neither.
    Internal,
}

/// How a span ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub enum SpanStatus {
    /// Nothing said: the usual state of what went well.
    #[default]
    Unset,
    /// Declared good by someone who knows.
    Ok,
    /// It failed, and why, if attributes do not say it.
    Error(Option<String>),
}
