//! Hubble's Observer API: the ring of recent flows, for `hubble observe`, `hubble status`, relays and user interfaces.
//!
//! ```text
//! pipeline --push--> RingWriter | FlowRing --filter--> compact flows --convert--> protobuf --> client
//! ```
//!
//! A request walks the ring on the server's own threads; the pipeline pays for a push and nothing else, however many clients
//! there are and however slow they are. A client that is overtaken gets a `LostEvent` in the place of what it missed.

mod convert;
mod events;
mod health;
mod listen;
mod mask;
mod namespaces;
pub mod publisher;
mod range;
mod ring;
mod service;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

use crate::export::tls::check_identity;
use crate::proto::health::health_server::HealthServer;
use crate::proto::observer::observer_server::ObserverServer;

pub use ring::{FlowRing, RingWriter, ring};

/// Requests are filters: larger ones are refused.
const MAX_REQUEST_BYTES: usize = 256 * 1024;

/// Connections beyond those of the clients, for status and health requests.
const SPARE_CONNECTIONS: usize = 8;

/// Requests that one connection may have open.
const STREAMS_PER_CONNECTION: u32 = 32;

/// A client that has gone without a word is noticed after this long, and again as long for its answer.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// The Observer API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObserverOptions {
    /// `unix:///path` or `host:port`. Beyond loopback TCP needs `tls`. Default: `unix:///var/run/netflume/hubble.sock`.
    pub endpoint: String,
    /// Events that the ring keeps, of about 450 bytes each and what they share. Default: 4095, as in Hubble.
    pub capacity: usize,
    /// Clients whose streams are served at a time; further ones are told so. Default: 16.
    pub max_clients: usize,
    /// TLS of a TCP endpoint. Default: none.
    pub tls: Option<ObserverTls>,
}

/// TLS of the server: the Collector's keys.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ObserverTls {
    /// PEM file of our certificate chain.
    pub cert_file: PathBuf,
    /// PEM file of our key.
    pub key_file: PathBuf,
    /// PEM file of the authorities whose clients are let in (mutual TLS). Default: none, every client is let in.
    pub client_ca_file: Option<PathBuf>,
}

impl Default for ObserverOptions {
    fn default() -> Self {
        Self {
            endpoint: "unix:///var/run/netflume/hubble.sock".to_owned(),
            capacity: 4095,
            max_clients: 16,
            tls: None,
        }
    }
}

/// Why the Observer API is not served.
#[derive(Debug, thiserror::Error)]
pub enum ObserverError {
    /// Flows would be readable on the network.
    #[error(
        "Observer API: {0} is reachable from other hosts and would answer in plain text; set `tls`, or listen on 127.0.0.1, [::1] \
         or a unix socket"
    )]
    PlainTextBeyondLoopback(String),
    /// TLS on a unix socket: Hubble's clients do not speak it there.
    #[error(
        "Observer API: `tls` goes with a TCP endpoint only; a unix socket is guarded by its file permissions"
    )]
    TlsOnUnix,
    /// The endpoint cannot be listened on.
    #[error("Observer API: cannot listen on {endpoint}: {source}")]
    Listen {
        /// What was asked for.
        endpoint: String,
        /// Why.
        source: std::io::Error,
    },
    /// A file of the TLS settings.
    #[error("Observer API: {}: {source}", file.display())]
    TlsFile {
        /// Which.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Certificate and key do not belong together, or one of them cannot be used.
    #[error("Observer API: certificate {} and key {}: {problem}", cert.display(), key.display())]
    Identity {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The TLS settings, or the server itself.
    #[error("Observer API: {}", chain(.0))]
    Server(#[from] tonic::transport::Error),
}

/// An error with its causes in one line.
fn chain(error: &tonic::transport::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// A server that listens, but does not answer yet.
#[derive(Debug)]
pub struct ObserverServerHandle {
    listener: listen::Listener,
    endpoint: String,
    tls: Option<ServerTlsConfig>,
    max_clients: usize,
    ring: FlowRing,
}

/// Listens. Clients wait until [`ObserverServerHandle::serve`] runs.
///
/// # Errors
/// Plain text beyond loopback, an endpoint that cannot be had, TLS files that cannot be read or do not go together.
pub async fn bind(
    options: &ObserverOptions,
    ring: FlowRing,
) -> Result<ObserverServerHandle, ObserverError> {
    let tls = options.tls.as_ref().map(tls_config).transpose()?;
    let listener = listen::Listener::bind(&options.endpoint, tls.is_some()).await?;
    let endpoint = listener
        .endpoint()
        .map_err(|source| ObserverError::Listen {
            endpoint: options.endpoint.clone(),
            source,
        })?;
    Ok(ObserverServerHandle {
        listener,
        endpoint,
        tls,
        max_clients: options.max_clients,
        ring,
    })
}

impl ObserverServerHandle {
    /// Where it really listens, in the form of `hubble --server`.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Answers until `stop`; streams end then.
    ///
    /// # Errors
    /// TLS settings that make no sense, or a listener that broke.
    pub async fn serve(self, stop: CancellationToken) -> Result<(), ObserverError> {
        let stop = stop.child_token();
        // When the server ends by an error, its streams and the reader of namespaces end too.
        let _guard = stop.clone().drop_guard();
        let namespaces = namespaces::Namespaces::default();
        tokio::spawn(namespaces.clone().follow(self.ring.clone(), stop.clone()));
        let service = service::Service {
            ring: self.ring,
            namespaces,
            clients: Arc::new(Semaphore::new(self.max_clients)),
            max_clients: self.max_clients,
            started: Instant::now(),
            address: self.endpoint.into(),
            tls: self.tls.is_some(),
            stop: stop.clone(),
        };
        let mut server = Server::builder()
            .max_concurrent_streams(STREAMS_PER_CONNECTION)
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE));
        if let Some(tls) = self.tls {
            server = server.tls_config(tls)?;
        }
        let connections = self
            .listener
            .connections(self.max_clients.saturating_add(SPARE_CONNECTIONS));
        server
            .add_service(ObserverServer::new(service).max_decoding_message_size(MAX_REQUEST_BYTES))
            .add_service(HealthServer::new(health::HealthService {
                stop: stop.clone(),
            }))
            .serve_with_incoming_shutdown(connections, stop.cancelled())
            .await?;
        Ok(())
    }
}

fn tls_config(options: &ObserverTls) -> Result<ServerTlsConfig, ObserverError> {
    let read = |file: &PathBuf| {
        std::fs::read(file).map_err(|source| ObserverError::TlsFile {
            file: file.clone(),
            source,
        })
    };
    let (cert, key) = (read(&options.cert_file)?, read(&options.key_file)?);
    check_identity(&cert, &key).map_err(|problem| ObserverError::Identity {
        cert: options.cert_file.clone(),
        key: options.key_file.clone(),
        problem,
    })?;
    let mut tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(cert, key))
        .timeout(Duration::from_secs(10));
    if let Some(file) = &options.client_ca_file {
        tls = tls.client_ca_root(Certificate::from_pem(read(file)?));
    }
    // Built once for its errors, so that nothing listens that could not answer.
    drop(Server::builder().tls_config(tls.clone())?);
    Ok(tls)
}
