//! Wires everything: which threads there are, what they hand to each other, and how they end.
//!
//! | thread | does |
//! | --- | --- |
//! | `kernel` | reads the kernel source, feeds the `engine`: decode, tables, encoders |
//! | `cilium` | reads the monitor socket and frames, nothing else |
//! | `cilium-api` | asks the agent's API for names |
//! | `cilium-decode` | feeds the `cilium` engine: flows, metrics, encoders |
//! | `console` | writes what the engines want shown |
//! | tokio, one worker | export queue and gRPC, health and metrics servers, Observer API, own telemetry |
//! | main | waits for a signal |
//!
//! The end comes from the front: the source's last interval, the tables' last flush, the queue's last request; then the books are
//! closed.

use std::fs::File;
use std::io::{BufReader, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::{self, ReplayOptions};
use crate::config::Config;
use crate::config::service::Body;
use crate::directories::host;
use crate::directories::process::{self, ProcessDirectory};
use crate::export::console::ConsoleError;
use crate::export::console::printer::Behind;
use crate::receivers::cilium::engine::{self as cilium, CiliumEngine};
use crate::receivers::cilium::exchanges;
use crate::receivers::cilium::observer::ObserverApi;
use crate::receivers::cilium::source::CiliumSource;
use crate::receivers::ebpf::engine::{self, Engine, Sinks};
use crate::receivers::ebpf::source::{KernelSource, Scope};
use crate::serve::health::SourceState;
use netflume_core::aggregate::exchange::ExchangeOptions;
use netflume_core::aggregate::hubble::HubbleMetrics;
use netflume_core::aggregate::selection::Selection;
use netflume_core::decode::recording::Reader;
use netflume_core::enrich::cilium::flow::{self, Flows};
use netflume_core::enrich::host::Host;
use netflume_core::enrich::service;
use netflume_core::ledger::Ledger;
use netflume_core::model::batch::BatchKind;
use netflume_core::model::resource::ResourceRef;
use netflume_core::otlp::logs::{LogBody, LogsOptions};
use netflume_core::otlp::metrics::MetricsOptions;
use netflume_core::otlp::spans::SpansOptions;
use netflume_core::semconv;

mod driver;
mod record;
mod services;

use driver::Stop;
pub use record::record;
use services::Services;

/// Between two exports of the Cilium metrics.
const CILIUM_INTERVAL: Duration = Duration::from_secs(10);

/// Runs until a signal ends it.
///
/// # Errors
/// No source can be started, an exporter or an extension cannot be set up, or the console cannot be written.
pub fn run(config: &Config) -> anyhow::Result<ExitCode> {
    let runtime = runtime()?;
    let _inside = runtime.enter();
    let mut signals = EndSignals::listen()?;
    let ledger = Arc::new(Ledger::default());
    let shell = Services::start(config, &runtime, &ledger, Behind::Drop)?;
    let host = host::read_host(&host::Options::from_environment(cli::variable));
    let stop = Stop::new().context("eventfd")?;
    let (ended, mut end) = tokio::sync::mpsc::channel(1);
    let ebpf = config.receivers.ebpf.as_ref().filter(|ebpf| ebpf.netflow);
    let mut banner = format!(
        "netflume {} on {}",
        env!("CARGO_PKG_VERSION"),
        host.name.as_deref().unwrap_or("this host")
    );
    let mut costs = Vec::new();
    let mut threads = Vec::new();
    let mut sources = Vec::new();
    let mut observer = None;
    if let Some(ebpf) = ebpf {
        shell.health.source(driver::EBPF, SourceState::Starting);
        let options = ebpf.kernel_options();
        let source = KernelSource::start(&options, Arc::clone(&ledger));
        match &source {
            Ok(source) => {
                banner = format!("{banner}, {}", source.report());
                costs = source.report().costs();
            }
            Err(_) if config.receivers.cilium.is_some() => {}
            Err(_) => {
                source.context("receivers.ebpf")?;
                return Ok(ExitCode::FAILURE);
            }
        }
        let interval = ebpf.interval;
        let sinks = shell.sinks();
        let mut engine = engine(config, directory(config, &host), sinks, &ledger);
        let (health, books, stop) = (Arc::clone(&shell.health), Arc::clone(&ledger), stop.clone());
        threads.push(thread("kernel", ended.clone(), move || {
            driver::read(
                source,
                &options,
                interval,
                &stop,
                &health,
                &books,
                |batch| engine.feed(batch),
            )
        })?);
    }
    if let Some(cilium) = &config.receivers.cilium {
        banner = format!("{banner}, Cilium events of {}", cilium.socket.display());
        let (source, batches) = CiliumSource::start(
            cilium.socket.clone(),
            Arc::clone(&ledger),
            Arc::clone(&shell.health),
        )
        .context("receivers.cilium")?;
        sources.push(source);
        let mut engine = cilium_engine(config, &host, &shell.own, &shell, &ledger)?;
        engine
            .ask_at(&cilium.api_socket)
            .context("receivers.cilium.api_socket")?;
        if let Some(extension) = &config.extensions.hubble_observer {
            let (shown, api) = ObserverApi::start(extension.options(), Arc::clone(&ledger));
            engine.show(shown);
            observer = Some(api);
        }
        threads.push(thread("cilium-decode", ended.clone(), move || {
            let run = engine.run(&batches, CILIUM_INTERVAL);
            engine.finish();
            run
        })?);
    }
    drop(ended);
    if threads.is_empty() {
        anyhow::bail!(
            "no receiver is enabled: name one under `receivers`, for example `ebpf: {{}}`"
        );
    }
    let destination = shell.destination(config);
    say(&[vec![banner], costs, vec![destination]].concat().join("\n"));
    runtime.block_on(async {
        tokio::select! {
            () = signals.received() => {}
            _ = end.recv() => {}
        }
    });
    stop.stop();
    drop(sources);
    let mut result = Ok(());
    for thread in threads {
        let read = thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        result = result.and(read);
    }
    if let Some(observer) = observer {
        runtime.block_on(observer.stop());
    }
    // Why the console cannot be written any more is known there; the engines only know that it cannot.
    let printed = runtime.block_on(shell.shutdown(config.service.shutdown_timeout));
    close(printed.and(result))
}

/// Starts a thread that says when it is over.
fn thread(
    name: &str,
    ended: tokio::sync::mpsc::Sender<()>,
    body: impl FnOnce() -> Result<(), ConsoleError> + Send + 'static,
) -> anyhow::Result<JoinHandle<Result<(), ConsoleError>>> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            let result = body();
            // Whoever waits may be gone already, or know of another end.
            let _told = ended.try_send(());
            result
        })
        .context("cannot start a thread")
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
    let shell = Services::start(config, &runtime, &ledger, Behind::Wait)?;
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
    let mut engine = engine(config, directory, shell.sinks(), &ledger);
    let mut cilium = cilium_engine(
        config,
        &Host::default(),
        &nobodys(&shell.own),
        &shell,
        &ledger,
    )?;
    let mut read = Ok(());
    let mut cut_off = None;
    let mut last_ns = None;
    for batch in reader {
        match batch {
            Ok(batch) if batch.kind == BatchKind::CiliumMonitor => {
                last_ns = Some(batch.unix_ns);
                read = cilium.feed(&batch);
            }
            Ok(batch) => read = engine.feed(&batch),
            Err(error) => cut_off = Some(error),
        }
        if read.is_err() {
            break;
        }
    }
    let read = read.and_then(|()| last_ns.map_or(Ok(()), |unix_ns| cilium.flush(unix_ns)));
    cilium.finish();
    // Nobody prints any more.
    drop((engine, cilium));
    let printed = runtime.block_on(shell.shutdown(config.service.shutdown_timeout));
    match cut_off {
        Some(error) => Err(error).with_context(|| path.clone()),
        None => close(printed.and(read)),
    }
}

