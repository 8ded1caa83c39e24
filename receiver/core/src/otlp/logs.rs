//! Records to log records: the record in its own words as body, its facts by semantic conventions as attributes.

use std::net::IpAddr;

use crate::key;
use crate::model::netflow::{Direction, Endpoint, KubernetesNames, NetflowRecord, Role, Transport};
use crate::model::request::{Request, Signal};
use crate::otlp::request::{MAX_REQUEST_BYTES, RequestBuilder};
use crate::otlp::resource::EncodedResource;
use crate::otlp::text::Ascii;
use crate::otlp::wire::{self, VALUES, ascii_kv, bool_kv, int_kv, text_kv};
use crate::semconv::{attribute, event, ip_type, netflow, scope, value};

/// Fields of `LogRecord`.
pub(super) mod field {
    pub(in crate::otlp) const TIME_UNIX_NANO: u8 = 1;
    pub(in crate::otlp) const SEVERITY_NUMBER: u8 = 2;
    pub(in crate::otlp) const SEVERITY_TEXT: u8 = 3;
    pub(in crate::otlp) const BODY: u8 = 5;
    pub(in crate::otlp) const ATTRIBUTES: u8 = 6;
    pub(in crate::otlp) const FLAGS: u8 = 8;
    pub(in crate::otlp) const TRACE_ID: u8 = 9;
    pub(in crate::otlp) const SPAN_ID: u8 = 10;
    pub(in crate::otlp) const OBSERVED_TIME_UNIX_NANO: u8 = 11;
    pub(in crate::otlp) const EVENT_NAME: u8 = 12;
}

/// `SeverityNumber` INFO.
const SEVERITY_INFO: u64 = 9;

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
    pub fn push(&mut self, record: &NetflowRecord) -> Option<Request> {
        let body = self.body;
        self.requests
            .add(&record.resource, scope::NETFLOW, 1, |out, resource| {
                let texts = Texts::new(record);
                wire::fixed64(out, field::TIME_UNIX_NANO, record.unix_ns);
                wire::uint(out, field::SEVERITY_NUMBER, SEVERITY_INFO);
                wire::bytes(out, field::SEVERITY_TEXT, b"INFO");
                if body == LogBody::Record {
                    wire::any_kvlist(out, field::BODY, |out| {
                        netflow_body(out, record, &texts, resource)
                    });
                }
                netflow_attributes(out, record, &texts);
                wire::fixed64(out, field::OBSERVED_TIME_UNIX_NANO, record.unix_ns);
                wire::bytes(out, field::EVENT_NAME, event::NETFLOW.as_bytes());
            })
    }

    /// The request of all records that were added and not given back yet, if there are any.
    #[must_use = "a request that is not exported is lost"]
    pub fn finish(&mut self) -> Option<Request> {
        self.requests.finish()
    }
}

/// What is written more than once, as text; none of what is unknown.
struct Texts {
    local: Option<End>,
    peer: Option<End>,
}

/// One end of a connection.
struct End {
    ip: IpAddr,
    address: Ascii,
    port: Port,
}

/// A port as it is told.
#[derive(Clone, Copy)]
enum Port {
    Unknown,
    Any,
    Known(u16),
}

impl Texts {
    fn new(record: &NetflowRecord) -> Self {
        let masked = |direction| record.client_port_masked && record.direction == direction;
        let end = |endpoint: &Endpoint, masked| {
            let ip = endpoint.ip();
            let port = match endpoint.port {
                _ if masked => Port::Any,
                0 => Port::Unknown,
                port => Port::Known(port),
            };
            (!record.overflow).then(|| End {
                ip,
                address: Ascii::ip(ip),
                port,
            })
        };
        Self {
            local: end(&record.local, masked(Direction::Outgoing)),
            peer: end(&record.peer, masked(Direction::Incoming)),
        }
    }
}

/// `*_ip_type`: the first that fits.
fn ip_type_of(ip: IpAddr) -> &'static str {
    let private = match ip {
        IpAddr::V4(ip) => ip.is_private(),
        IpAddr::V6(ip) => ip.is_unique_local(),
    };
    if private {
        ip_type::PRIVATE
    } else if ip.is_loopback() {
        ip_type::LOOPBACK
    } else if ip.is_multicast() {
        ip_type::MULTICAST
    } else {
        ip_type::OTHER
    }
}

