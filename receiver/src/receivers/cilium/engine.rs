//! The middle of the pipeline for Cilium events: batches of gob messages in; flows, `hubble_*` metrics, log records and lines out.

use std::sync::Arc;
use std::time::Duration;

use netflume_core::aggregate::exchange::ExchangeOptions;
use netflume_core::aggregate::hubble::HubbleMetrics;
use netflume_core::aggregate::selection::Selection;
use netflume_core::enrich::cilium::answer::AgentInfo;
use netflume_core::enrich::cilium::flow;
use netflume_core::enrich::cilium::update::PodChange;
use netflume_core::ledger::{Reason, Stage};
use netflume_core::model::batch::{Batch, Now};
use netflume_core::model::cilium::CiliumEvent;
use netflume_core::model::flow::{Node, address_text, summary};
use netflume_core::model::metrics::ResourceMetrics;
use netflume_core::model::request::Signal;
use netflume_core::model::resource::ResourceRef;
use netflume_core::otlp::logs::LogsEncoder;
use netflume_core::otlp::logs::cilium::{CiliumLog, event_name};
use netflume_core::otlp::metrics::MetricsEncoder;

use crate::directories::cilium_api::Names;
use crate::directories::process::ProcessDirectory;
use crate::export::console::{ConsoleError, Line};
use crate::export::sinks::Sinks;
use crate::receivers::cilium::events::{Events, Sink};
use crate::receivers::cilium::exchanges::{self, ExchangePublisher};
use crate::receivers::cilium::options::CiliumOptions;
use crate::receivers::{Change, Engine, EngineContext, EngineError, Origin, Schedule, Settings};
use crate::serve::observer::publisher::FlowPublisher;

/// Between two exports of the metrics.
const METRICS_INTERVAL: Duration = Duration::from_secs(10);
/// Lines that are handed over at once.
const LINES_MAX: usize = 512;

/// Decoder, and what is made of its events.
pub(crate) struct CiliumEngine {
    events: Events,
    out: Output,
}

/// Metrics, encoders and sinks.
struct Output {
    node: Node,
    metrics: HubbleMetrics,
    selection: Option<Selection>,
    own: ResourceRef,
    /// Of log records.
    node_resource: ResourceRef,
    logs: LogsEncoder,
    points: MetricsEncoder,
    sinks: Sinks,
    lines: Vec<Line>,
    exchanges: ExchangePublisher,
    /// The Observer API's ring, if it is served.
    published: Option<FlowPublisher>,
    metrics_due: Schedule,
}

impl CiliumEngine {
    /// # Errors
    /// An option cannot be used, or the thread that asks the agent cannot be started.
    pub(crate) fn new(
        options: &CiliumOptions,
        settings: &Settings,
        context: EngineContext,
    ) -> Result<Self, EngineError> {
        let mut names = Names::default();
        if context.origin == Origin::Live && !options.api_socket.as_os_str().is_empty() {
            names.ask_agent(options.asking(false))?;
        }
        let flows = flow::Options {
            redaction: options.redact.options(),
            ..flow::Options::default()
        };
        Ok(Self {
            events: Events::new(flows, names),
            out: Output::new(options, settings, context)?,
        })
    }
}

impl Output {
    fn new(
        options: &CiliumOptions,
        settings: &Settings,
        context: EngineContext,
    ) -> Result<Self, EngineError> {
        let resource = ProcessDirectory::new(
            crate::directories::process::Options::default(),
            &context.roots,
            &context.host,
            settings.service.clone(),
        )
        .nobody()
        .resource
        .clone();
        let output = Self {
            node: Node {
                name: context.host.name.clone().unwrap_or_default(),
                emitter_name: "netflume".to_owned(),
                emitter_version: env!("CARGO_PKG_VERSION").to_owned(),
                ..Node::default()
            },
            metrics: HubbleMetrics::new(&options.metrics)
                .map_err(|error| wrong("cilium.metrics", &error))?,
            selection: selection(options)?,
            exchanges: ExchangePublisher::new(
                exchanges::Options {
                    table: exchange_table(options),
                    metrics: settings.series,
                    spans: settings.spans,
                },
                Arc::clone(&resource),
            ),
            logs: LogsEncoder::new(settings.logs),
            node_resource: resource,
            own: context.own,
            points: MetricsEncoder::new(settings.points),
            sinks: context.sinks,
            lines: Vec::new(),
            published: context.flows,
            metrics_due: Schedule::every(METRICS_INTERVAL),
        };
        if let Some(published) = &output.published {
            published.set_node(&output.node);
        }
        Ok(output)
    }

