//! Everything that runs, and how its parts are started, replaced and ended.

use std::sync::Arc;

use anyhow::Context;
use netflume_core::enrich::host::Host;
use netflume_core::ledger::Ledgers;
use tokio::sync::mpsc;

use super::driver::{Driver, Running};
use super::monitor::Monitor;
use super::observer_api::ObserverApi;
use super::services::Services;
use crate::cli;
use crate::config::{Config, print};
use crate::directories::host::{self, Roots};
use crate::receivers::{
    Change, Engine, EngineContext, EngineError, Origin, Receiver, Settings, Source, SourceError,
    SourceReport,
};
use crate::serve::health::{Pulse, SourceState};
use crate::telemetry::reloads::Reloads;

/// The running program.
pub(super) struct Pipeline {
    pub(super) config: Config,
    pub(super) services: Services,
    pub(super) reloads: Arc<Reloads>,
    receivers: &'static [&'static dyn Receiver],
    /// By key of the receiver.
    running: Vec<(&'static str, Running)>,
    observer: Option<ObserverApi>,
    host: Host,
    roots: Roots,
    monitor: Monitor,
    /// Gets a message when a driver fails.
    failed: mpsc::Sender<&'static str>,
    report: SourceReport,
}

/// A receiver whose source was opened, or could not be.
pub(super) type Opened = (&'static dyn Receiver, Result<Box<dyn Source>, SourceError>);

impl Pipeline {
    /// Starts everything that the configuration names; the other value gets the key of each receiver that failed. Must be called within the runtime.
    ///
    /// # Errors
    /// No source can be started, an exporter or an extension cannot be set up.
    pub(super) async fn start(
        config: Config,
        receivers: &'static [&'static dyn Receiver],
    ) -> anyhow::Result<(Self, mpsc::Receiver<&'static str>)> {
        let monitor = Monitor::default();
        let reloads = Arc::new(Reloads::new(&print::effective(&config, true)));
        let services = Services::start(&config, &reloads, &monitor, Origin::Live).await?;
        let roots = Roots::from_environment(cli::variable);
        let (failed, failures) = mpsc::channel(receivers.len().max(1));
        let settings = config.settings();
        let (opened, report) = open(&settings, receivers, &monitor)?;
        let mut pipeline = Self {
            config,
            services,
            reloads,
            receivers,
            running: Vec::new(),
            observer: None,
            host: host::read_host(&roots),
            roots,
            monitor,
            failed,
            report,
        };
        pipeline
            .serve_flows()
            .context("extensions.hubble_observer")?;
        for opened in opened {
            pipeline.start_receiver(&settings, opened)?;
        }
        Ok((pipeline, failures))
    }

    /// What was received, passed and lost.
    pub(super) fn ledgers(&self) -> Arc<Ledgers> {
        Arc::clone(&self.monitor.ledgers)
    }

    /// What runs, what that costs, and where records go.
    pub(super) fn banner(&self) -> String {
        let name = self.host.name.as_deref().unwrap_or("this host");
        let version = env!("CARGO_PKG_VERSION");
        let first = format!("netflume {version} on {name}, {}", self.report.summary);
        let mut lines = vec![first];
        lines.extend(self.report.costs.iter().cloned());
        lines.push(self.services.destination(&self.config));
        lines.join("\n")
    }

    /// Whether a configuration asks for the Observer API, and a receiver for it to serve is enabled.
    pub(super) fn serves_flows(&self, config: &Config) -> bool {
        let settings = config.settings();
        let publishes = |r: &&dyn Receiver| r.publishes_flows() && r.is_enabled(&settings);
        config.extensions.hubble_observer.is_some() && self.receivers.iter().any(publishes)
    }

    /// Starts the Observer API if there is something to serve.
    ///
    /// # Errors
    /// No thread can be started for it.
    pub(super) fn serve_flows(&mut self) -> std::io::Result<()> {
        let extension = self.config.extensions.hubble_observer.as_ref();
        let extension = extension.filter(|_| self.serves_flows(&self.config));
        let publisher = self.receivers.iter().find(|r| r.publishes_flows());
        self.observer = extension
            .zip(publisher)
            .map(|(extension, publisher)| {
                let ledger = self.monitor.ledgers.of(publisher.key());
                ObserverApi::start(extension.options(), ledger)
            })
            .transpose()?;
        Ok(())
    }

    /// Ends the Observer API if it runs.
    pub(super) fn end_flows(&mut self) {
        if let Some(observer) = self.observer.take() {
            tokio::task::block_in_place(|| observer.stop());
        }
    }

    /// Makes the engine of a receiver and starts its driver.
    fn start_receiver(
        &mut self,
        settings: &Settings,
        (receiver, source): Opened,
    ) -> Result<(), EngineError> {
        let key = receiver.key();
        let observer = self.observer.as_ref();
        let pulse = self.monitor.health.watch(key);
        let ledger = self.monitor.ledgers.of(key);
        let engine = receiver.engine(
            settings,
            EngineContext {
                origin: Origin::Live,
                host: self.host.clone(),
                roots: self.roots.clone(),
                own: Arc::clone(&self.services.own),
                sinks: self.services.sinks(&pulse, &ledger),
                flows: observer
                    .filter(|_| receiver.publishes_flows())
                    .map(ObserverApi::publisher),
            },
        )?;
        let driver = Driver {
            receiver,
            settings: settings.clone(),
            context: self.monitor.source(receiver),
            pulse,
            source,
            engine,
        };
        let running = driver.start(self.failed.clone())?;
        self.services.show(key, running.page());
        self.running.push((key, running));
        Ok(())
    }

    /// Starts a receiver anew with these settings, or ends it if it is no longer enabled.
    pub(super) fn restart_receiver(
        &mut self,
        settings: &Settings,
        receiver: &'static dyn Receiver,
    ) -> Result<(), EngineError> {
        let key = receiver.key();
        let result = self.end_receiver(key);
        if receiver.is_enabled(settings) {
            self.monitor.health.source(key, SourceState::Starting);
            let source = receiver.open(settings, &self.monitor.source(receiver));
            self.start_receiver(settings, (receiver, source))?;
        } else {
            self.services.forget(key);
            self.monitor.health.forget(key);
        }
        result
    }

    fn end_receiver(&mut self, key: &str) -> Result<(), EngineError> {
        let at = self.running.iter().position(|(known, _)| *known == key);
        let Some(at) = at else {
            return Ok(());
        };
        let (_, running) = self.running.remove(at);
        running.stop();
        running.join()
    }

    /// Restarts those of the receivers that are among `keys`, and lets the others take over what they can. What is wrong, one text each.
    pub(super) fn reconfigure(
        &mut self,
        settings: &Settings,
        restarts: impl Fn(&str) -> bool,
    ) -> Vec<String> {
        let mut problems = Vec::new();
        for &receiver in self.receivers {
            let key = receiver.key();
            let result = if restarts(key) {
                self.restart_receiver(settings, receiver)
            } else {
                let change = || Change {
                    settings: settings.clone(),
                    exporter: self.services.exporter(),
                };
                let running = self.running.iter().find(|(known, _)| *known == key);
                running.map_or(Ok(()), |(_, running)| running.reconfigure(change()))
            };
            if let Err(error) = result {
                problems.push(format!("receivers.{key}: {error}"));
            }
        }
        problems
    }

    /// Ends everything, from the front.
    ///
    /// # Errors
    /// The output could not be written.
    pub(super) async fn stop(mut self) -> Result<(), EngineError> {
        let timeout = self.config.service.shutdown_timeout;
        self.services.end_within(timeout);
        let running = std::mem::take(&mut self.running);
        running.iter().for_each(|(_, running)| running.stop());
        let mut result = Ok(());
        for (_, running) in running {
            result = result.and(tokio::task::block_in_place(|| running.join()));
        }
        self.end_flows();
        // Why the console cannot be written any more is known there; the engines only know that it cannot.
        let printed = self.services.shutdown(timeout).await;
        printed.map_err(EngineError::from).and(result)
    }
}

