//! The OTLP gRPC client: packed requests to the answers of one of the three services.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::uri::PathAndQuery;
use http_body_util::StreamBody;
use hyper::body::Frame;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::codec::CompressionEncoding;
use tonic::codegen::Service;
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue, MetadataMap};
use tonic::transport::{self, Channel};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::export::endpoint::{Endpoint, EndpointError};
use crate::export::options::{Headers, KeepaliveOptions, SignalOptions, TlsOptions};
use crate::export::pack::Packed;
use crate::export::tls::{TlsConnector, TlsError};
use netflume_core::model::request::Signal;

/// A new connection is made after this time, so that names are resolved anew and load moves to Collectors that came later.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(600);
/// The kernel asks on an idle connection whether the other end is still there, so that its death is seen before the next request.
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);
/// The most of a receiver's message that is kept, characters.
const MESSAGE_MAX: usize = 300;

/// Why the exporter cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The endpoint.
    #[error("{signal} endpoint: {source}")]
    Endpoint {
        /// Whose.
        signal: &'static str,
        /// What is wrong with it.
        source: EndpointError,
    },
    /// TLS.
    #[error("{signal}: {source}")]
    Tls {
        /// Whose.
        signal: &'static str,
        /// What is wrong with it.
        source: TlsError,
    },
    /// There is no thread to compress on.
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
    /// A header cannot be sent.
    #[error("{signal} headers: `{name}` {problem}")]
    Header {
        /// Whose.
        signal: &'static str,
        /// Which.
        name: String,
        /// Why.
        problem: &'static str,
    },
}

/// One signal's service at one receiver.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) target: Arc<Target>,
    path: PathAndQuery,
    headers: MetadataMap,
    timeout: Duration,
}

/// What the receiver says about a request that it took.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Items that it refused.
    pub(crate) rejected: u64,
    /// Why, or a warning.
    pub(crate) message: String,
}

/// Why a request was not taken.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    pub(crate) message: String,
    /// The receiver asked to wait.
    pub(crate) retry_delay: Option<Duration>,
}

impl Client {
    /// The client of a signal; shares a target with `others` where endpoint and TLS are the same. None when the signal is
    /// not exported.
    pub(crate) fn new(
        signal: Signal,
        options: &SignalOptions,
        keepalive: &KeepaliveOptions,
        targets: &mut Vec<Arc<Target>>,
    ) -> Result<Option<Self>, ClientError> {
        let name = signal.as_str();
        let Some(endpoint) = &options.endpoint else {
            return Ok(None);
        };
        let endpoint = Endpoint::parse(endpoint, options.tls.insecure).map_err(|source| {
            ClientError::Endpoint {
                signal: name,
                source,
            }
        })?;
        let known = targets
            .iter()
            .find(|target| target.endpoint == endpoint && target.tls == options.tls);
        let target = match known {
            Some(target) => target.clone(),
            None => {
                let target = Target::new(endpoint, options, keepalive).map_err(|source| {
                    ClientError::Tls {
                        signal: name,
                        source,
                    }
                })?;
                targets.push(Arc::new(target));
                targets[targets.len() - 1].clone()
            }
        };
        Ok(Some(Self {
            target,
            path: PathAndQuery::from_static(service(signal)),
            headers: metadata(name, &options.headers)?,
            timeout: options.timeout,
        }))
    }

    /// The connection and the headers, for another sender to the same receiver.
    pub(crate) fn into_parts(self) -> (Channel, MetadataMap) {
        (self.target.connection().channel, self.headers)
    }

    /// Sends a request once.
    pub(crate) async fn attempt(&self, request: &Packed) -> Result<Answer, Failure> {
        let connection = self.target.connection();
        match tokio::time::timeout(self.timeout, self.call(connection.channel, request)).await {
            Ok(answer) => answer,
            Err(_) => {
                // The connection may lead nowhere any more; the next attempt makes its own.
                self.target.renew(connection.number);
                Err(Failure {
                    code: Code::DeadlineExceeded,
                    message: format!("no answer within {:?}", self.timeout),
                    retry_delay: None,
                })
            }
        }
    }

