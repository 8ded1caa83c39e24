//! UDP: the hooks that this kernel offers, attached; the map of flows, read.

use std::collections::HashMap;
use std::fs::File;

use aya::maps::{HashMap as KernelMap, MapData};
use aya::programs::links::CgroupAttachMode;
use aya::programs::{BtfTracePoint, CgroupSockAddr, FEntry, FExit, Program, ProgramError};
use aya::{Btf, Ebpf, Pod};
use netflume_ebpf::{UdpFlow, UdpKey, phase};
use zerocopy::IntoBytes;

use super::SourceError;
use super::hooks::{HookState, KernelReport};
use super::load::{map, refusal, settle};
use netflume_core::decode::btf::Kind;

/// The first choice, all three or none: one program a call, and the peer of every call.
const TRAMPOLINES: [(&str, &str); 3] = [
    ("udp_sendmsg", "fexit/udp_sendmsg"),
    ("udpv6_sendmsg", "fexit/udpv6_sendmsg"),
    ("skb_consume_udp", "fentry/skb_consume_udp"),
];
/// The second choice: the ends of socket calls …
const LENGTHS: [(&str, &str); 2] = [
    ("sock_send_length", "tp_btf/sock_send_length"),
    ("sock_recv_length", "tp_btf/sock_recv_length"),
];
/// … with the sender's address from the root cgroup …
const RECEIVE_HOOKS: [(&str, &str); 2] = [
    ("udp_recvmsg4", "cgroup/recvmsg4"),
    ("udp_recvmsg6", "cgroup/recvmsg6"),
];
/// … and, once a call was seen that needs it, the destination's.
const SEND_HOOKS: [(&str, &str); 2] = [
    ("udp_sendmsg4", "cgroup/sendmsg4"),
    ("udp_sendmsg6", "cgroup/sendmsg6"),
];

/// A row of [`HOOKS`].
type Row = (
    &'static str,
    Kind,
    &'static str,
    &'static str,
    &'static [&'static str],
);

const BETTER: &[&str] = &[TRAMPOLINES[0].1, TRAMPOLINES[1].1, TRAMPOLINES[2].1];
const WITHOUT_TRAMPOLINES: &str = "tracepoints and cgroup hooks serve instead: about 150 ns more a call, and receives that do not ask for the sender have no peer";
const ADDRESS_FILTER: &str = "__cgroup_bpf_run_filter_sock_addr";

const fn trampoline(hook: &'static str, function: &'static str) -> Row {
    (hook, Kind::Func, function, WITHOUT_TRAMPOLINES, &[])
}

const fn length(hook: &'static str, typedef: &'static str) -> Row {
    (hook, Kind::Typedef, typedef, "no UDP records", BETTER)
}

const fn address(hook: &'static str, without: &'static str) -> Row {
    (hook, Kind::Func, ADDRESS_FILTER, without, BETTER)
}

/// What is asked of the kernel: hook, kind and name in BTF, what is lost without, what it serves instead of.
pub(super) const HOOKS: [Row; 9] = [
    trampoline(TRAMPOLINES[0].1, "udp_sendmsg"),
    trampoline(TRAMPOLINES[1].1, "udpv6_sendmsg"),
    trampoline(TRAMPOLINES[2].1, "skb_consume_udp"),
    length(LENGTHS[0].1, "btf_trace_sock_send_length"),
    length(LENGTHS[1].1, "btf_trace_sock_recv_length"),
    address(RECEIVE_HOOKS[0].1, "unconnected receives have no peer"),
    address(RECEIVE_HOOKS[1].1, "unconnected receives have no peer"),
    address(
        SEND_HOOKS[0].1,
        "unconnected sends by sendmmsg or io_uring have no peer",
    ),
    address(
        SEND_HOOKS[1].1,
        "unconnected sends by sendmmsg or io_uring have no peer",
    ),
];

