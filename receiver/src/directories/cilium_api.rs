//! The engine's [`Directory`], kept fresh: notifications are applied as they come, what they leave open is asked of the agent's API on a
//! thread of its own (`fetch`), and finished tables come back by a bounded channel. Nothing here waits.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;

use netflume_core::enrich::cilium::api::Endpoint as ApiEndpoint;
use netflume_core::enrich::cilium::api::Identity as ApiIdentity;
use netflume_core::enrich::cilium::update::{self, Refresh};
use netflume_core::enrich::cilium::{Directory, Table};
use netflume_core::model::cilium::{AgentEvent, AgentNotification};
use netflume_core::model::flow::{Endpoint, Flow};

pub mod client;
mod fetch;

use fetch::Fetcher;

/// An endpoint that is gone stays known for so long: Hubble's metrics have the same minute. Nanoseconds.
const GRACE_NS: u64 = 60_000_000_000;
/// The same is not asked again within this time, nanoseconds.
const ASK_AGAIN_NS: u64 = 10_000_000_000;
/// Questions that are remembered as asked.
const ASKED_MAX: usize = 1024;
/// Changes of the ip cache that are kept for a list that was asked for before them.
const JOURNAL_MAX: usize = 16_384;
/// They are kept for so long, nanoseconds: longer than any answer takes.
const JOURNAL_NS: u64 = 60_000_000_000;
/// Endpoints that are gone, within the grace time.
const GONE_MAX: usize = 4096;

/// What the agent answered.
#[derive(Debug)]
pub(crate) enum Change {
    /// Whole tables, asked for at `asked_ns` (nanoseconds since 1970).
    Tables {
        tables: Vec<Table>,
        filled: Box<Directory>,
        asked_ns: u64,
    },
    /// One endpoint.
    Endpoint(Box<ApiEndpoint>),
    /// One identity.
    Identity(Box<ApiIdentity>),
    /// Which agent it is: major and minor version, and the node's name in flows.
    Agent {
        version: Option<(u16, u16)>,
        node: Option<String>,
    },
}

/// Which agent is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AgentInfo {
    /// Major and minor version.
    pub(crate) version: Option<(u16, u16)>,
    /// `cluster/node`.
    pub(crate) node: Option<String>,
}

/// The directory and what keeps it fresh.
#[derive(Debug, Default)]
pub(crate) struct Names {
    directory: Directory,
    /// None in a replay: a file has no agent.
    fetcher: Option<Fetcher>,
    /// Until when a question counts as asked.
    asked: HashMap<Refresh, u64>,
    /// By the time they were read.
    journal: VecDeque<AgentEvent>,
    /// The oldest change that the journal lost to its bound.
    journal_lost_ns: u64,
    /// When to forget which endpoint.
    gone: VecDeque<(u64, u16)>,
}

impl Names {
    /// Asks at this socket from now on.
    pub(crate) fn ask_at(&mut self, socket: PathBuf) -> std::io::Result<()> {
        self.fetcher = Some(Fetcher::start(socket)?);
        Ok(())
    }

    pub(crate) fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Takes what the agent answered since the last turn. Gives what it said of itself, if it did.
    pub(crate) fn advance(&mut self, unix_ns: u64) -> Option<AgentInfo> {
        let mut info = None;
        while let Some(change) = self.fetcher.as_mut().and_then(Fetcher::change) {
            if let Some(said) = self.apply(change, unix_ns) {
                info = Some(said);
            }
        }
        while let Some((_, id)) = self.gone.pop_front_if(|(until, _)| *until <= unix_ns) {
            self.directory.remove_endpoint(id);
        }
        info
    }

    /// The monitor socket is connected anew: what was notified meanwhile is not known.
    pub(crate) fn connected(&self) {
        self.send(Refresh::All);
    }

