//! Batches of the monitor socket → named events: what an engine and a recording have in common.
//!
//! The first events wait, up to a time and a size, for the agent's first lists; without them they would have no names, and directions
//! could not be known.

use std::collections::VecDeque;

use netflume_core::decode::cilium::{Monitor, queue_loss};
use netflume_core::decode::gob;
use netflume_core::enrich::cilium::answer::AgentInfo;
use netflume_core::enrich::cilium::flow::{self, FlowError, Flows};
use netflume_core::enrich::cilium::redaction::Redaction;
use netflume_core::enrich::cilium::update::PodChange;
use netflume_core::ledger::Reason;
use netflume_core::model::batch::{Batch, BatchKind, Now};
use netflume_core::model::cilium::CiliumEvent;

use crate::directories::cilium_api::Names;
use crate::receivers::EngineError;

/// Bytes that wait for the first lists; beyond it they are not waited for any longer.
const HELD_BYTES_MAX: usize = 8 << 20;
/// Answers that are newer than this when time passes without events are not taken yet: events may be under way that are older.
const UNDER_WAY_NS: u64 = 1_000_000_000;

/// Takes what comes out.
pub(super) trait Sink {
    /// A batch whose events follow.
    fn batch(&mut self, batch: &Batch) -> Result<(), EngineError>;
    /// An event.
    fn event(&mut self, event: CiliumEvent) -> Result<(), EngineError>;
    /// A message that became no event.
    fn refused(&mut self, reason: Reason);
    /// A pod came or went, nanoseconds since 1970.
    fn pod(&mut self, change: &PodChange, unix_ns: u64);
    /// Which agent it is.
    fn agent(&mut self, agent: AgentInfo);
    /// An answer of the agent as a batch of a recording, if [`Names::ask_agent`] was called for them.
    fn answer(&mut self, answer: Batch) -> Result<(), EngineError>;
}

/// Decoder and names.
pub(super) struct Events {
    monitor: Monitor,
    flows: Flows,
    names: Names,
    /// Batches that wait for the first lists.
    held: VecDeque<Batch>,
    held_bytes: usize,
}

impl Events {
    pub(super) fn new(options: flow::Options, names: Names) -> Self {
        Self {
            monitor: Monitor::default(),
            flows: Flows::new(options),
            names,
            held: VecDeque::new(),
            held_bytes: 0,
        }
    }

    /// What is taken out of the next events.
    pub(super) fn set_redaction(&mut self, redaction: Redaction) {
        let mut options = self.flows.options().clone();
        options.redaction = redaction;
        self.flows.set_options(options);
    }

    /// Takes a batch, live or recorded.
    pub(super) fn feed<S: Sink>(&mut self, batch: &Batch, sink: &mut S) -> Result<(), EngineError> {
        if batch.kind == BatchKind::CILIUM_API {
            return self.recorded(batch, sink);
        }
        if batch.kind == BatchKind::CILIUM_MONITOR && starts_connection(&batch.bytes) {
            self.names.connecting(batch.unix_ns);
        }
        self.advance(batch.unix_ns, batch.now(), sink)?;
        if self.names.must_wait(batch.unix_ns) {
            self.held_bytes += batch.bytes.len();
            self.held.push_back(batch.clone());
            if self.held_bytes < HELD_BYTES_MAX {
                return Ok(());
            }
            self.names.wait_no_longer();
            return self.release(sink);
        }
        self.release(sink)?;
        self.take(batch, sink)
    }

    /// Time passes without events.
    pub(super) fn tick<S: Sink>(&mut self, now: Now, sink: &mut S) -> Result<(), EngineError> {
        let until_ns = now.unix_ns.saturating_sub(UNDER_WAY_NS);
        self.advance(until_ns, now, sink)?;
        if !self.held.is_empty() && !self.names.must_wait(now.unix_ns) {
            self.release(sink)?;
        }
        Ok(())
    }

    /// The end: nothing waits any longer.
    pub(super) fn finish<S: Sink>(&mut self, sink: &mut S) -> Result<(), EngineError> {
        self.names.wait_no_longer();
        self.release(sink)
    }

    /// Takes what the agent was asked for until `until_ns`.
    fn advance<S: Sink>(
        &mut self,
        until_ns: u64,
        now: Now,
        sink: &mut S,
    ) -> Result<(), EngineError> {
        let mut answers = Ok(());
        let agent = self.names.advance(until_ns, |bytes| {
            if answers.is_ok() {
                answers = sink.answer(Batch {
                    kind: BatchKind::CILIUM_API,
                    unix_ns: now.unix_ns,
                    boot_ns: now.boot_ns,
                    bytes,
                });
            }
        });
        answers?;
        if let Some(agent) = agent {
            self.agent_is(agent, sink);
        }
        self.pods(now.unix_ns, sink);
        Ok(())
    }

