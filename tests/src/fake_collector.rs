//! A Collector inside the test: takes OTLP/gRPC, answers as it is told, remembers what came.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Result;
use netflume_core::model::request::Signal;
use opentelemetry_proto::tonic::collector::{
    logs::v1::{
        ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
        logs_service_server::{LogsService, LogsServiceServer},
    },
    metrics::v1::{
        ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
        metrics_service_server::{MetricsService, MetricsServiceServer},
    },
    trace::v1::{
        ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
};
use opentelemetry_proto::tonic::metrics::v1::{Metric, metric::Data};
use tokio::sync::oneshot;
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tonic::codec::CompressionEncoding;
use tonic::metadata::MetadataMap;
use tonic::transport::{Server, ServerTlsConfig};
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// How a request is answered.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Taken.
    Take,
    /// Taken but for some items, with a message; zero and a message is a warning.
    Partial(i64, &'static str),
    /// Refused with a code and a message.
    Code(Code, &'static str),
    /// Refused with a code and RetryInfo.
    Throttle(Code, Duration),
    /// Never answered.
    Hang,
}

/// One request that came.
#[derive(Clone, Debug)]
pub struct Received {
    /// The service that it came to.
    pub signal: Signal,
    /// Log records, data points, spans.
    pub items: u64,
    /// Its headers.
    pub metadata: MetadataMap,
    /// When it came.
    pub at: Instant,
    /// Whether its items were taken, all or in part.
    pub taken: bool,
}

impl Received {
    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.metadata
            .get(name)
            .and_then(|value| value.to_str().ok())
    }
}

/// The state that the services share.
#[derive(Debug, Default)]
struct State {
    script: VecDeque<Reply>,
    otherwise: Option<Reply>,
    items_max: Option<u64>,
    received: Vec<Received>,
    logs: Vec<ExportLogsServiceRequest>,
    traces: Vec<ExportTraceServiceRequest>,
}

/// The Collector. Stops when dropped.
#[derive(Debug)]
pub struct FakeCollector {
    address: SocketAddr,
    tls: Option<ServerTlsConfig>,
    service: Service,
    running: Option<Running>,
}

/// A server on a thread with a runtime of its own: to end that ends every connection at once, as a crash does.
#[derive(Debug)]
struct Running {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Running {
    /// Runs what `serve` makes within the runtime.
    fn start<F: Future<Output = ()> + Send + 'static>(
        serve: impl FnOnce() -> Result<F>,
    ) -> Result<Self> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder
            .worker_threads(1)
            .thread_name("collector")
            .enable_all()
            .build()?;
        let server = {
            let _in_runtime = runtime.enter();
            serve()?
        };
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            runtime.spawn(server);
            // An error says that the other half is gone: that is the end too.
            let _end = runtime.block_on(stopped);
            runtime.shutdown_timeout(Duration::from_secs(5));
        });
        Ok(Self { stop, thread })
    }

    /// Ends it; nothing of it is left afterwards.
    fn stop(self) {
        drop(self.stop);
        let _ended = self.thread.join();
    }
}

#[derive(Clone, Debug, Default)]
struct Service(Arc<Mutex<State>>);

impl FakeCollector {
    /// Starts on a free port of 127.0.0.1, plain text.
    ///
    /// # Errors
    /// No port can be had.
    pub fn start() -> Result<Self> {
        Self::start_with(None)
    }

    /// Starts with TLS.
    ///
    /// # Errors
    /// No port can be had, or the TLS settings cannot be used.
    pub fn start_tls(tls: ServerTlsConfig) -> Result<Self> {
        Self::start_with(Some(tls))
    }

    fn start_with(tls: Option<ServerTlsConfig>) -> Result<Self> {
        let mut collector = Self {
            address: (Ipv4Addr::LOCALHOST, 0).into(),
            tls,
            service: Service::default(),
            running: None,
        };
        collector.restart()?;
        Ok(collector)
    }

    /// Starts on a unix socket.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub fn start_unix(path: &Path) -> Result<Self> {
        let service = Service::default();
        let running = Running::start(|| {
            let listener = UnixListenerStream::new(tokio::net::UnixListener::bind(path)?);
            let router = service.router(Server::builder());
            Ok(async move { drop(router.serve_with_incoming(listener).await) })
        })?;
        Ok(Self {
            address: (Ipv4Addr::LOCALHOST, 0).into(),
            tls: None,
            service,
            running: Some(running),
        })
    }

    /// Starts again on the same port; what came before is remembered.
    ///
    /// # Errors
    /// The port is taken.
    pub fn restart(&mut self) -> Result<()> {
        self.stop();
        let listener = std::net::TcpListener::bind(self.address)?;
        listener.set_nonblocking(true)?;
        self.address = listener.local_addr()?;
        let mut server = Server::builder();
        if let Some(tls) = &self.tls {
            server = server.tls_config(tls.clone())?;
        }
        let router = self.service.router(server);
        self.running = Some(Running::start(|| {
            let listener = TcpListenerStream::new(tokio::net::TcpListener::from_std(listener)?);
            Ok(async move { drop(router.serve_with_incoming(listener).await) })
        })?);
        Ok(())
    }

    /// Ends at once, with all connections; what came is remembered.
    pub fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop();
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The endpoint of an exporter: `http://127.0.0.1:port`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers the next requests with these, in order, and later ones with `otherwise`.
    pub fn script(&self, replies: impl IntoIterator<Item = Reply>, otherwise: Reply) {
        let mut state = self.service.lock();
        state.script = replies.into_iter().collect();
        state.otherwise = Some(otherwise);
    }

    /// Refuses requests of more items as Go's gRPC refuses too large a message.
    pub fn refuse_more_than(&self, items: u64) {
        self.service.lock().items_max = Some(items);
    }

    /// All requests that came, in order.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        self.service.lock().received.clone()
    }

    /// Items that were taken.
    #[must_use]
    pub fn taken_items(&self) -> u64 {
        let state = self.service.lock();
        state
            .received
            .iter()
            .filter(|request| request.taken)
            .map(|request| request.items)
            .sum()
    }

    /// Requests of log records that were taken.
    #[must_use]
    pub fn logs(&self) -> Vec<ExportLogsServiceRequest> {
        self.service.lock().logs.clone()
    }

    /// Requests of spans that were taken.
    #[must_use]
    pub fn traces(&self) -> Vec<ExportTraceServiceRequest> {
        self.service.lock().traces.clone()
    }
}

