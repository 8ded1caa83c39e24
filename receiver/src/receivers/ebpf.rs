//! Connections of the running kernel, by our own kernel programs.

use netflume_core::model::batch::BatchKind;

use crate::receivers::{
    Diagnosis, Engine, EngineContext, EngineError, Receiver, Settings, Source, SourceContext,
    SourceError,
};

mod doctor;
mod engine;
mod live;
pub mod options;
pub mod source;

use engine::EbpfEngine;
use live::EbpfSource;

/// `receivers.ebpf`.
#[derive(Debug)]
pub struct EbpfReceiver;

impl Receiver for EbpfReceiver {
    fn key(&self) -> &'static str {
        "ebpf"
    }

    fn is_enabled(&self, settings: &Settings) -> bool {
        let options = settings.receivers.ebpf.as_ref();
        options.is_some_and(|options| options.netflow)
    }

    fn kinds(&self) -> &'static [BatchKind] {
        &[BatchKind::KERNEL, BatchKind::INTERVAL]
    }

    fn open(
        &self,
        settings: &Settings,
        context: &SourceContext,
    ) -> Result<Box<dyn Source>, SourceError> {
        let options = settings.receivers.ebpf.clone().unwrap_or_default();
        let source = EbpfSource::start(&options, context).map_err(SourceError::new)?;
        Ok(Box::new(source))
    }

    fn engine(
        &self,
        settings: &Settings,
        context: EngineContext,
    ) -> Result<Box<dyn Engine>, EngineError> {
        let options = settings.receivers.ebpf.clone().unwrap_or_default();
        Ok(Box::new(EbpfEngine::new(&options, settings, context)))
    }

    fn doctor(&self, settings: &Settings) -> Diagnosis {
        let options = settings.receivers.ebpf.clone().unwrap_or_default();
        doctor::look(&options.kernel_options())
    }
}
