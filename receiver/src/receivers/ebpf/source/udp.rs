//! UDP: the hooks that this kernel offers, attached; the map of flows, read.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;

use aya::maps::{Array, ArrayOfMaps, HashMap as KernelMap, MapData, MapError};
use aya::programs::links::CgroupAttachMode;
use aya::programs::{BtfTracePoint, CgroupSockAddr, FEntry, FExit, Program, ProgramError};
use aya::{Btf, Ebpf, Pod};
use netflume_ebpf::{Header, OverflowRecord, UdpFlow, UdpKey, UdpTotals, kind, phase, transport};
use zerocopy::IntoBytes;

use super::SourceError;
use super::hooks::{HookState, KernelReport};
use super::load::{map, refusal, settle};
use netflume_core::decode::btf::Kind;
use netflume_core::decode::kernel::records;

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

/// What is asked of the kernel: hook, kind and name in BTF, what is lost without, what it serves instead of.
pub(super) type Row = (
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

/// What is asked of the kernel.
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

/// A flow without calls for this many passes is reported for the last time and forgotten.
const IDLE_PASSES_MAX: u32 = 6;

/// Flows whose totals are kept from one interval to the next, in multiples of those of one interval.
const KNOWN_FACTOR: usize = 2;

/// The running UDP programs.
pub(super) struct Udp {
    flows: KernelMap<MapData, Key, Flow>,
    overflow: Array<MapData, Totals>,
    overflow_reported: UdpTotals,
    grace: ArrayOfMaps<MapData, Array<MapData, u64>>,
    waited_for: Array<MapData, u64>,
    /// The flows of the last intervals, with their totals.
    known: HashMap<UdpKey, Known>,
    known_max: usize,
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

/// What was reported of a flow.
struct Known {
    flow: UdpFlow,
    idle_passes: u32,
}

/// [`UdpKey`], as aya wants it.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Key(UdpKey);

/// [`UdpFlow`], as aya wants it.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Flow(UdpFlow);

/// [`UdpTotals`], as aya wants it.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Totals(UdpTotals);

// SAFETY: plain data without padding, which `zerocopy` checks; any bits are valid.
unsafe impl Pod for Key {}
// SAFETY: as above.
unsafe impl Pod for Flow {}
// SAFETY: as above.
unsafe impl Pod for Totals {}

/// Attaches what this kernel offers. None: it offers nothing, and the report says why.
pub(super) fn attach(
    ebpf: &mut Ebpf,
    types: &Btf,
    max_flows: u32,
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
        overflow: map(ebpf, "UDP_OVERFLOW")?,
        overflow_reported: UdpTotals::default(),
        grace: map(ebpf, "GRACE")?,
        waited_for: Array::create(1, 0).map_err(|e| SourceError::Io {
            action: "make a map",
            reason: e.to_string(),
        })?,
        known: HashMap::new(),
        known_max: KNOWN_FACTOR * max_flows as usize,
        send_hooks,
    }))
}

