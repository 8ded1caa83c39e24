//! Connects that find no way: the hooks that see them, attached.

use aya::maps::{Array, MapData};
use aya::{Btf, Ebpf};
use netflume_core::decode::btf::Kind;
use netflume_ebpf::{Control, connects};

use super::hooks::KernelReport;
use super::load::write;
use super::udp::{Row, attach_all, set_aside};
use super::{Connects, ControlWords, KernelOptions, SourceError};

/// The first choice, both or none: what came of each attempt, and why.
const RETURNS: [(&str, &str); 2] = [
    ("tcp_v4_connect", "fexit/tcp_v4_connect"),
    ("tcp_v6_connect", "fexit/tcp_v6_connect"),
];
/// The second choice, all or none: each attempt's beginning, and the end of sockets.
const ATTEMPTS: [(&str, &str); 3] = [
    ("connect4", "cgroup/connect4"),
    ("connect6", "cgroup/connect6"),
    ("tcp_destroy_sock", "tp_btf/tcp_destroy_sock"),
];

const BETTER: &[&str] = &[RETURNS[0].1, RETURNS[1].1];
const WITHOUT_RETURNS: &str = "cgroup/connect4 and cgroup/connect6 serve instead: about 450 ns more a connect, and the reason of one that finds no way is what the routes say at the end of the interval";
const WITHOUT_ATTEMPTS: &str = "connects that find no way are not reported";
const ADDRESS_FILTER: &str = "__cgroup_bpf_run_filter_sock_addr";

/// What is asked of the kernel.
pub(super) const HOOKS: [Row; 5] = [
    (RETURNS[0].1, Kind::Func, RETURNS[0].0, WITHOUT_RETURNS, &[]),
    (RETURNS[1].1, Kind::Func, RETURNS[1].0, WITHOUT_RETURNS, &[]),
    (
        ATTEMPTS[0].1,
        Kind::Func,
        ADDRESS_FILTER,
        WITHOUT_ATTEMPTS,
        BETTER,
    ),
    (
        ATTEMPTS[1].1,
        Kind::Func,
        ADDRESS_FILTER,
        WITHOUT_ATTEMPTS,
        BETTER,
    ),
    (
        ATTEMPTS[2].1,
        Kind::Typedef,
        "btf_trace_tcp_destroy_sock",
        WITHOUT_ATTEMPTS,
        BETTER,
    ),
];

/// Attaches what this kernel offers, and sets it for the programs.
pub(super) fn attach(
    ebpf: &mut Ebpf,
    types: &Btf,
    options: &KernelOptions,
    words: &mut Control,
    control: &mut Array<MapData, ControlWords>,
    report: &mut KernelReport,
) -> Result<(), SourceError> {
    // The programs know before the first attempt is seen: they would take one that went on for one that did not.
    let mut use_these = |what, programs: &[(&'static str, &'static str)]| {
        words.connects = what;
        write(control, *words)?;
        Ok(attach_all(ebpf, programs, types, report))
    };
    if options.connects != Connects::Attempts && use_these(connects::RETURNS, &RETURNS)? {
        set_aside(report, ATTEMPTS.iter().map(|(_, hook)| *hook));
    } else if !use_these(connects::ATTEMPTS, &ATTEMPTS)? {
        words.connects = connects::NONE;
        write(control, *words)?;
    }
    Ok(())
}
