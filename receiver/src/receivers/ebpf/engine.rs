//! The middle of the pipeline on one thread: a batch in, records and metrics to the exporters out.
//!
//! The same for a live source and a recorded file; time comes with the batches.

use std::sync::Arc;

use netflume_core::aggregate::netflow::FlowTable;
use netflume_core::aggregate::network_metrics::NetworkMetrics;
use netflume_core::aggregate::series;
use netflume_core::decode::kernel;
use netflume_core::ledger::{Reason, Stage};
use netflume_core::model::batch::{Batch, BatchKind, Now};
use netflume_core::model::metrics::ResourceMetrics;
use netflume_core::model::netflow::NetflowRecord;
use netflume_core::model::request::Signal;
use netflume_core::model::resource::ResourceRef;
use netflume_core::otlp::logs::LogsEncoder;
use netflume_core::otlp::logs::netflow::Netflow;
use netflume_core::otlp::metrics::MetricsEncoder;

use crate::directories::process::ProcessDirectory;
use crate::export::console::{ConsoleError, Line};
use crate::export::sinks::Sinks;
use crate::receivers::ebpf::options::EbpfOptions;
use crate::receivers::{Change, Engine, EngineContext, EngineError, Settings};

/// Lines that are handed over at once.
const LINES_MAX: usize = 1024;

/// Tables, encoders and sinks.
pub(crate) struct EbpfEngine {
    table: FlowTable,
    directory: ProcessDirectory,
    /// None before the first batch, which tells the time.
    metrics: Option<NetworkMetrics>,
    series: series::Options,
    host: ResourceRef,
    logs: LogsEncoder,
    points: MetricsEncoder,
    sinks: Sinks,
    /// Of the interval that ends; kept for its memory.
    records: Vec<NetflowRecord>,
}

impl EbpfEngine {
    pub(crate) fn new(options: &EbpfOptions, settings: &Settings, context: EngineContext) -> Self {
        let mut directory = ProcessDirectory::new(
            options.process.clone(),
            &context.roots,
            &context.host,
            settings.service.clone(),
        );
        let nobody = directory.nobody();
        Self {
            host: Arc::clone(&nobody.resource),
            table: FlowTable::new(options.table_options(), nobody),
            directory,
            metrics: None,
            series: settings.series,
            logs: LogsEncoder::new(settings.logs),
            points: MetricsEncoder::new(settings.points),
            sinks: context.sinks,
            records: Vec::new(),
        }
    }

    fn decode(&mut self, bytes: &[u8]) {
        let Self {
            table,
            directory,
            sinks,
            ..
        } = self;
        let mut malformed = 0;
        let count = kernel::decode(bytes, |event| match event {
            Ok(event) => table.apply(&event, |owner, boot_ns| directory.identify(owner, boot_ns)),
            Err(error) => {
                malformed += error.records();
                tracing::debug!(%error, "kernel record skipped");
            }
        });
        let ledger = &sinks.ledger;
        ledger.received(Stage::Decode, count);
        ledger.passed(Stage::Decode, count - malformed);
        ledger.dropped(Stage::Decode, Reason::Malformed, malformed);
    }

    fn flush(&mut self, unix_ns: u64) -> Result<(), ConsoleError> {
        let Self {
            table,
            directory,
            metrics,
            records,
            ..
        } = self;
        records.clear();
        table.settle(|owner, boot_ns| directory.identify(owner, boot_ns));
        table.flush(
            unix_ns,
            |record| records.push(record),
            |usage| {
                if let Some(metrics) = metrics {
                    metrics.apply(usage);
                }
            },
        );
        table.book(&self.sinks.ledger);
        let points = self
            .metrics
            .as_mut()
            .map(|metrics| metrics.collect(unix_ns))
            .unwrap_or_default();
        self.send_records()?;
        self.sinks.points(&mut self.points, &points)?;
        Ok(())
    }

    fn send_records(&mut self) -> Result<(), ConsoleError> {
        let records = std::mem::take(&mut self.records);
        let exported = self.sinks.book(Signal::Logs, records.len() as u64);
        if self.sinks.prints_lines() {
            for some in records.chunks(LINES_MAX) {
                self.sinks.lines(some.iter().map(Line::from).collect())?;
            }
        }
        if exported {
            for record in &records {
                if let Some(request) = self.logs.push(&Netflow::from(record)) {
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

impl Engine for EbpfEngine {
    /// At the end of an interval, what happened in it goes out.
    fn feed(&mut self, batch: &Batch) -> Result<(), EngineError> {
        self.metrics
            .get_or_insert_with(|| NetworkMetrics::new(self.series, &self.host, batch.unix_ns));
        match batch.kind {
            BatchKind::INTERVAL => self.flush(batch.unix_ns)?,
            _ => {
                self.sinks
                    .ledger
                    .bytes(Stage::Decode, batch.bytes.len() as u64);
                self.decode(&batch.bytes);
            }
        }
        Ok(())
    }

    fn tick(&mut self, _: Now) -> Result<(), EngineError> {
        // The source measures the intervals, because the kernel is asked at their ends.
        Ok(())
    }

    fn totals(&mut self, now: Now) -> Vec<ResourceMetrics> {
        let Some(metrics) = &self.metrics else {
            return Vec::new();
        };
        // What the interval has so far goes on top of a copy: the interval's end and the exporter find all as it was.
        let mut metrics = metrics.clone();
        self.table.usage_so_far(|usage| metrics.apply(usage));
        metrics.totals(now.unix_ns)
    }

    fn reconfigure(&mut self, change: &Change) -> Result<(), EngineError> {
        let settings = &change.settings;
        // What waits in the encoders is written as it was.
        self.send_records()?;
        self.logs = LogsEncoder::new(settings.logs);
        self.points = MetricsEncoder::new(settings.points);
        if let Some(options) = &settings.receivers.ebpf {
            self.directory.set_options(options.process.clone());
        }
        self.sinks.set_exporter(change.exporter.clone());
        Ok(())
    }

    fn finish(&mut self, _: Now) -> Result<(), EngineError> {
        Ok(())
    }
}