    /// Ends an interval of metrics.
    fn flush(&mut self, unix_ns: u64) -> Result<(), ConsoleError> {
        self.send_records()?;
        self.count_missed(unix_ns);
        let mut points = self.exchanges.points(unix_ns);
        points.extend(self.metrics.export(&self.own, unix_ns));
        self.sinks.points(&mut self.points, &points)
    }

    /// What clients of the Observer API missed since the last time.
    fn count_missed(&mut self, unix_ns: u64) {
        if let Some(lost) = self
            .published
            .as_mut()
            .and_then(|published| published.missed(unix_ns))
        {
            self.metrics.lost(&lost);
        }
    }

    fn book(&self, result: Result<(), Reason>) {
        self.sinks.ledger.received(Stage::Decode, 1);
        match result {
            Ok(()) => self.sinks.ledger.passed(Stage::Decode, 1),
            Err(reason) => self.sinks.ledger.dropped(Stage::Decode, reason, 1),
        }
    }

    fn make(&mut self, event: &CiliumEvent) -> Result<(), ConsoleError> {
        let mut span = None;
        match event {
            CiliumEvent::Flow(flow) => {
                self.metrics.observe(flow, &self.node);
                span = self.exchanges.flow(flow, &mut self.sinks)?;
            }
            CiliumEvent::Lost(lost) => self.metrics.lost(lost),
            CiliumEvent::Agent(_) | CiliumEvent::Debug(_) => {}
        }
        let Some(selection) = &mut self.selection else {
            return Ok(());
        };
        if let Err(reason) = selection.take(event, &self.node) {
            self.sinks.ledger.received(Stage::Logs, 1);
            self.sinks.ledger.dropped(Stage::Logs, reason, 1);
            return Ok(());
        }
        let exported = self.sinks.book(Signal::Logs, 1);
        if self.sinks.prints_lines() {
            self.lines.push(line(event));
            if self.lines.len() == LINES_MAX {
                self.print()?;
            }
        }
        if exported {
            let log = CiliumLog {
                event,
                span: span.as_ref(),
                node: &self.node,
                resource: &self.node_resource,
            };
            if let Some(request) = self.logs.push(&log) {
                self.sinks.send(request)?;
            }
        }
        Ok(())
    }

    fn send_records(&mut self) -> Result<(), ConsoleError> {
        if let Some(published) = &mut self.published {
            // What could not be published at once, because a client was looking.
            published.flush();
        }
        self.print()?;
        self.exchanges.send(&mut self.sinks)?;
        self.logs
            .finish()
            .map_or(Ok(()), |request| self.sinks.send(request))
    }

    fn print(&mut self) -> Result<(), ConsoleError> {
        self.sinks.lines(std::mem::take(&mut self.lines))
    }
}

impl Sink for Output {
    fn batch(&mut self, batch: &Batch) -> Result<(), EngineError> {
        self.sinks
            .ledger
            .bytes(Stage::Decode, batch.bytes.len() as u64);
        Ok(())
    }

    fn event(&mut self, event: CiliumEvent) -> Result<(), EngineError> {
        self.book(Ok(()));
        self.make(&event)?;
        if let Some(published) = &mut self.published {
            published.push(event);
        }
        Ok(())
    }

    fn refused(&mut self, reason: Reason) {
        self.book(Err(reason));
    }

    fn pod(&mut self, change: &PodChange, unix_ns: u64) {
        match change {
            PodChange::There(pod) => self.metrics.pod_is_there(&pod.namespace, &pod.name),
            PodChange::Gone(pod) => self.metrics.pod_deleted(&pod.namespace, &pod.name, unix_ns),
        }
    }

    /// Flows carry its node's name.
    fn agent(&mut self, agent: AgentInfo) {
        if let Some(node) = agent.node {
            self.node.name = node;
            if let Some(published) = &self.published {
                published.set_node(&self.node);
            }
        }
    }

    fn answer(&mut self, _: Batch) -> Result<(), EngineError> {
        Ok(())
    }
}

impl Engine for CiliumEngine {
    fn feed(&mut self, batch: &Batch) -> Result<(), EngineError> {
        let Self { events, out } = self;
        // Time goes on: requests that wait too long are given up.
        out.exchanges.advance(batch.unix_ns, &mut out.sinks)?;
        events.feed(batch, out)?;
        if let Some(published) = &mut out.published {
            published.flush();
        }
        Ok(())
    }

