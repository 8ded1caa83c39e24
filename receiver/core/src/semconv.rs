//! Every name that leaves the program: OpenTelemetry semantic conventions 1.44.0, the words of the systems whose records
//! we reproduce, and what neither of them has. No other file spells such a name.

/// Schema of the conventional names below; stands on every scope.
pub const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.44.0";

pub mod cilium;
pub mod exchange;
pub mod hubble;

/// Instrumentation scopes: which part of the program made a record, point or span.
pub mod scope {
    /// Connections of this host, from the kernel.
    pub const NETFLOW: &str = "netflume.netflow";
    /// Flows of Cilium, counted as Hubble does.
    pub const HUBBLE: &str = "netflume.hubble";
    /// Our own state.
    pub const SELF: &str = "netflume";
}

/// Names of log records (`event_name`).
pub mod event {
    /// A connection, per interval and at its close.
    pub const NETFLOW: &str = "netflow";
}

/// Attributes of log records, spans and metric points.
pub mod attribute {
    /// The client's address.
    pub const CLIENT_ADDRESS: &str = "client.address";
    /// The client's port.
    pub const CLIENT_PORT: &str = "client.port";
    /// The other end's Kubernetes Deployment (direction first, as open proposals to the conventions have it).
    pub const DESTINATION_K8S_DEPLOYMENT_NAME: &str = "destination.k8s.deployment.name";
    /// The other end's Kubernetes namespace.
    pub const DESTINATION_K8S_NAMESPACE_NAME: &str = "destination.k8s.namespace.name";
    /// The other end's Kubernetes pod.
    pub const DESTINATION_K8S_POD_NAME: &str = "destination.k8s.pod.name";
    /// The other end's Kubernetes service.
    pub const DESTINATION_K8S_SERVICE_NAME: &str = "destination.k8s.service.name";
    /// Class of a failure; `_OTHER` when none fits.
    pub const ERROR_TYPE: &str = "error.type";
    /// On metrics: `transmit` or `receive`.
    pub const NETWORK_IO_DIRECTION: &str = "network.io.direction";
    /// Address of the local end.
    pub const NETWORK_LOCAL_ADDRESS: &str = "network.local.address";
    /// Port of the local end.
    pub const NETWORK_LOCAL_PORT: &str = "network.local.port";
    /// Address of the other end.
    pub const NETWORK_PEER_ADDRESS: &str = "network.peer.address";
    /// Port of the other end.
    pub const NETWORK_PEER_PORT: &str = "network.peer.port";
    /// `tcp`, `udp`.
    pub const NETWORK_TRANSPORT: &str = "network.transport";
    /// `ipv4`, `ipv6`.
    pub const NETWORK_TYPE: &str = "network.type";
    /// On metrics: which end of the connection the local process is, `client` or `server` (ours).
    pub const NETWORK_CONNECTION_ROLE: &str = "network.connection.role";
    /// True on the one series that holds what went over the cardinality limit.
    pub const OTEL_METRIC_OVERFLOW: &str = "otel.metric.overflow";
    /// The command with its arguments, secrets replaced.
    pub const PROCESS_COMMAND_LINE: &str = "process.command_line";
    /// Name of the executable.
    pub const PROCESS_EXECUTABLE_NAME: &str = "process.executable.name";
    /// Path of the executable.
    pub const PROCESS_EXECUTABLE_PATH: &str = "process.executable.path";
    /// Process id.
    pub const PROCESS_PID: &str = "process.pid";
    /// The server's address, or its domain name when known.
    pub const SERVER_ADDRESS: &str = "server.address";
    /// The server's port.
    pub const SERVER_PORT: &str = "server.port";
    /// The local end's Kubernetes Deployment.
    pub const SOURCE_K8S_DEPLOYMENT_NAME: &str = "source.k8s.deployment.name";
    /// The local end's Kubernetes namespace.
    pub const SOURCE_K8S_NAMESPACE_NAME: &str = "source.k8s.namespace.name";
    /// The local end's Kubernetes pod.
    pub const SOURCE_K8S_POD_NAME: &str = "source.k8s.pod.name";
    /// The local end's Kubernetes service.
    pub const SOURCE_K8S_SERVICE_NAME: &str = "source.k8s.service.name";
}

