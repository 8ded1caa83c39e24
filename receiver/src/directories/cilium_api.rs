//! Names from the Cilium agent: a [`Tracker`], and what it leaves open asked of the agent's API on a thread of its own (`fetch`).
//! Finished answers come back by a bounded channel. Nothing here waits.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use netflume_core::enrich::cilium::Directory;
use netflume_core::enrich::cilium::answer::{AgentInfo, Answer, AnswerError};
use netflume_core::enrich::cilium::tracker::Tracker;
use netflume_core::enrich::cilium::update::{PodChange, Refresh};
use netflume_core::model::cilium::AgentEvent;
use netflume_core::model::flow::Flow;

pub mod client;
mod fetch;
mod question;

use fetch::Fetcher;
use question::{Answers, Lists};

/// The same is not asked again within this time, nanoseconds.
const ASK_AGAIN_NS: u64 = 10_000_000_000;
/// An answer is at most so much newer than the events at hand, nanoseconds.
const EARLY_MAX_NS: u64 = 60_000_000_000;
/// Questions that are remembered as asked.
const ASKED_MAX: usize = 1024;

/// How the agent is asked.
#[derive(Clone, Debug)]
pub(crate) struct Asking {
    /// Its API socket.
    pub(crate) socket: PathBuf,
    /// Events wait at most so long for its first lists.
    pub(crate) wait: Duration,
    /// Answers are handed on as batches of a recording too.
    pub(crate) raw: bool,
}

/// What is known, and who is asked.
#[derive(Debug, Default)]
pub(crate) struct Names {
    tracker: Tracker,
    /// None in a replay: a file has no agent.
    fetcher: Option<Fetcher>,
    /// Answers that are newer than the events at hand.
    early: Option<Answers>,
    first: First,
    wait_ns: u64,
    /// When all lists were asked for that came last, nanoseconds since 1970; zero: they never came.
    lists_ns: u64,
    /// When the monitor socket was connected last, nanoseconds since 1970.
    connecting_ns: u64,
    /// Until when a question counts as asked.
    asked: HashMap<Refresh, u64>,
}

/// Whether events wait for the first lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum First {
    /// No longer, or never.
    #[default]
    Over,
    /// From the first event on, so long, nanoseconds.
    For(u64),
    /// Until this time, nanoseconds since 1970.
    Until(u64),
}

impl Names {
    /// Asks the agent from now on.
    pub(crate) fn ask_agent(&mut self, asking: Asking) -> std::io::Result<()> {
        self.wait_ns = u64::try_from(asking.wait.as_nanos()).unwrap_or(u64::MAX);
        self.fetcher = Some(Fetcher::start(asking.socket, asking.raw)?);
        self.first = First::For(self.wait_ns);
        Ok(())
    }

    pub(crate) fn directory(&self) -> &Directory {
        self.tracker.directory()
    }

    /// Pods that came and went since this was asked last.
    pub(crate) fn take_pods(&mut self) -> Vec<PodChange> {
        self.tracker.take_pods()
    }

    /// Whether events of this time wait for the first lists, without which they would have no names and wrong directions. A socket that
    /// cannot be reached is not waited for.
    pub(crate) fn must_wait(&mut self, unix_ns: u64) -> bool {
        match self.first {
            First::Over => return false,
            First::For(0) => {
                self.first = First::Over;
                return false;
            }
            First::For(wait_ns) => self.first = First::Until(unix_ns.saturating_add(wait_ns)),
            First::Until(until_ns) if unix_ns >= until_ns => {
                tracing::warn!(
                    "receivers.cilium.api_socket: no answer yet; flows go on without names"
                );
                self.first = First::Over;
                return false;
            }
            First::Until(_) => {}
        }
        true
    }

    /// Events wait no longer, whatever is known.
    pub(crate) fn wait_no_longer(&mut self) {
        self.first = First::Over;
    }

