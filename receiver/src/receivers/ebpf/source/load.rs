//! The object of `receiver-ebpf` into the running kernel: offsets resolved, maps sized, programs attached.

use std::os::unix::fs::MetadataExt;

use aya::maps::{Array, MapData, PerCpuArray, RingBuf};
use aya::programs::{BtfTracePoint, ProgramError};
use aya::{Btf as AyaBtf, Ebpf, EbpfLoader};
use netflume_ebpf::{ABSENT, Control, Offsets, Settings};

use super::entries::Entries;
use super::hooks::{Hook, HookState, KernelReport};
use super::pass::Passes;
use super::probe::{self, probe};
use super::udp::{self, Udp};
use super::{ControlWords, KernelOptions, Scope, SourceError, connects};
use netflume_core::decode::btf::{Btf, Kind};

const SET_STATE: &str = "inet_sock_set_state";
pub(super) const SET_STATE_HOOK: &str = "tp_btf/inet_sock_set_state";

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/netflume-ebpf"));

/// Programs attached, maps at hand.
pub(super) struct Loaded {
    pub(super) ebpf: Ebpf,
    pub(super) ring: RingBuf<MapData>,
    pub(super) control: Array<MapData, ControlWords>,
    pub(super) words: Control,
    pub(super) counters: PerCpuArray<MapData, u64>,
    pub(super) udp: Option<Udp>,
    pub(super) passes: Passes,
    pub(super) entries: Option<Entries>,
    pub(super) kernel_types: AyaBtf,
    pub(super) report: KernelReport,
}

pub(super) fn load(options: &KernelOptions) -> Result<Loaded, SourceError> {
    let mut report = probe(options);
    probe::require_rights(&report)?;
    raise_memory_limit();
    let mut settings = settings(options)?;
    let offsets = resolve_offsets(&mut settings)?.words();
    let settings = settings.words();
    let no_btf = |reason: String| SourceError::NoBtf {
        path: probe::BTF_PATH,
        reason,
    };
    let kernel_types = AyaBtf::from_sys_fs().map_err(|e| no_btf(e.to_string()))?;
    let mut ebpf = EbpfLoader::new()
        .btf(Some(&kernel_types))
        .override_global("OFFSETS", offsets.as_slice(), true)
        .override_global("SETTINGS", settings.as_slice(), true)
        .map_max_entries("CONNECTIONS", options.max_connections.max(1))
        // Those of the interval that ends are still there when the next one begins.
        .map_max_entries("UDP_FLOWS", options.max_udp_flows.max(1).saturating_mul(2))
        .map_max_entries("EVENTS", options.ring_bytes)
        .load(OBJECT)
        .map_err(|e| SourceError::Load {
            program: "the maps",
            reason: chain(&e),
        })?;

    // Who we are is known before the first hook runs, so that none ever tells of us.
    let passes = Passes::load(&mut ebpf, &kernel_types, options, &mut report);
    let mut control = map(&mut ebpf, "CONTROL")?;
    let mut words = own_words(options, passes, &mut ebpf, &mut control)?;
    let mut entries = None;
    if options.tcp {
        let result = attach_tracepoint(&mut ebpf, SET_STATE, &kernel_types);
        settle(&mut report, SET_STATE_HOOK, &result);
        result.map_err(|reason| SourceError::Load {
            program: SET_STATE_HOOK,
            reason,
        })?;
        if passes.misses_some() {
            entries = Entries::load(&mut ebpf, &kernel_types, &mut report);
        }
        connects::attach(
            &mut ebpf,
            &kernel_types,
            options,
            &mut words,
            &mut control,
            &mut report,
        )?;
    }
    let udp = if options.udp {
        udp::attach(&mut ebpf, &kernel_types, options.max_udp_flows, &mut report)?
    } else {
        None
    };
    Ok(Loaded {
        passes,
        entries,
        kernel_types,
        udp,
        ring: map(&mut ebpf, "EVENTS")?,
        control,
        words,
        counters: map(&mut ebpf, "COUNTERS")?,
        ebpf,
        report,
    })
}

/// What the programs are told of ourselves, also written to the control map: our number as the kernel counts processes, and the
/// cgroup of a pod that shares the host's network.
///
/// In namespaces neither is what we see ourselves; an iterator runs as its reader, so a pass (number zero: it does nothing else)
/// tells.
fn own_words(
    options: &KernelOptions,
    passes: Passes,
    ebpf: &mut Ebpf,
    control: &mut Array<MapData, ControlWords>,
) -> Result<Control, SourceError> {
    let mut words = Control::default();
    if passes == Passes::TaskFile && (options.exclude_own || options.scope == Scope::Pod) {
        passes.run(ebpf, &mut Vec::new())?;
        words = control.get(&0, 0).unwrap_or_default().0;
    }
    if options.scope == Scope::Pod && u64::from(words.host_netns) == own_network_namespace()? {
        // In Kubernetes a container's cgroup lies in that of its pod.
        let pod = std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() && words.parent_cgroup != 0;
        (words.scope_cgroup, words.scope_cgroup_level) = if pod {
            (words.parent_cgroup, words.own_cgroup_level - 1)
        } else {
            (words.own_cgroup, words.own_cgroup_level)
        };
    }
    if !options.exclude_own {
        // No process has this number.
        words.own_tgid = u32::MAX;
    } else if words.own_tgid == 0 {
        words.own_tgid = std::process::id();
    }
    write(control, words)?;
    Ok(words)
}

