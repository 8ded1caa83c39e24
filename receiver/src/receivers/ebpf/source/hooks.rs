//! What this kernel offers and what of it is used: plain data for `doctor`, `run` and the health page.

use std::fmt;

/// Whether a hook does its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HookState {
    /// Attached.
    Used,
    /// Offered; not needed, or not tried.
    Available,
    /// Not there, or refused; the text says why.
    Missing(String),
}

/// One hook of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// What it serves: `tcp`, `udp`.
    pub feature: &'static str,
    /// Its name: `tp_btf/inet_sock_set_state`.
    pub hook: &'static str,
    /// Whether it does its work.
    pub state: HookState,
    /// What is lost, or what it costs to do without; empty if nothing.
    pub without: &'static str,
    /// Hooks that are better: this one is needed only where one of them is missing. Empty: it is always needed.
    pub replaces: &'static [&'static str],
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
    /// CAP_SYS_ADMIN: it may enter other network namespaces, which only `iter/tcp` needs.
    pub may_enter_namespaces: bool,
    /// CAP_SYS_PTRACE: it may see which program a process of another user runs.
    pub may_see_programs: bool,
    /// All hooks, in the order in which a person wants to read them.
    pub hooks: Vec<Hook>,
}

impl KernelReport {
    /// The hooks that serve one feature: those in use, or, where none is (a probe attaches nothing), those that would be.
    #[must_use]
    pub fn working(&self, feature: &str) -> Vec<&'static str> {
        let with = |state: &HookState| -> Vec<&'static str> {
            self.hooks
                .iter()
                .filter(|h| h.feature == feature && h.state == *state && self.is_needed(h))
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

impl KernelReport {
    /// What a feature has to do without: hooks that nothing better stands in for, and why they are missing.
    pub fn missing(&self, feature: &str) -> impl Iterator<Item = (&Hook, &str)> {
        let hooks = self.hooks.iter();
        hooks
            .filter(move |hook| hook.feature == feature && self.is_needed(hook))
            .filter_map(|hook| match &hook.state {
                HookState::Missing(why) => Some((hook, why.as_str())),
                HookState::Used | HookState::Available => None,
            })
    }

    /// The features, in order.
    #[must_use]
    pub fn features(&self) -> Vec<&'static str> {
        let mut features: Vec<&str> = self.hooks.iter().map(|hook| hook.feature).collect();
        features.dedup();
        features
    }

    /// Rights that are not needed, and missing: the name, and what that costs.
    pub fn missing_useful_rights(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let programs = (
            "CAP_SYS_PTRACE",
            "processes of other users have the name of their first thread (15 bytes) instead of their program's, and no service by their environment",
        );
        (!self.may_see_programs).then_some(programs).into_iter()
    }

    /// One line for each cost of what is missing: `tcp: no fexit/tcp_v4_connect (not permitted): …`.
    #[must_use]
    pub fn costs(&self) -> Vec<String> {
        let mut told = Vec::new();
        let mut lines: Vec<String> = self
            .missing_useful_rights()
            .map(|(right, cost)| format!("rights: no {right}: {cost}"))
            .collect();
        for feature in self.features() {
            for (hook, why) in self.missing(feature) {
                if !hook.without.is_empty() && !told.contains(&hook.without) {
                    told.push(hook.without);
                    lines.push(format!(
                        "{feature}: no {} ({why}): {}",
                        hook.hook, hook.without
                    ));
                }
            }
        }
        lines
    }

    /// Nothing better does its work.
    #[must_use]
    pub fn is_needed(&self, hook: &Hook) -> bool {
        let missing = |name: &&str| {
            let mut hooks = self.hooks.iter().filter(|h| h.hook == *name);
            hooks.any(|h| matches!(h.state, HookState::Missing(_)))
        };
        hook.replaces.is_empty() || hook.replaces.iter().any(missing)
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
        for (i, feature) in self.features().into_iter().enumerate() {
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
