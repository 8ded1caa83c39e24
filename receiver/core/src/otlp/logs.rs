//! Log records: one writer for every kind.
//!
//! A kind of record is a type with [`LogRecord`]: what it is called, whose it is, how grave, and two lists of named fields. The body has
//! the words of the system that it comes from, the attributes have those of the semantic conventions.

use crate::model::request::{Request, Signal};
use crate::model::resource::ResourceRef;
use crate::model::span::SpanContext;
use crate::otlp::fields::Fields;
use crate::otlp::pairs::KeyValues;
use crate::otlp::request::{MAX_REQUEST_BYTES, RequestBuilder};
use crate::otlp::wire;

pub mod cilium;
pub mod netflow;

/// Fields of `LogRecord`.
mod field {
    pub(super) const TIME_UNIX_NANO: u8 = 1;
    pub(super) const SEVERITY_NUMBER: u8 = 2;
    pub(super) const SEVERITY_TEXT: u8 = 3;
    pub(super) const BODY: u8 = 5;
    pub(super) const ATTRIBUTES: u8 = 6;
    pub(super) const FLAGS: u8 = 8;
    pub(super) const TRACE_ID: u8 = 9;
    pub(super) const SPAN_ID: u8 = 10;
    pub(super) const OBSERVED_TIME_UNIX_NANO: u8 = 11;
    pub(super) const EVENT_NAME: u8 = 12;
}

/// How grave a record is, by the logs data model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It happened.
    Info,
    /// Something was refused.
    Warn,
    /// Something was not seen.
    Error,
}

impl Severity {
    /// `SeverityNumber`.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Info => 9,
            Self::Warn => 13,
            Self::Error => 17,
        }
    }

    /// `severity_text`.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Info => "INFO",
            Self::Warn => "WARN",
            Self::Error => "ERROR",
        }
    }
}

/// A kind of log record.
pub trait LogRecord {
    /// Instrumentation scope, from [`crate::semconv`].
    fn scope(&self) -> &'static str;
    /// `event_name`, from [`crate::semconv`].
    fn event_name(&self) -> &'static str;
    /// Whose record it is.
    fn resource(&self) -> &ResourceRef;
    /// When it happened, nanoseconds since 1970.
    fn unix_ns(&self) -> u64;
    /// How grave it is.
    fn severity(&self) -> Severity {
        Severity::Info
    }
    /// The span that it belongs to.
    fn span(&self) -> Option<&SpanContext> {
        None
    }
    /// The record in the words of the system that it comes from. `host`: `host.name` of its resource.
    fn body(&self, host: Option<&str>, fields: &mut impl Fields);
    /// What the semantic conventions have names for, sorted by name.
    fn attributes(&self, fields: &mut impl Fields);
}

/// What the body of a log record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum LogBody {
    /// The record under the names of the system it comes from, so that its users' queries keep working.
    #[default]
    Record,
    /// Nothing: attributes only, about a third of the bytes.
    None,
}

/// How log records are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogsOptions {
    /// The body. Default: the record.
    pub body: LogBody,
    /// The largest request, bytes before compression. Default: 3.5 MiB, because a Collector takes 4 MiB.
    pub max_request_bytes: usize,
}

impl Default for LogsOptions {
    fn default() -> Self {
        Self {
            body: LogBody::default(),
            max_request_bytes: MAX_REQUEST_BYTES,
        }
    }
}

/// Writes log records, grouped by resource, into requests.
#[derive(Debug)]
pub struct LogsEncoder {
    body: LogBody,
    requests: RequestBuilder,
}

impl LogsEncoder {
    /// An empty encoder.
    #[must_use]
    pub fn new(options: LogsOptions) -> Self {
        Self {
            body: options.body,
            requests: RequestBuilder::new(Signal::Logs, options.max_request_bytes),
        }
    }

    /// Adds a record. Gives back the request of those before it if it did not fit any more.
    #[must_use = "a request that is not exported is lost"]
    pub fn push(&mut self, record: &impl LogRecord) -> Option<Request> {
        let body = self.body;
        self.requests
            .add(record.resource(), record.scope(), 1, |out, resource| {
                write(out, record, body, resource.host_name.as_deref());
            })
    }

    /// The request of all records that were added and not given back yet, if there are any.
    #[must_use = "a request that is not exported is lost"]
    pub fn finish(&mut self) -> Option<Request> {
        self.requests.finish()
    }
}

/// Writes a `LogRecord`.
#[inline]
fn write(out: &mut Vec<u8>, record: &impl LogRecord, body: LogBody, host: Option<&str>) {
    let severity = record.severity();
    wire::fixed64(out, field::TIME_UNIX_NANO, record.unix_ns());
    wire::uint(out, field::SEVERITY_NUMBER, severity.number().into());
    wire::bytes(out, field::SEVERITY_TEXT, severity.text().as_bytes());
    if body == LogBody::Record {
        wire::any_kvlist(out, field::BODY, |out| {
            record.body(host, &mut KeyValues::new(out, wire::VALUES));
        });
    }
    record.attributes(&mut KeyValues::new(out, field::ATTRIBUTES));
    if let Some(span) = record.span() {
        // W3C trace flags; zero is the field's default.
        if span.flags != 0 {
            wire::fixed32(out, field::FLAGS, span.flags.into());
        }
        wire::bytes(out, field::TRACE_ID, &span.trace_id);
        wire::bytes(out, field::SPAN_ID, &span.span_id);
    }
    wire::fixed64(out, field::OBSERVED_TIME_UNIX_NANO, record.unix_ns());
    wire::bytes(out, field::EVENT_NAME, record.event_name().as_bytes());
}