/// Tells the programs.
pub(super) fn write(
    control: &mut Array<MapData, ControlWords>,
    words: Control,
) -> Result<(), SourceError> {
    let written = control.set(0, ControlWords(words), 0);
    written.map_err(|e| SourceError::Io {
        action: "write the control map",
        reason: chain(&e),
    })
}

/// Inode number of the network namespace that we live in.
fn own_network_namespace() -> Result<u64, SourceError> {
    std::fs::metadata("/proc/thread-self/ns/net")
        .map(|namespace| namespace.ino())
        .map_err(|e| SourceError::Io {
            action: "find the own network namespace",
            reason: e.to_string(),
        })
}

pub(super) fn map<T: TryFrom<aya::maps::Map, Error = aya::maps::MapError>>(
    ebpf: &mut Ebpf,
    name: &'static str,
) -> Result<T, SourceError> {
    let map = ebpf.take_map(name).ok_or_else(|| SourceError::Io {
        action: "open a map",
        reason: format!("{name} is not in the object"),
    })?;
    T::try_from(map).map_err(|e| SourceError::Io {
        action: "open a map",
        reason: chain(&e),
    })
}

/// Writes into the report what became of a hook.
pub(super) fn settle(report: &mut KernelReport, hook: &str, result: &Result<(), String>) {
    for Hook { state, .. } in report.hooks.iter_mut().filter(|h| h.hook == hook) {
        *state = match result {
            Ok(()) => HookState::Used,
            Err(reason) => HookState::Missing(reason.clone()),
        };
    }
}

/// Loads and attaches a program of section `tp_btf/NAME` whose function is called NAME.
pub(super) fn attach_tracepoint(ebpf: &mut Ebpf, name: &str, types: &AyaBtf) -> Result<(), String> {
    let program = ebpf
        .program_mut(name)
        .ok_or_else(|| format!("{name} is not in the object"))?;
    let program: &mut BtfTracePoint = program.try_into().map_err(|e: ProgramError| refusal(&e))?;
    program.load(name, types).map_err(|e| refusal(&e))?;
    program.attach().map_err(|e| refusal(&e))?;
    Ok(())
}

/// The error in one line; of a verifier's log the last lines, which hold the reason.
pub(super) fn refusal(error: &ProgramError) -> String {
    if let ProgramError::LoadError {
        io_error,
        verifier_log,
    } = error
    {
        let log = verifier_log.to_string();
        let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
        let tail = lines
            .get(lines.len().saturating_sub(6)..)
            .unwrap_or_default()
            .join(" | ");
        return if tail.is_empty() {
            io_error.to_string()
        } else {
            format!("{io_error} ({tail})")
        };
    }
    chain(error)
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// The offsets, and in the settings what else the kernel's types show.
fn resolve_offsets(settings: &mut Settings) -> Result<Offsets, SourceError> {
    let no_btf = |reason: String| SourceError::NoBtf {
        path: probe::BTF_PATH,
        reason,
    };
    let bytes = probe::read_btf().map_err(no_btf)?;
    let btf = Btf::parse(&bytes).map_err(|e| no_btf(e.to_string()))?;
    let mut missing = Vec::new();
    let words = Offsets::FIELDS.map(|field| {
        btf.offset(field.structure, field.path).unwrap_or_else(|| {
            if field.required {
                missing.push(format!("{}.{}", field.structure, field.path));
            }
            ABSENT
        })
    });
    if missing.is_empty() {
        let mut offsets = Offsets::from_words(words);
        settings.sock_from_file = u64::from(btf.has(Kind::Func, "bpf_sock_from_file"));
        if let Some(bits) = btf.bit_offset("sock", "sk_userlocks") {
            // A byte of its own from 6.3 on, before that four bits of one.
            offsets.sock_userlocks = bits / 8;
            settings.userlocks_shift = u64::from(bits % 8);
        }
        Ok(offsets)
    } else {
        Err(SourceError::Unsupported(format!(
            "fields {}",
            missing.join(", ")
        )))
    }
}

fn settings(options: &KernelOptions) -> Result<Settings, SourceError> {
    let scope_netns = match options.scope {
        Scope::Host => 0,
        Scope::Pod => own_network_namespace()?,
    };
    Ok(Settings {
        scope_netns,
        skip_loopback: u64::from(!options.loopback),
        tcp: u64::from(options.tcp),
        udp: u64::from(options.udp),
        sock_from_file: 0,
        userlocks_shift: 0,
        wakeup_bytes: u64::from(options.ring_bytes / 4),
        call_sendto: libc::SYS_sendto.unsigned_abs(),
        call_sendmsg: libc::SYS_sendmsg.unsigned_abs(),
        call_recvmsg: libc::SYS_recvmsg.unsigned_abs(),
        udp_merge_from: options.merge_udp_clients_from.map_or(u64::MAX, u64::from),
    })
}

/// Before 5.11 maps count against the locked-memory limit. Best effort: newer kernels do not ask.
fn raise_memory_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    const ENOUGH: u64 = 512 * 1024 * 1024;
    let limit = getrlimit(Resource::Memlock);
    if limit.current.is_some_and(|current| current < ENOUGH) {
        let maximum = limit.maximum.map(|maximum| maximum.max(ENOUGH));
        if setrlimit(
            Resource::Memlock,
            Rlimit {
                current: Some(ENOUGH),
                maximum,
            },
        )
        .is_err()
        {
            tracing::debug!("the locked-memory limit stays at {:?}", limit.current);
        }
    }
}
