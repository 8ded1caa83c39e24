//! What this host offers to the kernel source; reads only, works without any privilege, and never fails.

use rustix::system::uname;

use super::hooks::{Hook, HookState, KernelReport};
use super::{KernelOptions, SourceError};
use super::{entries, load, pass};
use netflume_core::decode::btf::{Btf, Kind};

/// Where the kernel shows its own BTF.
pub(super) const BTF_PATH: &str = "/sys/kernel/btf/vmlinux";

const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_PTRACE: u32 = 19;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// Looks at rights, BTF, cgroup v2 and each hook that `options` would use. Attaches nothing, so that a hook which the kernel has
/// and refuses is on offer here: [`super::KernelSource::start`] knows better.
#[must_use]
pub fn probe(options: &KernelOptions) -> KernelReport {
    let mut report = host();
    match read_btf() {
        Ok(bytes) => match Btf::parse(&bytes) {
            Ok(btf) => {
                report.btf = Some(Ok(BTF_PATH));
                report.hooks = hooks(options, |kind, name| btf.has(kind, name));
            }
            Err(e) => report.btf = Some(Err(e.to_string())),
        },
        Err(e) => report.btf = Some(Err(e)),
    }
    if report.hooks.is_empty() {
        report.hooks = hooks(options, |_, _| false);
    }
    if options.tcp {
        let enter = enter(report.may_enter_namespaces);
        let after = report.hooks.iter().position(|h| h.hook == pass::TCP_HOOK);
        report.hooks.insert(after.map_or(0, |at| at + 1), enter);
    }
    report
}

/// What `iter/tcp` needs beside the kernel.
fn enter(allowed: bool) -> Hook {
    Hook {
        feature: "tcp",
        hook: pass::ENTER,
        state: if allowed {
            HookState::Available
        } else {
            HookState::Missing("CAP_SYS_ADMIN is missing".to_owned())
        },
        without: "connections of other network namespaces are only reported when they end: grant CAP_SYS_ADMIN",
        replaces: &[pass::TASK_FILE_HOOK],
    }
}

/// The hooks that serve `options`, as far as BTF shows them.
fn hooks(options: &KernelOptions, has: impl Fn(Kind, &str) -> bool) -> Vec<Hook> {
    let mut hooks = Vec::new();
    let mut add = |feature, hook, (kind, name): (Kind, &str), without, replaces| {
        let state = if has(kind, name) {
            HookState::Available
        } else {
            HookState::Missing(format!("the kernel's BTF has no {name}"))
        };
        hooks.push(Hook {
            feature,
            hook,
            state,
            without,
            replaces,
        });
    };
    if options.tcp {
        add(
            "tcp",
            pass::TASK_FILE_HOOK,
            (Kind::Func, "bpf_iter_task_file"),
            "iter/tcp serves instead, once for each network namespace: owners of older connections stay unknown",
            &[],
        );
        add(
            "tcp",
            pass::TCP_HOOK,
            (Kind::Func, "bpf_iter_tcp"),
            "connections are only reported when they end",
            &[pass::TASK_FILE_HOOK],
        );
        add(
            "tcp",
            entries::HOOK,
            (Kind::Func, "bpf_iter_bpf_map_elem"),
            "connections that no descriptor leads to (io_uring, the kernel's own, later subflows of MPTCP) are reported at their end alone",
            &[],
        );
        add(
            "tcp",
            load::SET_STATE_HOOK,
            (Kind::Typedef, "btf_trace_inet_sock_set_state"),
            "no TCP records at all",
            &[],
        );
        for (hook, kind, name, without, replaces) in super::connects::HOOKS {
            add("tcp", hook, (kind, name), without, replaces);
        }
    }
    if options.udp {
        for (hook, kind, name, without, replaces) in super::udp::HOOKS {
            add("udp", hook, (kind, name), without, replaces);
        }
    }
    hooks
}

