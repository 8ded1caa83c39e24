//! Wires everything: which threads there are, what they hand to each other, and how they end.
//!
//! | thread | does |
//! | --- | --- |
//! | `kernel` | reads the kernel source, feeds the [`engine`]: decode, tables, encoders, console |
//! | tokio, one worker | export queue and gRPC, health and metrics servers, own telemetry |
//! | main | waits for a signal |
//!
//! The end comes from the front: the source's last interval, the tables' last flush, the queue's last request; then the books are
//! closed.

use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{self, RecordOptions, ReplayOptions};
use crate::config::Config;
use crate::config::exporters::{Format, OtlpGrpc};
use crate::config::service::Body;
use crate::enrich::host::{self, Host};
use crate::enrich::process::{self, ProcessDirectory};
use crate::enrich::service;
use crate::export::console::{Console, ConsoleError, ConsoleOptions};
use crate::export::exporter::{Exporter, ExporterHandle};
use crate::ledger::Ledger;
use crate::otlp::logs::{LogBody, LogsOptions};
use crate::otlp::metrics::MetricsOptions;
use crate::serve::health::{Health, HealthHandler, SourceState};
use crate::serve::http::Server;
use crate::serve::metrics::{MetricsHandler, Registry};
use crate::source::kernel::{KernelSource, Scope};
use crate::source::replay::{Reader, Writer};
use crate::telemetry::state::SelfState;
use crate::telemetry::{self, Telemetry};

mod engine;
mod live;

use engine::{Engine, Sinks};
use live::Stop;

/// Runs until a signal ends it.
///
/// # Errors
/// No source can be started, an exporter or an extension cannot be set up, or the console cannot be written.
pub fn run(config: &Config) -> anyhow::Result<ExitCode> {
    let runtime = runtime()?;
    let _inside = runtime.enter();
    let ledger = Arc::new(Ledger::default());
    let shell = Shell::start(config, &runtime, &ledger)?;
    let ebpf = config.receivers.ebpf.clone().filter(|ebpf| ebpf.netflow);
    let Some(ebpf) = ebpf else {
        anyhow::bail!(
            "no receiver is enabled: name one under `receivers`, for example `ebpf: {{}}`"
        );
    };
    shell.health.source(live::EBPF, SourceState::Starting);
    let kernel_options = ebpf.kernel_options();
    let source =
        KernelSource::start(&kernel_options, Arc::clone(&ledger)).context("receivers.ebpf")?;
    let host = Host::read(&host::Options::from_environment(cli::variable));
    say(&format!(
        "netflume {} on {}, {}\n{}",
        env!("CARGO_PKG_VERSION"),
        host.name.as_deref().unwrap_or("this host"),
        source.report(),
        destination(config, shell.exporter.as_ref()),
    ));
    let stop = Stop::new().context("eventfd")?;
    let (health, books, thread_stop) =
        (Arc::clone(&shell.health), Arc::clone(&ledger), stop.clone());
    let mut engine = engine(
        config,
        directory(config, &host),
        shell.sinks(config, &ledger),
        &ledger,
    );
    let (ended, end) = tokio::sync::oneshot::channel();
    let reader = std::thread::Builder::new()
        .name("kernel".to_owned())
        .spawn(move || {
            let read = live::read(
                source,
                &kernel_options,
                ebpf.interval,
                &thread_stop,
                &health,
                &books,
                |batch| engine.feed(batch),
            );
            let finished = read.and_then(|()| engine.finish());
            // Whoever waits may be gone already.
            let _waiting = ended.send(());
            finished
        })
        .context("cannot start a thread")?;
    runtime.block_on(async {
        tokio::select! {
            stopped = stopped() => stopped,
            _ = end => Ok(()),
        }
    })?;
    stop.stop();
    let read = reader
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    runtime.block_on(shell.shutdown(config));
    close(read)
}

