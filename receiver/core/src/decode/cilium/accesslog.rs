//! Type 129, `LogRecord`: what a proxy (Envoy, the DNS proxy, a generic parser) logged of one request or response.
//!
//! Fields are matched by name, because their positions and types changed: labels are strings up to 1.15 and structs since, DNS addresses
//! are byte slices up to 1.16 and self-marshalling since, Kafka is gone in 1.20.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Definitions, EventError, timestamp};
use crate::decode::gob::{self, GobError, Reader, StructReader, Type, TypeId, Types, builtin};
use crate::model::flow::layer7::Generic;
use crate::model::flow::{Dns, Http, Kafka, L7FlowType, L7Record, TrafficDirection, Verdict};

/// An access log record. What only helps to find names borrows from the message; the protocol's part is owned, since the flow keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct AccessLog<'a> {
    /// Request, response or sample.
    pub kind: L7FlowType,
    /// Start of a request, end of a response, nanoseconds since 1970.
    pub time_ns: i64,
    /// Where it was observed, as the direction of the flow.
    pub direction: TrafficDirection,
    /// Sender of this message: of a response the server.
    pub source: LogEndpoint<'a>,
    /// Receiver of this message.
    pub destination: LogEndpoint<'a>,
    /// 0: IPv4, 1: IPv6.
    pub ip_version: u8,
    /// What the proxy did with it.
    pub verdict: Verdict,
    /// Rule or error text.
    pub info: Cow<'a, str>,
    /// IP protocol number.
    pub transport: u8,
    /// The protocol's own part.
    pub record: L7Record,
}

/// One end, as the record names it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct LogEndpoint<'a> {
    /// Endpoint id.
    pub id: u32,
    /// Address text; empty when unknown.
    pub ipv4: Cow<'a, str>,
    /// Address text; empty when unknown.
    pub ipv6: Cow<'a, str>,
    /// Host order.
    pub port: u16,
    /// Security identity.
    pub identity: u32,
    /// As the record has them.
    pub labels: Vec<Label<'a>>,
}

/// A label; its text is `source:key=value`, or `source:key` without a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Label<'a> {
    /// Up to 1.15.
    Text(Cow<'a, str>),
    /// Since 1.16.
    Parts {
        /// For example `k8s`.
        source: Cow<'a, str>,
        /// Its name.
        key: Cow<'a, str>,
        /// May be empty.
        value: Cow<'a, str>,
    },
}

impl Label<'_> {
    /// Whether this is its text.
    #[must_use]
    pub fn is(&self, text: &str) -> bool {
        match self {
            Self::Text(label) => label == text,
            Self::Parts { source, key, value } => {
                let rest = text.strip_prefix(&**source);
                let rest = rest.and_then(|t| t.strip_prefix(':'));
                rest.and_then(|t| t.strip_prefix(&**key))
                    .is_some_and(|rest| match &**value {
                        "" => rest.is_empty(),
                        value => rest.strip_prefix('=') == Some(value),
                    })
            }
        }
    }

    /// Its text.
    #[must_use]
    pub fn text(&self) -> Box<str> {
        match self {
            Self::Text(text) => (**text).into(),
            Self::Parts { source, key, value } if value.is_empty() => {
                format!("{source}:{key}").into()
            }
            Self::Parts { source, key, value } => format!("{source}:{key}={value}").into(),
        }
    }
}