fn engine(
    config: &Config,
    directory: ProcessDirectory,
    sinks: Sinks,
    ledger: &Arc<Ledger>,
) -> Engine {
    let (logs, points) = encoders(config);
    let options = engine::Options {
        table: config
            .receivers
            .ebpf
            .clone()
            .unwrap_or_default()
            .table_options(),
        metrics: series_options(config),
        logs,
        points,
    };
    Engine::new(options, directory, sinks, Arc::clone(ledger))
}

fn cilium_engine(
    config: &Config,
    host: &Host,
    own: &ResourceRef,
    shell: &Services,
    ledger: &Arc<Ledger>,
) -> anyhow::Result<CiliumEngine> {
    let options = config.receivers.cilium.clone().unwrap_or_default();
    let logs = options.logs.enabled.then_some(&options.logs.selection);
    let making = cilium::Making {
        flows: Flows::new(flow::Options {
            redaction: options.redact.options(),
            ..flow::Options::default()
        }),
        metrics: HubbleMetrics::new(&options.metrics).context("receivers.cilium.metrics")?,
        logs: logs
            .map(Selection::new)
            .transpose()
            .context("receivers.cilium.logs")?,
    };
    Ok(CiliumEngine::new(
        making,
        host.name.as_deref().unwrap_or_default(),
        cilium::Resources {
            node: Arc::clone(&directory(config, host).nobody().resource),
            own: Arc::clone(own),
        },
        encoders(config),
        exchange_options(config),
        shell.sinks(),
        Arc::clone(ledger),
    ))
}

