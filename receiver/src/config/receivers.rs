//! The `receivers` keys of the kernel sources. Cilium's are in [`crate::config::cilium`].

use std::time::Duration;

use crate::config::Config;
use crate::config::schema::Row;
use crate::config::value::{Limits, choice};
use crate::receivers::ebpf::options::EbpfOptions;
use crate::receivers::ebpf::options::Scope;
use netflume_core::aggregate::netflow::GroupBy;

choice!(GroupBy { Service = "service", Connection = "connection" });
choice!(Scope { Host = "host", Pod = "pod" });

fn ebpf(config: &mut Config) -> &mut EbpfOptions {
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
        "TCP and UDP connections of the running kernel, by eBPF. Needs root, or CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN.",
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
    )
    .live(),
    Row::value(
        "receivers.ebpf.group_by",
        Limits::Any,
        |c| &mut ebpf(c).table.group_by,
        "`service` merges connections that differ only in the client's port (written `*`), `connection` keeps each.",
    ),
    Row::value(
        "receivers.ebpf.netflow",
        Limits::Any,
        |c| &mut ebpf(c).netflow,
        "Log records and metrics of connections.",
    ),
    Row::value(
        "receivers.ebpf.tcp",
        Limits::Any,
        |c| &mut ebpf(c).kernel.tcp,
        "Watch TCP.",
    ),
    Row::value(
        "receivers.ebpf.udp",
        Limits::Any,
        |c| &mut ebpf(c).kernel.udp,
        "Watch UDP.",
    ),
    Row::value(
        "receivers.ebpf.ephemeral_port",
        Limits::Count(0, 65_535),
        |c| &mut ebpf(c).table.mask_ports_from,
        "With `group_by: service`: client ports from this one on are merged away; 0 merges all.",
    ),
    Row::value(
        "receivers.ebpf.scope",
        Limits::Any,
        |c| &mut ebpf(c).kernel.scope,
        "`host` sees every network namespace; `pod` only the own one (sidecar), and where that is the host's, only the own pod's or unit's cgroup.",
    ),
    Row::value(
        "receivers.ebpf.loopback",
        Limits::Any,
        |c| &mut ebpf(c).kernel.loopback,
        "Whether connections within the host (127.0.0.0/8, ::1) are seen.",
    ),
    Row::value(
        "receivers.ebpf.max_connections",
        Limits::Count(1024, 4_194_304),
        |c| &mut ebpf(c).kernel.max_connections,
        "Connections that are followed; those beyond are counted, and told when they close. Memory is taken as they come.",
    ),
    Row::value(
        "receivers.ebpf.max_udp_flows",
        Limits::Count(1024, 4_194_304),
        |c| &mut ebpf(c).kernel.max_udp_flows,
        "Pairs of UDP socket and peer that are counted in one interval; beyond them one overflow record keeps the totals. Memory is taken as they come.",
    ),
    Row::value(
        "receivers.ebpf.ring_size",
        Limits::Size(4 << 10, 64 << 20),
        |c| &mut ebpf(c).kernel.ring_bytes,
        "Buffer between the kernel programs and us, rounded up to a power of two; 1MiB holds 5,800 ended connections.",
    ),
    Row::value(
        "receivers.ebpf.max_flows",
        Limits::Count(16, 4_194_304),
        |c| &mut ebpf(c).table.max_flows,
        "Flows of one interval; beyond them one overflow record keeps the totals.",
    ),
    Row::group(
        "receivers.ebpf.process",
        "What is read of the processes that own connections.",
    )
    .live(),
    Row::value(
        "receivers.ebpf.process.redact_command_line",
        Limits::Any,
        |c| &mut ebpf(c).process.redact_command_line,
        "Whether passwords, tokens and the like in command lines are replaced, as far as a name beside them tells.",
    ),
    Row::value(
        "receivers.ebpf.process.max_command_line",
        Limits::Size(0, 64 << 10),
        |c| &mut ebpf(c).process.max_command_line_bytes,
        "Of a command line so much is kept; it stands on every record of the process.",
    ),
    Row::value(
        "receivers.ebpf.process.read_environment",
        Limits::Any,
        |c| &mut ebpf(c).process.read_process_environment,
        "Whether OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES of a process name its service. Its environment holds secrets too, so it \
         is read only on request; nothing else of it is kept.",
    ),
    Row::value(
        "receivers.ebpf.process.max_processes",
        Limits::Count(16, 1_048_576),
        |c| &mut ebpf(c).process.max_processes,
        "Processes that are remembered; those not asked for the longest go first.",
    ),
];