/// Reads a `LogRecord`.
///
/// # Errors
/// When the gob stream inside makes no sense, or the timestamp is not RFC 3339 (Hubble drops such a record too).
pub fn decode<'a>(
    data: &'a [u8],
    definitions: &mut Definitions,
) -> Result<AccessLog<'a>, EventError> {
    definitions.value(data, |fields, reader| {
        let mut log = AccessLog::default();
        let mut time = Cow::Borrowed("");
        while let Some((name, id)) = fields.next(reader)? {
            let types = fields.types();
            match name {
                "Type" => log.kind = kind(&gob::string(id, reader)?),
                "Timestamp" => time = gob::string(id, reader)?,
                "ObservationPoint" => log.direction = direction(&gob::string(id, reader)?),
                "SourceEndpoint" => log.source = endpoint(types, id, reader)?,
                "DestinationEndpoint" => log.destination = endpoint(types, id, reader)?,
                "IPVersion" => log.ip_version = narrow(gob::uint(id, reader)?)?,
                "Verdict" => log.verdict = verdict(&gob::string(id, reader)?),
                "Info" => log.info = gob::string(id, reader)?,
                // Quirk: Hubble looks at the low byte only.
                "TransportProtocol" => log.transport = gob::uint(id, reader)?.to_le_bytes()[0],
                // Only one of these is ever set.
                "HTTP" => log.record = L7Record::Http(http(types, id, reader)?),
                "Kafka" => log.record = L7Record::Kafka(kafka(types, id, reader)?),
                "DNS" => log.record = L7Record::Dns(dns(types, id, reader)?),
                "L7" => log.record = L7Record::Generic(generic(types, id, reader)?),
                _ => types.skip(id, reader)?,
            }
        }
        log.time_ns =
            timestamp::parse(&time).ok_or(EventError::Content("timestamp of an access log"))?;
        Ok(log)
    })
}

fn kind(text: &str) -> L7FlowType {
    match text {
        "Request" => L7FlowType::REQUEST,
        "Response" => L7FlowType::RESPONSE,
        "Sample" => L7FlowType::SAMPLE,
        _ => L7FlowType::UNKNOWN_L7_TYPE,
    }
}

fn direction(text: &str) -> TrafficDirection {
    match text {
        "Ingress" => TrafficDirection::INGRESS,
        "Egress" => TrafficDirection::EGRESS,
        _ => TrafficDirection::TRAFFIC_DIRECTION_UNKNOWN,
    }
}

fn verdict(text: &str) -> Verdict {
    match text {
        "Forwarded" => Verdict::FORWARDED,
        "Denied" => Verdict::DROPPED,
        "Error" => Verdict::ERROR,
        "Redirected" => Verdict::REDIRECTED,
        _ => Verdict::VERDICT_UNKNOWN,
    }
}

fn narrow<T: TryFrom<u64>>(value: u64) -> Result<T, GobError> {
    T::try_from(value).map_err(|_| GobError::Number)
}

fn narrow_signed<T: TryFrom<i64>>(value: i64) -> Result<T, GobError> {
    T::try_from(value).map_err(|_| GobError::Number)
}

/// Low half: ids are 64 bits wide in the record, and 32 in Hubble's schema, which drops the rest.
fn low_half(value: u64) -> u32 {
    let [a, b, c, d, ..] = value.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// As [`low_half`], of a signed number.
fn low_half_signed(value: i64) -> u32 {
    low_half(value.cast_unsigned())
}

fn endpoint<'a>(
    types: &Types,
    id: TypeId,
    reader: &mut Reader<'a>,
) -> Result<LogEndpoint<'a>, GobError> {
    let mut endpoint = LogEndpoint::default();
    let mut fields = StructReader::new(types, id)?;
    while let Some((name, id)) = fields.next(reader)? {
        match name {
            "ID" => endpoint.id = low_half(gob::uint(id, reader)?),
            "IPv4" => endpoint.ipv4 = gob::string(id, reader)?,
            "IPv6" => endpoint.ipv6 = gob::string(id, reader)?,
            "Port" => endpoint.port = narrow(gob::uint(id, reader)?)?,
            "Identity" => endpoint.identity = low_half(gob::uint(id, reader)?),
            "Labels" => endpoint.labels = list(types, id, reader, label)?,
            _ => types.skip(id, reader)?,
        }
    }
    Ok(endpoint)
}