/// Our resource without what tells this run and machine from others: a file gives the same bytes each time and everywhere.
fn nobodys(own: &ResourceRef) -> ResourceRef {
    let mut resource = (**own).clone();
    resource.attributes.retain(|(key, _)| {
        *key != semconv::resource::SERVICE_INSTANCE_ID && !key.starts_with("host.")
    });
    Arc::new(resource)
}

fn exchange_options(config: &Config) -> exchanges::Options {
    let timeout = config
        .receivers
        .cilium
        .clone()
        .unwrap_or_default()
        .request_timeout;
    exchanges::Options {
        table: ExchangeOptions {
            timeout_ns: u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX),
            ..ExchangeOptions::default()
        },
        metrics: series_options(config),
        spans: SpansOptions {
            max_request_bytes: encoders(config).1.max_request_bytes,
        },
    }
}

fn series_options(config: &Config) -> netflume_core::aggregate::series::Options {
    netflume_core::aggregate::series::Options {
        temporality: config.metrics.temporality,
        limit: config.metrics.cardinality_limit,
        ..Default::default()
    }
}

fn encoders(config: &Config) -> (LogsOptions, MetricsOptions) {
    let max_request_bytes = config.exporters.otlp_grpc.as_ref().map_or_else(
        || LogsOptions::default().max_request_bytes,
        |otlp| otlp.max_request_size,
    );
    let body = match config.logs.body {
        Body::Record => LogBody::Record,
        Body::None => LogBody::None,
    };
    (
        LogsOptions {
            body,
            max_request_bytes,
        },
        MetricsOptions { max_request_bytes },
    )
}

fn directory(config: &Config, host: &Host) -> ProcessDirectory {
    let roots = host::Options::from_environment(cli::variable);
    let ebpf = config.receivers.ebpf.as_ref();
    ProcessDirectory::new(
        ebpf.map(|ebpf| ebpf.process.clone()).unwrap_or_default(),
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

/// What asks for the end: SIGINT and SIGTERM. One that comes while the sources still start is not lost.
struct EndSignals {
    interrupt: Signal,
    terminate: Signal,
}

impl EndSignals {
    /// From now on. Must be called within the runtime.
    fn listen() -> anyhow::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).context("SIGINT")?,
            terminate: signal(SignalKind::terminate()).context("SIGTERM")?,
        })
    }

    /// Until one came.
    async fn received(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
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