fn transport(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => value::TCP,
        Transport::Udp => value::UDP,
    }
}

/// Counters are below 2⁶³ in this universe; a larger one is shown as the largest.
fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Writes the elements of the body's map.
fn netflow_body(
    out: &mut Vec<u8>,
    record: &NetflowRecord,
    texts: &Texts,
    resource: &EncodedResource,
) {
    let direction = match record.direction {
        Direction::Incoming => netflow::INCOMING,
        Direction::Outgoing => netflow::OUTGOING,
        Direction::Unknown => netflow::UNKNOWN,
    };
    text_kv(out, VALUES, key!(netflow::DIRECTION), direction);
    if let Some(local) = &texts.local {
        ascii_kv(out, VALUES, key!(netflow::SRC_IP), &local.address);
        port_text(out, key!(netflow::SRC_PORT), local.port);
        text_kv(
            out,
            VALUES,
            key!(netflow::SRC_IP_TYPE),
            ip_type_of(local.ip),
        );
    }
    if let Some(peer) = &texts.peer {
        ascii_kv(out, VALUES, key!(netflow::DST_IP), &peer.address);
        port_text(out, key!(netflow::DST_PORT), peer.port);
        text_kv(out, VALUES, key!(netflow::DST_IP_TYPE), ip_type_of(peer.ip));
        let family = if peer.ip.is_ipv4() {
            netflow::IPV4
        } else {
            netflow::IPV6
        };
        text_kv(out, VALUES, key!(netflow::FAMILY), family);
    }
    if let Some(nat) = &record.peer_nat {
        ascii_kv(out, VALUES, key!(netflow::DST_NAT_IP), &Ascii::ip(nat.ip()));
        ascii_kv(
            out,
            VALUES,
            key!(netflow::DST_NAT_PORT),
            &Ascii::decimal(nat.port.into()),
        );
    }
    if let Some(domain) = &record.peer_domain {
        text_kv(out, VALUES, key!(netflow::DST_DOMAIN), domain);
    }
    if let Some(names) = &record.local_kubernetes {
        optional(out, VALUES, key!(netflow::SRC_K8S_POD_NAME), &names.pod);
        optional(
            out,
            VALUES,
            key!(netflow::SRC_K8S_DEPLOYMENT_NAME),
            &names.deployment,
        );
        optional(
            out,
            VALUES,
            key!(netflow::SRC_K8S_SERVICE_NAME),
            &names.service,
        );
        optional(
            out,
            VALUES,
            key!(netflow::SRC_K8S_NAMESPACE),
            &names.namespace,
        );
    }
    if let Some(names) = &record.peer_kubernetes {
        optional(out, VALUES, key!(netflow::DST_K8S_POD_NAME), &names.pod);
        optional(
            out,
            VALUES,
            key!(netflow::DST_K8S_DEPLOYMENT_NAME),
            &names.deployment,
        );
        optional(
            out,
            VALUES,
            key!(netflow::DST_K8S_SERVICE_NAME),
            &names.service,
        );
        optional(
            out,
            VALUES,
            key!(netflow::DST_K8S_NAMESPACE),
            &names.namespace,
        );
    }
    if record.process.pid != 0 {
        ascii_kv(
            out,
            VALUES,
            key!(netflow::PID),
            &Ascii::decimal(record.process.pid),
        );
    }
    if !record.process.executable_name.is_empty() {
        text_kv(
            out,
            VALUES,
            key!(netflow::PROCESS_NAME),
            &record.process.executable_name,
        );
    }
    text_kv(
        out,
        VALUES,
        key!(netflow::TRANSPORT),
        transport(record.transport),
    );
    text_kv(out, VALUES, key!(netflow::SOURCE), event::NETFLOW);
    if record.local_kubernetes.is_some() || record.peer_kubernetes.is_some() {
        text_kv(
            out,
            VALUES,
            key!(netflow::SUB_SOURCE),
            netflow::SUB_SOURCE_K8S,
        );
    }
    if let Some(host) = &resource.host_name {
        text_kv(out, VALUES, key!(netflow::HOST), host);
    }
    if record.netns != 0 {
        ascii_kv(
            out,
            VALUES,
            key!(netflow::NETNS),
            &Ascii::decimal(record.netns),
        );
    }
    match record.role {
        Role::Client => text_kv(out, VALUES, key!(netflow::CONN_SIDE), value::CLIENT),
        Role::Server => text_kv(out, VALUES, key!(netflow::CONN_SIDE), value::SERVER),
        Role::Unknown => {}
    }
    int_kv(
        out,
        VALUES,
        key!(netflow::BYTES_READ),
        int(record.bytes_read),
    );
    int_kv(
        out,
        VALUES,
        key!(netflow::BYTES_WRITTEN),
        int(record.bytes_written),
    );
    match record.transport {
        Transport::Tcp => {
            int_kv(
                out,
                VALUES,
                key!(netflow::RETRANSMITS),
                int(record.retransmits),
            );
            if record.rtt_us != 0 {
                int_kv(out, VALUES, key!(netflow::RTT), record.rtt_us.into());
                int_kv(
                    out,
                    VALUES,
                    key!(netflow::RTT_VAR),
                    record.rtt_var_us.into(),
                );
            }
            int_kv(
                out,
                VALUES,
                key!(netflow::TCP_CLOSED),
                int(record.tcp_closed),
            );
            int_kv(
                out,
                VALUES,
                key!(netflow::TCP_ESTABLISHED),
                int(record.tcp_established),
            );
            failures(out, record);
        }
        Transport::Udp => {
            int_kv(
                out,
                VALUES,
                key!(netflow::PACKETS_READ),
                int(record.packets_read),
            );
            int_kv(
                out,
                VALUES,
                key!(netflow::PACKETS_WRITTEN),
                int(record.packets_written),
            );
        }
    }
    if record.preexisting {
        bool_kv(out, VALUES, key!(netflow::PREEXISTING), true);
    }
    if record.overflow {
        bool_kv(out, VALUES, key!(netflow::OVERFLOW), true);
    }
}

