//! One folder a receiver: its source (bytes out of the operating system), and its engine (batches through the pure centre to the
//! sinks).

pub mod cilium;
pub mod ebpf;
