//! `netflume replay`: a recorded file through the same engines.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use netflume_core::decode::recording::Reader;
use netflume_core::enrich::host::Host;
use netflume_core::model::resource::ResourceRef;
use netflume_core::semconv;

use super::driver::Timed;
use super::losses::{self, Output};
use super::monitor::Monitor;
use super::services::Services;
use super::{close, runtime};
use crate::cli::ReplayOptions;
use crate::config::{Config, print};
use crate::directories::host::Roots;
use crate::receivers::{EngineContext, EngineError, Origin, Receiver};
use crate::serve::health::Pulse;
use crate::telemetry::reloads::Reloads;

/// Feeds a recorded file through the pipeline. Time is what the file has. The names of processes are those that the kernel reported:
/// the file may come from another machine.
///
/// # Errors
/// The file cannot be read, or is not a recording.
pub fn replay(
    config: &Config,
    options: &ReplayOptions,
    receivers: &[&'static dyn Receiver],
) -> anyhow::Result<ExitCode> {
    let runtime = runtime()?;
    let path = options.file.display().to_string();
    let file = File::open(&options.file).with_context(|| path.clone())?;
    let reader = Reader::new(BufReader::new(file)).with_context(|| path.clone())?;
    let monitor = Monitor::default();
    let reloads = Arc::new(Reloads::new(&print::effective(config, true)));
    let services = runtime.block_on(Services::start(
        config,
        &reloads,
        &monitor,
        Origin::Recorded,
    ))?;
    let _inside = runtime.enter();
    let settings = config.settings();
    let nowhere = Path::new("/dev/null");
    let mut engines = Vec::new();
    for receiver in receivers {
        let ledger = monitor.ledgers.of(receiver.key());
        let context = EngineContext {
            origin: Origin::Recorded,
            host: Host::default(),
            roots: Roots {
                root: nowhere.into(),
                proc: nowhere.into(),
                cgroup: nowhere.into(),
            },
            own: without_run(&services.own),
            sinks: services.sinks(&Pulse::default(), &ledger),
            flows: None,
        };
        engines.push(Timed::new(receiver.engine(&settings, context)?));
    }
    let read = feed(reader, receivers, &mut engines).with_context(|| path);
    drop(engines);
    let printed = runtime.block_on(services.shutdown(config.service.shutdown_timeout));
    let code = close(printed.map_err(EngineError::from).and(read?))?;
    Ok(losses::report(&monitor.ledgers, &[Output::Console, Output::Collector]).unwrap_or(code))
}

/// Feeds every batch to its receiver's engine, and ends them all. The outer error is the file's, the inner one the output's.
fn feed(
    mut reader: Reader<BufReader<File>>,
    receivers: &[&'static dyn Receiver],
    engines: &mut [Timed],
) -> anyhow::Result<Result<(), EngineError>> {
    let mut now = None;
    let cut_off = loop {
        let batch = match reader.next() {
            None => break Ok(()),
            Some(Err(error)) => break Err(error.into()),
            Some(Ok(batch)) => batch,
        };
        let of = receivers
            .iter()
            .position(|r| r.kinds().contains(&batch.kind));
        let Some(engine) = of.and_then(|of| engines.get_mut(of)) else {
            break Err(anyhow::anyhow!(
                "frame kind {} is unknown; this version reads {}",
                batch.kind.0,
                known(receivers)
            ));
        };
        now = Some(batch.now());
        if let Err(error) = engine.feed(&batch) {
            return Ok(Err(error));
        }
    };
    let mut result = Ok(());
    if let Some(now) = now {
        for engine in engines {
            result = result.and(engine.finish(now));
        }
    }
    cut_off.map(|()| result)
}

fn known(receivers: &[&'static dyn Receiver]) -> String {
    let kinds = receivers.iter().flat_map(|receiver| receiver.kinds());
    let kinds: Vec<String> = kinds.map(|kind| kind.0.to_string()).collect();
    kinds.join(", ")
}

/// Our resource without what differs between runs and machines: a file gives the same bytes each time and everywhere.
fn without_run(own: &ResourceRef) -> ResourceRef {
    let mut resource = (**own).clone();
    resource.attributes.retain(|(key, _)| {
        *key != semconv::resource::SERVICE_INSTANCE_ID && !key.starts_with("host.")
    });
    Arc::new(resource)
}
