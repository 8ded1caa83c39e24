//! What a person reads about an outage.

#![expect(clippy::unwrap_used, reason = "a test ends where its helpers fail")]

use std::io::Write;
use std::sync::{Arc, Mutex, OnceLock};

use netflume_tests::fake_collector::{FakeCollector, Reply};
use netflume_tests::wait;
use tonic::Code;
use tracing_subscriber::fmt::MakeWriter;

use crate::harness::{Running, logs, logs_from, metrics, options};

/// All lines of this process; other tests write theirs too, so a test looks for its own endpoint.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn about(&self, endpoint: &str) -> Vec<String> {
        let text = String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned();
        text.lines()
            .filter(|line| line.contains(endpoint))
            .map(str::to_owned)
            .collect()
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

fn lines() -> Lines {
    static LINES: OnceLock<Lines> = OnceLock::new();
    let start = || {
        let lines = Lines::default();
        tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(lines.clone())
            .init();
        lines
    };
    LINES.get_or_init(start).clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_told_once_and_its_end_once() {
    let lines = lines();
    let mut collector = FakeCollector::start().unwrap();
    let endpoint = collector.endpoint();
    let running = Running::start(&options(&endpoint));
    collector.stop();
    for n in 0..5 {
        running.push(logs_from(n, 1));
        running.push(metrics(1));
    }
    wait::until("the outage is seen", || {
        running.exporter.status()[0].failing.clone()
    })
    .unwrap();
    collector.restart().unwrap();
    running.settled();
    running.stop().await;
    let told = lines.about(&endpoint);
    assert_eq!(told.len(), 2, "{told:#?}");
    assert!(
        told[0].contains("WARN")
            && told[0].contains("UNAVAILABLE")
            && told[0].contains("trying again in"),
        "{told:#?}"
    );
    assert!(
        told[1].contains("INFO") && told[1].contains("takes data again"),
        "{told:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_told_once_and_counted_meanwhile() {
    let lines = lines();
    let collector = FakeCollector::start().unwrap();
    collector.script([], Reply::Code(Code::Unauthenticated, "no token"));
    let running = Running::start(&options(&collector.endpoint()));
    for _ in 0..5 {
        running.push(logs(2));
        running.settled();
    }
    let told = lines.about(&collector.endpoint());
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(
        told[0].contains("refuses logs: UNAUTHENTICATED (no token); 2 items dropped"),
        "{told:#?}"
    );
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_is_told_once() {
    let lines = lines();
    let mut collector = FakeCollector::start().unwrap();
    collector.stop();
    let mut options = options(&collector.endpoint());
    options.sending_queue.queue_size = 2;
    let running = Running::start(&options);
    for _ in 0..6 {
        running.push(logs(2));
    }
    let full = |line: &&String| line.contains("is full");
    let told = lines.about(&collector.endpoint());
    assert_eq!(told.iter().filter(full).count(), 1, "{told:#?}");
    running
        .exporter
        .shutdown(Some(std::time::Duration::ZERO))
        .await;
    running.balanced();
}
