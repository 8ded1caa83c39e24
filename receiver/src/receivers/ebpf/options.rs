//! `receivers.ebpf`, as plain data.

use std::time::Duration;

use netflume_core::aggregate::netflow::{GroupBy, Options};

use crate::directories::process;

/// `receivers.ebpf`: connections of the running kernel.
#[derive(Clone, Debug, PartialEq)]
pub struct EbpfOptions {
    /// Time between two records of a connection.
    pub interval: Duration,
    /// Whether records and metrics of connections are made at all.
    pub netflow: bool,
    /// What the kernel programs watch.
    pub kernel: KernelOptions,
    /// How connections become records. `loopback` and `max_connections` are those of `kernel`, see [`EbpfOptions::table_options`].
    pub table: Options,
    /// What is read of processes.
    pub process: process::Options,
}

impl Default for EbpfOptions {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(10),
            netflow: true,
            kernel: KernelOptions::default(),
            table: Options::default(),
            process: process::Options::default(),
        }
    }
}

impl EbpfOptions {
    /// Options of the kernel source.
    #[must_use]
    pub fn kernel_options(&self) -> KernelOptions {
        KernelOptions {
            // The kernel takes only powers of two.
            ring_bytes: self.kernel.ring_bytes.next_power_of_two(),
            merge_udp_clients_from: (self.table.group_by == GroupBy::Service)
                .then_some(self.table.mask_ports_from),
            ..self.kernel.clone()
        }
    }

    /// Options of the connection table.
    #[must_use]
    pub fn table_options(&self) -> Options {
        Options {
            loopback: self.kernel.loopback,
            max_connections: self.kernel.max_connections as usize,
            ..self.table.clone()
        }
    }
}

/// What is watched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// Every network namespace and container of the host.
    #[default]
    Host,
    /// The own pod, for a sidecar: the network namespace that netflume itself lives in. Where that is the host's own
    /// (`hostNetwork`), only the own cgroup there: the pod's in Kubernetes, else netflume's.
    Pod,
}

/// How open TCP connections are found at each interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pass {
    /// By descriptors; where the kernel does not offer that, by namespaces.
    #[default]
    Auto,
    /// One pass over the descriptors of all processes (`iter/task_file`): all network namespaces at once, with owners.
    TaskFile,
    /// One pass in each network namespace that a process lives in (`iter/tcp`).
    Tcp,
}

/// How connects are noticed that find no way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Connects {
    /// By the returns of the kernel's connect functions; where the kernel does not offer that, by attempts.
    #[default]
    Auto,
    /// By hooks at the beginning of each attempt.
    Attempts,
}

/// Options of the kernel source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelOptions {
    /// TCP connections. Default: true.
    pub tcp: bool,
    /// UDP exchanges. Default: true.
    pub udp: bool,
    /// Connections between two sockets of one host by a loopback address. Default: true.
    pub loopback: bool,
    /// What is watched. Default: the host.
    pub scope: Scope,
    /// Open TCP connections whose owner and opening time the kernel remembers; beyond it they are still counted, but reported without
    /// these two. Memory is taken as they come, about 140 bytes each. Default: 131,072.
    pub max_connections: u32,
    /// Pairs of UDP socket and peer that are counted in one interval; those beyond are counted together. About 220 bytes each, and
    /// twice that many while an interval ends. Default: 32,768.
    pub max_udp_flows: u32,
    /// Clients of a UDP server that differ only in their port, if it is not below this, are one pair. Default: none are.
    pub merge_udp_clients_from: Option<u16>,
    /// Size of the ring that carries records of ended connections; a power of two of at least one page. Default: 1 MiB, which
    /// holds 5,800 records: servers with thousands of connections end at once.
    pub ring_bytes: u32,
    /// How open TCP connections are found. Default: auto.
    pub pass: Pass,
    /// How connects are noticed that find no way. Default: auto.
    pub connects: Connects,
    /// Leave out netflume's own sockets, and the other end of the connections that it makes. Default: true; tests that watch
    /// themselves need false.
    pub exclude_own: bool,
}

impl Default for KernelOptions {
    fn default() -> Self {
        Self {
            tcp: true,
            udp: true,
            loopback: true,
            scope: Scope::Host,
            max_connections: 131_072,
            max_udp_flows: 32_768,
            merge_udp_clients_from: None,
            ring_bytes: 1024 * 1024,
            pass: Pass::Auto,
            connects: Connects::Auto,
            exclude_own: true,
        }
    }
}