/// Release, rights and mounts.
pub(super) fn host() -> KernelReport {
    let name = uname();
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    KernelReport {
        release: name.release().to_string_lossy().into_owned(),
        machine: name.machine().to_string_lossy().into_owned(),
        cgroup2: cgroup2_mount(&std::fs::read_to_string("/proc/self/mounts").unwrap_or_default()),
        missing_rights: missing_rights(&status),
        may_enter_namespaces: has(effective(&status), CAP_SYS_ADMIN),
        may_see_programs: has(effective(&status), CAP_SYS_PTRACE),
        ..KernelReport::default()
    }
}

/// The kernel's BTF, all of it: 5 to 8 MB.
pub(super) fn read_btf() -> Result<Vec<u8>, String> {
    std::fs::read(BTF_PATH).map_err(|e| e.to_string())
}

/// The error that names the missing rights, if any are missing.
pub(super) fn require_rights(report: &KernelReport) -> Result<(), SourceError> {
    if report.missing_rights.is_empty() {
        return Ok(());
    }
    Err(SourceError::NotPermitted {
        missing: report.missing_rights.join(", "),
    })
}

/// Capabilities that are not in `CapEff` of a `/proc/PID/status`. Before 5.8 CAP_SYS_ADMIN stood for the two newer ones, and
/// still does.
fn missing_rights(status: &str) -> Vec<&'static str> {
    let effective = effective(status);
    let has = |capability| has(effective, capability);
    let mut missing = Vec::new();
    for (capability, name) in [
        (CAP_BPF, "CAP_BPF"),
        (CAP_PERFMON, "CAP_PERFMON"),
        (CAP_NET_ADMIN, "CAP_NET_ADMIN"),
    ] {
        if !has(capability) && (capability == CAP_NET_ADMIN || !has(CAP_SYS_ADMIN)) {
            missing.push(name);
        }
    }
    missing
}

/// `CapEff` of a `/proc/PID/status`.
fn effective(status: &str) -> u64 {
    let mut lines = status.lines();
    lines
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0)
}

fn has(effective: u64, capability: u32) -> bool {
    effective >> capability & 1 == 1
}

/// Mount point of the cgroup v2 hierarchy, from `/proc/self/mounts`.
fn cgroup2_mount(mounts: &str) -> Option<String> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (_, point, kind) = (fields.next()?, fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| point.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_named_one_by_one() {
        assert_eq!(
            missing_rights("CapEff:\t000001ffffffffff\n"),
            Vec::<&str>::new()
        );
        assert_eq!(
            missing_rights("CapEff:\t0000000000201000\n"),
            Vec::<&str>::new()
        );
        assert_eq!(
            missing_rights("CapEff:\t0000008000001000\n"),
            ["CAP_PERFMON"]
        );
        assert_eq!(
            missing_rights(""),
            ["CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN"]
        );
    }

    #[test]
    fn a_host_without_the_better_iterator_names_the_right_that_the_other_needs() {
        let mut report = KernelReport {
            hooks: hooks(&KernelOptions::default(), |_, name| {
                name != "bpf_iter_task_file"
            }),
            ..KernelReport::default()
        };
        report.hooks.push(enter(false));
        let costs = report.costs();
        let named = costs.iter().any(|cost| cost.contains("CAP_SYS_ADMIN"));
        assert!(named, "{costs:?}");
        // Where that iterator is there, the right is of no use.
        let mut report = KernelReport {
            hooks: hooks(&KernelOptions::default(), |_, _| true),
            may_see_programs: true,
            ..KernelReport::default()
        };
        report.hooks.push(enter(false));
        assert_eq!(report.costs(), Vec::<String>::new());
    }

    #[test]
    fn the_hybrid_hierarchy_is_found() {
        let mounts = "cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(
            cgroup2_mount(mounts).as_deref(),
            Some("/sys/fs/cgroup/unified")
        );
        assert_eq!(cgroup2_mount("none"), None);
    }

    #[test]
    fn the_probe_works_for_anyone() {
        let report = probe(&KernelOptions::default());
        assert!(!report.release.is_empty());
        assert!(
            report
                .to_string()
                .starts_with(&format!("kernel {}", report.release)),
            "{report}"
        );
    }
}
