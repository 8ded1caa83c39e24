//! Connections of the running kernel, by our own kernel programs.

use netflume_core::model::batch::BatchKind;

use crate::receivers::{
    Diagnosis, Engine, EngineContext, EngineError, Receiver, Settings, Source, SourceContext,
    SourceError,
};

#[cfg(target_os = "linux")]
mod doctor;
mod engine;
#[cfg(target_os = "linux")]
mod live;
pub mod options;
#[cfg(target_os = "linux")]
pub mod source;

use engine::EbpfEngine;

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
        open(settings, context)
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
        diagnose(settings)
    }
}

#[cfg(target_os = "linux")]
fn open(settings: &Settings, context: &SourceContext) -> Result<Box<dyn Source>, SourceError> {
    let options = settings.receivers.ebpf.clone().unwrap_or_default();
    let source = live::EbpfSource::start(&options, context).map_err(SourceError::new)?;
    Ok(Box::new(source))
}

#[cfg(target_os = "linux")]
fn diagnose(settings: &Settings) -> Diagnosis {
    let options = settings.receivers.ebpf.clone().unwrap_or_default();
    doctor::look(&options.kernel_options())
}

/// What the source needs.
#[cfg(not(target_os = "linux"))]
const NEEDS: &str = "the kernel programs need Linux";

#[cfg(not(target_os = "linux"))]
fn open(_: &Settings, _: &SourceContext) -> Result<Box<dyn Source>, SourceError> {
    Err(crate::receivers::elsewhere::error(NEEDS))
}

#[cfg(not(target_os = "linux"))]
fn diagnose(_: &Settings) -> Diagnosis {
    crate::receivers::elsewhere::diagnosis("ebpf", NEEDS)
}