    fn tick(&mut self, now: Now) -> Result<(), EngineError> {
        let Self { events, out } = self;
        out.exchanges.advance(now.unix_ns, &mut out.sinks)?;
        events.tick(now, out)?;
        out.metrics.advance(now.unix_ns);
        out.send_records()?;
        if out.metrics_due.is_due(now) {
            out.flush(now.unix_ns)?;
        }
        Ok(())
    }

    fn totals(&mut self, now: Now) -> Vec<ResourceMetrics> {
        let out = &mut self.out;
        out.count_missed(now.unix_ns);
        let mut totals = out.exchanges.totals(now.unix_ns);
        totals.extend(out.metrics.snapshot(&out.own, now.unix_ns));
        totals
    }

    fn reconfigure(&mut self, change: &Change) -> Result<(), EngineError> {
        let settings = &change.settings;
        let options = settings.receivers.cilium.clone().unwrap_or_default();
        let selection = selection(&options)?;
        let Self { events, out } = self;
        // What waits leaves as it was made.
        out.send_records()?;
        out.selection = selection;
        events.set_redaction(options.redact.options());
        out.logs = LogsEncoder::new(settings.logs);
        out.points = MetricsEncoder::new(settings.points);
        out.exchanges
            .reconfigure(exchange_table(&options).timeout_ns, settings.spans);
        out.sinks.set_exporter(change.exporter.clone());
        Ok(())
    }

    fn finish(&mut self, now: Now) -> Result<(), EngineError> {
        let Self { events, out } = self;
        let last = events.finish(out);
        // Requests that still wait for their response are given up.
        let closed = out.exchanges.close(now.unix_ns, &mut out.sinks);
        last.and(Ok(closed.and(out.flush(now.unix_ns))?))
    }
}

/// Which events become log records and lines; none: none do.
fn selection(options: &CiliumOptions) -> Result<Option<Selection>, EngineError> {
    options
        .logs
        .enabled
        .then(|| Selection::new(&options.logs.selection))
        .transpose()
        .map_err(|error| wrong("cilium.logs", &error))
}

fn exchange_table(options: &CiliumOptions) -> ExchangeOptions {
    ExchangeOptions {
        timeout_ns: u64::try_from(options.request_timeout.as_nanos()).unwrap_or(u64::MAX),
        ..ExchangeOptions::default()
    }
}

fn wrong(key: &'static str, error: &impl std::fmt::Display) -> EngineError {
    EngineError::Options {
        key,
        reason: error.to_string(),
    }
}

/// An event as a line: for a flow, who sent to whom, the verdict and Hubble's summary.
fn line(event: &CiliumEvent) -> Line {
    let kind = event_name(event).trim_start_matches("cilium.").to_owned();
    let CiliumEvent::Flow(flow) = event else {
        let (unix_ns, notes, failed) = match event {
            CiliumEvent::Lost(lost) => (lost.time_ns, format!("{} events lost", lost.count), true),
            CiliumEvent::Agent(agent) => (agent.time_ns, agent.kind.to_string(), false),
            CiliumEvent::Debug(debug) => (debug.time_ns, debug.kind.to_string(), false),
            CiliumEvent::Flow(_) => (0, String::new(), false),
        };
        return Line {
            unix_ns,
            kind,
            notes,
            failed,
            ..Line::default()
        };
    };
    let end = |address: Option<std::net::IpAddr>, port: u16| {
        let address = address
            .map(address_text)
            .map(|text| text.to_string())
            .unwrap_or_default();
        if port == 0 {
            address
        } else {
            format!("{address}:{port}")
        }
    };
    let ip = flow.ip.as_ref();
    let mut notes = flow.verdict.to_string();
    if flow.drop_reason.0 != 0 {
        notes = format!("{notes} {}", flow.drop_reason);
    }
    notes.push(' ');
    // Writing to a String cannot fail.
    summary::write(flow, &mut notes).unwrap_or_default();
    Line {
        unix_ns: flow.time_ns,
        kind,
        who: flow.source.pod_name().to_owned(),
        local: end(ip.and_then(|ip| ip.source), flow.source_port()),
        peer: end(ip.and_then(|ip| ip.destination), flow.destination_port()),
        notes,
        failed: flow.drop_reason.0 != 0,
        ..Line::default()
    }
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