/// A list, element by element. Nothing is reserved by the announced length.
fn list<'a, T>(
    types: &Types,
    id: TypeId,
    reader: &mut Reader<'a>,
    element: impl Fn(&Types, TypeId, &mut Reader<'a>) -> Result<T, GobError>,
) -> Result<Vec<T>, GobError> {
    let Some(Type::List(element_id)) = types.get(id) else {
        return Err(GobError::UnexpectedType);
    };
    let mut list = Vec::new();
    for _ in 0..reader.uint()? {
        list.push(element(types, *element_id, reader)?);
    }
    Ok(list)
}

/// A map from text, sorted by key.
fn map<T>(
    types: &Types,
    id: TypeId,
    reader: &mut Reader<'_>,
    element: impl Fn(&Types, TypeId, &mut Reader<'_>) -> Result<T, GobError>,
) -> Result<Vec<(Box<str>, T)>, GobError> {
    let Some(Type::Map(key_id, element_id)) = types.get(id) else {
        return Err(GobError::UnexpectedType);
    };
    let mut entries: Vec<(Box<str>, T)> = Vec::new();
    for _ in 0..reader.uint()? {
        let key = text(types, *key_id, reader)?;
        entries.push((key, element(types, *element_id, reader)?));
    }
    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(entries)
}

fn text(_: &Types, id: TypeId, reader: &mut Reader<'_>) -> Result<Box<str>, GobError> {
    gob::string(id, reader).map(Into::into)
}

fn strings(types: &Types, id: TypeId, reader: &mut Reader<'_>) -> Result<Vec<Box<str>>, GobError> {
    list(types, id, reader, text)
}

/// A string up to 1.15, {Key, Value, Source} since.
fn label<'a>(types: &Types, id: TypeId, reader: &mut Reader<'a>) -> Result<Label<'a>, GobError> {
    if id == builtin::STRING {
        return reader.string().map(Label::Text);
    }
    let [mut source, mut key, mut value] = [const { Cow::Borrowed("") }; 3];
    let mut fields = StructReader::new(types, id)?;
    while let Some((name, id)) = fields.next(reader)? {
        match name {
            "Key" => key = gob::string(id, reader)?,
            "Value" => value = gob::string(id, reader)?,
            "Source" => source = gob::string(id, reader)?,
            _ => types.skip(id, reader)?,
        }
    }
    Ok(Label::Parts { source, key, value })
}

fn http(types: &Types, id: TypeId, reader: &mut Reader<'_>) -> Result<Http, GobError> {
    let mut http = Http::default();
    let mut fields = StructReader::new(types, id)?;
    while let Some((name, id)) = fields.next(reader)? {
        match name {
            "Code" => http.code = low_half_signed(gob::int(id, reader)?),
            "Method" => http.method = text(types, id, reader)?,
            "URL" => http.url = url(types, id, reader)?,
            "Protocol" => http.protocol = text(types, id, reader)?,
            "Headers" => http.headers = headers(types, id, reader)?,
            _ => types.skip(id, reader)?,
        }
    }
    Ok(http)
}

/// Name and value.
type Header = (Box<str>, Box<str>);

/// A map from names to lists of values: one entry for each value, sorted by name.
fn headers(types: &Types, id: TypeId, reader: &mut Reader<'_>) -> Result<Vec<Header>, GobError> {
    let Some(Type::Map(builtin::STRING, list_id)) = types.get(id) else {
        return Err(GobError::UnexpectedType);
    };
    let Some(Type::List(builtin::STRING)) = types.get(*list_id) else {
        return Err(GobError::UnexpectedType);
    };
    let mut headers = Vec::new();
    for _ in 0..reader.uint()? {
        let name = reader.string()?;
        for _ in 0..reader.uint()? {
            headers.push((name.clone().into(), reader.string()?.into()));
        }
    }
    // Stable: the values of a name stay in their order.
    headers.sort_by(|(a, _): &Header, (b, _)| a.cmp(b));
    Ok(headers)
}

/// A type that marshals itself to its text.
fn url(types: &Types, id: TypeId, reader: &mut Reader<'_>) -> Result<Box<str>, GobError> {
    match types.get(id) {
        Some(Type::Opaque) => reader.string().map(Into::into),
        _ => Err(GobError::UnexpectedType),
    }
}

