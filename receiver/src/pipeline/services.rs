//! What surrounds the engines: exporter, console, servers, our own telemetry; how they start and end.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufWriter, IsTerminal as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::monitor::Monitor;
use crate::cli;
use crate::config::exporters::OtlpGrpc;
use crate::config::{Config, Extensions};
use crate::export::console::printer::{OverflowPolicy, Printing};
use crate::export::console::{Console, ConsoleError, ConsoleOptions, Format};
use crate::export::exporter::{CurrentExporter, Exporter, ExporterHandle};
use crate::export::options::ExporterOptions;
use crate::export::sinks::Sinks;
use crate::receivers::Origin;
use crate::serve::health::{Health, HealthHandler, Pulse};
use crate::serve::http::{Handler, ServeError, Server};
use crate::serve::metrics::{MetricsHandler, Registry, Source};
use crate::telemetry::reloads::Reloads;
use crate::telemetry::state::SelfState;
use crate::telemetry::{self, Telemetry};
use netflume_core::ledger::{Ledger, Ledgers};
use netflume_core::model::resource::ResourceRef;

/// A file or a pipe that takes nothing for so long is not waited for any longer.
const OUTPUT_PATIENCE: Duration = Duration::from_secs(10);
/// For the last line at least, when the exporter took all the time.
const LAST_LINE: Duration = Duration::from_millis(500);
/// Extensions by configuration key.
const HEALTH: &str = "extensions.health";
const PROMETHEUS: &str = "extensions.prometheus";

/// What surrounds the engines.
pub(super) struct Services {
    /// The program's own resource.
    pub(super) own: ResourceRef,
    pub(super) health: Arc<Health>,
    exporter: CurrentExporter,
    console: Option<(Printing, Format)>,
    origin: Origin,
    registry: Arc<Registry>,
    state: Arc<SelfState>,
    telemetry: Telemetry,
    /// By configuration key.
    servers: BTreeMap<&'static str, Server>,
    /// Exporters before reloads that still send.
    retired: JoinSet<()>,
    /// The end of the program has begun.
    ending: CancellationToken,
    /// `service.shutdown_timeout`.
    shutdown_timeout: Duration,
}

/// What exported before a reload.
pub(super) struct Replaced {
    exporter: Option<ExporterHandle>,
    telemetry: Telemetry,
}

impl Services {
    /// Must be called within the runtime.
    pub(super) async fn start(
        config: &Config,
        reloads: &Arc<Reloads>,
        monitor: &Monitor,
        origin: Origin,
    ) -> anyhow::Result<Self> {
        let own = telemetry::own_resource(&config.resource);
        let state = Arc::new(SelfState::new(Arc::clone(&own), &monitor.ledgers));
        let exporter: CurrentExporter = Arc::new(Mutex::new(start_exporter(config, origin)?));
        let health = Arc::clone(&monitor.health);
        state.add(telemetry::parts::sources(&health));
        let parts = telemetry::parts::queue(&exporter).into_iter();
        parts
            .chain(telemetry::parts::reloads(reloads))
            .for_each(|part| state.add(part));
        let options = config.exporters.otlp_grpc.as_ref().map(OtlpGrpc::options);
        let telemetry = Telemetry::start(
            config.service.telemetry.level,
            &cli::variable,
            &own,
            &state,
            own_export(config, options.as_ref()),
        )?;
        let registry = Arc::new(Registry::new(Arc::clone(&own)));
        let own_state = Arc::clone(&state);
        registry.register("own", Arc::new(move || own_state.metrics()));
        let console = config
            .exporters
            .console
            .as_ref()
            .map(|console| {
                printing(console.format, origin, &monitor.ledgers)
                    .map(|printing| (printing, console.format))
            })
            .transpose()
            .context("exporters.console")?;
        let mut services = Self {
            own,
            health,
            exporter,
            console,
            origin,
            registry,
            state,
            telemetry,
            servers: BTreeMap::new(),
            retired: JoinSet::new(),
            ending: CancellationToken::new(),
            shutdown_timeout: config.service.shutdown_timeout,
        };
        for key in [HEALTH, PROMETHEUS] {
            services.serve(config, key).await?;
        }
        Ok(services)
    }

    /// Starts the server of an extension, or ends it, as the configuration has it.
    async fn serve(&mut self, config: &Config, key: &'static str) -> Result<(), ServeError> {
        self.servers.remove(key);
        let Extensions {
            health, prometheus, ..
        } = &config.extensions;
        let health = health.as_ref().filter(|_| key == HEALTH);
        let prometheus = prometheus.as_ref().filter(|_| key == PROMETHEUS);
        let (endpoint, handler): (_, Arc<dyn Handler>) = if let Some(extension) = health {
            let handler = HealthHandler(Arc::clone(&self.health));
            (&extension.endpoint, Arc::new(handler))
        } else if let Some(extension) = prometheus {
            let handler = MetricsHandler(Arc::clone(&self.registry));
            (&extension.endpoint, Arc::new(handler))
        } else {
            return Ok(());
        };
        let server = Server::start(key, endpoint, handler).await?;
        self.servers.insert(key, server);
        Ok(())
    }