fn failures(out: &mut Vec<u8>, record: &NetflowRecord) {
    if record.failed.is_empty() {
        return;
    }
    let total = record.failed.iter().map(|(_, n)| n).sum();
    int_kv(out, VALUES, key!(netflow::TCP_FAILED), int(total));
    wire::kvlist_kv(out, VALUES, key!(netflow::TCP_FAILED_BY), |out| {
        for (error, count) in &record.failed {
            wire::any_kv(out, VALUES, error.as_str(), wire::Any::Int(int(*count)));
        }
    });
}

/// Writes the attributes, in order of their names.
fn netflow_attributes(out: &mut Vec<u8>, record: &NetflowRecord, texts: &Texts) {
    let (client, server) = match record.role {
        Role::Client => (&texts.local, &texts.peer),
        Role::Server => (&texts.peer, &texts.local),
        Role::Unknown => (&None, &None),
    };
    let to = field::ATTRIBUTES;
    if let Some(client) = client {
        ascii_kv(out, to, key!(attribute::CLIENT_ADDRESS), &client.address);
        port_int(out, key!(attribute::CLIENT_PORT), client.port);
    }
    if let Some(names) = &record.peer_kubernetes {
        peer_kubernetes(out, names);
    }
    if let Some((error, _)) = record.failed.iter().max_by_key(|(_, count)| *count) {
        text_kv(out, to, key!(attribute::ERROR_TYPE), error.as_str());
    }
    if let Some(local) = &texts.local {
        ascii_kv(
            out,
            to,
            key!(attribute::NETWORK_LOCAL_ADDRESS),
            &local.address,
        );
        port_int(out, key!(attribute::NETWORK_LOCAL_PORT), local.port);
    }
    if let Some(peer) = &texts.peer {
        ascii_kv(
            out,
            to,
            key!(attribute::NETWORK_PEER_ADDRESS),
            &peer.address,
        );
        port_int(out, key!(attribute::NETWORK_PEER_PORT), peer.port);
    }
    text_kv(
        out,
        to,
        key!(attribute::NETWORK_TRANSPORT),
        transport(record.transport),
    );
    if let Some(peer) = &texts.peer {
        let kind = if peer.ip.is_ipv4() {
            value::IPV4
        } else {
            value::IPV6
        };
        text_kv(out, to, key!(attribute::NETWORK_TYPE), kind);
    }
    let process = &record.process;
    optional(
        out,
        to,
        key!(attribute::PROCESS_COMMAND_LINE),
        &process.command_line,
    );
    if !process.executable_name.is_empty() {
        let name = &process.executable_name;
        text_kv(out, to, key!(attribute::PROCESS_EXECUTABLE_NAME), name);
    }
    optional(
        out,
        to,
        key!(attribute::PROCESS_EXECUTABLE_PATH),
        &process.executable_path,
    );
    if record.process.pid != 0 {
        int_kv(
            out,
            to,
            key!(attribute::PROCESS_PID),
            record.process.pid.into(),
        );
    }
    if let Some(server) = server {
        match &record.peer_domain {
            Some(domain) if record.role == Role::Client => {
                text_kv(out, to, key!(attribute::SERVER_ADDRESS), domain);
            }
            _ => ascii_kv(out, to, key!(attribute::SERVER_ADDRESS), &server.address),
        }
        port_int(out, key!(attribute::SERVER_PORT), server.port);
    }
    if let Some(names) = &record.local_kubernetes {
        local_kubernetes(out, names);
    }
}

