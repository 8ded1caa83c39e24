//! What this kernel offers, and what its gaps cost.
//!
//! With the rights to do so it starts the kernel programs for a moment: some kernels have a hook and refuse it all the same.

use std::sync::Arc;

use crate::receivers::ebpf::source::{KernelOptions, KernelReport, KernelSource, probe};
use crate::receivers::{Diagnosis, Finding, FindingState};

pub(super) fn look(options: &KernelOptions) -> Diagnosis {
    let mut kernel = probe(options);
    let findings = if kernel.missing_rights.is_empty() && matches!(kernel.btf, Some(Ok(_))) {
        match KernelSource::start(options, Arc::default()) {
            Ok(source) => {
                kernel = source.report().clone();
                kernel_findings(&kernel)
            }
            Err(error) => vec![Finding {
                name: "ebpf",
                state: FindingState::Blocked,
                detail: error.to_string(),
                cost: None,
                remedy: None,
            }],
        }
    } else {
        kernel_findings(&kernel)
    };
    Diagnosis {
        machine: machine(&kernel),
        findings,
    }
}

fn machine(kernel: &KernelReport) -> Vec<String> {
    let btf = match &kernel.btf {
        Some(Ok(_)) => "BTF yes".to_owned(),
        Some(Err(why)) => format!("BTF no ({why})"),
        None => "BTF not looked for".to_owned(),
    };
    let cgroup = match &kernel.cgroup2 {
        Some(path) => format!("cgroup v2 at {path}"),
        None => "no cgroup v2".to_owned(),
    };
    let mut missing = kernel.missing_rights.clone();
    missing.extend(kernel.missing_useful_rights().map(|(right, _)| right));
    let rights = if missing.is_empty() {
        "rights: all that is of use".to_owned()
    } else {
        format!("rights: {} missing", missing.join(", "))
    };
    vec![btf, cgroup, rights]
}

/// One line for each thing that the kernel source can do: by which hooks, and what is missing.
fn kernel_findings(kernel: &KernelReport) -> Vec<Finding> {
    let features = kernel.features().into_iter();
    let rights = kernel.missing_useful_rights().map(|(right, cost)| Finding {
        name: "rights",
        state: FindingState::Limited,
        detail: format!("no {right}"),
        cost: Some(cost.to_owned()),
        remedy: Some(format!("grant {right}, or run as root")),
    });
    features
        .map(|feature| match &kernel.btf {
            Some(Err(_)) => Finding {
                name: feature,
                state: FindingState::Absent,
                detail: "the kernel does not describe its structures (no BTF)".to_owned(),
                cost: None,
                remedy: Some("run a kernel with CONFIG_DEBUG_INFO_BTF=y".to_owned()),
            },
            _ => kernel_finding(kernel, feature),
        })
        .chain(rights)
        .collect()
}

fn kernel_finding(kernel: &KernelReport, feature: &'static str) -> Finding {
    let working = kernel.working(feature);
    let missing: Vec<_> = kernel.missing(feature).collect();
    let mut costs: Vec<_> = missing
        .iter()
        .map(|(hook, _)| hook.without)
        .filter(|without| !without.is_empty())
        .collect();
    costs.dedup();
    let mut detail: Vec<_> = working.iter().map(|hook| (*hook).to_owned()).collect();
    detail.extend(
        missing
            .iter()
            .map(|(hook, why)| format!("no {} ({why})", hook.hook)),
    );
    let blocked = !kernel.missing_rights.is_empty();
    Finding {
        name: feature,
        state: match (working.is_empty(), blocked, missing.is_empty()) {
            (true, ..) => FindingState::Absent,
            (false, true, _) => FindingState::Blocked,
            (false, false, false) => FindingState::Limited,
            (false, false, true) => FindingState::Ready,
        },
        detail: detail.join(", "),
        cost: (!costs.is_empty()).then(|| costs.join("; ")),
        remedy: (blocked && !working.is_empty())
            .then(|| format!("grant {}, or run as root", kernel.missing_rights.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::receivers::ebpf::source::{Hook, HookState};

    #[test]
    fn what_the_kernel_lacks_is_told_with_its_cost_and_its_remedy() {
        let hook = |feature, hook, state| Hook {
            feature,
            hook,
            state,
            without: "owners are guessed",
            replaces: &[],
        };
        let mut kernel = KernelReport {
            btf: Some(Ok("/sys")),
            hooks: vec![
                hook("tcp", "a", HookState::Available),
                hook("tcp", "b", HookState::Missing("gone".to_owned())),
                hook("udp", "c", HookState::Missing("old".to_owned())),
                hook("bash", "d", HookState::Used),
            ],
            may_see_programs: true,
            ..KernelReport::default()
        };
        let findings = kernel_findings(&kernel);
        let told: Vec<_> = findings
            .iter()
            .map(|f| (f.name, f.state, f.detail.as_str(), f.cost.as_deref()))
            .collect();
        assert_eq!(
            told,
            [
                (
                    "tcp",
                    FindingState::Limited,
                    "a, no b (gone)",
                    Some("owners are guessed")
                ),
                (
                    "udp",
                    FindingState::Absent,
                    "no c (old)",
                    Some("owners are guessed")
                ),
                ("bash", FindingState::Ready, "d", None),
            ]
        );
        // What better hooks do is not missed.
        let spare = Hook {
            replaces: &["a"],
            ..hook("tcp", "e", HookState::Missing("old".to_owned()))
        };
        kernel.hooks.insert(2, spare);
        assert_eq!(kernel_findings(&kernel)[0].detail, "a, no b (gone)");
        kernel.missing_rights = vec!["CAP_BPF"];
        let blocked = &kernel_findings(&kernel)[0];
        assert_eq!(blocked.state, FindingState::Blocked);
        assert_eq!(
            blocked.remedy.as_deref(),
            Some("grant CAP_BPF, or run as root")
        );
    }

    #[test]
    fn a_right_that_is_missing_has_its_cost_and_its_remedy() {
        let mut kernel = KernelReport {
            btf: Some(Ok("/sys")),
            ..KernelReport::default()
        };
        let [finding] = &kernel_findings(&kernel)[..] else {
            panic!("{:?}", kernel_findings(&kernel));
        };
        assert_eq!(
            (finding.state, finding.detail.as_str()),
            (FindingState::Limited, "no CAP_SYS_PTRACE")
        );
        assert!(finding.cost.is_some() && finding.remedy.is_some());
        assert!(kernel.costs()[0].contains("CAP_SYS_PTRACE"));
        assert_eq!(machine(&kernel)[2], "rights: CAP_SYS_PTRACE missing");
        kernel.may_see_programs = true;
        assert_eq!(kernel_findings(&kernel), []);
        assert_eq!(machine(&kernel)[2], "rights: all that is of use");
    }

    #[test]
    fn without_btf_one_cause_is_told_instead_of_each_hook() {
        let kernel = KernelReport {
            btf: Some(Err("no such file".to_owned())),
            hooks: vec![Hook {
                feature: "tcp",
                hook: "a",
                state: HookState::Missing("not in BTF".to_owned()),
                without: "no records",
                replaces: &[],
            }],
            ..KernelReport::default()
        };
        let finding = &kernel_findings(&kernel)[0];
        assert_eq!(
            (finding.state, &finding.cost),
            (FindingState::Absent, &None)
        );
        assert!(finding.detail.contains("no BTF"), "{}", finding.detail);
    }
}