    /// Where an engine sends what it makes. `pulse` is of its thread, `ledger` of its receiver.
    pub(super) fn sinks(&self, pulse: &Pulse, ledger: &Arc<Ledger>) -> Sinks {
        Sinks {
            exporter: self.exporter(),
            console: self.console.as_ref().map(|(printing, format)| {
                let printer = printing.printer(Arc::clone(ledger));
                (printer.watched(pulse.clone()), *format)
            }),
            ledger: Arc::clone(ledger),
        }
    }

    /// Shows metrics of a receiver at `/metrics`, in place of those that it showed before.
    pub(super) fn show(&self, receiver: &'static str, metrics: Source) {
        self.registry.register(receiver, metrics);
    }

    /// The receiver is gone: its metrics end.
    pub(super) fn forget(&self, receiver: &'static str) {
        self.registry.unregister(receiver);
    }

    /// The exporter in use.
    pub(super) fn exporter(&self) -> Option<ExporterHandle> {
        let exporter = self.exporter.lock();
        exporter.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Exports as this configuration has it from now on. Gives back what exported until now, for [`Services::retire`].
    ///
    /// # Errors
    /// The new one cannot be started; the old one stays.
    pub(super) fn replace_exporter(&mut self, config: &Config) -> anyhow::Result<Replaced> {
        let options = config.exporters.otlp_grpc.as_ref().map(OtlpGrpc::options);
        let new = start_exporter(config, self.origin)?;
        let export = own_export(config, options.as_ref());
        let telemetry = self.telemetry.set_export(&self.own, &self.state, export)?;
        let mut exporter = self.exporter.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Replaced {
            exporter: std::mem::replace(&mut *exporter, new),
            telemetry,
        })
    }

    /// Lets an exporter that no engine has any more send what it holds, for as long as that takes or the program runs.
    pub(super) fn retire(&mut self, replaced: Replaced) {
        let (ending, allowed) = (self.ending.clone(), self.shutdown_timeout);
        self.retired.spawn(async move {
            replaced.telemetry.shutdown(allowed).await;
            if let Some(exporter) = replaced.exporter {
                let end = async {
                    ending.cancelled().await;
                    tokio::time::sleep(allowed).await;
                };
                exporter.shutdown_before(end).await;
            }
        });
        // Those that are done.
        while self.retired.try_join_next().is_some() {}
    }

    /// Takes over the other live keys, and restarts the extensions among `components`; what is wrong with them, one text each.
    pub(super) async fn reconfigure(
        &mut self,
        config: &Config,
        components: &BTreeSet<&'static str>,
    ) -> Vec<String> {
        self.shutdown_timeout = config.service.shutdown_timeout;
        let level = config.service.telemetry.level;
        self.telemetry.set_level(level, &cli::variable);
        let mut problems = Vec::new();
        for key in [HEALTH, PROMETHEUS] {
            if components.contains(key)
                && let Err(error) = self.serve(config, key).await
            {
                problems.push(format!("{:#}", anyhow::Error::new(error)));
            }
        }
        problems
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
        self.ending.cancel();
        if let Some(exporter) = self.exporter() {
            exporter.shutdown(is_live.then_some(allowed)).await;
        }
        self.retired.join_all().await;
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
        let receivers = self.exporter().map(|exporter| exporter.status());
        let endpoints: Vec<String> = receivers
            .into_iter()
            .flatten()
            .map(|receiver| receiver.endpoint)
            .collect();
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

fn start_exporter(config: &Config, origin: Origin) -> anyhow::Result<Option<ExporterHandle>> {
    let mut options = config.exporters.otlp_grpc.as_ref().map(OtlpGrpc::options);
    if let Some(options) = &mut options {
        // A recorded file can wait, what happens meanwhile on a live machine cannot.
        options.sending_queue.block_on_overflow = origin == Origin::Recorded;
    }
    options
        .map(|options| Exporter::start(&options))
        .transpose()
        .context("exporters.otlp_grpc")
}

/// Where our own telemetry goes.
fn own_export<'a>(
    config: &Config,
    options: Option<&'a ExporterOptions>,
) -> Option<telemetry::Export<'a>> {
    let telemetry = &config.service.telemetry;
    options
        .filter(|_| telemetry.export)
        .map(|options| telemetry::Export {
            options,
            interval: telemetry.metrics_interval,
            temporality: config.metrics.temporality,
        })
}

/// The thread that writes to stdout.
fn printing(format: Format, origin: Origin, ledgers: &Arc<Ledgers>) -> std::io::Result<Printing> {
    let stdout = BufWriter::new(std::io::stdout());
    let options = match format {
        Format::Text => ConsoleOptions::for_stdout(),
        Format::Json => ConsoleOptions::default(),
    };
    let console = Console::new(Box::new(stdout), options);
    let policy = match origin {
        Origin::Recorded => OverflowPolicy::Wait,
        Origin::Live if std::io::stdout().is_terminal() => OverflowPolicy::Drop,
        Origin::Live => OverflowPolicy::WaitWhileMoving(OUTPUT_PATIENCE),
    };
    let ledgers = Arc::clone(ledgers);
    Printing::start(console, policy, move || ledgers.lost())
}
