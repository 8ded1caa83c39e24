//! The middle of the pipeline for Cilium events: batches of gob messages in; flows, `hubble_*` metrics, log records and lines out.

use std::sync::Arc;
use std::time::Duration;

use netflume_core::aggregate::exchange::ExchangeOptions;
use netflume_core::aggregate::hubble::HubbleMetrics;
use netflume_core::aggregate::selection::Selection;
use netflume_core::decode::cilium::Monitor;
use netflume_core::decode::gob;
use netflume_core::enrich::cilium::flow::{self, FlowError, Flows};
use netflume_core::ledger::{Ledger, Reason, Stage};
use netflume_core::model::batch::{Batch, Now};
use netflume_core::model::cilium::{AgentEvent, AgentNotification, CiliumEvent};
use netflume_core::model::flow::{AgentEventType, Node, address_text, summary};
use netflume_core::model::metrics::ResourceMetrics;
use netflume_core::model::request::Signal;
use netflume_core::model::resource::ResourceRef;
use netflume_core::otlp::cilium_logs::{CiliumLogsEncoder, event_name};
use netflume_core::otlp::metrics::MetricsEncoder;

use crate::directories::cilium_api::{AgentInfo, Names};
use crate::directories::process::ProcessDirectory;
use crate::export::console::{ConsoleError, Line};
use crate::export::sinks::Sinks;
use crate::receivers::cilium::exchanges::{self, ExchangePublisher};
use crate::receivers::cilium::options::CiliumOptions;
use crate::receivers::{Change, Engine, EngineContext, EngineError, Origin, Schedule, Settings};
use crate::serve::observer::publisher::FlowPublisher;

/// Between two exports of the metrics.
const METRICS_INTERVAL: Duration = Duration::from_secs(10);
/// Lines that are handed over at once.
const LINES_MAX: usize = 512;

