//! `netflume doctor`: what this machine offers, line by line, or as JSON.

use std::fmt::Write as _;

use serde::Serialize;

use crate::platform::system;
use crate::receivers::{Finding, Receiver, Settings};

/// The machine in one line, and the findings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Kernel, architecture, rights.
    pub machine: String,
    /// In the order in which they are printed.
    pub findings: Vec<Finding>,
}

/// Looks for every receiver, and renders what was found; as JSON if asked.
#[must_use]
pub fn report(receivers: &[&dyn Receiver], settings: &Settings, json: bool) -> String {
    let report = look(receivers, settings);
    if json {
        let mut text = serde_json::to_string_pretty(&report).unwrap_or_default();
        text.push('\n');
        text
    } else {
        render(&report)
    }
}

fn look(receivers: &[&dyn Receiver], settings: &Settings) -> Report {
    let mut machine = vec![system::describe()];
    let mut findings = Vec::new();
    for receiver in receivers {
        let diagnosis = receiver.doctor(settings);
        machine.extend(diagnosis.machine);
        findings.extend(diagnosis.findings);
    }
    Report {
        machine: machine.join(", "),
        findings,
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
    use crate::receivers::FindingState;

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
                finding("netflow", FindingState::Ready, "task_file iterator", None),
                finding(
                    "udp",
                    FindingState::Limited,
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
}