/// Values of attributes whose values are a closed set.
pub mod value {
    /// [`super::attribute::NETWORK_TRANSPORT`]: RFC 9293.
    pub const TCP: &str = "tcp";
    /// [`super::attribute::NETWORK_TRANSPORT`]: RFC 768.
    pub const UDP: &str = "udp";
    /// [`super::attribute::NETWORK_TYPE`]: RFC 791.
    pub const IPV4: &str = "ipv4";
    /// [`super::attribute::NETWORK_TYPE`]: RFC 8200.
    pub const IPV6: &str = "ipv6";
    /// [`super::attribute::NETWORK_IO_DIRECTION`]: sent.
    pub const TRANSMIT: &str = "transmit";
    /// [`super::attribute::NETWORK_IO_DIRECTION`]: received.
    pub const RECEIVE: &str = "receive";
    /// [`super::attribute::NETWORK_CONNECTION_ROLE`]: it connected.
    pub const CLIENT: &str = "client";
    /// [`super::attribute::NETWORK_CONNECTION_ROLE`]: it accepted.
    pub const SERVER: &str = "server";
}

/// Attributes of resources.
pub mod resource {
    /// 64 hex digits.
    pub const CONTAINER_ID: &str = "container.id";
    /// The name that its runtime knows it by.
    pub const CONTAINER_NAME: &str = "container.name";
    /// `containerd`, `cri-o`, `docker`, …
    pub const CONTAINER_RUNTIME_NAME: &str = "container.runtime.name";
    /// `amd64`, `arm64`, …
    pub const HOST_ARCH: &str = "host.arch";
    /// The machine id.
    pub const HOST_ID: &str = "host.id";
    /// The host's name.
    pub const HOST_NAME: &str = "host.name";
    /// The CronJob behind the pod.
    pub const K8S_CRONJOB_NAME: &str = "k8s.cronjob.name";
    /// The DaemonSet behind the pod.
    pub const K8S_DAEMONSET_NAME: &str = "k8s.daemonset.name";
    /// The Deployment behind the pod.
    pub const K8S_DEPLOYMENT_NAME: &str = "k8s.deployment.name";
    /// The Job behind the pod.
    pub const K8S_JOB_NAME: &str = "k8s.job.name";
    /// The Kubernetes namespace.
    pub const K8S_NAMESPACE_NAME: &str = "k8s.namespace.name";
    /// The Kubernetes node.
    pub const K8S_NODE_NAME: &str = "k8s.node.name";
    /// The Kubernetes pod.
    pub const K8S_POD_NAME: &str = "k8s.pod.name";
    /// The ReplicaSet behind the pod.
    pub const K8S_REPLICASET_NAME: &str = "k8s.replicaset.name";
    /// The StatefulSet behind the pod.
    pub const K8S_STATEFULSET_NAME: &str = "k8s.statefulset.name";
    /// The Kubernetes pod's uid.
    pub const K8S_POD_UID: &str = "k8s.pod.uid";
    /// For people: `Debian GNU/Linux 12 (bookworm)`.
    pub const OS_DESCRIPTION: &str = "os.description";
    /// `Debian GNU/Linux`, …
    pub const OS_NAME: &str = "os.name";
    /// `linux`, `windows`.
    pub const OS_TYPE: &str = "os.type";
    /// The system's version.
    pub const OS_VERSION: &str = "os.version";
    /// Name of the executable.
    pub const PROCESS_EXECUTABLE_NAME: &str = "process.executable.name";
    /// Process id.
    pub const PROCESS_PID: &str = "process.pid";
    /// One running copy of the service.
    pub const SERVICE_INSTANCE_ID: &str = "service.instance.id";
    /// The service.
    pub const SERVICE_NAME: &str = "service.name";
    /// What the service belongs to.
    pub const SERVICE_NAMESPACE: &str = "service.namespace";
    /// The service's version.
    pub const SERVICE_VERSION: &str = "service.version";
    /// `netflume`: the program that the OpenTelemetry SDK is part of.
    pub const TELEMETRY_DISTRO_NAME: &str = "telemetry.distro.name";
    /// Its version.
    pub const TELEMETRY_DISTRO_VERSION: &str = "telemetry.distro.version";
}

/// Metrics: names that the conventions do not have yet, built by their rules.
pub mod metric {
    /// Payload bytes of connections, By.
    pub const NETWORK_FLOW_IO: &str = "network.flow.io";
    /// Datagrams, {packet}.
    pub const NETWORK_FLOW_PACKET_COUNT: &str = "network.flow.packet.count";
    /// Connections that are open, {connection}.
    pub const NETWORK_CONNECTION_ACTIVE: &str = "network.connection.active";
    /// Connections that closed, {connection}.
    pub const NETWORK_CONNECTION_CLOSED: &str = "network.connection.closed";
    /// Connections that failed, {connection}, by `error.type`.
    pub const NETWORK_CONNECTION_FAILED: &str = "network.connection.failed";
    /// Connections that opened, {connection}.
    pub const NETWORK_CONNECTION_OPENED: &str = "network.connection.opened";
    /// TCP segments sent again, {segment}.
    pub const NETWORK_TCP_RETRANSMIT_COUNT: &str = "network.tcp.retransmit.count";
    /// Smoothed round-trip times, s.
    pub const NETWORK_TCP_RTT: &str = "network.tcp.rtt";
}