/// Opens the sources of all enabled receivers. One that could not be opened is tried again later, unless none of them could.
///
/// # Errors
/// None is enabled, or none could be opened.
pub(super) fn open(
    settings: &Settings,
    receivers: &[&'static dyn Receiver],
    monitor: &Monitor,
) -> anyhow::Result<(Vec<Opened>, SourceReport)> {
    let mut opened: Vec<Opened> = Vec::new();
    let mut summaries = Vec::new();
    let mut costs = Vec::new();
    for &receiver in receivers.iter().filter(|r| r.is_enabled(settings)) {
        let health = &monitor.health;
        health.source(receiver.key(), SourceState::Starting);
        let source = receiver.open(settings, &monitor.source(receiver));
        if let Ok(source) = &source {
            let report = source.report();
            summaries.push(report.summary);
            costs.extend(report.costs);
        }
        opened.push((receiver, source));
    }
    if opened.is_empty() {
        anyhow::bail!(
            "no receiver is enabled: name one under `receivers`, for example `ebpf: {{}}`"
        );
    }
    if summaries.is_empty() {
        for (receiver, source) in opened {
            source.with_context(|| format!("receivers.{}", receiver.key()))?;
        }
        return Ok((Vec::new(), SourceReport::default()));
    }
    let report = SourceReport {
        summary: summaries.join(", "),
        costs,
    };
    Ok((opened, report))
}

/// Starts drivers whose engine is made by `engine`.
///
/// # Errors
/// An engine cannot be made, or no thread started.
pub(super) fn drive(
    opened: Vec<Opened>,
    settings: &Settings,
    monitor: &Monitor,
    failed: &mpsc::Sender<&'static str>,
    engine: impl Fn(&dyn Receiver) -> Result<Box<dyn Engine>, EngineError>,
) -> anyhow::Result<Vec<Running>> {
    opened
        .into_iter()
        .map(|(receiver, source)| {
            let driver = Driver {
                receiver,
                settings: settings.clone(),
                context: monitor.source(receiver),
                pulse: Pulse::default(),
                source,
                engine: engine(receiver)?,
            };
            driver
                .start(failed.clone())
                .context("cannot start a thread")
        })
        .collect()
}
