//! The middle of the pipeline for Cilium events: batches of gob messages in; flows, `hubble_*` metrics, log records and lines out.

use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use crate::config::exporters::Format;
use crate::directories::cilium_api::{AgentInfo, Names};
use crate::export::console::{ConsoleError, Line};
use crate::platform::clock;
use crate::receivers::cilium::exchanges::{self, ExchangeLane};
use crate::receivers::cilium::observer::Shown;
use crate::receivers::cilium::source::Batches;
use crate::receivers::ebpf::engine::Sinks;
use netflume_core::aggregate::hubble::HubbleMetrics;
use netflume_core::aggregate::selection::Selection;
use netflume_core::decode::cilium::Monitor;
use netflume_core::enrich::cilium::flow::{FlowError, Flows};
use netflume_core::ledger::{Ledger, Reason, Stage};
use netflume_core::model::batch::{Batch, BatchKind};
use netflume_core::model::cilium::{AgentEvent, AgentNotification, CiliumEvent};
use netflume_core::model::flow::{AgentEventType, Node, address_text, summary};
use netflume_core::model::request::Signal;
use netflume_core::model::resource::ResourceRef;
use netflume_core::otlp::cilium_logs::{CiliumLogsEncoder, event_name};
use netflume_core::otlp::logs::LogsOptions;
use netflume_core::otlp::metrics::{MetricsEncoder, MetricsOptions};

/// Records wait at most this long for their request.
const LOGS_INTERVAL: Duration = Duration::from_secs(1);
/// Lines that are handed over at once.
const LINES_MAX: usize = 512;

/// Whose telemetry it is.
pub(crate) struct Resources {
    /// Of log records: the node.
    pub(crate) node: ResourceRef,
    /// Of `hubble_*` metrics: the program itself, as if Hubble were scraped on this node.
    pub(crate) own: ResourceRef,
}

/// What the configuration makes of events.
pub(crate) struct Making {
    pub(crate) flows: Flows,
    pub(crate) metrics: HubbleMetrics,
    /// Log records and lines; none: there are none.
    pub(crate) logs: Option<Selection>,
}

/// Decoder, metrics, encoders and sinks.
pub(crate) struct CiliumEngine {
    monitor: Monitor,
    flows: Flows,
    names: Names,
    node: Node,
    metrics: HubbleMetrics,
    selection: Option<Selection>,
    own: ResourceRef,
    logs: CiliumLogsEncoder,
    points: MetricsEncoder,
    sinks: Sinks,
    ledger: Arc<Ledger>,
    lines: Vec<Line>,
    exchanges: ExchangeLane,
    /// The Observer API's ring, if it is served.
    shown: Option<Shown>,
}

impl CiliumEngine {
    pub(crate) fn new(
        making: Making,
        node_name: &str,
        resources: Resources,
        (logs, points): (LogsOptions, MetricsOptions),
        exchanges: exchanges::Options,
        sinks: Sinks,
        ledger: Arc<Ledger>,
    ) -> Self {
        Self {
            monitor: Monitor::default(),
            flows: making.flows,
            names: Names::default(),
            node: Node {
                name: node_name.to_owned(),
                emitter_name: "netflume".to_owned(),
                emitter_version: env!("CARGO_PKG_VERSION").to_owned(),
                ..Node::default()
            },
            metrics: making.metrics,
            selection: making.logs,
            exchanges: ExchangeLane::new(
                exchanges,
                Arc::clone(&resources.node),
                Arc::clone(&ledger),
            ),
            logs: CiliumLogsEncoder::new(logs, resources.node),
            own: resources.own,
            points: MetricsEncoder::new(points),
            sinks,
            ledger,
            lines: Vec::new(),
            shown: None,
        }
    }

    /// Asks the agent's API for names from now on.
    pub(crate) fn ask_at(&mut self, socket: &std::path::Path) -> std::io::Result<()> {
        if socket.as_os_str().is_empty() {
            return Ok(());
        }
        self.names.ask_at(socket.to_owned())
    }

    /// Shows all events by the Observer API too.
    pub(crate) fn show(&mut self, shown: Shown) {
        shown.set_node(&self.node);
        self.shown = Some(shown);
    }

