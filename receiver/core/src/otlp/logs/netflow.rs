//! Netflow records: DataKit's `netflow` fields as body, the connection by the semantic conventions as attributes.

use std::net::IpAddr;

use crate::key;
use crate::model::netflow::{
    ConnectError, Direction, Endpoint, KubernetesNames, NetflowRecord, Role, Transport,
};
use crate::model::resource::ResourceRef;
use crate::otlp::fields::{Fields, FieldsExt};
use crate::otlp::key::Key;
use crate::otlp::logs::LogRecord;
use crate::otlp::text::Ascii;
use crate::semconv::{attribute, event, ip_type, netflow, scope, value};

/// A netflow record on its way out, with what is written more than once as text.
#[derive(Debug)]
pub struct Netflow<'a> {
    record: &'a NetflowRecord,
    /// None when it is unknown.
    local: Option<End>,
    /// None when it is unknown.
    peer: Option<End>,
}

/// One end of a connection.
#[derive(Debug)]
struct End {
    ip: IpAddr,
    address: Ascii,
    port: Port,
}

/// A port as it is shown.
#[derive(Clone, Copy, Debug)]
enum Port {
    Unknown,
    Any,
    Known(u16),
}

impl<'a> From<&'a NetflowRecord> for Netflow<'a> {
    #[inline]
    fn from(record: &'a NetflowRecord) -> Self {
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
            record,
            local: end(&record.local, masked(Direction::Outgoing)),
            peer: end(&record.peer, masked(Direction::Incoming)),
        }
    }
}

impl LogRecord for Netflow<'_> {
    fn scope(&self) -> &'static str {
        scope::NETFLOW
    }

    fn event_name(&self) -> &'static str {
        event::NETFLOW
    }

    fn resource(&self) -> &ResourceRef {
        &self.record.resource
    }

    fn unix_ns(&self) -> u64 {
        self.record.unix_ns
    }

    #[inline]
    fn body(&self, host: Option<&str>, fields: &mut impl Fields) {
        let record = self.record;
        let direction = match record.direction {
            Direction::Incoming => netflow::INCOMING,
            Direction::Outgoing => netflow::OUTGOING,
            Direction::Unknown => netflow::UNKNOWN,
        };
        fields.text(key!(netflow::DIRECTION), direction);
        self.ends(fields);
        self.names(fields);
        if record.process.pid != 0 {
            fields.ascii(key!(netflow::PID), &Ascii::decimal(record.process.pid));
        }
        fields.text_unless_empty(key!(netflow::PROCESS_NAME), &record.process.executable_name);
        fields.text(key!(netflow::TRANSPORT), transport(record.transport));
        fields.text(key!(netflow::SOURCE), event::NETFLOW);
        if record.local_kubernetes.is_some() || record.peer_kubernetes.is_some() {
            fields.text(key!(netflow::SUB_SOURCE), netflow::SUB_SOURCE_K8S);
        }
        fields.text_if_known(key!(netflow::HOST), host);
        if record.netns != 0 {
            fields.ascii(key!(netflow::NETNS), &Ascii::decimal(record.netns));
        }
        match record.role {
            Role::Client => fields.text(key!(netflow::CONN_SIDE), value::CLIENT),
            Role::Server => fields.text(key!(netflow::CONN_SIDE), value::SERVER),
            Role::Unknown => {}
        }
        counters(record, fields);
        fields.true_only(key!(netflow::PREEXISTING), record.preexisting);
        fields.true_only(key!(netflow::OVERFLOW), record.overflow);
    }

    #[inline]
    fn attributes(&self, fields: &mut impl Fields) {
        let record = self.record;
        let (client, server) = match record.role {
            Role::Client => (&self.local, &self.peer),
            Role::Server => (&self.peer, &self.local),
            Role::Unknown => (&None, &None),
        };
        if let Some(client) = client {
            fields.ascii(key!(attribute::CLIENT_ADDRESS), &client.address);
            port_number(key!(attribute::CLIENT_PORT), client.port, fields);
        }
        if let Some(names) = &record.peer_kubernetes {
            peer_kubernetes(names, fields);
        }
        if let Some((error, _)) = record.failed.iter().max_by_key(|(_, count)| *count) {
            fields.text(key!(attribute::ERROR_TYPE), error.as_str());
        }
        if let Some(local) = &self.local {
            fields.ascii(key!(attribute::NETWORK_LOCAL_ADDRESS), &local.address);
            port_number(key!(attribute::NETWORK_LOCAL_PORT), local.port, fields);
        }
        if let Some(peer) = &self.peer {
            fields.ascii(key!(attribute::NETWORK_PEER_ADDRESS), &peer.address);
            port_number(key!(attribute::NETWORK_PEER_PORT), peer.port, fields);
        }
        let transport = transport(record.transport);
        fields.text(key!(attribute::NETWORK_TRANSPORT), transport);
        if let Some(peer) = &self.peer {
            let family = if peer.ip.is_ipv4() {
                value::IPV4
            } else {
                value::IPV6
            };
            fields.text(key!(attribute::NETWORK_TYPE), family);
        }
        let process = &*record.process;
        let command_line = process.command_line.as_deref();
        fields.text_if_known(key!(attribute::PROCESS_COMMAND_LINE), command_line);
        let name = &process.executable_name;
        fields.text_unless_empty(key!(attribute::PROCESS_EXECUTABLE_NAME), name);
        let path = process.executable_path.as_deref();
        fields.text_if_known(key!(attribute::PROCESS_EXECUTABLE_PATH), path);
        fields.number_unless_zero(key!(attribute::PROCESS_PID), process.pid);
        if let Some(server) = server {
            match &record.peer_domain {
                Some(domain) if record.role == Role::Client => {
                    fields.text(key!(attribute::SERVER_ADDRESS), domain);
                }
                _ => fields.ascii(key!(attribute::SERVER_ADDRESS), &server.address),
            }
            port_number(key!(attribute::SERVER_PORT), server.port, fields);
        }
        if let Some(names) = &record.local_kubernetes {
            local_kubernetes(names, fields);
        }
    }
}

