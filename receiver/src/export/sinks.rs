//! Where an engine sends what it makes: the exporter and the console.

use std::sync::Arc;

use netflume_core::ledger::{Ledger, Reason, Stage};
use netflume_core::model::metrics::ResourceMetrics;
use netflume_core::model::request::{Request, Signal};
use netflume_core::otlp::metrics::MetricsEncoder;

use crate::export::console::printer::Printer;
use crate::export::console::{ConsoleError, Format, Line};
use crate::export::exporter::ExporterHandle;

/// Where everything goes that leaves the program.
#[derive(Debug)]
pub struct Sinks {
    pub(crate) exporter: Option<ExporterHandle>,
    pub(crate) console: Option<(Printer, Format)>,
    /// Counts what is handed over, and all that comes after.
    pub ledger: Arc<Ledger>,
}

impl Sinks {
    /// Sends to this exporter from now on.
    pub fn set_exporter(&mut self, exporter: Option<ExporterHandle>) {
        self.exporter = exporter;
    }

    /// Whether requests of this signal are of any use.
    #[must_use]
    pub fn wants(&self, signal: Signal) -> bool {
        self.exporter
            .as_ref()
            .is_some_and(|exporter| exporter.exports(signal))
            || matches!(self.console, Some((_, Format::Json)))
    }

    /// Whether lines are of any use.
    #[must_use]
    pub fn prints_lines(&self) -> bool {
        matches!(self.console, Some((_, Format::Text)))
    }

    /// Prints lines, if anybody reads them.
    ///
    /// # Errors
    /// The console cannot be written any more.
    pub fn lines(&self, lines: Vec<Line>) -> Result<(), ConsoleError> {
        match &self.console {
            Some((printer, Format::Text)) => printer.lines(lines),
            _ => Ok(()),
        }
    }

    /// The metrics of an interval: to the exporters.
    ///
    /// # Errors
    /// The console cannot be written any more.
    pub fn points(
        &mut self,
        encoder: &mut MetricsEncoder,
        points: &[ResourceMetrics],
    ) -> Result<(), ConsoleError> {
        let metrics = points.iter().flat_map(|of| &of.metrics);
        let count = metrics.map(|metric| metric.data.len() as u64).sum();
        if self.book(Signal::Metrics, count) {
            for of in points {
                for request in encoder.push(of) {
                    self.send(request)?;
                }
            }
            if let Some(request) = encoder.finish() {
                self.send(request)?;
            }
        }
        Ok(())
    }

    /// Counts records, points or spans that are ready to be handed over: as passed on if an output takes them, else as not exported.
    /// Whether requests of them are of any use.
    pub fn book(&self, signal: Signal, count: u64) -> bool {
        let stage = match signal {
            Signal::Logs => Stage::Logs,
            Signal::Metrics => Stage::Metrics,
            Signal::Traces => Stage::Spans,
        };
        let wanted = self.wants(signal);
        self.ledger.received(stage, count);
        if wanted || signal == Signal::Logs && self.prints_lines() {
            self.ledger.passed(stage, count);
        } else {
            self.ledger.dropped(stage, Reason::NotExported, count);
        }
        wanted
    }

    /// Hands a request to the exporters.
    ///
    /// # Errors
    /// The console cannot be written any more.
    pub fn send(&mut self, request: Request) -> Result<(), ConsoleError> {
        if let Some((printer, Format::Json)) = &self.console {
            printer.request(request.clone())?;
        }
        if let Some(exporter) = &self.exporter
            && exporter.exports(request.signal)
        {
            exporter.push(request, &self.ledger);
        }
        Ok(())
    }
}
