//! The `receivers` keys of the kernel sources. Cilium's are in [`crate::config::cilium`].

use std::time::Duration;

use crate::config::Config;
use crate::config::schema::Row;
use crate::config::value::{Limits, choice};

/// `receivers.ebpf`: connections of the running kernel.
#[derive(Clone, Debug, PartialEq)]
pub struct Ebpf {
    /// Time between two records of a connection.
    pub interval: Duration,
    /// How connections are merged into records.
    pub group_by: GroupBy,
    /// Whether records and metrics of connections are made at all.
    pub netflow: bool,
    /// Whose sockets are seen.
    pub scope: Scope,
    /// Whether connections within the host (127.0.0.0/8, ::1) are seen.
    pub loopback: bool,
    /// Connections that the kernel maps have room for.
    pub max_connections: u32,
    /// Flows (rows of the connection table) kept in memory.
    pub max_flows: usize,
}

impl Default for Ebpf {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(10),
            group_by: GroupBy::Service,
            netflow: true,
            scope: Scope::Host,
            loopback: true,
            max_connections: 65_536,
            max_flows: 65_536,
        }
    }
}

/// How connections are merged into records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum GroupBy {
    /// Those that differ only in the client's port are one.
    #[default]
    Service,
    /// Each stays its own.
    Connection,
}
choice!(GroupBy { Service = "service", Connection = "connection" });

/// Whose sockets are seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Scope {
    /// All of the host, in every network namespace.
    #[default]
    Host,
    /// Those of the own network namespace and cgroup: a sidecar sees its pod.
    Pod,
}
choice!(Scope { Host = "host", Pod = "pod" });

fn ebpf(config: &mut Config) -> &mut Ebpf {
    config.receivers.ebpf.get_or_insert_default()
}

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// The keys.
pub const ROWS: &[Row] = &[
    Row::group(
        "receivers",
        "What is read. A receiver runs when its key is there.",
    ),
    Row::component(
        "receivers.ebpf",
        "TCP and UDP connections of the running kernel, by eBPF. Needs root, or CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN and CAP_SYS_PTRACE.",
        |c| c.receivers.ebpf.is_some(),
        |c, on| {
            if on {
                ebpf(c);
            } else {
                c.receivers.ebpf = None;
            }
        },
    ),
    Row::value(
        "receivers.ebpf.interval",
        Limits::Duration(SECOND, DAY),
        |c| &mut ebpf(c).interval,
        "Time between two records of a connection; what did not change in it emits nothing.",
    ),
    Row::value(
        "receivers.ebpf.group_by",
        Limits::Any,
        |c| &mut ebpf(c).group_by,
        "`service` merges connections that differ only in the client's port (written `*`), `connection` keeps each.",
    ),
    Row::value(
        "receivers.ebpf.netflow",
        Limits::Any,
        |c| &mut ebpf(c).netflow,
        "Log records and metrics of connections.",
    ),
    Row::value(
        "receivers.ebpf.scope",
        Limits::Any,
        |c| &mut ebpf(c).scope,
        "`host` sees every network namespace, `pod` only the own network namespace or cgroup (sidecar).",
    ),
    Row::value(
        "receivers.ebpf.loopback",
        Limits::Any,
        |c| &mut ebpf(c).loopback,
        "Whether connections within the host (127.0.0.0/8, ::1) are seen.",
    ),
    Row::value(
        "receivers.ebpf.max_connections",
        Limits::Count(1024, 4_194_304),
        |c| &mut ebpf(c).max_connections,
        "Connections that the kernel maps have room for; what does not fit is counted.",
    ),
    Row::value(
        "receivers.ebpf.max_flows",
        Limits::Count(16, 4_194_304),
        |c| &mut ebpf(c).max_flows,
        "Flows kept in memory; beyond them one overflow record keeps the totals.",
    ),
];