    async fn call(&self, channel: Channel, request: &Packed) -> Result<Answer, Failure> {
        let mut grpc = Grpc::new(Framed(channel))
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Zstd);
        grpc.ready()
            .await
            .map_err(|status| Failure::from_status(&status))?;
        let mut message = tonic::Request::new(());
        *message.metadata_mut() = self.headers.clone();
        message.extensions_mut().insert(request.clone());
        // The responses of the three services have the same shape, field numbers included.
        let codec = tonic_prost::ProstCodec::<(), ExportLogsServiceResponse>::default();
        let response = grpc.unary(message, self.path.clone(), codec).await;
        let response = response.map_err(|status| Failure::from_status(&status))?;
        // A Go receiver always fills this in: zero and empty is full success.
        let partial = response.into_inner().partial_success.unwrap_or_default();
        Ok(Answer {
            rejected: u64::try_from(partial.rejected_log_records).unwrap_or(0),
            message: shown(&partial.error_message),
        })
    }
}

fn service(signal: Signal) -> &'static str {
    match signal {
        Signal::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
        Signal::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        Signal::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    }
}

fn metadata(signal: &'static str, headers: &Headers) -> Result<MetadataMap, ClientError> {
    let mut map = MetadataMap::new();
    for (name, value) in &headers.0 {
        let wrong = |problem| ClientError::Header {
            signal,
            name: name.clone(),
            problem,
        };
        let lower = name.to_ascii_lowercase();
        if lower.starts_with("grpc-") || lower.ends_with("-bin") {
            return Err(wrong("is a name that gRPC keeps for itself"));
        }
        let key: AsciiMetadataKey = lower.parse().map_err(|_| wrong("is not a header name"))?;
        let mut value: AsciiMetadataValue = value
            .parse()
            .map_err(|_| wrong("has a value that is not printable ASCII"))?;
        value.set_sensitive(true);
        map.insert(key, value);
    }
    Ok(map)
}

impl Failure {
    fn from_status(status: &Status) -> Self {
        use std::error::Error as _;
        let retry_delay = status
            .get_details_retry_info()
            .map(|info| info.retry_delay.unwrap_or_default());
        match status.source() {
            // Only what went wrong on our side of the wire has a source: the connection failed.
            Some(source) => Self {
                code: Code::Unavailable,
                message: causes(source),
                retry_delay,
            },
            None => Self {
                code: status.code(),
                message: shown(status.message()),
                retry_delay,
            },
        }
    }
}

/// An error with its causes, each said once.
pub(crate) fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        next = cause.source();
    }
    shown(&text)
}

/// A foreign text, short.
fn shown(text: &str) -> String {
    text.trim().chars().take(MESSAGE_MAX).collect()
}

/// A receiver and the connection to it.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) endpoint: Endpoint,
    tls: TlsOptions,
    builder: transport::Endpoint,
    /// Of an endpoint with TLS.
    connector: Option<TlsConnector>,
    connection: Mutex<Connection>,
}

#[derive(Clone, Debug)]
struct Connection {
    channel: Channel,
    since: Instant,
    number: u64,
}

impl Target {
    fn new(
        endpoint: Endpoint,
        options: &SignalOptions,
        keepalive: &KeepaliveOptions,
    ) -> Result<Self, TlsError> {
        let setup = |error: transport::Error| TlsError::Setup(causes(&error));
        let connector = match &endpoint {
            Endpoint::Tcp { tls: true, .. } => {
                Some(TlsConnector::new(&options.tls, TCP_KEEPALIVE)?)
            }
            _ => None,
        };
        // TLS is the connector's; without `https` the channel adds none of its own. What is asked for stays `https`.
        let target = match &endpoint {
            Endpoint::Tcp { authority, .. } => format!("http://{authority}"),
            Endpoint::Unix(_) => endpoint.to_string(),
        };
        let builder = transport::Endpoint::from_shared(target)
            .and_then(|builder| builder.user_agent(concat!("netflume/", env!("CARGO_PKG_VERSION"))))
            .map_err(setup)?
            .connect_timeout(options.timeout)
            .tcp_keepalive(Some(TCP_KEEPALIVE));
        let builder = match endpoint.to_string().parse() {
            Ok(origin) if connector.is_some() => builder.origin(origin),
            _ => builder,
        };
        let builder = if keepalive.time.is_zero() {
            builder
        } else {
            builder
                .http2_keep_alive_interval(keepalive.time)
                .keep_alive_timeout(keepalive.timeout)
                .keep_alive_while_idle(keepalive.permit_without_stream)
        };
        let connection = Connection {
            channel: connect(&builder, connector.as_ref()),
            since: Instant::now(),
            number: 0,
        };
        Ok(Self {
            endpoint,
            tls: options.tls.clone(),
            builder,
            connector,
            connection: Mutex::new(connection),
        })
    }

