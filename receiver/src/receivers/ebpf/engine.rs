//! The middle of the pipeline on one thread: a batch in, records and metrics to the exporters out.
//!
//! The same for a live source and a recorded file; time comes with the batches.

use std::sync::{Arc, Mutex, PoisonError};

use crate::config::exporters::Format;
use crate::directories::process::ProcessDirectory;
use crate::export::console::printer::Printer;
use crate::export::console::{ConsoleError, Line};
use crate::export::exporter::ExporterHandle;
use netflume_core::aggregate::netflow::{self, FlowTable};
use netflume_core::aggregate::network_metrics::NetworkMetrics;
use netflume_core::aggregate::series;
use netflume_core::decode::kernel;
use netflume_core::ledger::{Ledger, Reason, Stage};
use netflume_core::model::batch::{Batch, BatchKind};
use netflume_core::model::metrics::ResourceMetrics;
use netflume_core::model::netflow::NetflowRecord;
use netflume_core::model::request::{Request, Signal};
use netflume_core::model::resource::ResourceRef;
use netflume_core::otlp::logs::{LogsEncoder, LogsOptions};
use netflume_core::otlp::metrics::{MetricsEncoder, MetricsOptions};

/// Lines that are handed over at once.
const LINES_MAX: usize = 1024;

/// Where everything goes that leaves the program.
pub(crate) struct Sinks {
    pub(crate) exporter: Option<ExporterHandle>,
    pub(crate) console: Option<(Printer, Format)>,
    /// The newest metrics, for `/metrics`.
    pub(crate) latest: Arc<Mutex<Vec<ResourceMetrics>>>,
}

/// Settings of the middle.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    pub(crate) table: netflow::Options,
    pub(crate) metrics: series::Options,
    pub(crate) logs: LogsOptions,
    pub(crate) points: MetricsOptions,
}

/// Tables, encoders and sinks.
pub(crate) struct Engine {
    table: FlowTable,
    directory: ProcessDirectory,
    /// None before the first batch, which tells the time.
    metrics: Option<NetworkMetrics>,
    series: series::Options,
    host: ResourceRef,
    logs: LogsEncoder,
    points: MetricsEncoder,
    sinks: Sinks,
    ledger: Arc<Ledger>,
    /// Of the interval that ends; kept for its memory.
    records: Vec<NetflowRecord>,
}

impl Engine {
    pub(crate) fn new(
        options: Options,
        mut directory: ProcessDirectory,
        sinks: Sinks,
        ledger: Arc<Ledger>,
    ) -> Self {
        let nobody = directory.nobody();
        Self {
            host: Arc::clone(&nobody.resource),
            table: FlowTable::new(options.table, nobody),
            directory,
            metrics: None,
            series: options.metrics,
            logs: LogsEncoder::new(options.logs),
            points: MetricsEncoder::new(options.points),
            sinks,
            ledger,
            records: Vec::new(),
        }
    }

    /// Takes a batch. At the end of an interval, what happened in it goes out.
    ///
    /// # Errors
    /// The console cannot be written to.
    pub(crate) fn feed(&mut self, batch: &Batch) -> Result<(), ConsoleError> {
        self.metrics
            .get_or_insert_with(|| NetworkMetrics::new(self.series, &self.host, batch.unix_ns));
        match batch.kind {
            BatchKind::Kernel => {
                self.ledger.bytes(Stage::Decode, batch.bytes.len() as u64);
                self.decode(&batch.bytes);
                Ok(())
            }
            BatchKind::Interval => self.flush(batch.unix_ns),
            BatchKind::CiliumMonitor => {
                self.ledger.received(Stage::Decode, 1);
                self.ledger.dropped(Stage::Decode, Reason::Filtered, 1);
                Ok(())
            }
        }
    }

    fn decode(&mut self, bytes: &[u8]) {
        let Self {
            table,
            directory,
            ledger,
            ..
        } = self;
        let mut malformed = 0;
        let count = kernel::decode(bytes, |event| match event {
            Ok(event) => table.apply(&event, |owner, boot_ns| directory.identify(owner, boot_ns)),
            Err(error) => {
                malformed += 1;
                tracing::debug!(%error, "kernel record skipped");
            }
        });
        ledger.received(Stage::Decode, count);
        ledger.passed(Stage::Decode, count - malformed);
        ledger.dropped(Stage::Decode, Reason::Malformed, malformed);
    }

    fn flush(&mut self, unix_ns: u64) -> Result<(), ConsoleError> {
        let Self {
            table,
            metrics,
            records,
            ..
        } = self;
        records.clear();
        table.flush(
            unix_ns,
            |record| records.push(record),
            |usage| {
                if let Some(metrics) = metrics {
                    metrics.apply(usage);
                }
            },
        );
        table.book(&self.ledger);
        let points = self
            .metrics
            .as_mut()
            .map(|metrics| metrics.collect(unix_ns))
            .unwrap_or_default();
        self.send_records()?;
        self.sinks.points(&mut self.points, points, &self.ledger)?;
        Ok(())
    }

    fn send_records(&mut self) -> Result<(), ConsoleError> {
        let records = std::mem::take(&mut self.records);
        let count = records.len() as u64;
        self.ledger.received(Stage::Logs, count);
        self.ledger.passed(Stage::Logs, count);
        if let Some((printer, Format::Text)) = &self.sinks.console {
            for some in records.chunks(LINES_MAX) {
                printer.lines(some.iter().map(Line::from).collect())?;
            }
        }
        if self.sinks.wants(Signal::Logs) {
            for record in &records {
                if let Some(request) = self.logs.push(record) {
                    self.sinks.send(request)?;
                }
            }
            if let Some(request) = self.logs.finish() {
                self.sinks.send(request)?;
            }
        }
        self.records = records;
        Ok(())
    }
}

impl Sinks {
    /// Whether requests of this signal are of any use.
    pub(crate) fn wants(&self, signal: Signal) -> bool {
        self.exporter
            .as_ref()
            .is_some_and(|exporter| exporter.exports(signal))
            || matches!(self.console, Some((_, Format::Json)))
    }

    /// The metrics of an interval: to the exporters, and kept for `/metrics`.
    pub(crate) fn points(
        &mut self,
        encoder: &mut MetricsEncoder,
        points: Vec<ResourceMetrics>,
        ledger: &Ledger,
    ) -> Result<(), ConsoleError> {
        let metrics = points.iter().flat_map(|of| &of.metrics);
        let count = metrics.map(|metric| metric.data.len() as u64).sum();
        ledger.received(Stage::Metrics, count);
        ledger.passed(Stage::Metrics, count);
        if self.wants(Signal::Metrics) {
            for of in &points {
                for request in encoder.push(of) {
                    self.send(request)?;
                }
            }
            if let Some(request) = encoder.finish() {
                self.send(request)?;
            }
        }
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = points;
        Ok(())
    }

    pub(crate) fn send(&mut self, request: Request) -> Result<(), ConsoleError> {
        if let Some((printer, Format::Json)) = &self.console {
            printer.request(request.clone())?;
        }
        if let Some(exporter) = &self.exporter
            && exporter.exports(request.signal)
        {
            exporter.push(request);
        }
        Ok(())
    }
}