/// A flow without calls for this many passes is told for the last time and forgotten.
const IDLE_PASSES_MAX: u32 = 6;

/// The running UDP programs.
pub(super) struct Udp {
    flows: KernelMap<MapData, Key, Flow>,
    seen: HashMap<UdpKey, Seen>,
    send_hooks: SendHooks,
}

/// Whether the cgroup hooks on sending are of use.
#[derive(Clone, Copy, PartialEq, Eq)]
enum SendHooks {
    /// The programs know every destination without them.
    NotNeeded,
    /// Attached as soon as a call has no peer.
    Waiting,
    /// They tell.
    Attached,
    /// The kernel said no; the report says why.
    Refused,
}

#[derive(Clone, Copy, Default)]
struct Seen {
    calls: u64,
    idle_passes: u32,
    pass: u32,
}

/// [`UdpKey`], as aya wants it.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Key(UdpKey);

/// [`UdpFlow`], as aya wants it.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Flow(UdpFlow);

// SAFETY: plain data without padding, which `zerocopy` checks; any bits are valid.
unsafe impl Pod for Key {}
// SAFETY: as above.
unsafe impl Pod for Flow {}

/// Attaches what this kernel offers. None: it offers nothing, and the report says why.
pub(super) fn attach(
    ebpf: &mut Ebpf,
    types: &Btf,
    report: &mut KernelReport,
) -> Result<Option<Udp>, SourceError> {
    let send_hooks = if attach_all(ebpf, &TRAMPOLINES, types, report) {
        let spare: Vec<_> = LENGTHS
            .iter()
            .chain(&RECEIVE_HOOKS)
            .chain(&SEND_HOOKS)
            .collect();
        set_aside(report, spare.iter().map(|(_, hook)| *hook));
        SendHooks::NotNeeded
    } else if attach_all(ebpf, &LENGTHS, types, report) {
        attach_all(ebpf, &RECEIVE_HOOKS, types, report);
        set_aside(report, SEND_HOOKS.iter().map(|(_, hook)| *hook));
        SendHooks::Waiting
    } else {
        return Ok(None);
    };
    Ok(Some(Udp {
        flows: map(ebpf, "UDP_FLOWS")?,
        seen: HashMap::new(),
        send_hooks,
    }))
}

/// Attaches all of a set, or none; true when all are.
fn attach_all(
    ebpf: &mut Ebpf,
    programs: &[(&'static str, &'static str)],
    types: &Btf,
    report: &mut KernelReport,
) -> bool {
    for (at, (name, hook)) in programs.iter().enumerate() {
        let result = attach_one(ebpf, name, types, report.cgroup2.as_deref());
        settle(report, hook, &result);
        if result.is_err() {
            for (name, hook) in programs.iter().take(at) {
                detach(ebpf, name);
                let reason = "of no use without the others".to_owned();
                settle(report, hook, &Err(reason));
            }
            return false;
        }
    }
    true
}

fn attach_one(
    ebpf: &mut Ebpf,
    name: &str,
    types: &Btf,
    cgroup2: Option<&str>,
) -> Result<(), String> {
    match ebpf.program_mut(name) {
        Some(Program::FExit(program)) => program
            .load(name, types)
            .and_then(|()| program.attach().map(drop)),
        Some(Program::FEntry(program)) => program
            .load(name, types)
            .and_then(|()| program.attach().map(drop)),
        Some(Program::BtfTracePoint(program)) => program
            .load(name, types)
            .and_then(|()| program.attach().map(drop)),
        Some(_) => return attach_cgroup(ebpf, name, cgroup2),
        None => return Err(format!("{name} is not in the object")),
    }
    .map_err(|e| refusal(&e))
}