    /// A notification of the agent.
    pub(crate) fn notified(&mut self, event: &AgentEvent) {
        let refresh = update::apply(event, &mut self.directory);
        match refresh {
            Refresh::None => {}
            Refresh::EndpointGone(id) => {
                self.gone
                    .push_back((event.time_ns.saturating_add(GRACE_NS), id));
                if self.gone.len() > GONE_MAX
                    && let Some((_, id)) = self.gone.pop_front()
                {
                    self.directory.remove_endpoint(id);
                }
            }
            Refresh::Endpoint(id) => {
                // The id is in use again.
                self.gone.retain(|(_, gone)| *gone != id);
                self.send(refresh);
            }
            Refresh::All | Refresh::Services => self.send(refresh),
            Refresh::Identity(_) | Refresh::Cgroups | Refresh::Names => {
                self.ask(refresh, event.time_ns);
            }
        }
        if self.fetcher.is_some() && matches!(event.notification, AgentNotification::IpCache(_)) {
            self.remember(event);
        }
    }

    /// A flow whose ends may have an identity that is not known yet.
    #[inline]
    pub(crate) fn seen(&mut self, flow: &Flow) {
        let unknown = |end: &Endpoint| end.labels.is_none() && end.identity != 0;
        if unknown(&flow.source) || unknown(&flow.destination) {
            for end in [&flow.source, &flow.destination] {
                if unknown(end) && self.directory.labels(end.identity).is_none() {
                    self.ask(Refresh::Identity(end.identity), flow.time_ns);
                }
            }
        }
    }

    /// A socket event of a cgroup that belongs to no known pod.
    pub(crate) fn unknown_cgroup(&mut self, unix_ns: u64) {
        self.ask(Refresh::Cgroups, unix_ns);
    }

    /// Asks, unless the same was asked a moment ago.
    fn ask(&mut self, refresh: Refresh, unix_ns: u64) {
        if self.fetcher.is_none()
            || self
                .asked
                .get(&refresh)
                .is_some_and(|until| unix_ns < *until)
        {
            return;
        }
        if self.asked.len() >= ASKED_MAX {
            self.asked.retain(|_, until| unix_ns < *until);
            // Full of fresh ones: the next whole list will tell.
            if self.asked.len() >= ASKED_MAX {
                return;
            }
        }
        self.asked
            .insert(refresh, unix_ns.saturating_add(ASK_AGAIN_NS));
        self.send(refresh);
    }

    /// Never waits. What finds no room is not asked: everything is asked again every few minutes.
    fn send(&self, refresh: Refresh) {
        if let Some(fetcher) = &self.fetcher
            && !fetcher.ask(refresh)
        {
            tracing::debug!(
                ?refresh,
                "not asked of the Cilium agent: too many questions"
            );
        }
    }

    fn remember(&mut self, event: &AgentEvent) {
        let old = event.time_ns.saturating_sub(JOURNAL_NS);
        while self
            .journal
            .pop_front_if(|kept| kept.time_ns < old)
            .is_some()
        {}
        if self.journal.len() >= JOURNAL_MAX
            && let Some(lost) = self.journal.pop_front()
        {
            self.journal_lost_ns = lost.time_ns;
        }
        self.journal.push_back(event.clone());
    }

    fn apply(&mut self, change: Change, unix_ns: u64) -> Option<AgentInfo> {
        match change {
            Change::Tables {
                tables,
                mut filled,
                asked_ns,
            } => {
                for table in tables {
                    self.directory.exchange(table, &mut filled);
                    if table == Table::Endpoints {
                        for (_, id) in &self.gone {
                            self.directory.keep_endpoint(*id, &filled);
                        }
                    }
                    if table == Table::Prefixes {
                        self.replay(asked_ns, unix_ns);
                    }
                }
                None
            }
            Change::Endpoint(endpoint) => {
                self.directory.add_endpoint(&endpoint);
                None
            }
            Change::Identity(identity) => {
                self.directory.add_identity(&identity);
                None
            }
            Change::Agent { version, node } => Some(AgentInfo { version, node }),
        }
    }

    /// What was notified while the list was under way is newer than the list.
    fn replay(&mut self, asked_ns: u64, unix_ns: u64) {
        let newer = self
            .journal
            .iter()
            .filter(|event| event.time_ns >= asked_ns);
        for event in newer {
            update::apply(event, &mut self.directory);
        }
        if self.journal_lost_ns >= asked_ns {
            self.ask(Refresh::All, unix_ns);
        }
    }
}

#[cfg(test)]
mod tests;