/// Decoder, metrics, encoders and sinks.
pub(crate) struct CiliumEngine {
    monitor: Monitor,
    flows: Flows,
    names: Names,
    node: Node,
    metrics: HubbleMetrics,
    selection: Option<Selection>,
    own: ResourceRef,
    /// Of log records.
    node_resource: ResourceRef,
    logs: CiliumLogsEncoder,
    points: MetricsEncoder,
    sinks: Sinks,
    ledger: Arc<Ledger>,
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
        let resource = ProcessDirectory::new(
            crate::directories::process::Options::default(),
            &context.roots,
            &context.host,
            settings.service.clone(),
        )
        .nobody()
        .resource
        .clone();
        let mut engine = Self {
            monitor: Monitor::default(),
            flows: Flows::new(flow::Options {
                redaction: options.redact.options(),
                ..flow::Options::default()
            }),
            names: Names::default(),
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
                Arc::clone(&context.ledger),
            ),
            logs: CiliumLogsEncoder::new(settings.logs, Arc::clone(&resource)),
            node_resource: resource,
            own: context.own,
            points: MetricsEncoder::new(settings.points),
            sinks: context.sinks,
            ledger: context.ledger,
            lines: Vec::new(),
            published: context.flows,
            metrics_due: Schedule::every(METRICS_INTERVAL),
        };
        if let Some(published) = &engine.published {
            published.set_node(&engine.node);
        }
        if context.origin == Origin::Live && !options.api_socket.as_os_str().is_empty() {
            engine.names.ask_at(options.api_socket.clone())?;
        }
        Ok(engine)
    }

    /// Time goes on: what the agent answered is taken, requests that wait too long are given up.
    fn advance(&mut self, unix_ns: u64) -> Result<(), ConsoleError> {
        if let Some(agent) = self.names.advance(unix_ns) {
            self.agent_is(agent);
        }
        self.exchanges.advance(unix_ns, &mut self.sinks)
    }

    /// Ends an interval of metrics.
    fn flush(&mut self, unix_ns: u64) -> Result<(), ConsoleError> {
        self.send_records()?;
        self.count_missed(unix_ns);
        let mut points = self.exchanges.points(unix_ns);
        points.extend(self.metrics.export(&self.own, unix_ns));
        self.sinks.points(&mut self.points, &points, &self.ledger)
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

    /// The agent said which one it is: its version tells the layouts of its events, and flows carry its node's name.
    fn agent_is(&mut self, agent: AgentInfo) {
        if agent.version.is_some() {
            let mut options = self.flows.options().clone();
            options.decode.agent = agent.version;
            self.flows.set_options(options);
        }
        if let Some(node) = agent.node {
            self.node.name = node;
            if let Some(published) = &self.published {
                published.set_node(&self.node);
            }
        }
    }

    fn decode(&mut self, bytes: &[u8], unix_ns: u64) -> Result<(), ConsoleError> {
        let mut rest = bytes;
        let mut unreadable = None;
        while !rest.is_empty() {
            let payload = match self.monitor.next(rest) {
                Ok((payload, after)) => {
                    rest = after;
                    payload
                }
                Err(error) => {
                    self.book(Err(Reason::Malformed));
                    let (count, _) = unreadable.get_or_insert((0_u64, error));
                    *count += 1;
                    // What stands behind the message may be of a type that is known.
                    rest = gob::frame(rest)
                        .ok()
                        .flatten()
                        .map_or(&[], |(_, after)| after);
                    continue;
                }
            };
            let Some(payload) = payload else {
                // Types are defined at the start of a connection.
                self.names.connected();
                continue;
            };
            match self
                .flows
                .payload(&payload, unix_ns, self.names.directory())
            {
                Ok(event) => {
                    self.book(Ok(()));
                    self.event(&event)?;
                    if let Some(published) = &mut self.published {
                        published.push(event);
                    }
                }
                Err(error) => {
                    if error == FlowError::UnknownCgroup {
                        self.names.unknown_cgroup(unix_ns);
                    }
                    let reason = match error {
                        FlowError::UnknownCgroup => Reason::Filtered,
                        FlowError::Event(_)
                        | FlowError::UnknownPayload(_)
                        | FlowError::Payload(_) => Reason::Malformed,
                    };
                    self.book(Err(reason));
                    tracing::debug!(%error, "monitor event skipped");
                }
            }
        }
        if let Some((count, error)) = unreadable {
            tracing::warn!(%error, count, "monitor messages cannot be read");
        }
        Ok(())
    }

    fn book(&self, result: Result<(), Reason>) {
        self.ledger.received(Stage::Decode, 1);
        match result {
            Ok(()) => self.ledger.passed(Stage::Decode, 1),
            Err(reason) => self.ledger.dropped(Stage::Decode, reason, 1),
        }
    }

    fn event(&mut self, event: &CiliumEvent) -> Result<(), ConsoleError> {
        let mut span = None;
        match event {
            CiliumEvent::Flow(flow) => {
                self.names.seen(flow);
                self.metrics.observe(flow, &self.node);
                span = self.exchanges.flow(flow, &mut self.sinks)?;
            }
            CiliumEvent::Lost(lost) => self.metrics.lost(lost),
            CiliumEvent::Agent(agent) => {
                self.names.notified(agent);
                self.pod_deleted(agent);
            }
            CiliumEvent::Debug(_) => {}
        }
        let Some(selection) = &mut self.selection else {
            return Ok(());
        };
        self.ledger.received(Stage::Logs, 1);
        if let Err(reason) = selection.take(event, &self.node) {
            self.ledger.dropped(Stage::Logs, reason, 1);
            return Ok(());
        }
        self.ledger.passed(Stage::Logs, 1);
        if self.sinks.prints_lines() {
            self.lines.push(line(event));
            if self.lines.len() == LINES_MAX {
                self.print()?;
            }
        }
        if self.sinks.wants(Signal::Logs)
            && let Some(request) = self.logs.push(event, span.as_ref(), &self.node)
        {
            self.sinks.send(request)?;
        }
        Ok(())
    }

    /// The series of a pod whose endpoint is gone end.
    fn pod_deleted(&mut self, event: &AgentEvent) {
        if let (
            AgentEventType::ENDPOINT_DELETED,
            AgentNotification::EndpointUpdate {
                pod_name,
                namespace,
                ..
            },
        ) = (event.kind, &event.notification)
            && !pod_name.is_empty()
        {
            self.metrics.pod_deleted(namespace, pod_name, event.time_ns);
        }
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

impl Engine for CiliumEngine {
    fn feed(&mut self, batch: &Batch) -> Result<(), EngineError> {
        self.ledger.bytes(Stage::Decode, batch.bytes.len() as u64);
        self.advance(batch.unix_ns)?;
        self.decode(&batch.bytes, batch.unix_ns)?;
        if let Some(published) = &mut self.published {
            published.flush();
        }
        Ok(())
    }

    fn tick(&mut self, now: Now) -> Result<(), EngineError> {
        self.advance(now.unix_ns)?;
        self.send_records()?;
        if self.metrics_due.is_due(now) {
            self.flush(now.unix_ns)?;
        }
        Ok(())
    }

    fn totals(&mut self, now: Now) -> Vec<ResourceMetrics> {
        self.count_missed(now.unix_ns);
        let mut totals = self.exchanges.totals(now.unix_ns);
        totals.extend(self.metrics.snapshot(&self.own, now.unix_ns));
        totals
    }

    fn reconfigure(&mut self, change: &Change) -> Result<(), EngineError> {
        let settings = &change.settings;
        let options = settings.receivers.cilium.clone().unwrap_or_default();
        let selection = selection(&options)?;
        // What waits leaves as it was made.
        self.send_records()?;
        self.selection = selection;
        let mut flows = self.flows.options().clone();
        flows.redaction = options.redact.options();
        self.flows.set_options(flows);
        self.logs = CiliumLogsEncoder::new(settings.logs, Arc::clone(&self.node_resource));
        self.points = MetricsEncoder::new(settings.points);
        self.exchanges
            .reconfigure(exchange_table(&options).timeout_ns, settings.spans);
        self.sinks.set_exporter(change.exporter.clone());
        Ok(())
    }

    fn finish(&mut self, now: Now) -> Result<(), EngineError> {
        // Requests that still wait for their response are given up.
        let closed = self.exchanges.close(now.unix_ns, &mut self.sinks);
        Ok(closed.and(self.flush(now.unix_ns))?)
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
