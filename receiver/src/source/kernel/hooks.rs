//! What this kernel offers and what of it is used: plain data for `doctor`, `run` and the health page.

use std::fmt;

/// Whether a hook does its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HookState {
    /// Attached.
    Used,
    /// Offered; not needed, or not tried (`doctor` attaches nothing).
    Available,
    /// Not there, or refused; the text says why.
    Missing(String),
}

/// One hook of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// What it serves: `netflow tcp`, `netflow udp`.
    pub feature: &'static str,
    /// Its name: `tp_btf/inet_sock_set_state`.
    pub hook: &'static str,
    /// Whether it does its work.
    pub state: HookState,
    /// What is lost, or what it costs to do without; empty if nothing.
    pub without: &'static str,
}

/// What the host offers to the kernel source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelReport {
    /// `uname -r`.
    pub release: String,
    /// `uname -m`.
    pub machine: String,
    /// Where BTF was found; `Err` says why it was not.
    pub btf: Option<Result<&'static str, String>>,
    /// Mount point of the cgroup v2 hierarchy.
    pub cgroup2: Option<String>,
    /// Capabilities that are missing; empty: all that is needed is there.
    pub missing_rights: Vec<&'static str>,
    /// All hooks, in the order in which a person wants to read them.
    pub hooks: Vec<Hook>,
}

impl KernelReport {
    /// The hooks that serve one feature: those in use, or, where none is (a probe attaches nothing), those on offer.
    #[must_use]
    pub fn working(&self, feature: &str) -> Vec<&'static str> {
        let with = |state: &HookState| -> Vec<&'static str> {
            self.hooks
                .iter()
                .filter(|h| h.feature == feature && h.state == *state)
                .map(|h| h.hook)
                .collect()
        };
        let used = with(&HookState::Used);
        if used.is_empty() {
            with(&HookState::Available)
        } else {
            used
        }
    }
}

impl fmt::Display for KernelReport {
    /// One line: `kernel 6.18.0 (BTF): tcp by iter/task_file + tp_btf/inet_sock_set_state`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let btf = if matches!(self.btf, Some(Ok(_))) {
            "BTF"
        } else {
            "no BTF"
        };
        write!(f, "kernel {} ({btf})", self.release)?;
        let mut features: Vec<&str> = self.hooks.iter().map(|h| h.feature).collect();
        features.dedup();
        for (i, feature) in features.into_iter().enumerate() {
            let hooks = self.working(feature);
            let separator = if i == 0 { ":" } else { "," };
            if hooks.is_empty() {
                write!(f, "{separator} no {feature}")?;
            } else {
                write!(f, "{separator} {feature} by {}", hooks.join(" + "))?;
            }
        }
        Ok(())
    }
}