impl Drop for FakeCollector {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Service {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn router(&self, mut server: Server) -> tonic::transport::server::Router {
        // As a Go Collector: takes both compressions, answers in the one that the client accepts.
        macro_rules! compressed {
            ($service:ident) => {
                $service::new(self.clone())
                    .accept_compressed(CompressionEncoding::Gzip)
                    .accept_compressed(CompressionEncoding::Zstd)
                    .send_compressed(CompressionEncoding::Gzip)
            };
        }
        server
            .add_service(compressed!(LogsServiceServer))
            .add_service(compressed!(MetricsServiceServer))
            .add_service(compressed!(TraceServiceServer))
    }

    /// Remembers a request and answers it: rejected items and message, or a refusal.
    async fn answer(
        &self,
        signal: Signal,
        items: u64,
        metadata: MetadataMap,
    ) -> Result<(i64, String), Status> {
        let reply = {
            let mut state = self.lock();
            let too_large = state.items_max.is_some_and(|max| items > max);
            let reply = if too_large {
                Reply::Code(
                    Code::ResourceExhausted,
                    "grpc: received message after decompression larger than max 4194304",
                )
            } else {
                let next = state.script.pop_front();
                next.or_else(|| state.otherwise.clone())
                    .unwrap_or(Reply::Take)
            };
            state.received.push(Received {
                signal,
                items,
                metadata,
                at: Instant::now(),
                taken: matches!(reply, Reply::Take | Reply::Partial(..)),
            });
            reply
        };
        match reply {
            // As a Go Collector: partial success is always there, zero and empty when all is well.
            Reply::Take => Ok((0, String::new())),
            Reply::Partial(rejected, message) => Ok((rejected, message.to_owned())),
            Reply::Code(code, message) => Err(Status::new(code, message)),
            Reply::Throttle(code, delay) => {
                let details = ErrorDetails::with_retry_info(Some(delay));
                Err(Status::with_error_details(code, "slow down", details))
            }
            Reply::Hang => std::future::pending().await,
        }
    }
}

#[tonic::async_trait]
impl LogsService for Service {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        let (metadata, _, message) = request.into_parts();
        let scopes = message
            .resource_logs
            .iter()
            .flat_map(|resource| &resource.scope_logs);
        let items = scopes.map(|scope| scope.log_records.len() as u64).sum();
        let (rejected_log_records, error_message) =
            self.answer(Signal::Logs, items, metadata).await?;
        self.lock().logs.push(message);
        Ok(Response::new(ExportLogsServiceResponse {
            partial_success: Some(ExportLogsPartialSuccess {
                rejected_log_records,
                error_message,
            }),
        }))
    }
}

#[tonic::async_trait]
impl MetricsService for Service {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let (metadata, _, message) = request.into_parts();
        let scopes = message
            .resource_metrics
            .iter()
            .flat_map(|resource| &resource.scope_metrics);
        let items = scopes.flat_map(|scope| &scope.metrics).map(points).sum();
        let (rejected_data_points, error_message) =
            self.answer(Signal::Metrics, items, metadata).await?;
        Ok(Response::new(ExportMetricsServiceResponse {
            partial_success: Some(ExportMetricsPartialSuccess {
                rejected_data_points,
                error_message,
            }),
        }))
    }
}

fn points(metric: &Metric) -> u64 {
    let points = match &metric.data {
        Some(Data::Gauge(data)) => data.data_points.len(),
        Some(Data::Sum(data)) => data.data_points.len(),
        Some(Data::Histogram(data)) => data.data_points.len(),
        Some(Data::ExponentialHistogram(data)) => data.data_points.len(),
        Some(Data::Summary(data)) => data.data_points.len(),
        None => 0,
    };
    points as u64
}

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let (metadata, _, message) = request.into_parts();
        let scopes = message
            .resource_spans
            .iter()
            .flat_map(|resource| &resource.scope_spans);
        let items = scopes.map(|scope| scope.spans.len() as u64).sum();
        let (rejected_spans, error_message) = self.answer(Signal::Traces, items, metadata).await?;
        self.lock().traces.push(message);
        Ok(Response::new(ExportTraceServiceResponse {
            partial_success: Some(ExportTracePartialSuccess {
                rejected_spans,
                error_message,
            }),
        }))
    }
}