    /// Time has come to `unix_ns` in the events: takes the answers that were asked for until then. Gives which agent answered, if one did,
    /// and hands the answers to `raw` as batches of a recording.
    pub(crate) fn advance(
        &mut self,
        unix_ns: u64,
        mut raw: impl FnMut(Vec<u8>),
    ) -> Option<AgentInfo> {
        let mut info = None;
        while let Some(answers) = self.next(unix_ns) {
            answers.raw.into_iter().for_each(&mut raw);
            match answers.lists {
                Lists::Complete => {
                    self.first = First::Over;
                    self.lists_ns = answers.lists_ns;
                }
                Lists::Unreachable if answers.lists_ns >= self.connecting_ns => {
                    self.first = First::Over;
                }
                // Before the agent was there.
                Lists::Unreachable | Lists::Same => {}
            }
            for change in answers.changes {
                let (agent, again) = self.tracker.apply(change);
                info = agent.or(info);
                self.ask(again, unix_ns);
            }
        }
        self.tracker.advance(unix_ns);
        info
    }

    /// The next answers. Those that are newer than the events wait, unless events wait for them.
    fn next(&mut self, unix_ns: u64) -> Option<Answers> {
        let fetcher = self.fetcher.as_mut();
        let answers = self
            .early
            .take()
            .or_else(|| fetcher.and_then(Fetcher::answers))?;
        // Further away is a clock that was set back.
        let early = unix_ns.saturating_add(1)..=unix_ns.saturating_add(EARLY_MAX_NS);
        let mut changes = answers.changes.iter();
        if self.first == First::Over && changes.any(|change| early.contains(&change.asked_ns)) {
            self.early = Some(answers);
            return None;
        }
        Some(answers)
    }

    /// An answer of a recording.
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) fn recorded(&mut self, bytes: &[u8]) -> Result<Option<AgentInfo>, AnswerError> {
        let change = Answer::from_bytes(bytes)?.change()?;
        Ok(self.tracker.apply(change).0)
    }

    /// The monitor socket was connected at `unix_ns`: the agent is there now. Events wait for its lists if there never were any.
    pub(crate) fn connecting(&mut self, unix_ns: u64) {
        self.connecting_ns = unix_ns;
        if self.fetcher.is_some() && self.lists_ns == 0 && self.first == First::Over {
            self.first = First::For(self.wait_ns);
            self.send(Refresh::All);
        }
    }

    /// The monitor socket was connected anew at `unix_ns`: what was notified before is not known.
    pub(crate) fn connected(&self, unix_ns: u64) {
        if self.lists_ns <= unix_ns {
            self.send(Refresh::All);
        }
    }

    /// A notification of the agent.
    pub(crate) fn notified(&mut self, event: &AgentEvent) {
        match self.tracker.notified(event) {
            Refresh::None | Refresh::EndpointGone(_) => {}
            refresh @ (Refresh::Endpoint(_) | Refresh::All | Refresh::Services) => {
                self.send(refresh);
            }
            refresh @ (Refresh::Identity(_) | Refresh::Cgroups | Refresh::Names) => {
                self.ask(refresh, event.time_ns);
            }
        }
    }

    /// A flow: a DNS answer names addresses; an identity of its ends may not be known yet.
    #[inline]
    pub(crate) fn seen(&mut self, flow: &Flow) {
        self.tracker.observed(flow);
        if flow.source.labels.is_none() || flow.destination.labels.is_none() {
            let unknown = {
                let mut ends = self.tracker.unknown_identities(flow);
                [ends.next(), ends.next()]
            };
            for identity in unknown.into_iter().flatten() {
                self.ask(Refresh::Identity(identity), flow.time_ns);
            }
        }
    }

    /// A socket event of a cgroup that belongs to no known pod.
    pub(crate) fn unknown_cgroup(&mut self, unix_ns: u64) {
        self.ask(Refresh::Cgroups, unix_ns);
    }

    /// Asks, unless the same was asked a moment ago.
    fn ask(&mut self, refresh: Refresh, unix_ns: u64) {
        if refresh == Refresh::None
            || self.fetcher.is_none()
            || self
                .asked
                .get(&refresh)
                .is_some_and(|until| unix_ns < *until)
        {
            return;
        }
        if self.asked.len() >= ASKED_MAX {
            self.asked.retain(|_, until| unix_ns < *until);
            // Full of fresh ones: the next whole list has it.
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
}

#[cfg(test)]
mod tests;
