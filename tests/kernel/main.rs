//! Real sockets through the running kernel: what our programs say, against what the test itself did.
//!
//! Everything here needs root and a kernel with BTF, and runs with `cargo xtask test kernel`.
//! The same file, linked statically, runs as `cargo xtask kernels` in emulated machines that hold nothing but busybox: the tests
//! make namespaces, cgroups and mounts by themselves.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test: a panic is how it fails, and its helper processes speak through their output"
)]

mod bounds;
mod coexistence;
mod failures;
mod fastopen;
mod iterators;
mod mptcp;
mod no_way;
mod older;
mod own;
mod owners;
mod scope;
mod support;
mod tcp;
mod udp;
mod udp_calls;
mod udp_flows;
mod unheld;