/// Writes source bytes to a file until a signal ends it.
///
/// # Errors
/// No source can be started, or the file cannot be written.
pub fn record(config: &Config, options: &RecordOptions) -> anyhow::Result<ExitCode> {
    let runtime = runtime()?;
    let ledger = Arc::new(Ledger::default());
    let ebpf = config
        .receivers
        .ebpf
        .clone()
        .context("`record` needs `receivers.ebpf`")?;
    let kernel_options = ebpf.kernel_options();
    let source =
        KernelSource::start(&kernel_options, Arc::clone(&ledger)).context("receivers.ebpf")?;
    let path = options.output.display().to_string();
    let file = File::create(&options.output).with_context(|| path.clone())?;
    let mut writer = Writer::new(BufWriter::new(file)).with_context(|| path.clone())?;
    say(&format!(
        "{}\nrecording to {path} (Ctrl-C stops)",
        source.report()
    ));
    let stop = Stop::new().context("eventfd")?;
    let thread_stop = stop.clone();
    let (ended, end) = tokio::sync::oneshot::channel();
    let reader = std::thread::spawn(move || {
        let (mut batches, mut bytes) = (0_u64, 0_u64);
        let read = live::read(
            source,
            &kernel_options,
            ebpf.interval,
            &thread_stop,
            &Health::default(),
            &ledger,
            |batch| {
                batches += 1;
                bytes += batch.bytes.len() as u64;
                writer.write(batch)
            },
        );
        let flushed = read.and_then(|()| writer.flush());
        let _waiting = ended.send(());
        flushed.map(|()| (batches, bytes))
    });
    runtime.block_on(async {
        tokio::select! {
            stopped = stopped() => stopped,
            _ = end => Ok(()),
        }
    })?;
    stop.stop();
    let read = reader
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    let (batches, bytes) = read.with_context(|| path.clone())?;
    say(&format!(
        "{path}: {batches} batches, {bytes} bytes of records"
    ));
    Ok(ExitCode::SUCCESS)
}

/// Feeds a recorded file through the pipeline. The names of processes are those that the kernel told: the file may come from
/// another machine.
///
/// # Errors
/// The file cannot be read, or is not a recording.
pub fn replay(config: &Config, options: &ReplayOptions) -> anyhow::Result<ExitCode> {
    let runtime = runtime()?;
    let _inside = runtime.enter();
    let path = options.file.display().to_string();
    let file = File::open(&options.file).with_context(|| path.clone())?;
    let reader = Reader::new(BufReader::new(file)).with_context(|| path.clone())?;
    let ledger = Arc::new(Ledger::default());
    let shell = Shell::start(config, &runtime, &ledger)?;
    let nowhere = host::Options {
        root: Path::new("/dev/null").into(),
        proc: Path::new("/dev/null").into(),
        cgroup: Path::new("/dev/null").into(),
    };
    let resources = service_options(config);
    let directory = ProcessDirectory::new(
        process::Options::default(),
        &nowhere,
        &Host::default(),
        resources,
    );
    let mut engine = engine(config, directory, shell.sinks(config, &ledger), &ledger);
    let mut read = Ok(());
    let mut cut_off = None;
    for batch in reader {
        match batch {
            Ok(batch) => read = engine.feed(&batch),
            Err(error) => cut_off = Some(error),
        }
        if read.is_err() {
            break;
        }
    }
    let read = read.and_then(|()| engine.finish());
    runtime.block_on(shell.shutdown(config));
    match cut_off {
        Some(error) => Err(error).with_context(|| path.clone()),
        None => close(read),
    }
}

/// What surrounds the engine.
struct Shell {
    health: Arc<Health>,
    exporter: Option<ExporterHandle>,
    latest: Arc<Mutex<Vec<crate::model::metrics::ResourceMetrics>>>,
    telemetry: Telemetry,
    _servers: Vec<Server>,
}

