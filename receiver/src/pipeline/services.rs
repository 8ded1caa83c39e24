//! What surrounds the engines: exporter, console, servers, our own telemetry; how they start and end.

use std::io::{BufWriter, IsTerminal as _};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use crate::cli;
use crate::config::Config;
use crate::config::exporters::OtlpGrpc;
use crate::export::console::printer::{OverflowPolicy, Printing};
use crate::export::console::{Console, ConsoleError, ConsoleOptions, Format};
use crate::export::exporter::{Exporter, ExporterHandle};
use crate::export::sinks::Sinks;
use crate::receivers::Origin;
use crate::serve::health::{Health, HealthHandler, Pulse};
use crate::serve::http::Server;
use crate::serve::metrics::{MetricsHandler, Registry, Source};
use crate::telemetry::state::SelfState;
use crate::telemetry::{self, Telemetry};
use netflume_core::ledger::{Ledger, Reason, Stage};
use netflume_core::model::resource::ResourceRef;

/// A file or a pipe that takes nothing for so long is not waited for any longer.
const OUTPUT_PATIENCE: Duration = Duration::from_secs(10);
/// For the last line at least, when the exporter took all the time.
const LAST_LINE: Duration = Duration::from_millis(500);

/// What surrounds the engine.
pub(super) struct Services {
    /// The program's own resource.
    pub(super) own: ResourceRef,
    pub(super) health: Arc<Health>,
    exporter: Option<ExporterHandle>,
    console: Option<(Printing, Format)>,
    origin: Origin,
    registry: Option<Arc<Registry>>,
    telemetry: Telemetry,
    _servers: Vec<Server>,
}

impl Services {
    pub(super) fn start(
        config: &Config,
        runtime: &tokio::runtime::Runtime,
        ledger: &Arc<Ledger>,
        origin: Origin,
    ) -> anyhow::Result<Self> {
        let mut options = config.exporters.otlp_grpc.as_ref().map(OtlpGrpc::options);
        if let Some(options) = &mut options {
            // A recorded file can wait, what happens meanwhile on a live machine cannot.
            options.sending_queue.block_on_overflow = origin == Origin::Recorded;
        }
        let own = telemetry::own_resource(&config.resource);
        let state = Arc::new(SelfState::new(Arc::clone(&own), ledger));
        let exporter = options
            .as_ref()
            .map(|options| Exporter::start(options, Arc::clone(ledger)))
            .transpose()
            .context("exporters.otlp_grpc")?;
        let health = Arc::new(Health::default());
        state.add(telemetry::parts::sources(&health));
        if let Some(exporter) = &exporter {
            telemetry::parts::queue(exporter)
                .into_iter()
                .for_each(|part| state.add(part));
        }
        let export = options.as_ref().filter(|_| config.service.telemetry.export);
        let telemetry = Telemetry::start(
            config.service.telemetry.level,
            &cli::variable,
            &own,
            &state,
            export.map(|options| telemetry::Export {
                options,
                interval: config.service.telemetry.metrics_interval,
                temporality: config.metrics.temporality,
            }),
        )?;
        let mut extension_registry = None;
        let mut servers = Vec::new();
        if let Some(extension) = &config.extensions.health {
            let handler = Arc::new(HealthHandler(Arc::clone(&health)));
            servers.push(runtime.block_on(Server::start(
                "extensions.health",
                &extension.endpoint,
                handler,
            ))?);
        }
        if let Some(extension) = &config.extensions.prometheus {
            let registry = Arc::new(Registry::new(Arc::clone(&own)));
            registry.register(Arc::new(move || state.metrics()));
            extension_registry = Some(Arc::clone(&registry));
            let handler = Arc::new(MetricsHandler(registry));
            servers.push(runtime.block_on(Server::start(
                "extensions.prometheus",
                &extension.endpoint,
                handler,
            ))?);
        }
        let console = config
            .exporters
            .console
            .as_ref()
            .map(|console| {
                printing(console.format, origin, ledger).map(|printing| (printing, console.format))
            })
            .transpose()
            .context("exporters.console")?;
        Ok(Self {
            own,
            health,
            exporter,
            console,
            origin,
            registry: extension_registry,
            telemetry,
            _servers: servers,
        })
    }

