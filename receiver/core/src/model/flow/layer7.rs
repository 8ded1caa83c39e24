//! The layer-7 part of a flow: what a proxy's access log says.

use crate::model::flow::names::L7FlowType;

/// `flow.Layer7` and `flow.TraceContext`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Layer7 {
    /// `type` (1).
    pub kind: L7FlowType,
    /// `latency_ns` (2): of a response whose request carried the same `X-Request-Id`; else zero.
    pub latency_ns: u64,
    /// The oneof `record`.
    pub record: L7Record,
    /// `trace_context.parent` (flow field 30): from the request's `traceparent`; of a response that of its request.
    pub trace: Option<TraceParent>,
    /// The record's own time, nanoseconds since 1970: start of a request, end of a response. Not in `flow.Flow`, whose `time` is when
    /// the record was read.
    pub record_time_ns: i64,
    /// `X-Request-Id`; empty when absent. Not in `flow.Flow`.
    pub request_id: Box<str>,
    /// HTTP status in the record, zero when absent: also of a request that the proxy answered itself. Not in `flow.Flow`, which has the
    /// status of responses.
    pub status: u32,
    /// What joins a response with its request. Not in `flow.Flow`.
    pub question: Question,
}

impl Layer7 {
    /// Memory that it takes, bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        let pairs = |list: &[(Box<str>, Box<str>)]| {
            let texts = list.iter().map(|(key, value)| key.len() + value.len());
            size_of_val(list) + texts.sum::<usize>()
        };
        let texts = |list: &[Box<str>]| {
            size_of_val(list) + list.iter().map(|text| text.len()).sum::<usize>()
        };
        let record = match &self.record {
            L7Record::None => 0,
            L7Record::Dns(dns) => {
                let numbers = dns.qtypes.len() + dns.rrtypes.len();
                dns.query.len() + texts(&dns.ips) + texts(&dns.cnames) + numbers * 2
            }
            L7Record::Http(http) => {
                let line = http.method.len() + http.url.len() + http.protocol.len();
                line + pairs(&http.headers)
            }
            L7Record::Kafka(kafka) => kafka.api_key.len() + kafka.topic.len(),
            L7Record::Generic(generic) => generic.protocol.len() + pairs(&generic.fields),
        };
        size_of::<Self>() + self.request_id.len() + record
    }
}

/// What a request and its response have in common, as hashes: the same for the same record at every run. Zero: the record does not have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Question {
    /// Which kind of record.
    pub protocol: u8,
    /// HTTP: `X-Request-Id`; Kafka: correlation id.
    pub id: u64,
    /// HTTP: method and URL; DNS: name and types; Kafka: topic; else the protocol.
    pub subject: u64,
    /// The connection carries one request at a time.
    pub one_at_a_time: bool,
}

impl Layer7 {
    /// Bytes of memory that it takes, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let pairs = |pairs: &[(Box<str>, Box<str>)]| -> usize {
            let texts = pairs.iter().map(|(key, value)| key.len() + value.len());
            size_of_val(pairs) + texts.sum::<usize>()
        };
        let record = match &self.record {
            L7Record::None => 0,
            L7Record::Dns(dns) => {
                dns.query.len()
                    + text_bytes(&dns.ips)
                    + text_bytes(&dns.cnames)
                    + dns.observation_source.len()
                    + size_of_val(dns.qtypes.as_slice())
                    + size_of_val(dns.rrtypes.as_slice())
            }
            L7Record::Http(http) => {
                http.method.len() + http.url.len() + http.protocol.len() + pairs(&http.headers)
            }
            L7Record::Kafka(kafka) => kafka.api_key.len() + kafka.topic.len(),
            L7Record::Generic(generic) => generic.protocol.len() + pairs(&generic.fields),
        };
        size_of::<Self>() + record + self.request_id.len()
    }
}

/// Bytes of memory that a list of texts takes, about.
pub(crate) fn text_bytes(texts: &[Box<str>]) -> usize {
    size_of_val(texts) + texts.iter().map(|text| text.len()).sum::<usize>()
}

/// A W3C `traceparent`: trace and parent span are not zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceParent {
    /// Shown by [`TraceParent::trace_id_text`] as `trace_context.parent.trace_id`.
    pub trace_id: [u8; 16],
    /// Span of the caller. Not in `flow.Flow`.
    pub span_id: [u8; 8],
    /// Bit 0: sampled. Not in `flow.Flow`.
    pub flags: u8,
}

impl TraceParent {
    /// 32 lower-case hexadecimal digits.
    #[must_use]
    pub fn trace_id_text(&self) -> impl std::fmt::Display {
        std::fmt::from_fn(|f| {
            self.trace_id
                .iter()
                .try_for_each(|byte| write!(f, "{byte:02x}"))
        })
    }
}

/// The oneof `record` of `flow.Layer7`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum L7Record {
    /// No sub-record at all.
    #[default]
    None,
    /// `dns` (100).
    Dns(Dns),
    /// `http` (101).
    Http(Http),
    /// `kafka` (102), agents up to 1.19.
    Kafka(Kafka),
    /// A generic proxy parser: has no protobuf form, only `Summary` shows it.
    Generic(Generic),
}

/// `flow.DNS`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Dns {
    /// `query` (1): with the trailing dot.
    pub query: Box<str>,
    /// `ips` (2).
    pub ips: Vec<Box<str>>,
    /// `ttl` (3): seconds.
    pub ttl: u32,
    /// `cnames` (4).
    pub cnames: Vec<Box<str>>,
    /// `observation_source` (5): `proxy` and the like.
    pub observation_source: Box<str>,
    /// `rcode` (6): RFC 6895.
    pub rcode: u32,
    /// `qtypes` (7): numbers; shown by [`super::texts::dns_type_name`].
    pub qtypes: Vec<u16>,
    /// `rrtypes` (8): numbers, of the answers.
    pub rrtypes: Vec<u16>,
}

/// `flow.HTTP`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Http {
    /// `code` (1): zero in requests.
    pub code: u32,
    /// `method` (2).
    pub method: Box<str>,
    /// `url` (3): a password in it is always replaced; query and user also, when redaction says so.
    pub url: Box<str>,
    /// `protocol` (4): `HTTP/1.1`.
    pub protocol: Box<str>,
    /// `headers` (5): sorted by key, one entry for each value.
    pub headers: Vec<(Box<str>, Box<str>)>,
}

/// `flow.Kafka`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Kafka {
    /// `error_code` (1).
    pub error_code: i32,
    /// `api_version` (2).
    pub api_version: i32,
    /// `api_key` (3): name of the request.
    pub api_key: Box<str>,
    /// `correlation_id` (4).
    pub correlation_id: i32,
    /// `topic` (5).
    pub topic: Box<str>,
}

/// What a generic proxy parser logged.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Generic {
    /// Name of the protocol.
    pub protocol: Box<str>,
    /// Fields, sorted by key.
    pub fields: Vec<(Box<str>, Box<str>)>,
}
