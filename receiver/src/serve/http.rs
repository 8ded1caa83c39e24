//! A small HTTP/1.1 server: GET and HEAD only, few connections, short deadlines, nothing read that is not needed.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use ::http::header::{ALLOW, CONTENT_TYPE};
use ::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// Connections at a time; the next ones wait in the listener's backlog.
const CONNECTIONS_MAX: usize = 32;
/// Bytes of a request's line and headers.
const HEADER_BYTES_MAX: usize = 16 * 1024;
/// Headers of a request.
const HEADERS_MAX: usize = 64;
/// For a request's line and headers to arrive, and between two requests of a connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// After this a connection ends with its current answer, so that no client stays for ever.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(300);
/// For that answer to be taken.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: StatusCode,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// A short text.
    #[must_use]
    pub fn text(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            content_type: "text/plain; charset=utf-8",
            body: body.into(),
        }
    }

    /// There is nothing under this path.
    #[must_use]
    pub fn not_found(paths: &str) -> Self {
        Self::text(
            StatusCode::NOT_FOUND,
            format!("there is nothing here, but at {paths}\n"),
        )
    }
}

/// Gives the answers. Called on a thread where it may take its time.
pub trait Handler: Send + Sync + 'static {
    /// The answer to `GET path`.
    fn answer(&self, path: &str, headers: &HeaderMap) -> Answer;
}

/// Why a server does not listen.
#[derive(Debug, thiserror::Error)]
#[error("{what} cannot listen on {endpoint}")]
pub struct ServeError {
    /// Which server: its configuration key.
    pub what: &'static str,
    /// Where it was to listen.
    pub endpoint: String,
    /// Why it cannot.
    #[source]
    pub source: io::Error,
}

/// A running server; it ends when this is dropped.
#[derive(Debug)]
pub struct Server {
    local: SocketAddr,
    task: JoinHandle<()>,
}

impl Server {
    /// Listens and answers. `what` names the server in messages. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The address cannot be resolved or bound.
    pub async fn start(
        what: &'static str,
        endpoint: &str,
        handler: Arc<dyn Handler>,
    ) -> Result<Self, ServeError> {
        let failed = |source| ServeError {
            what,
            endpoint: endpoint.to_owned(),
            source,
        };
        let listener = TcpListener::bind(endpoint).await.map_err(failed)?;
        let local = listener.local_addr().map_err(failed)?;
        tracing::info!(%local, "{what} listens");
        let task = tokio::spawn(accept(what, listener, handler));
        Ok(Self { local, task })
    }

    /// Where it listens.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        self.local
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(what: &'static str, listener: TcpListener, handler: Arc<dyn Handler>) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    // Connections end with the server.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else {
            return;
        };
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                let handler = handler.clone();
                connections.spawn(async move {
                    converse(stream, handler).await;
                    drop(permit);
                });
            }
            Err(error) => {
                // Out of descriptors, most likely: wait for some to come back instead of spinning.
                tracing::warn!(%error, "{what}: a connection was not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, handler: Arc<dyn Handler>) {
    let service = service_fn(move |request| respond(request, handler.clone()));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADER_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    // What goes wrong on a connection (reset, timeout, no HTTP) is the client's affair.
    let aged = tokio::time::timeout(
        CONNECTION_AGE_MAX,
        poll_fn(|cx| connection.as_mut().poll(cx)),
    );
    if aged.await.is_err() {
        connection.as_mut().graceful_shutdown();
        let _client = tokio::time::timeout(DRAIN_TIMEOUT, connection).await;
    }
}

async fn respond(
    request: Request<Incoming>,
    handler: Arc<dyn Handler>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, _) = request.into_parts();
    if head.method != Method::GET && head.method != Method::HEAD {
        let answer = Answer::text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        let mut response = response(answer);
        response
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return Ok(response);
    }
    let answer =
        tokio::task::spawn_blocking(move || handler.answer(head.uri.path(), &head.headers));
    Ok(response(answer.await.unwrap_or_else(|error| {
        tracing::error!(%error, "an answer failed");
        Answer::text(StatusCode::INTERNAL_SERVER_ERROR, "the answer failed\n")
    })))
}

fn response(answer: Answer) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(answer.body));
    *response.status_mut() = answer.status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    response
}

#[cfg(test)]
pub(crate) mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    struct Echo;

    impl Handler for Echo {
        fn answer(&self, path: &str, _: &HeaderMap) -> Answer {
            Answer::text(StatusCode::OK, path.to_owned())
        }
    }

    /// Sends bytes, and gives what comes back until the server closes.
    pub(crate) async fn exchange(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // A server that refuses may reset the connection after its answer.
        let _reset = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    pub(crate) async fn get(address: SocketAddr, path: &str) -> String {
        exchange(
            address,
            &format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"),
        )
        .await
    }

    #[tokio::test]
    async fn get_is_answered_and_other_methods_are_refused() {
        let server = Server::start("test", "127.0.0.1:0", Arc::new(Echo))
            .await
            .unwrap();
        let answer = get(server.local(), "/a?b").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\n/a"), "{answer}");
        let post = "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        let answer = exchange(server.local(), post).await;
        assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
        assert!(answer.contains("allow: GET, HEAD\r\n"), "{answer}");
    }

    #[tokio::test]
    async fn oversized_and_malformed_requests_are_refused() {
        let server = Server::start("test", "127.0.0.1:0", Arc::new(Echo))
            .await
            .unwrap();
        let long = format!(
            "GET / HTTP/1.1\r\na: {}\r\n\r\n",
            "x".repeat(2 * HEADER_BYTES_MAX)
        );
        assert!(
            exchange(server.local(), &long)
                .await
                .starts_with("HTTP/1.1 431 ")
        );
        let many = format!(
            "GET / HTTP/1.1\r\n{}\r\n",
            "a: b\r\n".repeat(HEADERS_MAX + 1)
        );
        assert!(
            exchange(server.local(), &many)
                .await
                .starts_with("HTTP/1.1 431 ")
        );
        assert!(
            exchange(server.local(), "\x16\x03\x01\r\n\r\n")
                .await
                .starts_with("HTTP/1.1 400 ")
        );
    }

    #[tokio::test]
    async fn clients_beyond_the_limit_wait_until_one_leaves() {
        let server = Server::start("test", "127.0.0.1:0", Arc::new(Echo))
            .await
            .unwrap();
        let mut idle = Vec::new();
        for _ in 0..CONNECTIONS_MAX {
            let mut stream = TcpStream::connect(server.local()).await.unwrap();
            // Half a request, so that the connection is surely taken before the next one comes.
            stream.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
            idle.push(stream);
        }
        let waiting = tokio::spawn({
            let address = server.local();
            async move { get(address, "/").await }
        });
        assert!(!waiting.is_finished());
        drop(idle.pop());
        assert!(waiting.await.unwrap().starts_with("HTTP/1.1 200 "));
    }

    #[tokio::test]
    async fn an_address_in_use_is_named_with_the_cause() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = taken.local_addr().unwrap().to_string();
        let error = Server::start("extensions.health", &endpoint, Arc::new(Echo))
            .await
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("extensions.health cannot listen on {endpoint}")
        );
        assert_eq!(error.source.kind(), io::ErrorKind::AddrInUse);
    }
}