    /// An answer of a recording.
    fn recorded<S: Sink>(&mut self, batch: &Batch, sink: &mut S) -> Result<(), EngineError> {
        sink.batch(batch)?;
        match self.names.recorded(&batch.bytes) {
            Ok(Some(agent)) => self.agent_is(agent, sink),
            Ok(None) => {}
            Err(error) => {
                sink.refused(Reason::Malformed);
                tracing::warn!(%error, "recorded answer cannot be read");
            }
        }
        self.pods(batch.unix_ns, sink);
        Ok(())
    }

    /// The layouts of its events depend on its version.
    fn agent_is<S: Sink>(&mut self, agent: AgentInfo, sink: &mut S) {
        if agent.version.is_some() {
            let mut options = self.flows.options().clone();
            options.decode.agent = agent.version;
            self.flows.set_options(options);
        }
        sink.agent(agent);
    }

    fn pods<S: Sink>(&mut self, unix_ns: u64, sink: &mut S) {
        for change in self.names.take_pods() {
            sink.pod(&change, unix_ns);
        }
    }

    fn release<S: Sink>(&mut self, sink: &mut S) -> Result<(), EngineError> {
        self.held_bytes = 0;
        while let Some(batch) = self.held.pop_front() {
            self.take(&batch, sink)?;
        }
        Ok(())
    }

    fn take<S: Sink>(&mut self, batch: &Batch, sink: &mut S) -> Result<(), EngineError> {
        sink.batch(batch)?;
        if batch.kind == BatchKind::CILIUM_QUEUE_LOSS {
            return lost(batch, sink);
        }
        let unix_ns = batch.unix_ns;
        let mut rest = batch.bytes.as_slice();
        let mut unreadable = None;
        while !rest.is_empty() {
            let payload = match self.monitor.next(rest) {
                Ok((payload, after)) => {
                    rest = after;
                    payload
                }
                Err(error) => {
                    sink.refused(Reason::Malformed);
                    let (count, _) = unreadable.get_or_insert((0_u64, error));
                    *count += 1;
                    // What stands behind the message may be of a type that is known.
                    rest = gob::frame(rest)
                        .ok()
                        .flatten()
                        .map_or(&[], |(_, after)| after);
                    continue;
                }
            };
            let Some(payload) = payload else {
                // Types are defined at the start of a connection.
                self.names.connected(unix_ns);
                continue;
            };
            match self
                .flows
                .payload(&payload, unix_ns, self.names.directory())
            {
                Ok(event) => {
                    match &event {
                        CiliumEvent::Flow(flow) => self.names.seen(flow),
                        CiliumEvent::Agent(agent) => {
                            self.names.notified(agent);
                            self.pods(unix_ns, sink);
                        }
                        CiliumEvent::Lost(_) | CiliumEvent::Debug(_) => {}
                    }
                    sink.event(event)?;
                }
                Err(error) => {
                    if error == FlowError::UnknownCgroup {
                        self.names.unknown_cgroup(unix_ns);
                    }
                    let reason = match error {
                        FlowError::UnknownCgroup => Reason::UnknownCgroup,
                        FlowError::Event(_)
                        | FlowError::UnknownPayload(_)
                        | FlowError::Payload(_) => Reason::Malformed,
                    };
                    sink.refused(reason);
                    tracing::debug!(%error, "monitor event skipped");
                }
            }
        }
        if let Some((count, error)) = unreadable {
            tracing::warn!(%error, count, "monitor messages cannot be read");
        }
        Ok(())
    }
}

/// Messages that our reader had to drop: what gets events gets their loss too.
fn lost<S: Sink>(batch: &Batch, sink: &mut S) -> Result<(), EngineError> {
    match queue_loss::decode(&batch.bytes, batch.unix_ns) {
        Ok(lost) => sink.event(CiliumEvent::Lost(lost)),
        Err(error) => {
            sink.refused(Reason::Malformed);
            tracing::warn!(%error, "report of lost messages cannot be read");
            Ok(())
        }
    }
}

/// Whether a batch begins with type definitions, as a connection does.
fn starts_connection(bytes: &[u8]) -> bool {
    let first = gob::frame(bytes).ok().flatten();
    first.is_some_and(|(content, _)| gob::Reader::new(content).int().is_ok_and(|id| id < 0))
}

#[cfg(test)]
#[path = "events_tests.rs"]
mod tests;