    /// Takes batches until their source is gone: records go out every second, metrics every `interval`.
    pub(crate) fn run(
        &mut self,
        batches: &Batches,
        interval: Duration,
    ) -> Result<(), ConsoleError> {
        let mut metrics_due = Instant::now() + interval;
        let mut logs_due = Instant::now() + LOGS_INTERVAL;
        loop {
            let wait = logs_due.saturating_duration_since(Instant::now());
            match batches.recv_timeout(wait) {
                Ok(batch) => self.feed(&batch)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.flush(clock::now().0),
            }
            if Instant::now() >= logs_due {
                logs_due = Instant::now() + LOGS_INTERVAL;
                self.turn(clock::now().0)?;
                self.send_records()?;
            }
            if Instant::now() >= metrics_due {
                metrics_due = Instant::now() + interval;
                self.flush(clock::now().0)?;
            }
        }
    }

    /// Takes one batch; other kinds than Cilium's are not for it.
    pub(crate) fn feed(&mut self, batch: &Batch) -> Result<(), ConsoleError> {
        if batch.kind == BatchKind::CiliumMonitor {
            self.ledger.bytes(Stage::Decode, batch.bytes.len() as u64);
            self.turn(batch.unix_ns)?;
            self.decode(&batch.bytes, batch.unix_ns)?;
            if let Some(shown) = &mut self.shown {
                shown.flush();
            }
        }
        Ok(())
    }

    /// Time goes on: what the agent answered is taken, requests that wait too long are given up.
    fn turn(&mut self, unix_ns: u64) -> Result<(), ConsoleError> {
        if let Some(agent) = self.names.turn(unix_ns) {
            self.agent_is(agent);
        }
        self.exchanges.turn(unix_ns, &mut self.sinks)
    }

    /// Ends an interval.
    pub(crate) fn flush(&mut self, unix_ns: u64) -> Result<(), ConsoleError> {
        self.send_records()?;
        if let Some(lost) = self.shown.as_mut().and_then(|shown| shown.missed(unix_ns)) {
            self.metrics.lost(&lost);
        }
        let mut points = self.exchanges.points(unix_ns);
        points.extend(self.metrics.export(&self.own, unix_ns));
        self.sinks.points(&mut self.points, points, &self.ledger)
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
            if let Some(shown) = &self.shown {
                shown.set_node(&self.node);
            }
        }
    }

    fn decode(&mut self, bytes: &[u8], unix_ns: u64) -> Result<(), ConsoleError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let payload = match self.monitor.next(rest) {
                Ok((payload, after)) => {
                    rest = after;
                    payload
                }
                Err(error) => {
                    // The source framed it: one message is lost, the next one is found.
                    self.monitor = Monitor::default();
                    self.book(Err(Reason::Malformed));
                    tracing::warn!(%error, "monitor message cannot be read; the rest of its batch is skipped");
                    return Ok(());
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
                    if let Some(shown) = &mut self.shown {
                        shown.push(event);
                    }
                }
                Err(error) => {
                    if error == FlowError::UnknownCgroup {
                        self.names.unknown_cgroup(unix_ns);
                    }
                    let reason = match error {
                        FlowError::UnknownCgroup => Reason::Filtered,
                        FlowError::Event(_) | FlowError::UnknownPayload(_) => Reason::Malformed,
                    };
                    self.book(Err(reason));
                    tracing::debug!(%error, "monitor event skipped");
                }
            }
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
        match event {
            CiliumEvent::Flow(flow) => {
                self.names.seen(flow);
                self.metrics.observe(flow, &self.node);
                self.exchanges.flow(flow, &mut self.sinks)?;
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
        if matches!(self.sinks.console, Some((_, Format::Text))) {
            self.lines.push(line(event));
            if self.lines.len() == LINES_MAX {
                self.print()?;
            }
        }
        if self.sinks.wants(Signal::Logs)
            && let Some(request) = self.logs.push(event, &self.node)
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
        if let Some(shown) = &mut self.shown {
            // What could not be shown at once, because a client was looking.
            shown.flush();
        }
        self.print()?;
        self.exchanges.send(&mut self.sinks)?;
        self.logs
            .finish()
            .map_or(Ok(()), |request| self.sinks.send(request))
    }

    fn print(&mut self) -> Result<(), ConsoleError> {
        match &self.sinks.console {
            Some((printer, Format::Text)) => printer.lines(std::mem::take(&mut self.lines)),
            _ => Ok(()),
        }
    }

    /// The end: requests that still wait for their response are given up.
    pub(crate) fn finish(&mut self) {
        self.exchanges.close();
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
