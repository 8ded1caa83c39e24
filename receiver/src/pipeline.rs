//! Wires everything: which threads there are, what they hand to each other, and how they end.
//!
//! | thread | does |
//! | --- | --- |
//! | one a receiver, by its key | its driver: reads the source, feeds the engine |
//! | `console` | writes what the engines print |
//! | tokio, one worker | export queues and gRPC, health and metrics servers, Observer API, own telemetry |
//! | main | waits for a signal |
//!
//! Sources may have threads of their own behind them (`cilium` reads its socket on one, and asks the agent's API on another).
//!
//! The end comes from the front: the source's last batches, the engine's last flush, the queue's last request; then the books are
//! closed.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use netflume_core::enrich::host::Host;
use netflume_core::ledger::Ledger;

use crate::cli;
use crate::config::Config;
use crate::directories::host::{self, Roots};
use crate::export::console::ConsoleError;
use crate::platform::signals::EndSignals;
use crate::receivers::{
    Engine, EngineContext, EngineError, Origin, Receiver, Settings, SourceContext, SourceReport,
};
use crate::serve::health::{Pulse, SourceState};

mod driver;
mod losses;
mod observer_api;
mod record;
mod replay;
mod services;

use driver::{Driver, Running};
use losses::Output;
use observer_api::ObserverApi;
pub use record::record;
pub use replay::replay;
use services::Services;

/// Runs until a signal ends it.
///
/// # Errors
/// No source can be started, an exporter or an extension cannot be set up, or the console cannot be written.
pub fn run(config: &Config, receivers: &[&'static dyn Receiver]) -> anyhow::Result<ExitCode> {
    let runtime = runtime()?;
    let _inside = runtime.enter();
    let mut signals = EndSignals::listen().context("signals")?;
    let ledger = Arc::new(Ledger::default());
    let services = Services::start(config, &runtime, &ledger, Origin::Live)?;
    let roots = Roots::from_environment(cli::variable);
    let host = host::read_host(&roots);
    let (mut flows, observer) = match &config.extensions.hubble_observer {
        Some(extension) if config.receivers.cilium.is_some() => {
            let (flows, api) = ObserverApi::start(extension.options(), Arc::clone(&ledger));
            (Some(flows), Some(api))
        }
        _ => (None, None),
    };
    let engine = |receiver: &dyn Receiver, settings: &Settings, pulse: &Pulse| {
        let flows = flows.take_if(|_| receiver.publishes_flows());
        let context = EngineContext {
            origin: Origin::Live,
            host: host.clone(),
            roots: roots.clone(),
            own: Arc::clone(&services.own),
            sinks: services.sinks(pulse),
            flows,
            ledger: Arc::clone(&ledger),
        };
        receiver.engine(settings, context)
    };
    let context = SourceContext {
        ledger: Arc::clone(&ledger),
        health: Arc::clone(&services.health),
    };
    let (drivers, report) = drivers(&config.settings(), receivers, &context, engine)?;
    let (ended, mut end) = tokio::sync::mpsc::channel(1);
    let running = start(drivers, &ended)?;
    drop(ended);
    for driver in &running {
        services.show(driver.page());
    }
    let mut lines = vec![format!("{}, {}", banner(&host), report.summary)];
    lines.extend(report.costs);
    lines.push(services.destination(config));
    print_line(&lines.join("\n"));
    runtime.block_on(async {
        tokio::select! {
            () = signals.received() => {}
            _ = end.recv() => {}
        }
    });
    services.end_within(config.service.shutdown_timeout);
    let result = stop(running);
    if let Some(observer) = observer {
        runtime.block_on(observer.stop());
    }
    // Why the console cannot be written any more is known there; the engines only know that it cannot.
    let printed = runtime.block_on(services.shutdown(config.service.shutdown_timeout));
    let code = close(printed.map_err(EngineError::from).and(result))?;
    // A Collector may have been away for a while of a long run; the reader of a file or a pipe expects all of it.
    let outputs = match config.exporters.console {
        Some(_) => &[Output::Console][..],
        None => &[],
    };
    Ok(losses::report(&ledger, outputs).unwrap_or(code))
}

/// Opens the sources of all enabled receivers and makes their engines. Drivers try a source again that could not be opened, unless
/// none of them could.
fn drivers(
    settings: &Settings,
    receivers: &[&'static dyn Receiver],
    context: &SourceContext,
    mut engine: impl FnMut(&dyn Receiver, &Settings, &Pulse) -> Result<Box<dyn Engine>, EngineError>,
) -> anyhow::Result<(Vec<Driver>, SourceReport)> {
    let mut drivers = Vec::new();
    let mut summaries = Vec::new();
    let mut costs = Vec::new();
    for &receiver in receivers.iter().filter(|r| r.is_enabled(settings)) {
        context.health.source(receiver.key(), SourceState::Starting);
        let pulse = context.health.watch(receiver.key());
        let engine = engine(receiver, settings, &pulse)?;
        let source = receiver.open(settings, context);
        if let Ok(source) = &source {
            let report = source.report();
            summaries.push(report.summary);
            costs.extend(report.costs);
        }
        drivers.push(Driver {
            receiver,
            settings: settings.clone(),
            context: context.clone(),
            pulse,
            source,
            engine,
        });
    }
    if drivers.is_empty() {
        anyhow::bail!(
            "no receiver is enabled: name one under `receivers`, for example `ebpf: {{}}`"
        );
    }
    if summaries.is_empty() {
        let failed = drivers.into_iter().find_map(|driver| {
            let key = driver.receiver.key();
            let error = driver.source.err()?;
            Some(anyhow::Error::new(error).context(format!("receivers.{key}")))
        });
        return failed.map_or_else(|| Ok((Vec::new(), SourceReport::default())), Err);
    }
    let report = SourceReport {
        summary: summaries.join(", "),
        costs,
    };
    Ok((drivers, report))
}

fn start(
    drivers: Vec<Driver>,
    ended: &tokio::sync::mpsc::Sender<()>,
) -> anyhow::Result<Vec<Running>> {
    drivers
        .into_iter()
        .map(|driver| driver.start(ended.clone()).context("cannot start a thread"))
        .collect()
}

/// Ends all drivers; the first error of them.
fn stop(running: Vec<Running>) -> Result<(), EngineError> {
    running.iter().for_each(Running::stop);
    running
        .into_iter()
        .map(Running::join)
        .fold(Ok(()), Result::and)
}

fn banner(host: &Host) -> String {
    format!(
        "netflume {} on {}",
        env!("CARGO_PKG_VERSION"),
        host.name.as_deref().unwrap_or("this host")
    )
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(8)
        .enable_all()
        .build()
        .context("cannot start the runtime")
}

/// A line for the person who started us; records have stdout to themselves.
fn print_line(text: &str) {
    // Where stderr is gone, nothing more can be reported.
    let _gone = writeln!(std::io::stderr(), "{text}");
}

/// The reader of our output may go away (`| head`): a good end.
fn close(read: Result<(), EngineError>) -> anyhow::Result<ExitCode> {
    match read {
        Ok(()) | Err(EngineError::Console(ConsoleError::Closed)) => Ok(ExitCode::SUCCESS),
        Err(error) => Err(error.into()),
    }
}
