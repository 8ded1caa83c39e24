//! A [`Directory`] over time: notifications, answers of the agent's API and DNS answers that we saw ourselves, each at its own time.
//!
//! An answer is as old as its question: what was notified since then is newer than the answer, and is applied again on top of it.

use std::collections::VecDeque;
use std::net::IpAddr;

use hashbrown::HashMap;

use super::Directory;
use super::answer::{AgentInfo, Change, Content};
use super::update::{self, PodChange, Refresh};
use super::{Endpoint, Table};
use crate::model::cilium::{AgentEvent, AgentNotification};
use crate::model::flow::{Flow, L7FlowType, L7Record, Verdict};

const SECOND: u64 = 1_000_000_000;
/// An endpoint that is gone stays known for so long: Hubble's metrics have the same minute.
const GRACE_NS: u64 = 60 * SECOND;
/// Endpoints that are gone, within the grace time.
const GONE_MAX: usize = 4096;
/// Changes of the ip cache that are kept for a list that was asked for before them.
const JOURNAL_MAX: usize = 16_384;
/// They are kept for so long: longer than any answer takes.
const JOURNAL_NS: u64 = 60 * SECOND;
/// DNS names of our own that are kept, each for one address and endpoint.
const NAMES_MAX: usize = 16_384;
/// A DNS name is known for its time to live, and at least until the agent was asked again.
const NAME_NS: u64 = 30 * SECOND;
/// The agent knows a DNS name at most so much later than its proxy logged it.
const NAME_LATE_NS: u64 = SECOND;
/// Between two looks for names whose time is over.
const NAMES_LOOK_NS: u64 = 10 * SECOND;
/// Addresses of one DNS answer beyond which none is taken.
const ADDRESSES_MAX: usize = 64;

/// A name that a DNS answer gave to an address, for the endpoint that asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Name {
    endpoint: u32,
    address: IpAddr,
    text: Box<str>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    at_ns: u64,
    until_ns: u64,
    /// The directory has it from us.
    ours: bool,
}

/// The directory and what keeps it right.
#[derive(Debug, Default)]
pub struct Tracker {
    directory: Directory,
    /// By the time they were read.
    journal: VecDeque<AgentEvent>,
    /// The oldest change that the journal lost to its bound.
    journal_lost_ns: u64,
    /// When to forget which endpoint.
    gone: VecDeque<(u64, u16)>,
    names: HashMap<Name, Seen, foldhash::fast::RandomState>,
    names_look_ns: u64,
    /// Not taken yet.
    pods: Vec<PodChange>,
}

impl Tracker {
    /// What is known now.
    #[must_use]
    pub const fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Pods that came and went since this was asked last.
    pub fn take_pods(&mut self) -> Vec<PodChange> {
        std::mem::take(&mut self.pods)
    }

    /// Time goes on: what was kept for late events is forgotten.
    pub fn advance(&mut self, unix_ns: u64) {
        while let Some((_, id)) = self.gone.pop_front_if(|(until, _)| *until <= unix_ns) {
            self.directory.remove_endpoint(id);
        }
        if unix_ns >= self.names_look_ns {
            self.names_look_ns = unix_ns.saturating_add(NAMES_LOOK_NS);
            self.forget_names(|seen| seen.until_ns <= unix_ns);
        }
    }

    /// A notification of the agent. Gives what it leaves to be asked.
    pub fn notified(&mut self, event: &AgentEvent) -> Refresh {
        let refresh = update::apply(event, &mut self.directory, &mut self.pods);
        match refresh {
            Refresh::EndpointGone(id) => {
                let until_ns = event.time_ns.saturating_add(GRACE_NS);
                self.gone.push_back((until_ns, id));
                if self.gone.len() > GONE_MAX
                    && let Some((_, id)) = self.gone.pop_front()
                {
                    self.directory.remove_endpoint(id);
                }
            }
            // The id is in use again.
            Refresh::Endpoint(id) => self.gone.retain(|(_, gone)| *gone != id),
            _ => {}
        }
        if matches!(event.notification, AgentNotification::IpCache(_)) {
            self.remember(event);
        }
        refresh
    }

    /// A flow: the names of a DNS answer are those of the flows after it.
    #[inline]
    pub fn observed(&mut self, flow: &Flow) {
        if let Some(L7Record::Dns(_)) = flow.l7_record() {
            self.dns(flow);
        }
    }