/// Attaches all of a set, or none; true when all are.
pub(super) fn attach_all(
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
pub(super) fn set_aside(report: &mut KernelReport, hooks: impl Iterator<Item = &'static str>) {
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

    /// Appends one record for each flow of the interval `epoch`, which is over, with `boot_ns` as its time, and the last one of those that
    /// fell silent. Returns how many records.
    ///
    /// Entries are read and removed when no program that could count in them runs any more. Those that cannot be removed now are
    /// left as they are: they are read with the next interval of the same number.
    pub(super) fn read(&mut self, epoch: u32, boot_ns: u64, bytes: &mut Vec<u8>) -> u64 {
        let before = bytes.len();
        let mut over = Vec::new();
        for key in self.flows.keys() {
            match key {
                Ok(Key(key)) if key.epoch() == epoch => over.push(key),
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(%error, "the UDP flows are read in part");
                    break;
                }
            }
        }
        if !over.is_empty() {
            match self.wait_for_programs() {
                Ok(()) => self.take(&over, boot_ns, bytes),
                Err(error) => {
                    tracing::warn!(%error, "UDP flows stay in the kernel for another interval");
                }
            }
        }
        self.age(boot_ns, bytes);
        self.read_overflow(boot_ns, bytes);
        records(bytes.get(before..).unwrap_or_default()).count() as u64
    }

    /// Until every program that runs now is done.
    fn wait_for_programs(&mut self) -> Result<(), MapError> {
        self.grace.set(0, &self.waited_for, 0)
    }

    fn take(&mut self, over: &[UdpKey], boot_ns: u64, bytes: &mut Vec<u8>) {
        for key in over {
            let Ok(Flow(flow)) = self.flows.get(&Key(*key), 0) else {
                continue;
            };
            if let Err(error) = self.flows.remove(&Key(*key)) {
                // Still there, and read again later: not now.
                tracing::debug!(%error, "a UDP flow stays in the kernel for another interval");
                continue;
            }
            if flow.excluded == 0 {
                self.add(key.without_epoch(), &flow, boot_ns, bytes);
            }
        }
    }

    /// Adds what a flow did in an interval to what is known of it, and reports the sum.
    fn add(&mut self, key: UdpKey, flow: &UdpFlow, boot_ns: u64, bytes: &mut Vec<u8>) {
        let room = self.known.len() < self.known_max;
        let total = match self.known.entry(key) {
            Entry::Occupied(known) => {
                let known = known.into_mut();
                known.idle_passes = 0;
                let total = &mut known.flow;
                total.bytes_sent += flow.bytes_sent;
                total.bytes_received += flow.bytes_received;
                total.packets_sent += flow.packets_sent;
                total.packets_received += flow.packets_received;
                if total.local_address == [0; 2] {
                    total.local_address = flow.local_address;
                }
                total
            }
            Entry::Vacant(place) if room => {
                let known = Known {
                    flow: *flow,
                    idle_passes: 0,
                };
                &mut place.insert(known).flow
            }
            Entry::Vacant(_) => {
                // Whole in itself: what it does later is another flow.
                let record = flow.record(&key, phase::CLOSED, boot_ns);
                bytes.extend_from_slice(record.as_bytes());
                return;
            }
        };
        bytes.extend_from_slice(total.record(&key, phase::OPEN, boot_ns).as_bytes());
    }

    /// Reports those that have been silent for long as over.
    fn age(&mut self, boot_ns: u64, bytes: &mut Vec<u8>) {
        self.known.retain(|key, known| {
            // An active one was set to zero in this pass.
            known.idle_passes += 1;
            let over = known.idle_passes > IDLE_PASSES_MAX;
            if over {
                let record = known.flow.record(key, phase::CLOSED, boot_ns);
                bytes.extend_from_slice(record.as_bytes());
            }
            !over
        });
        if self.known.capacity() > 4 * self.known.len().max(1024) {
            self.known.shrink_to(2 * self.known.len());
        }
    }

    fn read_overflow(&mut self, boot_ns: u64, bytes: &mut Vec<u8>) {
        let Ok(Totals(totals)) = self.overflow.get(&0, 0) else {
            return;
        };
        let before = std::mem::replace(&mut self.overflow_reported, totals);
        let record = OverflowRecord {
            header: Header {
                // A record is far shorter than what a u16 counts.
                size: size_of::<OverflowRecord>() as u16,
                kind: kind::OVERFLOW,
                reserved: 0,
                boot_ns,
            },
            bytes_sent: totals.bytes_sent.wrapping_sub(before.bytes_sent),
            bytes_received: totals.bytes_received.wrapping_sub(before.bytes_received),
            packets_sent: totals.packets_sent.wrapping_sub(before.packets_sent),
            packets_received: totals
                .packets_received
                .wrapping_sub(before.packets_received),
            transport: transport::UDP,
            reserved: [0; 7],
        };
        if totals
            != (UdpTotals {
                corked: totals.corked,
                ..before
            })
        {
            bytes.extend_from_slice(record.as_bytes());
        }
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
