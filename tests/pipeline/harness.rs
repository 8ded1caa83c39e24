//! An exporter with a Collector, both inside the test.

#![expect(clippy::unwrap_used, reason = "a test ends where its harness fails")]

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use netflume::export::exporter::{Exporter, ExporterHandle};
use netflume::export::options::{ExporterOptions, RetryOptions};
use netflume_core::ledger::{Ledger, Reason, Stage};
use netflume_core::model::netflow::{Direction, Endpoint, NetflowRecord, Process, Role, Transport};
use netflume_core::model::request::{Request, Signal};
use netflume_core::model::resource::{Resource, Value};
use netflume_tests::wait;
use opentelemetry_proto::tonic::collector::{
    logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
    trace::v1::ExportTraceServiceRequest,
};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{
    Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, metric::Data,
};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};

/// More than any test needs.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// Options for an endpoint, with retries that follow each other quickly.
pub(crate) fn options(endpoint: &str) -> ExporterOptions {
    let mut options = ExporterOptions {
        retry_on_failure: RetryOptions {
            initial_interval: Duration::from_millis(20),
            max_interval: Duration::from_millis(100),
            max_elapsed_time: SOON,
            ..RetryOptions::default()
        },
        ..ExporterOptions::default()
    };
    options.for_all(|signal| {
        signal.endpoint = Some(endpoint.to_owned());
        // On a busy machine a request that is sent again because its answer was late arrives twice.
        signal.timeout = SOON;
    });
    options
}

/// An exporter and its books.
pub(crate) struct Running {
    pub(crate) exporter: ExporterHandle,
    pub(crate) ledger: Arc<Ledger>,
}

impl Running {
    pub(crate) fn start(options: &ExporterOptions) -> Self {
        let ledger = Arc::new(Ledger::default());
        let exporter = Exporter::start(options).unwrap();
        Self { exporter, ledger }
    }

    /// Hands a request to the exporter.
    pub(crate) fn push(&self, request: Request) {
        self.exporter.push(request, &self.ledger);
    }

    /// Waits until every item that came in is booked as passed on or dropped.
    pub(crate) fn settled(&self) {
        wait::until("every item is accounted for", || {
            let held = [Stage::Queue, Stage::Export].map(|stage| self.ledger.entry(stage).held());
            (held == [0, 0] && self.exporter.held().requests == 0).then_some(())
        })
        .unwrap();
    }

    /// Items that the Collector took by the books.
    pub(crate) fn delivered(&self) -> u64 {
        self.ledger.entry(Stage::Export).passed
    }

    /// Items that were lost while being exported, by reason.
    pub(crate) fn lost(&self) -> Vec<(Reason, u64)> {
        self.ledger.entry(Stage::Export).dropped
    }

    /// Stops; then the books must balance to the item.
    pub(crate) async fn stop(self) -> u64 {
        let lost = self.exporter.shutdown(Some(SOON)).await;
        self.balanced();
        lost
    }

    pub(crate) fn balanced(&self) {
        let (queue, export) = (
            self.ledger.entry(Stage::Queue),
            self.ledger.entry(Stage::Export),
        );
        assert_eq!(
            (queue.held(), export.held()),
            (0, 0),
            "{queue:?} {export:?}"
        );
        assert_eq!(queue.passed, export.received);
    }
}

/// A request of `items` log records, named `first`, `first + 1`, …
pub(crate) fn logs_from(first: u64, items: u64) -> Request {
    let record = |n| LogRecord {
        event_name: format!("record-{n}"),
        ..LogRecord::default()
    };
    let message = ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            scope_logs: vec![ScopeLogs {
                log_records: (first..first + items).map(record).collect(),
                ..ScopeLogs::default()
            }],
            ..ResourceLogs::default()
        }],
    };
    request(Signal::Logs, &message, items)
}

/// A request of `items` log records with so many bytes of text each.
pub(crate) fn logs_of_size(items: u64, bytes: usize) -> Request {
    let record = LogRecord {
        severity_text: "x".repeat(bytes),
        ..LogRecord::default()
    };
    let message = ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            scope_logs: vec![ScopeLogs {
                log_records: vec![record; usize::try_from(items).unwrap()],
                ..ScopeLogs::default()
            }],
            ..ResourceLogs::default()
        }],
    };
    request(Signal::Logs, &message, items)
}

pub(crate) fn logs(items: u64) -> Request {
    logs_from(0, items)
}

/// A request of `points` data points, half of them in each of two metrics.
pub(crate) fn metrics(points: u64) -> Request {
    let metric = |name: &str, points| Metric {
        name: name.to_owned(),
        data: Some(Data::Gauge(Gauge {
            data_points: vec![NumberDataPoint::default(); usize::try_from(points).unwrap()],
        })),
        ..Metric::default()
    };
    let message = ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            scope_metrics: vec![ScopeMetrics {
                metrics: vec![metric("a", points / 2), metric("b", points - points / 2)],
                ..ScopeMetrics::default()
            }],
            ..ResourceMetrics::default()
        }],
    };
    request(Signal::Metrics, &message, points)
}

/// A request of `spans` spans.
pub(crate) fn traces(spans: u64) -> Request {
    let message = ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            scope_spans: vec![ScopeSpans {
                spans: vec![Span::default(); usize::try_from(spans).unwrap()],
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    };
    request(Signal::Traces, &message, spans)
}

fn request(signal: Signal, message: &impl prost::Message, items: u64) -> Request {
    Request {
        signal,
        body: message.encode_to_vec().into(),
        items,
    }
}

/// The names of all log records that a Collector took, sorted.
pub(crate) fn names(requests: &[ExportLogsServiceRequest]) -> Vec<String> {
    let resources = requests.iter().flat_map(|request| &request.resource_logs);
    let records = resources
        .flat_map(|resource| &resource.scope_logs)
        .flat_map(|scope| &scope.log_records);
    let mut names: Vec<_> = records.map(|record| record.event_name.clone()).collect();
    names.sort();
    names
}

/// A flow of one interval, as it comes out of the connection table.
pub(crate) fn record(interval: u64, flow: u32) -> NetflowRecord {
    let address = |ip: u32, port| Endpoint::from((Ipv4Addr::from(0x0a00_0000 + ip), port));
    NetflowRecord {
        unix_ns: 1_700_000_000_000_000_000 + interval * 10_000_000_000,
        transport: Transport::Tcp,
        direction: Direction::Outgoing,
        role: Role::Client,
        local: address(1, 40_000),
        peer: address(flow * 7919 % 60_000, 443),
        client_port_masked: true,
        overflow: false,
        peer_nat: None,
        peer_domain: Some(format!("host-{flow}.example").into()),
        local_kubernetes: None,
        peer_kubernetes: None,
        process: Arc::new(Process {
            pid: 1000 + flow % 40,
            executable_name: format!("program-{}", flow % 40),
            ..Process::default()
        }),
        netns: 4_026_531_840,
        preexisting: false,
        bytes_read: u64::from(flow) * 1337 + interval * 17,
        bytes_written: u64::from(flow) * 337 + interval * 13,
        packets_read: 0,
        packets_written: 0,
        retransmits: 0,
        rtt_us: 300 + flow * 31 % 9000,
        rtt_var_us: 30 + flow * 7 % 900,
        tcp_closed: 1,
        tcp_established: 1,
        failed: vec![],
        resource: Arc::new(Resource {
            attributes: vec![(
                "service.name",
                Value::Text(format!("program-{}", flow % 40).into()),
            )],
            extra: vec![],
        }),
    }
}