impl Netflow<'_> {
    /// Addresses and ports of both ends.
    #[inline]
    fn ends(&self, fields: &mut impl Fields) {
        if let Some(local) = &self.local {
            fields.ascii(key!(netflow::SRC_IP), &local.address);
            port_text(key!(netflow::SRC_PORT), local.port, fields);
            fields.text(key!(netflow::SRC_IP_TYPE), ip_type_of(local.ip));
        }
        if let Some(peer) = &self.peer {
            fields.ascii(key!(netflow::DST_IP), &peer.address);
            port_text(key!(netflow::DST_PORT), peer.port, fields);
            fields.text(key!(netflow::DST_IP_TYPE), ip_type_of(peer.ip));
            let family = if peer.ip.is_ipv4() {
                netflow::IPV4
            } else {
                netflow::IPV6
            };
            fields.text(key!(netflow::FAMILY), family);
        }
        if let Some(nat) = &self.record.peer_nat {
            fields.ascii(key!(netflow::DST_NAT_IP), &Ascii::ip(nat.ip()));
            let port = Ascii::decimal(nat.port.into());
            fields.ascii(key!(netflow::DST_NAT_PORT), &port);
        }
    }

    /// What both ends are called.
    #[inline]
    fn names(&self, fields: &mut impl Fields) {
        let record = self.record;
        fields.text_if_known(key!(netflow::DST_DOMAIN), record.peer_domain.as_deref());
        kubernetes(
            record.local_kubernetes.as_deref(),
            [
                key!(netflow::SRC_K8S_POD_NAME),
                key!(netflow::SRC_K8S_DEPLOYMENT_NAME),
                key!(netflow::SRC_K8S_SERVICE_NAME),
                key!(netflow::SRC_K8S_NAMESPACE),
            ],
            fields,
        );
        kubernetes(
            record.peer_kubernetes.as_deref(),
            [
                key!(netflow::DST_K8S_POD_NAME),
                key!(netflow::DST_K8S_DEPLOYMENT_NAME),
                key!(netflow::DST_K8S_SERVICE_NAME),
                key!(netflow::DST_K8S_NAMESPACE),
            ],
            fields,
        );
    }
}