    /// The connection for the next attempt.
    fn connection(&self) -> Connection {
        let current = self.lock().clone();
        if current.since.elapsed() > CONNECTION_AGE_MAX {
            self.renew(current.number);
        }
        self.lock().clone()
    }

    /// Replaces a connection, unless that has been done. Requests that are on it end there.
    fn renew(&self, number: u64) {
        let mut connection = self.lock();
        if connection.number == number {
            *connection = Connection {
                channel: connect(&self.builder, self.connector.as_ref()),
                since: Instant::now(),
                number: number + 1,
            };
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Connection> {
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Connects when it is first used, and again when the connection breaks.
fn connect(builder: &transport::Endpoint, connector: Option<&TlsConnector>) -> Channel {
    match connector {
        Some(connector) => builder.connect_with_connector_lazy(connector.clone()),
        None => builder.connect_lazy(),
    }
}

/// A channel that sends a [`Packed`] request, found among the extensions, in place of the message that the gRPC layer
/// made: tonic would compress it again at every attempt, and copy it.
#[derive(Clone)]
struct Framed(Channel);

impl Service<http::Request<Body>> for Framed {
    type Response = http::Response<Body>;
    type Error = Status;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Self::Response, Status>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        self.0.poll_ready(cx).map_err(|error| unreachable(&error))
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        if let Some(packed) = request.extensions_mut().remove::<Packed>() {
            if let Some(encoding) = packed.encoding() {
                let value = http::HeaderValue::from_static(encoding);
                request.headers_mut().insert("grpc-encoding", value);
            }
            let header = Bytes::copy_from_slice(&packed.frame_header());
            let frames = [header, packed.payload].map(|bytes| Ok::<_, Status>(Frame::data(bytes)));
            *request.body_mut() = Body::new(StreamBody::new(tokio_stream::iter(frames)));
        }
        let call = self.0.call(request);
        Box::pin(async move { call.await.map_err(|error| unreachable(&error)) })
    }
}

/// The connection could not be made or broke.
fn unreachable(error: &transport::Error) -> Status {
    Status::unavailable(causes(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_is_short() {
        assert_eq!(shown(&"x".repeat(10_000)).len(), MESSAGE_MAX);
    }

    #[test]
    fn headers_that_cannot_be_sent_are_named_without_their_value() {
        for (name, value) in [
            ("grpc-timeout", "1S"),
            ("key-bin", "x"),
            ("two words", "x"),
            ("key", "line\nbreak"),
        ] {
            let error = metadata("logs", &Headers::from([(name, value)]))
                .unwrap_err()
                .to_string();
            assert!(error.contains(name) && !error.contains("break"), "{error}");
        }
    }

    #[tokio::test]
    async fn equal_targets_share_a_connection_and_a_renewed_one_is_renewed_once() {
        let mut targets = Vec::new();
        let mut client = |endpoint: Option<&str>| {
            let options = SignalOptions {
                endpoint: endpoint.map(Into::into),
                ..SignalOptions::default()
            };
            Client::new(
                Signal::Logs,
                &options,
                &KeepaliveOptions::default(),
                &mut targets,
            )
            .unwrap()
            .map(|client| client.target)
        };
        let a = client(Some("http://localhost:4317")).unwrap();
        let b = client(Some("http://localhost:4317/")).unwrap();
        let c = client(Some("http://localhost:4318")).unwrap();
        assert!(Arc::ptr_eq(&a, &b) && !Arc::ptr_eq(&a, &c) && client(None).is_none());
        a.renew(0);
        a.renew(0);
        assert_eq!(a.connection().number, 1);
    }
}
