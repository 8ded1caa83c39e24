//! The smallest Collector: takes every OTLP/gRPC request, keeps its bytes if asked to, and looks into none.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderValue};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// A path (`/opentelemetry.proto.collector.logs.v1.LogsService/Export`) and the message sent to it, as it came.
pub type Message = (String, Bytes);

/// A running sink, on a thread of its own. Stops when dropped.
#[derive(Debug)]
pub struct Sink {
    address: SocketAddr,
    messages: Arc<Mutex<Vec<Message>>>,
    _runtime: Runtime,
}

impl Sink {
    /// Listens on a free port of 127.0.0.1, without TLS. `keep`: whether messages are kept for [`Self::messages`].
    ///
    /// # Errors
    /// No port or no thread can be had.
    pub fn start(keep: bool) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("sink")
            .enable_all()
            .build()?;
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        let address = listener.local_addr()?;
        let messages = Arc::<Mutex<Vec<Message>>>::default();
        let kept = Arc::clone(&messages);
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let kept = keep.then(|| Arc::clone(&kept));
                let service = service_fn(move |request| answer(request, kept.clone()));
                tokio::spawn(
                    http2::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Ok(Self {
            address,
            messages,
            _runtime: runtime,
        })
    }

    /// The value for `endpoint`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What came so far, in the order of arrival.
    #[must_use]
    pub fn messages(&self) -> Vec<Message> {
        self.messages
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

type Answer = Response<http_body_util::combinators::BoxBody<Bytes, Infallible>>;

async fn answer(
    request: Request<Incoming>,
    kept: Option<Arc<Mutex<Vec<Message>>>>,
) -> Result<Answer, hyper::Error> {
    let path = request.uri().path().to_owned();
    let mut body = request.into_body();
    match kept {
        Some(kept) => {
            let message = body.collect().await?.to_bytes();
            // The first five bytes are gRPC's: not compressed, length.
            let message = message.slice(5.min(message.len())..);
            kept.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push((path, message));
        }
        None => while body.frame().await.transpose()?.is_some() {},
    }
    // An empty message: everything was taken.
    let taken = Full::new(Bytes::from_static(&[0; 5])).with_trailers(async {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        Some(Ok(trailers))
    });
    let mut response = Response::new(taken.boxed());
    response
        .headers_mut()
        .insert("content-type", HeaderValue::from_static("application/grpc"));
    Ok(response)
}
