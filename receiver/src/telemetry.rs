//! What the program says about itself: lines on stderr, and by the OpenTelemetry SDK its own logs and metrics, with its own
//! resource, over a connection with the same endpoint, TLS and headers as the data.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::MeterProvider as _;
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_otlp::{
    ExporterBuildError, LogExporter, MetricExporter, WithExportConfig, WithTonicConfig,
};
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider, Temporality as SdkTemporality};
use opentelemetry_sdk::resource::TelemetryResourceDetector;
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{EnvFilter, Layer as _, reload};

use crate::cli::terminal::LogLines;
use crate::config::environment::ResourceVariables;
use crate::config::expand::Variables;
use crate::config::service;
use crate::export::client::{Client, ClientError};
use crate::export::options::{Compression, ExporterOptions, SignalOptions};
use crate::platform::system;
use netflume_core::model::metrics::Temporality;
use netflume_core::model::request::Signal;
use netflume_core::model::resource::{Resource, ResourceRef, Value};
use netflume_core::semconv::{resource, scope};

pub mod parts;
pub mod reloads;
pub mod state;

use state::SelfState;

impl std::fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Telemetry")
            .field("meters", &self.meters)
            .field("loggers", &self.loggers)
            .finish_non_exhaustive()
    }
}

/// Why our own telemetry cannot start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The connection cannot be set up.
    #[error("own telemetry")]
    Client(#[from] ClientError),
    /// The SDK's exporter cannot be built.
    #[error("own telemetry")]
    Exporter(#[from] ExporterBuildError),
    /// Lines are already taken by another subscriber.
    #[error("own log lines")]
    Subscriber(#[from] TryInitError),
}

/// Where own logs and metrics go beside stderr.
#[derive(Clone, Copy, Debug)]
pub struct Export<'a> {
    /// The data's exporter options.
    pub options: &'a ExporterOptions,
    /// Between two exports of metrics.
    pub interval: Duration,
    /// Of metrics.
    pub temporality: Temporality,
}

/// Running telemetry.
#[derive(Default)]
pub struct Telemetry {
    meters: Option<SdkMeterProvider>,
    loggers: Option<SdkLoggerProvider>,
    /// Sets the filters of the lines and of the log records.
    set_filters: Option<Box<SetFilters>>,
    /// Sets where the lines go as log records.
    set_bridge: Option<Box<SetBridge>>,
}

type SetFilters = dyn Fn(EnvFilter, Targets) + Send + Sync;
type SetBridge = dyn Fn(Option<&SdkLoggerProvider>) + Send + Sync;

impl Telemetry {
    /// Sends own lines to stderr and, with `export`, own logs and metrics by OTLP. Must be called once, within a tokio runtime,
    /// after all metrics were added to `state`.
    ///
    /// # Errors
    /// The endpoint, a header or a TLS file cannot be used, or the process has a subscriber already.
    pub fn start(
        level: service::Level,
        variables: Variables<'_>,
        resource: &Resource,
        state: &SelfState,
        export: Option<Export<'_>>,
    ) -> Result<Self, TelemetryError> {
        let mut telemetry = Self::default();
        if let Some(export) = export {
            telemetry.meters = meters(&export, resource, state)?;
            telemetry.loggers = loggers(&export, resource)?;
        }
        let (filter, problem) = filter(level, variables);
        let (filter, filter_handle) = reload::Layer::new(filter);
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(LogLines {
                colour: is_colourful(variables),
            })
            .with_ansi(false)
            .with_target(false)
            .with_filter(filter);
        let bridge = telemetry
            .loggers
            .as_ref()
            .map(OpenTelemetryTracingBridge::new);
        let (targets, targets_handle) = reload::Layer::new(bridged(level));
        let (bridge, bridge_handle) = reload::Layer::new(bridge);
        tracing_subscriber::registry()
            .with(lines)
            .with(bridge.with_filter(targets))
            .try_init()?;
        // The subscriber lives as long as the process, so nothing of it can be gone.
        telemetry.set_filters = Some(Box::new(move |lines, bridged| {
            filter_handle.reload(lines).unwrap_or_default();
            targets_handle.reload(bridged).unwrap_or_default();
        }));
        telemetry.set_bridge = Some(Box::new(move |loggers| {
            let bridge = loggers.map(OpenTelemetryTracingBridge::new);
            bridge_handle.reload(bridge).unwrap_or_default();
        }));
        if let Some(problem) = problem {
            tracing::warn!("{problem}");
        }
        Ok(telemetry)
    }

    /// Takes over another level; `NETFLUME_LOG` and `RUST_LOG` win, as at the start.
    pub fn set_level(&self, level: service::Level, variables: Variables<'_>) {
        if let Some(set) = &self.set_filters {
            set(filter(level, variables).0, bridged(level));
        }
    }

    /// Exports to another place from now on, or to none. Gives back what exported until now, for its shutdown.
    ///
    /// # Errors
    /// As for [`Telemetry::start`]; then everything stays as it was.
    pub fn set_export(
        &mut self,
        resource: &Resource,
        state: &SelfState,
        export: Option<Export<'_>>,
    ) -> Result<Self, TelemetryError> {
        let (meters, loggers) = match &export {
            Some(export) => (meters(export, resource, state)?, loggers(export, resource)?),
            None => (None, None),
        };
        if let Some(set) = &self.set_bridge {
            set(loggers.as_ref());
        }
        Ok(Self {
            meters: std::mem::replace(&mut self.meters, meters),
            loggers: std::mem::replace(&mut self.loggers, loggers),
            ..Self::default()
        })
    }

    /// Sends what is left, within `timeout`.
    pub async fn shutdown(self, timeout: Duration) {
        // The SDK waits for its threads, which in turn need this runtime for the connection.
        let ended = tokio::task::spawn_blocking(move || {
            let meters = self
                .meters
                .map(|meters| meters.shutdown_with_timeout(timeout));
            let loggers = self
                .loggers
                .map(|loggers| loggers.shutdown_with_timeout(timeout));
            meters.into_iter().chain(loggers).find_map(Result::err)
        });
        if let Ok(Ok(Some(error))) = tokio::time::timeout(timeout, ended).await {
            tracing::debug!(%error, "own telemetry was not all sent");
        }
    }
}

/// The resource of our own telemetry.
#[must_use]
pub fn own_resource(variables: &ResourceVariables) -> ResourceRef {
    let version = env!("CARGO_PKG_VERSION");
    let text = |value: &str| Value::Text(value.into());
    let name = variables.service_name.as_deref().unwrap_or("netflume");
    let mut attributes = vec![
        (resource::SERVICE_NAME, text(name)),
        (resource::SERVICE_VERSION, text(version)),
        (resource::TELEMETRY_DISTRO_NAME, text("netflume")),
        (resource::TELEMETRY_DISTRO_VERSION, text(version)),
    ];
    if let Some(name) = system::host_name() {
        attributes.push((resource::HOST_NAME, text(&name)));
    }
    // A new one for each run, as the conventions want it where nothing else distinguishes runs.
    let instance = uuid::Uuid::new_v4().to_string();
    attributes.push((resource::SERVICE_INSTANCE_ID, text(&instance)));
    // What the user says of the program wins over what we would say.
    attributes.retain(|(key, _)| variables.attributes.iter().all(|(own, _)| own != key));
    attributes.sort();
    Arc::new(Resource {
        attributes,
        extra: variables.attributes.clone(),
    })
}

/// The lines' filter: `NETFLUME_LOG`, else `RUST_LOG`, else the configured level for us and warnings of the libraries.
fn filter(level: service::Level, variables: Variables<'_>) -> (EnvFilter, Option<String>) {
    let default = || EnvFilter::new(format!("warn,netflume={}", level.as_tracing()));
    let set = ["NETFLUME_LOG", "RUST_LOG"].into_iter().find_map(|name| {
        let value = variables(name).filter(|value| !value.is_empty())?;
        Some((name, value))
    });
    match set {
        None => (default(), None),
        Some((name, value)) => match EnvFilter::try_new(&value) {
            Ok(filter) => (filter, None),
            Err(error) => (
                default(),
                Some(format!("{name}: found `{value}`: {error}; ignored")),
            ),
        },
    }
}

/// Our own lines only: those of the libraries that send them would be sent again, and again.
fn bridged(level: service::Level) -> Targets {
    Targets::new()
        .with_default(LevelFilter::OFF)
        .with_target("netflume", level.as_tracing())
}

fn is_colourful(variables: Variables<'_>) -> bool {
    std::io::stderr().is_terminal() && variables("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A connection like that of the data, and the headers. `None`: the signal is not exported.
fn connection(
    signal: Signal,
    options: &ExporterOptions,
) -> Result<Option<(Channel, MetadataMap)>, ClientError> {
    let client = Client::new(
        signal,
        options.signal(signal),
        &options.keepalive,
        &mut Vec::new(),
    )?;
    Ok(client.map(Client::into_parts))
}

/// Sets what both of the SDK's exporters share. Headers are replaced, not added: the SDK would let variables win over the file.
fn configured<B: WithTonicConfig + WithExportConfig>(
    builder: B,
    options: &SignalOptions,
    channel: Channel,
    headers: MetadataMap,
) -> B {
    let builder = builder
        .with_channel(channel)
        .with_timeout(options.timeout)
        .with_interceptor(move |mut request: tonic::Request<()>| {
            *request.metadata_mut() = headers.clone();
            Ok(request)
        });
    match options.compression {
        Compression::Gzip => builder.with_compression(opentelemetry_otlp::Compression::Gzip),
        Compression::Zstd => builder.with_compression(opentelemetry_otlp::Compression::Zstd),
        Compression::None => builder,
    }
}

fn meters(
    export: &Export<'_>,
    resource: &Resource,
    state: &SelfState,
) -> Result<Option<SdkMeterProvider>, TelemetryError> {
    let Some((channel, headers)) = connection(Signal::Metrics, export.options)? else {
        return Ok(None);
    };
    let temporality = match export.temporality {
        Temporality::Cumulative => SdkTemporality::Cumulative,
        Temporality::Delta => SdkTemporality::Delta,
    };
    let builder = MetricExporter::builder()
        .with_tonic()
        .with_temporality(temporality);
    let exporter = configured(builder, &export.options.metrics, channel, headers).build()?;
    let reader = PeriodicReader::builder(exporter)
        .with_interval(export.interval)
        .build();
    let provider = SdkMeterProvider::builder()
        .with_resource(sdk_resource(resource))
        .with_reader(reader)
        .build();
    state.instrument(&provider.meter(scope::SELF));
    Ok(Some(provider))
}

fn loggers(
    export: &Export<'_>,
    resource: &Resource,
) -> Result<Option<SdkLoggerProvider>, TelemetryError> {
    let Some((channel, headers)) = connection(Signal::Logs, export.options)? else {
        return Ok(None);
    };
    let builder = LogExporter::builder().with_tonic();
    let exporter = configured(builder, &export.options.logs, channel, headers).build()?;
    Ok(Some(
        SdkLoggerProvider::builder()
            .with_resource(sdk_resource(resource))
            .with_batch_exporter(exporter)
            .build(),
    ))
}

fn sdk_resource(resource: &Resource) -> opentelemetry_sdk::Resource {
    let own = resource.attributes.iter().map(|(key, value)| match value {
        Value::Text(text) => KeyValue::new(*key, text.to_string()),
        Value::Int(number) => KeyValue::new(*key, *number),
        Value::List(texts) => KeyValue::new(*key, texts.join(",")),
    });
    let extra = resource
        .extra
        .iter()
        .map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
    opentelemetry_sdk::Resource::builder_empty()
        .with_detector(Box::new(TelemetryResourceDetector))
        .with_attributes(own.chain(extra))
        .build()
}

#[cfg(test)]
mod tests;