fn detach(ebpf: &mut Ebpf, name: &str) {
    let unloaded = match ebpf.program_mut(name) {
        Some(Program::FExit(program)) => FExit::unload(program),
        Some(Program::FEntry(program)) => FEntry::unload(program),
        Some(Program::BtfTracePoint(program)) => BtfTracePoint::unload(program),
        Some(Program::CgroupSockAddr(program)) => CgroupSockAddr::unload(program),
        _ => Ok(()),
    };
    if let Err(error) = unloaded {
        tracing::debug!(%error, name, "program stays attached");
    }
}

/// Hooks that are there and not needed (yet).
fn set_aside(report: &mut KernelReport, hooks: impl Iterator<Item = &'static str>) {
    for name in hooks {
        for hook in report.hooks.iter_mut().filter(|hook| hook.hook == name) {
            if !matches!(hook.state, HookState::Missing(_)) {
                hook.state = HookState::Available;
            }
        }
    }
}

impl Udp {
    /// The hooks on sending are attached.
    pub(super) fn has_send_hooks(&self) -> bool {
        self.send_hooks == SendHooks::Attached
    }

    /// A call had no peer that the running programs can see: attaches the hooks that see it.
    pub(super) fn hook_sends(&mut self, ebpf: &mut Ebpf, report: &mut KernelReport) {
        if self.send_hooks != SendHooks::Waiting {
            return;
        }
        self.send_hooks = SendHooks::Attached;
        for (name, hook) in SEND_HOOKS {
            let result = attach_cgroup(ebpf, name, report.cgroup2.as_deref());
            settle(report, hook, &result);
            if let Err(reason) = result {
                self.send_hooks = SendHooks::Refused;
                tracing::warn!(
                    hook,
                    reason,
                    "unconnected sends by sendmmsg or io_uring have no peer"
                );
            }
        }
    }

    /// Appends one record for each flow, with `boot_ns` as its time; forgets those that fell silent. Returns how many records.
    pub(super) fn read(&mut self, boot_ns: u64, bytes: &mut Vec<u8>) -> u64 {
        let mut count = 0;
        let mut silent = Vec::new();
        let pass = self
            .seen
            .values()
            .map(|seen| seen.pass)
            .max()
            .unwrap_or(0)
            .wrapping_add(1);
        for entry in self.flows.iter() {
            let Ok((Key(key), Flow(flow))) = entry else {
                // Removed while we walk: its record came through the ring, or comes with the next pass.
                continue;
            };
            let calls = flow.packets_sent.wrapping_add(flow.packets_received);
            let seen = self.seen.entry(key).or_default();
            seen.idle_passes = if seen.calls == calls {
                seen.idle_passes + 1
            } else {
                0
            };
            seen.calls = calls;
            seen.pass = pass;
            let ends = seen.idle_passes >= IDLE_PASSES_MAX;
            if ends {
                silent.push(key);
            }
            if flow.excluded == 0 {
                let phase = if ends { phase::CLOSED } else { phase::OPEN };
                bytes.extend_from_slice(flow.record(phase, boot_ns).as_bytes());
                count += 1;
            }
        }
        for key in silent {
            self.seen.remove(&key);
            if let Err(error) = self.flows.remove(&Key(key)) {
                tracing::trace!(%error, "a silent flow went away by itself");
            }
        }
        self.seen.retain(|_, seen| seen.pass == pass);
        count
    }
}

fn attach_cgroup(ebpf: &mut Ebpf, name: &str, cgroup2: Option<&str>) -> Result<(), String> {
    let root = cgroup2.ok_or("no cgroup v2 hierarchy is mounted")?;
    let root = File::open(root).map_err(|e| format!("{root}: {e}"))?;
    let program = ebpf
        .program_mut(name)
        .ok_or_else(|| format!("{name} is not in the object"))?;
    let program: &mut CgroupSockAddr = program.try_into().map_err(|e: ProgramError| refusal(&e))?;
    program.load().map_err(|e| refusal(&e))?;
    program
        .attach(root, CgroupAttachMode::Single)
        .map_err(|e| refusal(&e))?;
    Ok(())
}
