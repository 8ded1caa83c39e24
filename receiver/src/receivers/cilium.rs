//! The Cilium agent's monitor socket: flows, `hubble_*` metrics, log records, exchanges, the Observer API.

use netflume_core::model::batch::BatchKind;

use crate::receivers::{
    Diagnosis, Engine, EngineContext, EngineError, Receiver, Settings, Source, SourceContext,
    SourceError,
};

#[cfg(unix)]
mod doctor;
mod engine;
mod events;
mod exchanges;
#[cfg(unix)]
mod live;
pub mod options;
mod recorder;
#[cfg(unix)]
pub mod source;

use engine::CiliumEngine;
use recorder::CiliumRecorder;

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
        &[
            BatchKind::CILIUM_MONITOR,
            BatchKind::CILIUM_API,
            BatchKind::CILIUM_QUEUE_LOSS,
        ]
    }

    fn publishes_flows(&self) -> bool {
        true
    }

    fn open(
        &self,
        settings: &Settings,
        context: &SourceContext,
    ) -> Result<Box<dyn Source>, SourceError> {
        open(settings, context)
    }

    fn engine(
        &self,
        settings: &Settings,
        context: EngineContext,
    ) -> Result<Box<dyn Engine>, EngineError> {
        let options = settings.receivers.cilium.clone().unwrap_or_default();
        Ok(Box::new(CiliumEngine::new(&options, settings, context)?))
    }

    fn recorder(
        &self,
        settings: &Settings,
        file: Box<dyn Engine>,
    ) -> Result<Box<dyn Engine>, EngineError> {
        let options = settings.receivers.cilium.clone().unwrap_or_default();
        if options.api_socket.as_os_str().is_empty() {
            return Ok(file);
        }
        Ok(Box::new(CiliumRecorder::new(&options, file)?))
    }

    fn doctor(&self, settings: &Settings) -> Diagnosis {
        diagnose(settings)
    }
}

#[cfg(unix)]
fn open(settings: &Settings, context: &SourceContext) -> Result<Box<dyn Source>, SourceError> {
    let options = settings.receivers.cilium.clone().unwrap_or_default();
    let source = live::CiliumLive::start(options.socket, context).map_err(SourceError::new)?;
    Ok(Box::new(source))
}

#[cfg(unix)]
fn diagnose(settings: &Settings) -> Diagnosis {
    let options = settings.receivers.cilium.clone().unwrap_or_default();
    Diagnosis {
        machine: Vec::new(),
        findings: vec![doctor::look(&options.socket)],
    }
}

/// What the source needs.
#[cfg(not(unix))]
const NEEDS: &str = "the Cilium agent's monitor socket is a unix socket";

#[cfg(not(unix))]
fn open(_: &Settings, _: &SourceContext) -> Result<Box<dyn Source>, SourceError> {
    Err(crate::receivers::elsewhere::error(NEEDS))
}

#[cfg(not(unix))]
fn diagnose(_: &Settings) -> Diagnosis {
    crate::receivers::elsewhere::diagnosis("cilium", NEEDS)
}
