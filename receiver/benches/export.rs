//! Full netflow records from structs to a counting gRPC receiver in another process, over TCP on loopback:
//!
//! ```text
//! cargo xtask bench --bench export
//! ```
//!
//! What is printed is records by the processor time of our process, all threads, user and system (`getrusage`), not by the
//! clock: encoding, compression, HTTP/2 and the socket are in it, the receiver is not. Target: 500,000 records a second of
//! one core, uncompressed.

#![expect(
    clippy::print_stdout,
    reason = "what was measured, and where the receiver listens"
)]

use std::convert::Infallible;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use netflume::export::exporter::{Exporter, ExporterHandle};
use netflume::export::options::{Compression, ExporterOptions};
use netflume_core::ledger::{Ledger, Stage};
use netflume_core::otlp::logs::netflow::Netflow;
use netflume_core::otlp::logs::{LogsEncoder, LogsOptions};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service};
use tonic::server::NamedService;

#[path = "../core/benches/shared/full_records.rs"]
mod full_records;

/// Set in the process that is the receiver.
const SINK: &str = "NETFLUME_BENCH_SINK";
/// Requests held at most before the next are encoded.
const HELD_MAX: u64 = 8;

fn main() -> Result<()> {
    if std::env::var_os(SINK).is_some() {
        return tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?
            .block_on(sink());
    }
    // As criterion has it: whether it runs, not how fast.
    let once = std::env::args().any(|argument| argument == "--test");
    for (compression, name, rounds) in [
        (Compression::None, "none", 200),
        (Compression::Gzip, "gzip", 60),
        (Compression::Zstd, "zstd", 60),
    ] {
        let mut runs = (0..5)
            .map(|_| run(compression, if once { 1 } else { rounds }))
            .collect::<Result<Vec<_>>>()?;
        runs.sort_by(f64::total_cmp);
        println!(
            "{name}: {:.0} records/s of one core (median of 5; {:.0} to {:.0})",
            runs[2], runs[0], runs[4]
        );
    }
    Ok(())
}

/// Sends all records `rounds` times; gives records by second of processor time.
fn run(compression: Compression, rounds: u32) -> Result<f64> {
    let mut receiver = Command::new(std::env::current_exe()?)
        .env(SINK, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut endpoint = String::new();
    if let Some(stdout) = receiver.stdout.take() {
        BufReader::new(stdout).read_line(&mut endpoint)?;
    }
    let mut options = ExporterOptions::default();
    options.for_all(|signal| {
        signal.endpoint = Some(endpoint.trim().to_owned());
        signal.compression = compression;
    });
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let ledger = Arc::new(Ledger::default());
    let records = full_records::records();
    let rate = runtime.block_on(async {
        let exporter = Exporter::start(&options)?;
        send(&exporter, &ledger, &records, 2).await;
        let (begin, clock, before) = (
            processor_time(),
            Instant::now(),
            ledger.entry(Stage::Export).passed,
        );
        send(&exporter, &ledger, &records, rounds).await;
        let used = processor_time() - begin;
        let sent = ledger.entry(Stage::Export).passed - before;
        ensure!(
            sent == u64::from(rounds * full_records::RECORDS),
            "{sent} arrived: {:?}",
            ledger.entries()
        );
        eprintln!(
            "  {sent} records in {:?}, {used:?} of processor time",
            clock.elapsed()
        );
        Ok(sent as f64 / used.as_secs_f64())
    })?;
    // The receiver ends with its standard input.
    drop(receiver.stdin.take());
    receiver.wait()?;
    Ok(rate)
}

/// Encodes and exports all records, and waits until they are answered for.
async fn send(
    exporter: &ExporterHandle,
    ledger: &Arc<Ledger>,
    records: &[netflume_core::model::netflow::NetflowRecord],
    rounds: u32,
) {
    let mut encoder = LogsEncoder::new(LogsOptions::default());
    for _ in 0..rounds {
        for record in records {
            if let Some(request) = encoder.push(&Netflow::from(record)) {
                room(exporter, HELD_MAX).await;
                exporter.push(request, ledger);
            }
        }
    }
    if let Some(request) = encoder.finish() {
        exporter.push(request, ledger);
    }
    room(exporter, 0).await;
}

async fn room(exporter: &ExporterHandle, held_max: u64) {
    while exporter.held().requests > held_max {
        tokio::time::sleep(Duration::from_micros(500)).await;
    }
}

/// User and system time of this process, all threads.
fn processor_time() -> Duration {
    let usage = {
        let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: the pointer is valid for one rusage, and all zero is a valid one should the call fail.
        unsafe {
            libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
            usage.assume_init()
        }
    };
    let time = |t: libc::timeval| Duration::new(t.tv_sec as u64, t.tv_usec as u32 * 1000);
    time(usage.ru_utime) + time(usage.ru_stime)
}

/// Takes requests of log records, reads their bytes and says yes.
#[derive(Clone)]
struct Sink;

impl NamedService for Sink {
    const NAME: &'static str = "opentelemetry.proto.collector.logs.v1.LogsService";
}

impl Service<http::Request<Body>> for Sink {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move {
            let mut body = request.into_body();
            while let Some(Ok(frame)) = body.frame().await {
                std::hint::black_box(frame.data_ref().map(Bytes::len));
            }
            // An empty response message, then the status.
            let mut trailers = http::HeaderMap::new();
            trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
            let frames = [
                Frame::data(Bytes::from_static(&[0; 5])),
                Frame::trailers(trailers),
            ];
            let frames = tokio_stream::iter(frames.map(Ok::<_, Infallible>));
            let mut response = http::Response::new(Body::new(StreamBody::new(frames)));
            let kind = http::HeaderValue::from_static("application/grpc");
            response
                .headers_mut()
                .insert(http::header::CONTENT_TYPE, kind);
            Ok(response)
        })
    }
}

async fn sink() -> Result<()> {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    println!("http://{}", listener.local_addr()?);
    let ended = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    let server = tonic::transport::Server::builder()
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(16 << 20)
        .add_service(Sink)
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), async {
            drop(ended.await)
        });
    server.await?;
    Ok(())
}