    fn dns(&mut self, flow: &Flow) {
        let Some(l7) = flow.l7.as_deref() else { return };
        let L7Record::Dns(dns) = &l7.record else {
            return;
        };
        let asker = flow.destination.id;
        let is_answer = l7.kind == L7FlowType::RESPONSE && flow.verdict == Verdict::FORWARDED;
        let text = dns.query.trim_end_matches('.').to_ascii_lowercase();
        if !is_answer || dns.rcode != 0 || asker == 0 || text.is_empty() {
            return;
        }
        let until_ns = (u64::from(dns.ttl).saturating_mul(SECOND)).max(NAME_NS);
        let addresses = dns.ips.iter().take(ADDRESSES_MAX);
        for address in addresses.filter_map(|text| text.parse().ok()) {
            let name = Name {
                endpoint: asker,
                address,
                text: text.as_str().into(),
            };
            let seen = Seen {
                at_ns: flow.time_ns,
                until_ns: flow.time_ns.saturating_add(until_ns),
                ours: false,
            };
            self.name(name, seen);
        }
    }

    fn name(&mut self, name: Name, seen: Seen) {
        if self.names.len() >= NAMES_MAX && !self.names.contains_key(&name) {
            // The agent's next list has it.
            return;
        }
        let added = self
            .directory
            .add_name(name.endpoint, name.address, &name.text);
        let known = self.names.entry(name).or_insert(seen);
        *known = Seen {
            ours: added || known.ours,
            until_ns: known.until_ns.max(seen.until_ns),
            at_ns: seen.at_ns,
        };
    }

    fn forget_names(&mut self, is_over: impl Fn(&Seen) -> bool) {
        let Self {
            names, directory, ..
        } = self;
        names.retain(|name, seen| {
            let over = is_over(seen);
            if over && seen.ours {
                directory.remove_name(name.endpoint, name.address, &name.text);
            }
            !over
        });
    }

    /// Which of a flow's ends have an identity whose labels are not known.
    pub fn unknown_identities<'a>(&'a self, flow: &'a Flow) -> impl Iterator<Item = u32> + 'a {
        let unknown = |end: &&Endpoint| {
            end.labels.is_none()
                && end.identity != 0
                && self.directory.labels(end.identity).is_none()
        };
        let ends = [&flow.source, &flow.destination].into_iter();
        ends.filter(unknown).map(|end| end.identity)
    }

    /// What the agent answered. Gives which agent it is, if the answer has it, and what must be asked again.
    pub fn apply(&mut self, change: Change) -> (Option<AgentInfo>, Refresh) {
        let Change { asked_ns, content } = change;
        let mut again = Refresh::None;
        match content {
            Content::Table(table, mut filled) => {
                if table == Table::Prefixes {
                    let gone = filled.pods_gone(&self.directory);
                    self.pods.extend(gone.into_iter().map(PodChange::Gone));
                }
                self.directory.exchange(table, &mut filled);
                match table {
                    Table::Endpoints => {
                        for (_, id) in &self.gone {
                            self.directory.keep_endpoint(*id, &filled);
                        }
                    }
                    Table::Prefixes => again = self.replay(asked_ns),
                    Table::Names => self.replay_names(asked_ns),
                    _ => {}
                }
                for (_, id) in &self.gone {
                    self.directory.release_taken(*id);
                }
            }
            Content::Endpoint(endpoint) => {
                self.directory.add_endpoint(&endpoint);
                let gone = self.gone.iter().map(|(_, id)| *id);
                // It was deleted while the answer was under way.
                if let Some(id) = gone.into_iter().find(|id| i64::from(*id) == endpoint.id) {
                    self.directory.mark_gone(id);
                    self.directory.release_taken(id);
                }
            }
            Content::Identity(identity) => self.directory.add_identity(&identity),
            Content::Links(links) => self.directory.add_links(&links),
            Content::Agent(agent) => return (Some(agent), again),
        }
        (None, again)
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

    /// What was notified while the list was under way is newer than the list.
    fn replay(&mut self, asked_ns: u64) -> Refresh {
        let newer = self
            .journal
            .iter()
            .filter(|event| event.time_ns >= asked_ns);
        for event in newer {
            update::apply(event, &mut self.directory, &mut self.pods);
        }
        if self.journal_lost_ns >= asked_ns && self.journal_lost_ns > 0 {
            Refresh::All
        } else {
            Refresh::None
        }
    }

    /// So are names that we saw meanwhile; of older ones the list decides.
    fn replay_names(&mut self, asked_ns: u64) {
        let Self {
            names, directory, ..
        } = self;
        names.retain(|name, seen| {
            let newer = seen.at_ns.saturating_add(NAME_LATE_NS) >= asked_ns;
            if newer {
                seen.ours = directory.add_name(name.endpoint, name.address, &name.text);
            }
            newer
        });
    }
}

#[cfg(test)]
#[path = "tracker_tests.rs"]
mod tests;
