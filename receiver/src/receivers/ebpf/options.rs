//! `receivers.ebpf`, as plain data.

use std::time::Duration;

use netflume_core::aggregate::netflow::Options;

use crate::directories::process;
use crate::receivers::ebpf::source::KernelOptions;

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