/// Units of metrics (UCUM).
pub mod unit {
    /// Bytes.
    pub const BYTES: &str = "By";
    /// Connections.
    pub const CONNECTIONS: &str = "{connection}";
    /// Datagrams.
    pub const PACKETS: &str = "{packet}";
    /// Seconds.
    pub const SECONDS: &str = "s";
    /// TCP segments.
    pub const SEGMENTS: &str = "{segment}";
}

/// The body of a [`event::NETFLOW`] record: tags and fields of DataKit's `netflow` set under their own names, then ours.
/// `src` is the local end.
pub mod netflow {
    /// `incoming`, `outgoing`, seen from the local end.
    pub const DIRECTION: &str = "direction";
    /// [`DIRECTION`]: the local end is the server.
    pub const INCOMING: &str = "incoming";
    /// [`DIRECTION`]: the local end is the client, or nothing told.
    pub const OUTGOING: &str = "outgoing";
    /// Value of `direction`: unknown.
    pub const UNKNOWN: &str = "unknown";
    /// Text.
    pub const SRC_IP: &str = "src_ip";
    /// Text; [`ANY_PORT`] when merged away.
    pub const SRC_PORT: &str = "src_port";
    /// `private`, `loopback`, `multicast`, `other`.
    pub const SRC_IP_TYPE: &str = "src_ip_type";
    /// Text.
    pub const DST_IP: &str = "dst_ip";
    /// Text; [`ANY_PORT`] when merged away.
    pub const DST_PORT: &str = "dst_port";
    /// As [`SRC_IP_TYPE`].
    pub const DST_IP_TYPE: &str = "dst_ip_type";
    /// The destination after translation; left out when there was none.
    pub const DST_NAT_IP: &str = "dst_nat_ip";
    /// Its port, text.
    pub const DST_NAT_PORT: &str = "dst_nat_port";
    /// The name that was asked for.
    pub const DST_DOMAIN: &str = "dst_domain";
    /// The local end's pod.
    pub const SRC_K8S_POD_NAME: &str = "src_k8s_pod_name";
    /// The local end's workload.
    pub const SRC_K8S_DEPLOYMENT_NAME: &str = "src_k8s_deployment_name";
    /// The local end's service.
    pub const SRC_K8S_SERVICE_NAME: &str = "src_k8s_service_name";
    /// The local end's namespace.
    pub const SRC_K8S_NAMESPACE: &str = "src_k8s_namespace";
    /// The other end's pod.
    pub const DST_K8S_POD_NAME: &str = "dst_k8s_pod_name";
    /// The other end's workload.
    pub const DST_K8S_DEPLOYMENT_NAME: &str = "dst_k8s_deployment_name";
    /// The other end's service.
    pub const DST_K8S_SERVICE_NAME: &str = "dst_k8s_service_name";
    /// The other end's namespace.
    pub const DST_K8S_NAMESPACE: &str = "dst_k8s_namespace";
    /// Text.
    pub const PID: &str = "pid";
    /// Text.
    pub const PROCESS_NAME: &str = "process_name";
    /// `tcp`, `udp`.
    pub const TRANSPORT: &str = "transport";
    /// [`IPV4`], [`IPV6`].
    pub const FAMILY: &str = "family";
    /// [`FAMILY`]: RFC 791.
    pub const IPV4: &str = "IPv4";
    /// [`FAMILY`]: RFC 8200.
    pub const IPV6: &str = "IPv6";
    /// The set's own name.
    pub const SOURCE: &str = "source";
    /// [`SUB_SOURCE_K8S`] when an end has Kubernetes names.
    pub const SUB_SOURCE: &str = "sub_source";
    /// The one value of [`SUB_SOURCE`].
    pub const SUB_SOURCE_K8S: &str = "K8s";
    /// Host name.
    pub const HOST: &str = "host";
    /// Bytes received in the interval, int.
    pub const BYTES_READ: &str = "bytes_read";
    /// Bytes sent in the interval, int.
    pub const BYTES_WRITTEN: &str = "bytes_written";
    /// TCP segments sent again in the interval, int.
    pub const RETRANSMITS: &str = "retransmits";
    /// Smoothed round-trip time, µs, int; left out when none was measured.
    pub const RTT: &str = "rtt";
    /// Its mean deviation, µs, int; left out with [`RTT`].
    pub const RTT_VAR: &str = "rtt_var";
    /// TCP connections closed in the interval, int.
    pub const TCP_CLOSED: &str = "tcp_closed";
    /// TCP connections opened in the interval, int.
    pub const TCP_ESTABLISHED: &str = "tcp_established";
    /// What stands for the client's port when connections that differ in it are merged.
    pub const ANY_PORT: &str = "*";
    /// Inode of the network namespace, text (a later tag of the set).
    pub const NETNS: &str = "netns";
    /// `client`, `server`; left out when unknown (a later tag of the set).
    pub const CONN_SIDE: &str = "conn_side";
    /// Ours: datagrams received in the interval, int; UDP only.
    pub const PACKETS_READ: &str = "packets_read";
    /// Ours: datagrams sent in the interval, int; UDP only.
    pub const PACKETS_WRITTEN: &str = "packets_written";
    /// Ours: TCP connections that failed in the interval, int; left out when zero.
    pub const TCP_FAILED: &str = "tcp_failed";
    /// Ours: the same by `error.type`, a map of ints.
    pub const TCP_FAILED_BY: &str = "tcp_failed_by";
    /// Ours: true when some of the connections are older than the program; else left out.
    pub const PREEXISTING: &str = "preexisting";
    /// Ours: true on the row that holds what had no room in the table; else left out.
    pub const OVERFLOW: &str = "overflow";
}

