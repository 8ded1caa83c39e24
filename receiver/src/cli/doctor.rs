//! `netflume doctor`: what this machine offers, line by line, or as JSON.
//!
//! With the rights to do so it starts the kernel programs for a moment: some kernels have a hook and refuse it all the same.

use std::fmt::Write as _;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use crate::config::Config;
use crate::config::cilium::Cilium;
use crate::receivers::ebpf::source::{KernelReport, KernelSource, probe};

/// What was found about one thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What: `netflow`, `udp`, `cilium`.
    pub name: &'static str,
    /// Whether it can be used.
    pub state: State,
    /// By what it works, or what is missing.
    pub detail: String,
    /// What its absence or its second-best way costs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<String>,
    /// How to get it, or the better way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// Whether a thing can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It works.
    Ready,
    /// It works in a second-best way.
    Limited,
    /// It is not on this machine; that may be just right.
    Absent,
    /// It is there and refuses us.
    Blocked,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Limited => "limited",
            Self::Absent => "absent",
            Self::Blocked => "blocked",
        }
    }
}

/// The machine in one line, and the findings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Kernel, architecture, rights.
    pub machine: String,
    /// In the order in which they are printed.
    pub findings: Vec<Finding>,
}

/// Looks, and says what was found; as JSON if asked.
#[must_use]
pub fn report(config: &Config, json: bool) -> String {
    let report = look(config);
    if json {
        let mut text = serde_json::to_string_pretty(&report).unwrap_or_default();
        text.push('\n');
        text
    } else {
        render(&report)
    }
}

fn look(config: &Config) -> Report {
    let cilium = config.receivers.cilium.clone().unwrap_or_default();
    let ebpf = config.receivers.ebpf.clone().unwrap_or_default();
    let options = ebpf.kernel_options();
    let mut kernel = probe(&options);
    let mut findings = if kernel.missing_rights.is_empty() && matches!(kernel.btf, Some(Ok(_))) {
        match KernelSource::start(&options, Arc::default()) {
            Ok(source) => {
                kernel = source.report().clone();
                kernel_findings(&kernel)
            }
            Err(error) => vec![Finding {
                name: "ebpf",
                state: State::Blocked,
                detail: error.to_string(),
                cost: None,
                remedy: None,
            }],
        }
    } else {
        kernel_findings(&kernel)
    };
    findings.push(cilium_socket(&cilium));
    Report {
        machine: machine(&kernel),
        findings,
    }
}

fn machine(kernel: &KernelReport) -> String {
    let btf = match &kernel.btf {
        Some(Ok(_)) => "BTF yes".to_owned(),
        Some(Err(why)) => format!("BTF no ({why})"),
        None => "BTF not looked for".to_owned(),
    };
    let cgroup = match &kernel.cgroup2 {
        Some(path) => format!("cgroup v2 at {path}"),
        None => "no cgroup v2".to_owned(),
    };
    let rights = if kernel.missing_rights.is_empty() {
        "rights: all that is needed".to_owned()
    } else {
        format!("rights: {} missing", kernel.missing_rights.join(", "))
    };
    format!(
        "kernel {} {}, {btf}, {cgroup}, {rights}",
        kernel.release, kernel.machine
    )
}

/// One line for each thing that the kernel source can do: by which hooks, and what is missing.
fn kernel_findings(kernel: &KernelReport) -> Vec<Finding> {
    let features = kernel.features().into_iter();
    features
        .map(|feature| match &kernel.btf {
            Some(Err(_)) => Finding {
                name: feature,
                state: State::Absent,
                detail: "the kernel does not describe its structures (no BTF)".to_owned(),
                cost: None,
                remedy: Some("run a kernel with CONFIG_DEBUG_INFO_BTF=y".to_owned()),
            },
            _ => kernel_finding(kernel, feature),
        })
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
            (true, ..) => State::Absent,
            (false, true, _) => State::Blocked,
            (false, false, false) => State::Limited,
            (false, false, true) => State::Ready,
        },
        detail: detail.join(", "),
        cost: (!costs.is_empty()).then(|| costs.join("; ")),
        remedy: (blocked && !working.is_empty())
            .then(|| format!("grant {}, or run as root", kernel.missing_rights.join(", "))),
    }
}

