//! One field of a filter as a test.

use std::net::IpAddr;

use super::expression::{Budget, Expression};
use super::pattern::{self, NamespacedPrefix};
use super::{FilterError, Selector, in_prefix};
use crate::model::flow::message_type::ACCESS_LOG;
use crate::model::flow::{Endpoint, Flow, Http, L4, L7Record, Node, TcpFlags, Verdict};
use crate::model::uuid::Uuid;
use crate::proto::flow::{self as proto, FlowFilter};

/// A test; its values are alternatives.
#[derive(Clone, Debug)]
pub(super) enum Check {
    Ip(End, Vec<(IpAddr, u8)>),
    TranslatedIp(Vec<(IpAddr, u8)>),
    Pod(End, Vec<NamespacedPrefix>),
    Service(End, Vec<NamespacedPrefix>),
    Names(End, Expression),
    Labels(End, Vec<Selector>),
    NodeLabels(Vec<Selector>),
    Identity(End, Vec<u32>),
    Port(End, Vec<u16>),
    Workload(End, Vec<proto::Workload>),
    Cluster(End, Vec<String>),
    Verdict(Vec<i32>),
    EventType(Vec<proto::EventTypeFilter>),
    Protocol(Vec<Protocol>),
    Reply(Vec<bool>),
    Encrypted(Vec<bool>),
    DnsQuery(Expression),
    HttpStatus(Vec<String>),
    HttpMethod(Vec<String>),
    HttpPath(Expression),
    HttpUrl(Expression),
    HttpHeader(Vec<proto::HttpHeader>),
    TcpFlags(Vec<TcpFlags>),
    NodeName(Expression),
    IpVersion(Vec<i32>),
    TraceId(Vec<String>),
    Uuid(Vec<Uuid>),
    Direction(Vec<i32>),
    DropReason(Vec<i32>),
    Interface(Vec<proto::NetworkInterface>),
    IpTraceId(Vec<u64>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Source,
    Destination,
}

impl End {
    const fn of(self, flow: &Flow) -> &Endpoint {
        match self {
            Self::Source => &flow.source,
            Self::Destination => &flow.destination,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Icmp,
    Icmpv4,
    Icmpv6,
    Tcp,
    Udp,
    Sctp,
    Vrrp,
    Igmp,
    Dns,
    Http,
    Kafka,
}

impl Protocol {
    fn parse(text: &str) -> Result<Self, FilterError> {
        Ok(match text.to_ascii_lowercase().as_str() {
            "icmp" => Self::Icmp,
            "icmpv4" => Self::Icmpv4,
            "icmpv6" => Self::Icmpv6,
            "tcp" => Self::Tcp,
            "udp" => Self::Udp,
            "sctp" => Self::Sctp,
            "vrrp" => Self::Vrrp,
            "igmp" => Self::Igmp,
            "dns" => Self::Dns,
            "http" => Self::Http,
            "kafka" => Self::Kafka,
            _ => return Err(FilterError::Protocol(text.to_owned())),
        })
    }

    fn is_of(self, flow: &Flow) -> bool {
        match self {
            Self::Icmp => matches!(flow.l4, Some(L4::Icmpv4 { .. } | L4::Icmpv6 { .. })),
            Self::Icmpv4 => matches!(flow.l4, Some(L4::Icmpv4 { .. })),
            Self::Icmpv6 => matches!(flow.l4, Some(L4::Icmpv6 { .. })),
            Self::Tcp => matches!(flow.l4, Some(L4::Tcp { .. })),
            Self::Udp => matches!(flow.l4, Some(L4::Udp { .. })),
            Self::Sctp => matches!(flow.l4, Some(L4::Sctp { .. })),
            Self::Vrrp => matches!(flow.l4, Some(L4::Vrrp { .. })),
            Self::Igmp => matches!(flow.l4, Some(L4::Igmp { .. })),
            Self::Dns => matches!(flow.l7_record(), Some(L7Record::Dns(_))),
            Self::Http => matches!(flow.l7_record(), Some(L7Record::Http(_))),
            Self::Kafka => matches!(flow.l7_record(), Some(L7Record::Kafka(_))),
        }
    }
}

/// One test for each field that has values, the cheap ones first.
pub(super) fn compile(filter: &FlowFilter, budget: &mut Budget) -> Result<Vec<Check>, FilterError> {
    use End::{Destination, Source};
    if filter
        .experimental
        .as_ref()
        .is_some_and(|e| !e.cel_expression.is_empty())
    {
        return Err(FilterError::Cel);
    }
    let f = filter;
    let mut checks = Vec::new();
    let mut add = |wanted: bool, check: &mut dyn FnMut() -> Result<Check, FilterError>| {
        if wanted {
            checks.push(check()?);
        }
        Ok(())
    };
    macro_rules! field {
        ($name:ident, $values:ident => $check:expr) => {
            add(!f.$name.is_empty(), &mut || {
                let $values = &f.$name;
                Ok($check)
            })?;
        };
    }
    macro_rules! http_field {
        ($name:ident, $values:ident => $check:expr) => {
            field!($name, $values => {
                goes_with_l7(f, stringify!($name))?;
                $check
            });
        };
    }
    field!(event_type, values => Check::EventType(values.clone()));
    field!(verdict, values => Check::Verdict(values.clone()));
    field!(drop_reason_desc, values => Check::DropReason(values.clone()));
    field!(traffic_direction, values => Check::Direction(values.clone()));
    field!(reply, values => Check::Reply(values.clone()));
    field!(encrypted, values => Check::Encrypted(values.clone()));
    field!(ip_version, values => Check::IpVersion(values.clone()));
    field!(ip_trace_id, values => Check::IpTraceId(values.clone()));
    field!(source_identity, values => Check::Identity(Source, values.clone()));
    field!(destination_identity, values => Check::Identity(Destination, values.clone()));
    field!(protocol, values => Check::Protocol(each(values, Protocol::parse)?));
    field!(tcp_flags, values => Check::TcpFlags(values.iter().map(flag_bits).collect()));
    field!(source_port, values => Check::Port(Source, each(values, |v| port("source_port", v))?));
    field!(destination_port, values => Check::Port(Destination, each(values, |v| port("destination_port", v))?));
    field!(source_ip, values => Check::Ip(Source, each(values, |v| prefix("source_ip", v))?));
    field!(destination_ip, values => Check::Ip(Destination, each(values, |v| prefix("destination_ip", v))?));
    field!(source_ip_xlated, values => Check::TranslatedIp(each(values, |v| prefix("source_ip_xlated", v))?));
    field!(source_pod, values => Check::Pod(Source, each(values, |v| namespaced("source_pod", v))?));
    field!(destination_pod, values => Check::Pod(Destination, each(values, |v| namespaced("destination_pod", v))?));
    field!(source_service, values => Check::Service(Source, each(values, |v| namespaced("source_service", v))?));
    field!(destination_service, values =>
        Check::Service(Destination, each(values, |v| namespaced("destination_service", v))?));
    field!(source_workload, values => Check::Workload(Source, values.clone()));
    field!(destination_workload, values => Check::Workload(Destination, values.clone()));
    field!(source_cluster_name, values => Check::Cluster(Source, named("source_cluster_name", values)?));
    field!(destination_cluster_name, values => Check::Cluster(Destination, named("destination_cluster_name", values)?));
    field!(interface, values => Check::Interface(values.clone()));
    field!(trace_id, values => Check::TraceId(values.clone()));
    field!(uuid, values => Check::Uuid(each(values, uuid)?));
    field!(source_label, values => Check::Labels(Source, each(values, |v| selector("source_label", v))?));
    field!(destination_label, values => Check::Labels(Destination, each(values, |v| selector("destination_label", v))?));
    field!(node_labels, values => Check::NodeLabels(each(values, |v| selector("node_labels", v))?));
    http_field!(http_status_code, values => Check::HttpStatus(each(values, status)?));
    http_field!(http_method, values => Check::HttpMethod(values.clone()));
    http_field!(http_header, values => Check::HttpHeader(values.clone()));
    http_field!(http_path, values => Check::HttpPath(expression("http_path", values, budget)?));
    http_field!(http_url, values => Check::HttpUrl(expression("http_url", values, budget)?));
    field!(dns_query, values => Check::DnsQuery(expression("dns_query", values, budget)?));
    field!(source_fqdn, values => Check::Names(Source, patterns("source_fqdn", values, pattern::dns_name, budget)?));
    field!(destination_fqdn, values =>
        Check::Names(Destination, patterns("destination_fqdn", values, pattern::dns_name, budget)?));
    field!(node_name, values => Check::NodeName(patterns("node_name", values, pattern::node, budget)?));
    Ok(checks)
}

impl Check {
    /// Whether one of the values is the flow's.
    pub(super) fn holds(&self, flow: &Flow, node: &Node) -> bool {
        match self {
            Self::Ip(end, prefixes) => flow
                .ip
                .and_then(|ip| {
                    if *end == End::Source {
                        ip.source
                    } else {
                        ip.destination
                    }
                })
                .is_some_and(|address| in_any(address, prefixes)),
            Self::TranslatedIp(prefixes) => flow
                .ip
                .and_then(|ip| ip.source_xlated)
                .is_some_and(|address| in_any(address, prefixes)),
            Self::Pod(end, names) => {
                let end = end.of(flow);
                names
                    .iter()
                    .any(|name| name.matches(end.namespace(), end.pod_name()))
            }
            Self::Service(end, names) => {
                let service = match end {
                    End::Source => &flow.source_service,
                    End::Destination => &flow.destination_service,
                };
                service.as_deref().is_some_and(|service| {
                    names
                        .iter()
                        .any(|name| name.matches(&service.namespace, &service.name))
                })
            }
            Self::Names(end, pattern) => {
                let names = match end {
                    End::Source => &flow.source_names,
                    End::Destination => &flow.destination_names,
                };
                names
                    .as_deref()
                    .is_some_and(|names| names.iter().any(|name| pattern.is_match(name)))
            }
            Self::Labels(end, selectors) => {
                let labels = end.of(flow).labels().iter().map(AsRef::as_ref);
                selectors.iter().any(|selector| selector.matches(&labels))
            }
            Self::NodeLabels(selectors) => {
                let labels = node.labels.iter().map(String::as_str);
                selectors.iter().any(|selector| selector.matches(&labels))
            }
            Self::Identity(end, identities) => identities.contains(&end.of(flow).identity),
            Self::Port(end, ports) => {
                matches!(
                    flow.l4,
                    Some(L4::Tcp { .. } | L4::Udp { .. } | L4::Sctp { .. })
                ) && ports.contains(&match end {
                    End::Source => flow.source_port(),
                    End::Destination => flow.destination_port(),
                })
            }
            Self::Workload(end, wanted) => end.of(flow).workloads().iter().any(|workload| {
                wanted.iter().any(|w| {
                    (w.name.is_empty() || w.name == *workload.name)
                        && (w.kind.is_empty() || w.kind == *workload.kind)
                })
            }),
            Self::Cluster(end, names) => {
                names.iter().any(|name| name == end.of(flow).cluster_name())
            }
            Self::Verdict(values) => values.contains(&i32::from(flow.verdict.0)),
            Self::EventType(types) => types.iter().any(|t| {
                (t.r#type == 0 || t.r#type == i32::from(flow.event_type.kind))
                    && (!t.match_sub_type || t.sub_type == i32::from(flow.event_type.sub_type))
            }),
            Self::Protocol(protocols) => protocols.iter().any(|protocol| protocol.is_of(flow)),
            // Drops do not say whether they are replies; old clients ask for them as "no reply".
            Self::Reply(values) => flow
                .is_reply
                .or((flow.verdict == Verdict::DROPPED).then_some(false))
                .is_some_and(|reply| values.contains(&reply)),
            Self::Encrypted(values) => values.contains(&flow.ip.is_some_and(|ip| ip.encrypted)),
            Self::DnsQuery(pattern) => {
                matches!(flow.l7_record(), Some(L7Record::Dns(dns)) if pattern.is_match(&dns.query))
            }
            Self::HttpStatus(statuses) => http(flow).is_some_and(|http| {
                http.code != 0 && {
                    let code = http.code;
                    statuses.iter().any(|status| begins_with(code, status))
                }
            }),
            Self::HttpMethod(methods) => http(flow).is_some_and(|http| {
                methods
                    .iter()
                    .any(|m| !http.method.is_empty() && m.eq_ignore_ascii_case(&http.method))
            }),
            Self::HttpPath(pattern) => http(flow)
                .and_then(|http| pattern::url_path(&http.url))
                .is_some_and(|path| pattern.is_match(&path)),
            Self::HttpUrl(pattern) => {
                http(flow).is_some_and(|http| !http.url.is_empty() && pattern.is_match(&http.url))
            }
            Self::HttpHeader(wanted) => http(flow).is_some_and(|http| {
                http.headers
                    .iter()
                    .any(|(key, value)| wanted.iter().any(|w| w.key == **key && w.value == **value))
            }),
            Self::TcpFlags(wanted) => match flow.l4 {
                Some(L4::Tcp {
                    flags: Some(flags), ..
                }) => wanted.iter().any(|&w| flags.contains(w)),
                _ => false,
            },
            Self::NodeName(pattern) => {
                // A node without a cluster is one of the cluster `default`.
                !node.name.is_empty()
                    && if node.name.contains('/') {
                        pattern.is_match(&node.name)
                    } else {
                        pattern.is_match(&format!("default/{}", node.name))
                    }
            }
            Self::IpVersion(versions) => versions.contains(&i32::from(flow.ip_version().0)),
            Self::TraceId(ids) => {
                let trace = flow.l7.as_deref().and_then(|l7| l7.trace);
                let id = trace.map_or_else(String::new, |trace| trace.trace_id_text().to_string());
                ids.contains(&id)
            }
            Self::Uuid(uuids) => uuids.contains(&Uuid::from_random(flow.uuid)),
            Self::Direction(values) => values.contains(&i32::from(flow.direction.0)),
            Self::DropReason(reasons) => {
                flow.verdict == Verdict::DROPPED
                    && i32::try_from(flow.drop_reason.0)
                        .is_ok_and(|reason| reasons.contains(&reason))
            }
            Self::Interface(wanted) => flow.interface.as_ref().is_some_and(|interface| {
                wanted.iter().any(|w| {
                    (w.index == 0 || w.index == interface.index)
                        && (w.name.is_empty() || interface.name.as_deref() == Some(w.name.as_str()))
                })
            }),
            Self::IpTraceId(ids) => ids.contains(&flow.ip_trace_id),
        }
    }
}

const fn http(flow: &Flow) -> Option<&Http> {
    match &flow.l7 {
        Some(l7) => match &l7.record {
            L7Record::Http(http) => Some(http),
            _ => None,
        },
        None => None,
    }
}

fn begins_with(code: u32, digits: &str) -> bool {
    // Codes have three digits; a code of two is shown with a zero in front.
    let Ok(wanted) = digits.parse::<u32>() else {
        return false;
    };
    let cut = match digits.len() {
        1 => 100,
        2 => 10,
        _ => 1,
    };
    code < 1000 && code / cut == wanted
}

fn in_any(address: IpAddr, prefixes: &[(IpAddr, u8)]) -> bool {
    let address = address.to_canonical();
    prefixes
        .iter()
        .any(|&(prefix, bits)| in_prefix(address, prefix, bits))
}

fn each<T>(
    values: &[String],
    read: impl Fn(&str) -> Result<T, FilterError>,
) -> Result<Vec<T>, FilterError> {
    values.iter().map(|value| read(value)).collect()
}

fn goes_with_l7(filter: &FlowFilter, field: &'static str) -> Result<(), FilterError> {
    let types = &filter.event_type;
    if types.is_empty() || types.iter().any(|t| t.r#type == i32::from(ACCESS_LOG)) {
        Ok(())
    } else {
        Err(FilterError::NotL7 { field })
    }
}

fn prefix(field: &'static str, value: &str) -> Result<(IpAddr, u8), FilterError> {
    let wrong = || FilterError::Address {
        field,
        value: value.to_owned(),
    };
    let (address, bits) = match value.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (value, None),
    };
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits = match bits {
        None => most,
        Some(bits) => bits.parse().map_err(|_| wrong())?,
    };
    if bits > most {
        return Err(wrong());
    }
    Ok(if bits == most {
        (
            address.to_canonical(),
            if address.to_canonical().is_ipv4() {
                32
            } else {
                128
            },
        )
    } else {
        (address, bits)
    })
}

fn port(field: &'static str, value: &str) -> Result<u16, FilterError> {
    value.parse().map_err(|_| FilterError::Port {
        field,
        value: value.to_owned(),
    })
}

fn namespaced(field: &'static str, value: &str) -> Result<NamespacedPrefix, FilterError> {
    NamespacedPrefix::parse(value).map_err(|source| FilterError::Pattern {
        field,
        value: value.to_owned(),
        source,
    })
}

fn patterns(
    field: &'static str,
    values: &[String],
    read: impl Fn(&str) -> Result<String, pattern::PatternError>,
    budget: &mut Budget,
) -> Result<Expression, FilterError> {
    let wrong = |value: &str, source| FilterError::Pattern {
        field,
        value: value.to_owned(),
        source,
    };
    let expressions = each(values, |value| {
        let expression = read(value).map_err(|source| wrong(value, source))?;
        Ok(pattern::whole(&expression))
    })?;
    Expression::new(&expressions, budget)
        .map_err(|_| wrong(&values.join(", "), pattern::PatternError::TooLarge))
}

fn selector(field: &'static str, value: &str) -> Result<Selector, FilterError> {
    Selector::parse(value).map_err(|source| FilterError::Selector { field, source })
}

fn expression(
    field: &'static str,
    values: &[String],
    budget: &mut Budget,
) -> Result<Expression, FilterError> {
    Expression::new(values, budget).map_err(|(value, source)| FilterError::Expression {
        field,
        value,
        source,
    })
}

fn status(value: &str) -> Result<String, FilterError> {
    let wrong = || FilterError::Status(value.to_owned());
    let (digits, lengths) = match value.strip_suffix('+') {
        Some(digits) => (digits, 1..=2),
        None => (value, 3..=3),
    };
    let first = digits.bytes().next().ok_or_else(wrong)?;
    if lengths.contains(&digits.len())
        && digits.bytes().all(|b| b.is_ascii_digit())
        && (b'1'..=b'5').contains(&first)
    {
        Ok(digits.to_owned())
    } else {
        Err(wrong())
    }
}

fn named(field: &'static str, values: &[String]) -> Result<Vec<String>, FilterError> {
    if values.iter().any(String::is_empty) {
        Err(FilterError::Empty { field })
    } else {
        Ok(values.to_vec())
    }
}

fn uuid(value: &str) -> Result<Uuid, FilterError> {
    Uuid::parse(value).ok_or_else(|| FilterError::Uuid(value.to_owned()))
}

fn flag_bits(flags: &proto::TcpFlags) -> TcpFlags {
    let bits = [
        (flags.fin, TcpFlags::FIN),
        (flags.syn, TcpFlags::SYN),
        (flags.rst, TcpFlags::RST),
        (flags.psh, TcpFlags::PSH),
        (flags.ack, TcpFlags::ACK),
        (flags.urg, TcpFlags::URG),
        (flags.ece, TcpFlags::ECE),
        (flags.cwr, TcpFlags::CWR),
        (flags.ns, TcpFlags::NS),
    ];
    TcpFlags(
        bits.iter()
            .filter(|(set, _)| *set)
            .fold(0, |all, (_, bit)| all | bit.0),
    )
}
