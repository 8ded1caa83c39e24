//! The ways to a Collector: compression, TLS, headers, sockets.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::Duration;

use netflume::export::exporter::Exporter;
use netflume::export::options::{Compression, ExporterOptions, Headers, SignalOptions};
use netflume_core::model::request::Signal;
use netflume_tests::fake_collector::FakeCollector;
use netflume_tests::pki::Pki;
use netflume_tests::wait;

use crate::harness::{Running, logs, logs_from, metrics, names, options, traces};

#[tokio::test(flavor = "multi_thread")]
async fn every_compression_arrives_whole_and_is_declared() {
    for (compression, declared) in [
        (Compression::Gzip, Some("gzip")),
        (Compression::Zstd, Some("zstd")),
        (Compression::None, None),
    ] {
        let collector = FakeCollector::start().unwrap();
        let mut options = options(&collector.endpoint());
        options.for_all(|signal| signal.compression = compression);
        let running = Running::start(&options);
        running.push(logs_from(0, 100));
        running.push(metrics(10));
        running.push(traces(10));
        running.settled();
        assert_eq!(
            (running.delivered(), running.lost()),
            (120, vec![]),
            "{compression:?}"
        );
        assert_eq!(names(&collector.logs()).len(), 100);
        for request in collector.received() {
            assert_eq!(request.header("grpc-encoding"), declared);
            // What is sent compressed is accepted compressed.
            let accepted = request.header("grpc-accept-encoding").unwrap();
            assert!(
                accepted.contains("gzip") && accepted.contains("zstd"),
                "{accepted}"
            );
        }
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_and_user_agent_are_sent() {
    let collector = FakeCollector::start().unwrap();
    let mut options = options(&collector.endpoint());
    options.logs.headers = Headers::from([("Authorization", "Bearer x y"), ("x-tenant", "a")]);
    let running = Running::start(&options);
    running.push(logs(1));
    running.settled();
    running.push(metrics(1));
    running.settled();
    let received = collector.received();
    assert_eq!(received[0].header("authorization"), Some("Bearer x y"));
    assert_eq!(received[0].header("x-tenant"), Some("a"));
    assert_eq!(received[1].header("authorization"), None);
    assert!(
        received[0]
            .header("user-agent")
            .unwrap()
            .starts_with("netflume/")
    );
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_signal_can_have_its_own_collector() {
    let [for_logs, for_metrics] = [
        FakeCollector::start().unwrap(),
        FakeCollector::start().unwrap(),
    ];
    let options = ExporterOptions {
        logs: SignalOptions {
            endpoint: Some(for_logs.endpoint()),
            compression: Compression::Zstd,
            ..SignalOptions::default()
        },
        metrics: SignalOptions {
            endpoint: Some(for_metrics.endpoint()),
            compression: Compression::None,
            ..SignalOptions::default()
        },
        ..ExporterOptions::default()
    };
    let running = Running::start(&options);
    running.push(logs(2));
    running.push(metrics(3));
    running.settled();
    let seen = |collector: &FakeCollector| {
        let received = collector.received();
        (
            received.len(),
            received[0].signal,
            received[0].items,
            received[0].header("grpc-encoding").map(str::to_owned),
        )
    };
    assert_eq!(
        seen(&for_logs),
        (1, Signal::Logs, 2, Some("zstd".to_owned()))
    );
    assert_eq!(seen(&for_metrics), (1, Signal::Metrics, 3, None));
    assert_eq!(running.exporter.status().len(), 2);
    running.stop().await;
}

/// Options for `https://localhost`, whose certificate is checked.
fn tls_options(collector: &FakeCollector, pki: &Pki) -> ExporterOptions {
    let mut options = options(&format!("https://localhost:{}", collector.address().port()));
    options.for_all(|signal| signal.tls.ca_file = Some(pki.ca_file()));
    options
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_spoken_where_the_endpoint_says_so() {
    let pki = Pki::new().unwrap();
    let collector = FakeCollector::start_tls(pki.server()).unwrap();
    let mut without_scheme = tls_options(&collector, &pki);
    without_scheme.for_all(|signal| {
        signal.endpoint = Some(format!("localhost:{}", collector.address().port()))
    });
    for options in [tls_options(&collector, &pki), without_scheme] {
        let running = Running::start(&options);
        running.push(logs(3));
        running.settled();
        assert_eq!((running.delivered(), running.lost()), (3, vec![]));
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_authority_or_another_name_is_not_spoken_to() {
    let (pki, other) = (Pki::new().unwrap(), Pki::new().unwrap());
    let collector = FakeCollector::start_tls(pki.server()).unwrap();
    let mut another_name = tls_options(&collector, &pki);
    another_name.for_all(|signal| signal.tls.server_name_override = Some("else.test".into()));
    for options in [tls_options(&collector, &other), another_name] {
        let running = Running::start(&options);
        running.push(logs(3));
        let failing = wait::until("the failure is seen", || {
            running.exporter.status()[0].failing.clone()
        })
        .unwrap();
        assert!(
            failing.message.contains("certificate"),
            "{}",
            failing.message
        );
        running.exporter.shutdown(Some(Duration::ZERO)).await;
        running.balanced();
        assert_eq!(collector.received().len(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn verification_can_be_told_another_name_or_be_left_out() {
    let pki = Pki::new().unwrap();
    let collector = FakeCollector::start_tls(pki.server()).unwrap();
    let mut by_name = tls_options(&collector, &pki);
    by_name.for_all(|signal| {
        signal.endpoint = Some(format!("https://{}", collector.address()));
        signal.tls.server_name_override = Some("collector.test".into());
    });
    let mut unverified = options(&format!("https://{}", collector.address()));
    unverified.for_all(|signal| signal.tls.insecure_skip_verify = true);
    for options in [by_name, unverified] {
        let running = Running::start(&options);
        running.push(logs(3));
        running.settled();
        assert_eq!((running.delivered(), running.lost()), (3, vec![]));
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mutual_tls_shows_our_certificate() {
    let pki = Pki::new().unwrap();
    let collector = FakeCollector::start_tls(pki.mutual_server()).unwrap();
    let mut options = tls_options(&collector, &pki);
    let stranger = Running::start(&options);
    stranger.push(logs(1));
    wait::until("a client without a certificate fails", || {
        stranger.exporter.status()[0].failing.clone()
    })
    .unwrap();
    stranger.exporter.shutdown(Some(Duration::ZERO)).await;

    options.for_all(|signal| {
        signal.tls.cert_file = Some(pki.client_cert_file());
        signal.tls.key_file = Some(pki.client_key_file());
    });
    let running = Running::start(&options);
    running.push(logs(3));
    running.settled();
    assert_eq!((running.delivered(), collector.received().len()), (3, 1));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_are_replaced_are_used_for_the_next_connection() {
    let (pki, other) = (Pki::new().unwrap(), Pki::new().unwrap());
    let collector = FakeCollector::start_tls(pki.mutual_server()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let [ca, cert, key] = ["ca.pem", "cert.pem", "key.pem"].map(|name| folder.path().join(name));
    let put = |pki: &Pki| {
        for (from, to) in [
            (pki.client_key_file(), &key),
            (pki.client_cert_file(), &cert),
            (pki.ca_file(), &ca),
        ] {
            std::fs::copy(from, to).unwrap();
        }
    };
    put(&other);
    let mut options = tls_options(&collector, &other);
    options.for_all(|signal| {
        signal.tls.ca_file = Some(ca.clone());
        signal.tls.cert_file = Some(cert.clone());
        signal.tls.key_file = Some(key.clone());
    });
    let running = Running::start(&options);
    running.push(logs(3));
    wait::until("those of another authority fail", || {
        running.exporter.status()[0].failing.clone()
    })
    .unwrap();
    put(&pki);
    running.settled();
    assert_eq!((running.delivered(), running.lost()), (3, vec![]));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unix_socket_is_an_endpoint() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("otlp.sock");
    let collector = FakeCollector::start_unix(&path).unwrap();
    let running = Running::start(&options(&format!("unix://{}", path.display())));
    running.push(logs(3));
    running.settled();
    assert_eq!((running.delivered(), collector.taken_items()), (3, 3));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_speaks_another_protocol_is_retried_and_named() {
    // An HTTP/1 server, as behind a wrong port.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _read = stream.read(&mut [0; 1024]);
            let _written =
                stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let running = Running::start(&options(&endpoint));
    running.push(logs(3));
    let failing = wait::until("the failure is seen", || {
        running.exporter.status()[0].failing.clone()
    })
    .unwrap();
    assert_eq!(failing.code, "UNAVAILABLE");
    assert!(!failing.message.is_empty());
    assert_eq!(
        running
            .exporter
            .shutdown(Some(Duration::from_millis(10)))
            .await,
        3
    );
    running.balanced();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_accepts_and_stays_silent_runs_into_the_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut options = options(&format!("http://{}", listener.local_addr().unwrap()));
    options.for_all(|signal| signal.timeout = Duration::from_millis(200));
    let running = Running::start(&options);
    running.push(logs(3));
    let failing = wait::until("the failure is seen", || {
        running.exporter.status()[0].failing.clone()
    })
    .unwrap();
    assert_eq!(failing.code, "DEADLINE_EXCEEDED");
    assert_eq!(
        running
            .exporter
            .shutdown(Some(Duration::from_millis(10)))
            .await,
        3
    );
    running.balanced();
}

#[tokio::test]
async fn what_cannot_work_is_refused_at_start() {
    let refused = |change: fn(&mut SignalOptions)| {
        let mut options = options("http://localhost:4317");
        change(&mut options.metrics);
        Exporter::start(&options).unwrap_err().to_string()
    };
    let error = refused(|metrics| metrics.endpoint = Some("localhost".into()));
    assert!(
        error.contains("metrics endpoint") && error.contains("without a port"),
        "{error}"
    );
    let (pki, mut mismatched) = (Pki::new().unwrap(), options("https://localhost:4317"));
    mismatched.logs.tls.cert_file = Some(pki.client_cert_file());
    mismatched.logs.tls.key_file = Some(pki.server_key_file());
    let error = Exporter::start(&mismatched).unwrap_err();
    assert_eq!(
        error.to_string(),
        "logs: the certificate of tls.cert_file and the key of tls.key_file: they do not belong together"
    );
    let error = refused(|metrics| metrics.headers = Headers::from([("grpc-timeout", "1S")]));
    assert!(
        error.contains("metrics headers") && error.contains("grpc-timeout"),
        "{error}"
    );
    let error = refused(|metrics| {
        metrics.endpoint = Some("https://localhost:4317".into());
        metrics.tls.ca_file = Some("/does/not/exist.pem".into());
    });
    assert!(error.contains("tls.ca_file /does/not/exist.pem"), "{error}");
}