fn cilium_socket(cilium: &Cilium) -> Finding {
    let path: &Path = &cilium.socket;
    let shown = path.display();
    let (state, detail, remedy) = match UnixStream::connect(path) {
        Ok(_) => (State::Ready, format!("socket {shown} answers"), None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            (State::Absent, format!("no socket at {shown}"), None)
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => (
            State::Blocked,
            format!("socket {shown}: {error}"),
            Some("run as root, or as a member of the socket's group".to_owned()),
        ),
        Err(error) => (
            State::Blocked,
            format!("socket {shown}: {error}"),
            Some("is the Cilium agent running?".to_owned()),
        ),
    };
    Finding {
        name: "cilium",
        state,
        detail,
        cost: None,
        remedy,
    }
}

/// Aligned columns: name, state, detail; cost and remedy on lines of their own below.
fn render(report: &Report) -> String {
    let mut text = format!("{}\n", report.machine);
    let width = |of: fn(&Finding) -> &str| report.findings.iter().map(|f| of(f).len()).max();
    let name_width = width(|f| f.name).unwrap_or_default();
    let state_width = width(|f| f.state.as_str()).unwrap_or_default();
    for finding in &report.findings {
        let _infallible = writeln!(
            text,
            "{:name_width$}  {:state_width$}  {}",
            finding.name,
            finding.state.as_str(),
            finding.detail
        );
        for (label, line) in [("costs", &finding.cost), ("to do", &finding.remedy)] {
            if let Some(line) = line {
                let indent = name_width + state_width + 4;
                let _infallible = writeln!(text, "{:indent$}{label}: {line}", "");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::receivers::ebpf::source::{Hook, HookState};

    #[test]
    fn columns_are_aligned_and_remedies_stand_below() {
        let finding = |name, state, detail: &str, remedy: Option<&str>| Finding {
            name,
            state,
            detail: detail.to_owned(),
            cost: None,
            remedy: remedy.map(str::to_owned),
        };
        let report = Report {
            machine: "kernel 6.18 x86_64".to_owned(),
            findings: vec![
                finding("netflow", State::Ready, "task_file iterator", None),
                finding(
                    "udp",
                    State::Limited,
                    "kprobes",
                    Some("kernel 6.3 or later"),
                ),
            ],
        };
        assert_eq!(
            render(&report),
            "\
kernel 6.18 x86_64
netflow  ready    task_file iterator
udp      limited  kprobes
                  to do: kernel 6.3 or later
"
        );
    }

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
                    State::Limited,
                    "a, no b (gone)",
                    Some("owners are guessed")
                ),
                (
                    "udp",
                    State::Absent,
                    "no c (old)",
                    Some("owners are guessed")
                ),
                ("bash", State::Ready, "d", None),
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
        assert_eq!(blocked.state, State::Blocked);
        assert_eq!(
            blocked.remedy.as_deref(),
            Some("grant CAP_BPF, or run as root")
        );
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
        assert_eq!((finding.state, &finding.cost), (State::Absent, &None));
        assert!(finding.detail.contains("no BTF"), "{}", finding.detail);
    }

    #[test]
    fn a_missing_socket_is_absent_and_a_dead_one_blocked() {
        let directory = tempfile::tempdir().unwrap();
        let cilium = Cilium {
            socket: directory.path().join("a.sock"),
            ..Cilium::default()
        };
        assert_eq!(cilium_socket(&cilium).state, State::Absent);
        drop(std::os::unix::net::UnixListener::bind(&cilium.socket).unwrap());
        assert_eq!(cilium_socket(&cilium).state, State::Blocked);
        std::fs::remove_file(&cilium.socket).unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(&cilium.socket).unwrap();
        assert_eq!(cilium_socket(&cilium).state, State::Ready);
    }
}