fn dns(types: &Types, id: TypeId, reader: &mut Reader<'_>) -> Result<Dns, GobError> {
    let mut dns = Dns::default();
    let mut fields = StructReader::new(types, id)?;
    let number = |_: &Types, id: TypeId, reader: &mut Reader<'_>| narrow(gob::uint(id, reader)?);
    while let Some((name, id)) = fields.next(reader)? {
        match name {
            "Query" => dns.query = text(types, id, reader)?,
            "IPs" => dns.ips = list(types, id, reader, address)?,
            "TTL" => dns.ttl = narrow(gob::uint(id, reader)?)?,
            "CNAMEs" => dns.cnames = strings(types, id, reader)?,
            "ObservationSource" => dns.observation_source = text(types, id, reader)?,
            "RCode" => dns.rcode = low_half_signed(gob::int(id, reader)?),
            "QTypes" => dns.qtypes = list(types, id, reader, number)?,
            "AnswerTypes" => dns.rrtypes = list(types, id, reader, number)?,
            _ => types.skip(id, reader)?,
        }
    }
    Ok(dns)
}

/// `net.IP` (bytes) up to 1.16, `netip.Addr` (self-marshalling, with a zone behind the 16 bytes) since; the two show a v4-mapped
/// address and no address at all differently.
fn address(types: &Types, id: TypeId, reader: &mut Reader<'_>) -> Result<Box<str>, GobError> {
    let old = id == builtin::BYTES;
    if !old && types.get(id) != Some(&Type::Opaque) {
        return Err(GobError::UnexpectedType);
    }
    let bytes = reader.bytes()?;
    if let Some((sixteen, zone)) = bytes.split_first_chunk::<16>() {
        let address = Ipv6Addr::from(*sixteen);
        let zone = String::from_utf8_lossy(zone);
        return Ok(match (old, &*zone) {
            (true, _) => IpAddr::V6(address).to_canonical().to_string(),
            (false, "") => address.to_string(),
            (false, zone) => format!("{address}%{zone}"),
        }
        .into());
    }
    match (bytes, old) {
        ([a, b, c, d], _) => Ok(Ipv4Addr::new(*a, *b, *c, *d).to_string().into()),
        ([], true) => Ok("<nil>".into()),
        ([], false) => Ok("invalid IP".into()),
        _ => Err(GobError::UnexpectedType),
    }
}

fn kafka(types: &Types, id: TypeId, reader: &mut Reader<'_>) -> Result<Kafka, GobError> {
    let mut kafka = Kafka::default();
    let mut fields = StructReader::new(types, id)?;
    while let Some((name, id)) = fields.next(reader)? {
        match name {
            "ErrorCode" => kafka.error_code = low_half_signed(gob::int(id, reader)?).cast_signed(),
            "APIVersion" => kafka.api_version = narrow_signed(gob::int(id, reader)?)?,
            "APIKey" => kafka.api_key = text(types, id, reader)?,
            "CorrelationID" => kafka.correlation_id = narrow_signed(gob::int(id, reader)?)?,
            "Topic" => {
                let mut topic = StructReader::new(types, id)?;
                while let Some((name, id)) = topic.next(reader)? {
                    match name {
                        "Topic" => kafka.topic = text(types, id, reader)?,
                        _ => types.skip(id, reader)?,
                    }
                }
            }
            _ => types.skip(id, reader)?,
        }
    }
    Ok(kafka)
}

fn generic(types: &Types, id: TypeId, reader: &mut Reader<'_>) -> Result<Generic, GobError> {
    let mut generic = Generic::default();
    let mut fields = StructReader::new(types, id)?;
    while let Some((name, id)) = fields.next(reader)? {
        match name {
            "Proto" => generic.protocol = text(types, id, reader)?,
            "Fields" => generic.fields = map(types, id, reader, text)?,
            _ => types.skip(id, reader)?,
        }
    }
    Ok(generic)
}
