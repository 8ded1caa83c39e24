//! Wires everything: which threads there are, what they hand to each other, and how they end.
//!
//! | thread | does |
//! | --- | --- |
//! | one a receiver, by its key | its driver: reads the source, feeds the engine |
//! | `console` | writes what the engines print |
//! | `observer` | serves the Observer API |
//! | tokio, one worker | export queues and gRPC, health and metrics servers, own telemetry |
//! | main | waits for a signal or a changed configuration |
//!
//! Sources may have threads of their own behind them (`cilium` reads its socket on one, and asks the agent's API on another).
//!
//! The end comes from the front: the source's last batches, the engine's last flush, the queue's last request; then the books are
//! closed.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;

use crate::cli;
use crate::config::{Config, Origin};
use crate::export::console::ConsoleError;
use crate::platform::Asked;
use crate::platform::signals::Signals;
use crate::receivers::{EngineError, Receiver};

mod driver;
mod losses;
mod monitor;
mod observer_api;
mod record;
mod reload;
mod replay;
mod running;
mod services;

use losses::Output;
pub use record::record;
use reload::reload;
pub use replay::replay;
use running::Pipeline;

/// Between two looks at the configuration file.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// Runs until a signal ends it. SIGHUP, and a change of the file behind `origin`, reload the configuration.
///
/// # Errors
/// No source can be started, an exporter or an extension cannot be set up, or the console cannot be written.
pub fn run(
    config: Config,
    mut origin: Origin,
    receivers: &'static [&'static dyn Receiver],
) -> anyhow::Result<ExitCode> {
    let runtime = runtime()?;
    runtime.block_on(async {
        let mut signals = Signals::listen().context("signals")?;
        let (mut pipeline, mut failures) = Pipeline::start(config, receivers).await?;
        print_line(&pipeline.banner());
        let mut look = tokio::time::interval(WATCH_INTERVAL);
        loop {
            let reloads = tokio::select! {
                asked = signals.next() => match asked {
                    Asked::End => break,
                    Asked::Reload => true,
                },
                _ = failures.recv() => break,
                _ = look.tick() => origin.has_changed(),
            };
            if reloads {
                reload(&mut pipeline, origin.load(&cli::variable)).await;
            }
        }
        let ledgers = pipeline.ledgers();
        // A Collector may have been away for a while of a long run; the reader of a file or a pipe expects all of it.
        let outputs = match pipeline.config.exporters.console {
            Some(_) => &[Output::Console][..],
            None => &[],
        };
        let code = close(pipeline.stop().await)?;
        Ok(losses::report(&ledgers, outputs).unwrap_or(code))
    })
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
    cli::terminal::error(text);
}

/// The reader of our output may go away (`| head`): a good end.
fn close(read: Result<(), EngineError>) -> anyhow::Result<ExitCode> {
    match read {
        Ok(()) | Err(EngineError::Console(ConsoleError::Closed)) => Ok(ExitCode::SUCCESS),
        Err(error) => Err(error.into()),
    }
}
