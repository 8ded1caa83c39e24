//! The recording of the monitor socket: its batches, and before them what the agent answered until then.
//!
//! Events are decoded here too, but only to learn what must be asked: a replay then has the names that a live run would have had.

use netflume_core::enrich::cilium::answer::AgentInfo;
use netflume_core::enrich::cilium::flow;
use netflume_core::enrich::cilium::update::PodChange;
use netflume_core::ledger::Reason;
use netflume_core::model::batch::{Batch, Now};
use netflume_core::model::cilium::CiliumEvent;

use super::events::{Events, Sink};
use super::options::CiliumOptions;
use crate::directories::cilium_api::Names;
use crate::receivers::{Change, Engine, EngineError};

/// Hands batches and answers on to the file.
pub(super) struct CiliumRecorder {
    events: Events,
    file: ToFile,
}

struct ToFile(Box<dyn Engine>);

impl CiliumRecorder {
    /// # Errors
    /// The thread that asks the agent cannot be started.
    pub(super) fn new(options: &CiliumOptions, file: Box<dyn Engine>) -> Result<Self, EngineError> {
        let mut names = Names::default();
        names.ask_agent(options.asking(true))?;
        Ok(Self {
            events: Events::new(flow::Options::default(), names),
            file: ToFile(file),
        })
    }
}

impl Engine for CiliumRecorder {
    fn feed(&mut self, batch: &Batch) -> Result<(), EngineError> {
        self.events.feed(batch, &mut self.file)
    }

    fn tick(&mut self, now: Now) -> Result<(), EngineError> {
        self.events.tick(now, &mut self.file)?;
        self.file.0.tick(now)
    }

    fn reconfigure(&mut self, change: &Change) -> Result<(), EngineError> {
        self.file.0.reconfigure(change)
    }

    fn finish(&mut self, now: Now) -> Result<(), EngineError> {
        let last = self.events.finish(&mut self.file);
        last.and(self.file.0.finish(now))
    }
}

impl Sink for ToFile {
    fn batch(&mut self, batch: &Batch) -> Result<(), EngineError> {
        self.0.feed(batch)
    }

    fn answer(&mut self, answer: Batch) -> Result<(), EngineError> {
        self.0.feed(&answer)
    }

    fn event(&mut self, _: CiliumEvent) -> Result<(), EngineError> {
        Ok(())
    }

    // The events go no further; a replay counts what it refuses.
    fn refused(&mut self, _: Reason) {}
    fn pod(&mut self, _: &PodChange, _: u64) {}
    fn agent(&mut self, _: AgentInfo) {}
}