impl Shell {
    fn start(
        config: &Config,
        runtime: &tokio::runtime::Runtime,
        ledger: &Arc<Ledger>,
    ) -> anyhow::Result<Self> {
        let options = config.exporters.otlp_grpc.as_ref().map(OtlpGrpc::options);
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
        let latest = Arc::<Mutex<Vec<_>>>::default();
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
            let registry = Arc::new(Registry::new(own));
            registry.register(Arc::new(move || state.metrics()));
            let newest = Arc::clone(&latest);
            registry.register(Arc::new(move || {
                newest
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .clone()
            }));
            let handler = Arc::new(MetricsHandler(registry));
            servers.push(runtime.block_on(Server::start(
                "extensions.prometheus",
                &extension.endpoint,
                handler,
            ))?);
        }
        Ok(Self {
            health,
            exporter,
            latest,
            telemetry,
            _servers: servers,
        })
    }

    fn sinks(&self, config: &Config, ledger: &Arc<Ledger>) -> Sinks {
        let console = config.exporters.console.as_ref().map(|console| {
            let stdout: Box<dyn Write + Send> = Box::new(BufWriter::new(std::io::stdout()));
            let options = match console.format {
                Format::Text => ConsoleOptions::for_stdout(),
                Format::Json => ConsoleOptions::default(),
            };
            (
                Console::new(stdout, options, Arc::clone(ledger)),
                console.format,
            )
        });
        Sinks {
            exporter: self.exporter.clone(),
            console,
            latest: Arc::clone(&self.latest),
        }
    }

    /// Sends what is queued, within the time that the configuration allows for it.
    async fn shutdown(self, config: &Config) {
        let allowed = config.service.shutdown_timeout;
        let begin = tokio::time::Instant::now();
        if let Some(exporter) = &self.exporter {
            exporter.shutdown(allowed).await;
        }
        self.telemetry
            .shutdown(allowed.saturating_sub(begin.elapsed()))
            .await;
    }
}

fn engine(
    config: &Config,
    directory: ProcessDirectory,
    sinks: Sinks,
    ledger: &Arc<Ledger>,
) -> Engine {
    let max_request_bytes = config.exporters.otlp_grpc.as_ref().map_or_else(
        || LogsOptions::default().max_request_bytes,
        |otlp| otlp.max_request_size,
    );
    let options = engine::Options {
        table: config
            .receivers
            .ebpf
            .clone()
            .unwrap_or_default()
            .table_options(),
        metrics: crate::aggregate::series::Options {
            temporality: config.metrics.temporality,
            limit: config.metrics.cardinality_limit,
            ..Default::default()
        },
        logs: LogsOptions {
            body: match config.logs.body {
                Body::Record => LogBody::Record,
                Body::None => LogBody::None,
            },
            max_request_bytes,
        },
        points: MetricsOptions { max_request_bytes },
    };
    Engine::new(options, directory, sinks, Arc::clone(ledger))
}

fn directory(config: &Config, host: &Host) -> ProcessDirectory {
    let roots = host::Options::from_environment(cli::variable);
    ProcessDirectory::new(
        process::Options::default(),
        &roots,
        host,
        service_options(config),
    )
}

fn service_options(config: &Config) -> service::Options {
    let scope = config.receivers.ebpf.as_ref().map(|ebpf| ebpf.kernel.scope);
    service::Options {
        attributes: config.resource.attributes.clone(),
        service_name: config.resource.service_name.clone(),
        own_environment_is_workload: scope == Some(Scope::Pod),
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(8)
        .enable_all()
        .build()
        .context("cannot start the runtime")
}

/// Until SIGINT or SIGTERM.
async fn stopped() -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

/// Where records go, in one line.
fn destination(config: &Config, exporter: Option<&ExporterHandle>) -> String {
    let endpoints: Vec<String> = exporter
        .map(|exporter| {
            exporter
                .status()
                .into_iter()
                .map(|receiver| receiver.endpoint)
                .collect()
        })
        .unwrap_or_default();
    match (endpoints.as_slice(), &config.exporters.console) {
        ([], Some(_)) => "no Collector: OTEL_EXPORTER_OTLP_ENDPOINT is not set, records go to this terminal (Ctrl-C stops)".to_owned(),
        ([], None) => "records go nowhere: no exporter is enabled".to_owned(),
        (endpoints, None) => format!("records go to {}", endpoints.join(", ")),
        (endpoints, Some(_)) => format!("records go to {} and to this terminal (Ctrl-C stops)", endpoints.join(", ")),
    }
}

/// A line for the person who started us; records have stdout to themselves.
fn say(text: &str) {
    // Where stderr is gone, nothing more can be said.
    let _gone = writeln!(std::io::stderr(), "{text}");
}

/// The reader of our output may go away (`| head`): a good end.
fn close(read: Result<(), ConsoleError>) -> anyhow::Result<ExitCode> {
    match read {
        Ok(()) | Err(ConsoleError::Closed) => Ok(ExitCode::SUCCESS),
        Err(error) => Err(error.into()),
    }
}