fn local_kubernetes(out: &mut Vec<u8>, names: &KubernetesNames) {
    let to = field::ATTRIBUTES;
    optional(
        out,
        to,
        key!(attribute::SOURCE_K8S_DEPLOYMENT_NAME),
        &names.deployment,
    );
    optional(
        out,
        to,
        key!(attribute::SOURCE_K8S_NAMESPACE_NAME),
        &names.namespace,
    );
    optional(out, to, key!(attribute::SOURCE_K8S_POD_NAME), &names.pod);
    optional(
        out,
        to,
        key!(attribute::SOURCE_K8S_SERVICE_NAME),
        &names.service,
    );
}

fn peer_kubernetes(out: &mut Vec<u8>, names: &KubernetesNames) {
    let to = field::ATTRIBUTES;
    optional(
        out,
        to,
        key!(attribute::DESTINATION_K8S_DEPLOYMENT_NAME),
        &names.deployment,
    );
    optional(
        out,
        to,
        key!(attribute::DESTINATION_K8S_NAMESPACE_NAME),
        &names.namespace,
    );
    optional(
        out,
        to,
        key!(attribute::DESTINATION_K8S_POD_NAME),
        &names.pod,
    );
    optional(
        out,
        to,
        key!(attribute::DESTINATION_K8S_SERVICE_NAME),
        &names.service,
    );
}

#[inline(always)]
fn optional<const N: usize>(
    out: &mut Vec<u8>,
    field: u8,
    key: wire::Key<N>,
    value: &Option<String>,
) {
    if let Some(value) = value {
        text_kv(out, field, key, value);
    }
}

/// In the body a port is text, and `*` when it was merged away.
#[inline(always)]
fn port_text<const N: usize>(out: &mut Vec<u8>, key: wire::Key<N>, port: Port) {
    match port {
        Port::Unknown => {}
        Port::Any => text_kv(out, VALUES, key, netflow::ANY_PORT),
        Port::Known(port) => ascii_kv(out, VALUES, key, &Ascii::decimal(port.into())),
    }
}

/// By semantic conventions a port is an int, and left out when there is not one.
#[inline(always)]
fn port_int<const N: usize>(out: &mut Vec<u8>, key: wire::Key<N>, port: Port) {
    if let Port::Known(port) = port {
        int_kv(out, field::ATTRIBUTES, key, port.into());
    }
}

#[cfg(test)]
#[path = "logs_tests.rs"]
mod tests;