/// Values of [`netflow::SRC_IP_TYPE`] and [`netflow::DST_IP_TYPE`].
pub mod ip_type {
    /// RFC 1918, RFC 4193.
    pub const PRIVATE: &str = "private";
    /// 127.0.0.0/8, `::1`.
    pub const LOOPBACK: &str = "loopback";
    /// 224.0.0.0/4, `ff00::/8`.
    pub const MULTICAST: &str = "multicast";
    /// All else.
    pub const OTHER: &str = "other";
}

/// Metrics about the program itself, scope [`scope::SELF`].
pub mod own {
    /// Items that came into a stage, by [`RECEIVER`] and [`STAGE`].
    pub const RECEIVED: &str = "netflume.received";
    /// Items that a stage passed on, by [`RECEIVER`] and [`STAGE`].
    pub const PASSED: &str = "netflume.passed";
    /// Items that a stage did not pass on, by [`RECEIVER`], [`STAGE`] and [`REASON`].
    pub const DROPPED: &str = "netflume.dropped";
    /// Bytes that came into a stage which counts them, By, by [`RECEIVER`] and [`STAGE`].
    pub const IO: &str = "netflume.io";
    /// Items that a stage holds, by [`RECEIVER`] and [`STAGE`].
    pub const HELD: &str = "netflume.held";
    /// Requests in an export queue, those under way included, by [`SIGNAL`].
    pub const QUEUE_SIZE: &str = "netflume.queue.size";
    /// Bytes in an export queue, after compression, by [`SIGNAL`].
    pub const QUEUE_USAGE: &str = "netflume.queue.usage";
    /// `logs`, `metrics` or `traces`.
    pub const SIGNAL: &str = "signal";
    /// 1 while a source delivers, else 0, by [`RECEIVER`].
    pub const SOURCE_UP: &str = "netflume.source.up";
    /// Configuration key of the receiver whose items are counted.
    pub const RECEIVER: &str = "receiver";
    /// Processor time of all our threads, s.
    pub const CPU_TIME: &str = "netflume.cpu.time";
    /// Resident memory, By.
    pub const MEMORY_USAGE: &str = "netflume.memory.usage";
    /// Since the start, s.
    pub const UPTIME: &str = "netflume.uptime";
    /// Configurations that were in effect so far, by [`CONFIG_HASH`].
    pub const CONFIG_GENERATION: &str = "netflume.config.generation";
    /// Reloads, by [`RESULT`].
    pub const CONFIG_RELOADS: &str = "netflume.config.reloads";
    /// Time of the last reload, s since 1970, by [`RESULT`].
    pub const CONFIG_RELOAD_TIME: &str = "netflume.config.reload.time";
    /// Hash of the effective configuration, 16 hex digits.
    pub const CONFIG_HASH: &str = "hash";
    /// `applied` or `refused`.
    pub const RESULT: &str = "result";
    /// Always 1, by [`VERSION`].
    pub const BUILD: &str = "netflume.build.info";
    /// Stage of the ledger.
    pub const STAGE: &str = "stage";
    /// Reason of the ledger.
    pub const REASON: &str = "reason";
    /// Version of the program.
    pub const VERSION: &str = "version";
}