    /// Where an engine sends what it makes. `pulse` is of its thread.
    pub(super) fn sinks(&self, pulse: &Pulse) -> Sinks {
        Sinks {
            exporter: self.exporter.clone(),
            console: self
                .console
                .as_ref()
                .map(|(printing, format)| (printing.printer().watched(pulse.clone()), *format)),
        }
    }

    /// Shows metrics at `/metrics`, if that is served.
    pub(super) fn show(&self, metrics: Source) {
        if let Some(registry) = &self.registry {
            registry.register(metrics);
        }
    }

    /// The end has begun: engines wait for outputs no longer than this.
    pub(super) fn end_within(&self, allowed: Duration) {
        if let Some((printing, _)) = &self.console {
            printing.end_within(allowed);
        }
    }

    /// Sends what is queued and writes what waits and the last line, within the time that is allowed; what comes from a recorded file
    /// takes the time that it takes. Engines must be gone.
    ///
    /// # Errors
    /// Why the console could not be written.
    pub(super) async fn shutdown(self, allowed: Duration) -> Result<(), ConsoleError> {
        let is_live = self.origin == Origin::Live;
        let begin = tokio::time::Instant::now();
        if let Some(exporter) = &self.exporter {
            exporter.shutdown(is_live.then_some(allowed)).await;
        }
        let left = if is_live {
            allowed.saturating_sub(begin.elapsed())
        } else {
            allowed
        };
        self.telemetry.shutdown(left).await;
        let left = is_live.then(|| allowed.saturating_sub(begin.elapsed()).max(LAST_LINE));
        self.console
            .map_or(Ok(()), |(printing, _)| printing.finish(left))
    }

    /// Where records go, in one line.
    pub(super) fn destination(&self, config: &Config) -> String {
        let receivers = self.exporter.iter().flat_map(ExporterHandle::status);
        let endpoints: Vec<String> = receivers.map(|receiver| receiver.endpoint).collect();
        let console = config
            .exporters
            .console
            .as_ref()
            .map(|console| match console.format {
                Format::Json => "stdout as JSON (Ctrl-C stops)",
                Format::Text if std::io::stdout().is_terminal() => "this terminal (Ctrl-C stops)",
                Format::Text => "stdout (Ctrl-C stops)",
            });
        match (endpoints.as_slice(), console) {
            ([], Some(console)) => format!(
                "no Collector: OTEL_EXPORTER_OTLP_ENDPOINT is not set, records go to {console}"
            ),
            ([], None) => "records go nowhere: no exporter is enabled".to_owned(),
            (endpoints, None) => format!("records go to {}", endpoints.join(", ")),
            (endpoints, Some(console)) => {
                format!("records go to {} and to {console}", endpoints.join(", "))
            }
        }
    }
}

/// The thread that writes to stdout.
fn printing(format: Format, origin: Origin, ledger: &Arc<Ledger>) -> std::io::Result<Printing> {
    let stdout = BufWriter::new(std::io::stdout());
    let options = match format {
        Format::Text => ConsoleOptions::for_stdout(),
        Format::Json => ConsoleOptions::default(),
    };
    let console = Console::new(Box::new(stdout), options, Arc::clone(ledger));
    let policy = match origin {
        Origin::Recorded => OverflowPolicy::Wait,
        Origin::Live if std::io::stdout().is_terminal() => OverflowPolicy::Drop,
        Origin::Live => OverflowPolicy::WaitWhileMoving(OUTPUT_PATIENCE),
    };
    Printing::start(console, policy, Arc::clone(ledger), lost)
}

/// Items that were lost so far: dropped for another reason than that nobody wants them.
fn lost(ledger: &Ledger) -> u64 {
    ledger
        .entries()
        .iter()
        // A request or response that finds no partner is in the records all the same.
        .filter(|entry| entry.stage != Stage::Exchanges)
        .flat_map(|entry| &entry.dropped)
        .filter(|(reason, _)| {
            !matches!(
                reason,
                Reason::Unchanged | Reason::Filtered | Reason::Sampled
            )
        })
        .map(|(_, count)| count)
        .sum()
}
