//! Where an engine sends what it makes: the exporter and the console.

use netflume_core::ledger::{Ledger, Stage};
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
        ledger: &Ledger,
    ) -> Result<(), ConsoleError> {
        let metrics = points.iter().flat_map(|of| &of.metrics);
        let count = metrics.map(|metric| metric.data.len() as u64).sum();
        ledger.received(Stage::Metrics, count);
        ledger.passed(Stage::Metrics, count);
        if self.wants(Signal::Metrics) {
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
            exporter.push(request);
        }
        Ok(())
    }
}
