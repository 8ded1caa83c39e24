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
mod peer;
pub mod publisher;
mod range;
mod responses;
mod ring;
mod service;
mod tls;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use crate::proto::health::health_server::HealthServer;
use crate::proto::observer::observer_server::ObserverServer;
use crate::proto::peer::peer_server::PeerServer;

pub use ring::{Capacity, FlowRing, RingWriter, ring};

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
    /// What the ring keeps.
    pub capacity: Capacity,
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
            capacity: Capacity::default(),
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
    /// What the files of the TLS settings hold.
    #[error("Observer API: {0}")]
    Tls(String),
    /// The schemas that reflection serves.
    #[error("Observer API: reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The server itself.
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
    tls: Option<tls::Certificates>,
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
    let tls = options.tls.as_ref().map(tls::certificates).transpose()?;
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
    /// A listener that broke.
    pub async fn serve(self, stop: CancellationToken) -> Result<(), ObserverError> {
        let stop = stop.child_token();
        // When the server ends by an error, its streams and the reader of namespaces end too.
        let _guard = stop.clone().drop_guard();
        let namespaces = namespaces::Namespaces::default();
        tokio::spawn(namespaces.clone().follow(self.ring.clone(), stop.clone()));
        let peer = peer::PeerService {
            ring: self.ring.clone(),
            endpoint: self.endpoint.clone(),
            tls: self.tls.is_some(),
            stop: stop.clone(),
        };
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
        let connections = self
            .listener
            .connections(self.max_clients.saturating_add(SPARE_CONNECTIONS), self.tls);
        Server::builder()
            .max_concurrent_streams(STREAMS_PER_CONNECTION)
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE))
            .add_service(ObserverServer::new(service).max_decoding_message_size(MAX_REQUEST_BYTES))
            .add_service(PeerServer::new(peer).max_decoding_message_size(MAX_REQUEST_BYTES))
            .add_service(HealthServer::new(health::HealthService {
                stop: stop.clone(),
            }))
            .add_service(reflection().build_v1()?)
            // Clients up to 2023 know no other.
            .add_service(reflection().build_v1alpha()?)
            .serve_with_incoming_shutdown(connections, stop.cancelled())
            .await?;
        Ok(())
    }
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(crate::proto::DESCRIPTORS)
}
