//! The Cilium agent's monitor socket: flows, `hubble_*` metrics, log records, exchanges, the Observer API.

use netflume_core::model::batch::BatchKind;

use crate::receivers::{
    Diagnosis, Engine, EngineContext, EngineError, Receiver, Settings, Source, SourceContext,
    SourceError,
};

mod doctor;
mod engine;
mod exchanges;
mod live;
pub mod options;
pub mod source;

use engine::CiliumEngine;
use live::CiliumLive;

/// `receivers.cilium`.
#[derive(Debug)]
pub struct CiliumReceiver;

impl Receiver for CiliumReceiver {
    fn key(&self) -> &'static str {
        "cilium"
    }

    fn is_enabled(&self, settings: &Settings) -> bool {
        settings.receivers.cilium.is_some()
    }

    fn kinds(&self) -> &'static [BatchKind] {
        &[BatchKind::CILIUM_MONITOR]
    }

    fn publishes_flows(&self) -> bool {
        true
    }

    fn open(
        &self,
        settings: &Settings,
        context: &SourceContext,
    ) -> Result<Box<dyn Source>, SourceError> {
        let options = settings.receivers.cilium.clone().unwrap_or_default();
        let source = CiliumLive::start(options.socket, context).map_err(SourceError::new)?;
        Ok(Box::new(source))
    }

    fn engine(
        &self,
        settings: &Settings,
        context: EngineContext,
    ) -> Result<Box<dyn Engine>, EngineError> {
        let options = settings.receivers.cilium.clone().unwrap_or_default();
        Ok(Box::new(CiliumEngine::new(&options, settings, context)?))
    }

    fn doctor(&self, settings: &Settings) -> Diagnosis {
        let options = settings.receivers.cilium.clone().unwrap_or_default();
        Diagnosis {
            machine: Vec::new(),
            findings: vec![doctor::look(&options.socket)],
        }
    }
}