/// What one end is called in Kubernetes; the keys of pod, deployment, service and namespace.
#[inline(always)]
fn kubernetes(names: Option<&KubernetesNames>, keys: [Key; 4], fields: &mut impl Fields) {
    let Some(names) = names else {
        return;
    };
    let KubernetesNames {
        namespace,
        pod,
        deployment,
        service,
    } = names;
    // One by one, so that each key stays a constant.
    fields.text_if_known(keys[0], pod.as_deref());
    fields.text_if_known(keys[1], deployment.as_deref());
    fields.text_if_known(keys[2], service.as_deref());
    fields.text_if_known(keys[3], namespace.as_deref());
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

#[inline]
fn counters(record: &NetflowRecord, fields: &mut impl Fields) {
    fields.number(key!(netflow::BYTES_READ), int(record.bytes_read));
    fields.number(key!(netflow::BYTES_WRITTEN), int(record.bytes_written));
    match record.transport {
        Transport::Tcp => {
            fields.number(key!(netflow::RETRANSMITS), int(record.retransmits));
            if record.rtt_us != 0 {
                fields.number(key!(netflow::RTT), record.rtt_us.into());
                fields.number(key!(netflow::RTT_VAR), record.rtt_var_us.into());
            }
            fields.number(key!(netflow::TCP_CLOSED), int(record.tcp_closed));
            fields.number(key!(netflow::TCP_ESTABLISHED), int(record.tcp_established));
            failures(record, fields);
        }
        Transport::Udp => {
            fields.number(key!(netflow::PACKETS_READ), int(record.packets_read));
            fields.number(key!(netflow::PACKETS_WRITTEN), int(record.packets_written));
        }
    }
}

fn failures(record: &NetflowRecord, fields: &mut impl Fields) {
    if record.failed.is_empty() {
        return;
    }
    let total = record.failed.iter().map(|(_, n)| n).sum();
    fields.number(key!(netflow::TCP_FAILED), int(total));
    fields.object(key!(netflow::TCP_FAILED_BY), |fields| {
        for (error, count) in &record.failed {
            fields.number(error_key(*error), int(*count));
        }
    });
}

/// An error as the name of its count.
fn error_key(error: ConnectError) -> Key {
    match error {
        ConnectError::Refused => key!(ConnectError::Refused.as_str()),
        ConnectError::TimedOut => key!(ConnectError::TimedOut.as_str()),
        ConnectError::Reset => key!(ConnectError::Reset.as_str()),
        ConnectError::Unreachable => key!(ConnectError::Unreachable.as_str()),
        ConnectError::Prohibited => key!(ConnectError::Prohibited.as_str()),
        ConnectError::Blackhole => key!(ConnectError::Blackhole.as_str()),
        ConnectError::AddressNotAvailable => key!(ConnectError::AddressNotAvailable.as_str()),
        ConnectError::Other => key!(ConnectError::Other.as_str()),
    }
}

#[inline]
fn local_kubernetes(names: &KubernetesNames, fields: &mut impl Fields) {
    let deployment = names.deployment.as_deref();
    fields.text_if_known(key!(attribute::SOURCE_K8S_DEPLOYMENT_NAME), deployment);
    let namespace = names.namespace.as_deref();
    fields.text_if_known(key!(attribute::SOURCE_K8S_NAMESPACE_NAME), namespace);
    fields.text_if_known(key!(attribute::SOURCE_K8S_POD_NAME), names.pod.as_deref());
    let service = names.service.as_deref();
    fields.text_if_known(key!(attribute::SOURCE_K8S_SERVICE_NAME), service);
}

#[inline]
fn peer_kubernetes(names: &KubernetesNames, fields: &mut impl Fields) {
    let deployment = names.deployment.as_deref();
    fields.text_if_known(key!(attribute::DESTINATION_K8S_DEPLOYMENT_NAME), deployment);
    let namespace = names.namespace.as_deref();
    fields.text_if_known(key!(attribute::DESTINATION_K8S_NAMESPACE_NAME), namespace);
    let pod = names.pod.as_deref();
    fields.text_if_known(key!(attribute::DESTINATION_K8S_POD_NAME), pod);
    let service = names.service.as_deref();
    fields.text_if_known(key!(attribute::DESTINATION_K8S_SERVICE_NAME), service);
}

/// In the body a port is text, and `*` when it was merged away.
#[inline(always)]
fn port_text(key: Key, port: Port, fields: &mut impl Fields) {
    match port {
        Port::Unknown => {}
        Port::Any => fields.text(key, netflow::ANY_PORT),
        Port::Known(port) => fields.ascii(key, &Ascii::decimal(port.into())),
    }
}

/// By semantic conventions a port is an int, and left out when there is not one.
#[inline(always)]
fn port_number(key: Key, port: Port, fields: &mut impl Fields) {
    if let Port::Known(port) = port {
        fields.number(key, port.into());
    }
}

#[cfg(test)]
#[path = "netflow_tests.rs"]
mod tests;
