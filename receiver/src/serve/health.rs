//! Health over HTTP: are the engines' threads alive, have the sources started.
//!
//! | path | 200 when |
//! | --- | --- |
//! | `/livez` | each watched thread made progress within the last 30 s |
//! | `/readyz` | every source that was to start has tried, and at least one runs |
//! | `/` | both; the body is that of the Collector's health check, with sources and threads beside it |

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use ::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::json;

use crate::config::units::show_duration;
use crate::serve::http::{Answer, Handler};

/// Silence of a thread after which it counts as stuck; each beats at least every second, also while it waits for an output.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// How a source is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceState {
    /// Not yet tried.
    Starting,
    /// It delivers.
    Running,
    /// It does not, and why; it is tried again.
    Failed(String),
}

/// What the program knows about its own health. Shared; written by the engines' threads and the sources.
#[derive(Debug)]
pub struct Health {
    started: Instant,
    started_at: SystemTime,
    threads: Mutex<Vec<Weak<Beats>>>,
    sources: Mutex<BTreeMap<&'static str, SourceState>>,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            started_at: SystemTime::now(),
            threads: Mutex::default(),
            sources: Mutex::default(),
        }
    }
}

impl Health {
    /// Watches a thread from now on, as long as one of the pulses of that name lives. Its name is that of its receiver, or begins with
    /// it.
    #[must_use]
    pub fn watch(&self, name: &'static str) -> Pulse {
        let mut threads = lock(&self.threads);
        threads.retain(|beats| beats.strong_count() > 0);
        let known = threads.iter().filter_map(Weak::upgrade);
        let beats = known.into_iter().find(|beats| beats.name == name);
        let pulse = Pulse(Some(beats.unwrap_or_else(|| {
            let beats = Arc::new(Beats {
                name,
                started: self.started,
                last_ms: AtomicU64::new(0),
            });
            threads.push(Arc::downgrade(&beats));
            beats
        })));
        pulse.beat();
        pulse
    }

    /// Says how a source is doing; its name is its configuration key.
    pub fn source(&self, name: &'static str, state: SourceState) {
        lock(&self.sources).insert(name, state);
    }

    /// A source is no longer to run.
    pub fn forget(&self, name: &'static str) {
        lock(&self.sources).remove(name);
    }

    /// All sources that were named.
    #[must_use]
    pub fn sources(&self) -> BTreeMap<&'static str, SourceState> {
        lock(&self.sources).clone()
    }

    /// Each thread that is watched is alive.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.threads()
            .values()
            .all(|silence| *silence <= SILENCE_MAX)
    }

    /// The threads that are watched, and for how long each has been silent.
    #[must_use]
    pub fn threads(&self) -> BTreeMap<&'static str, Duration> {
        let threads = lock(&self.threads);
        threads
            .iter()
            .filter_map(Weak::upgrade)
            .map(|beats| (beats.name, beats.silence()))
            .collect()
    }

    /// The sources have started, as far as they could.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let sources = lock(&self.sources);
        sources.values().any(|state| *state == SourceState::Running)
            && !sources
                .values()
                .any(|state| *state == SourceState::Starting)
    }

    /// Since the program started.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    fn sources_text(&self) -> String {
        let line = |(name, state): (&&str, &SourceState)| match state {
            SourceState::Starting => format!("{name}: starting\n"),
            SourceState::Running => format!("{name}: running\n"),
            SourceState::Failed(why) => format!("{name}: failed: {why}\n"),
        };
        let text: String = lock(&self.sources).iter().map(line).collect();
        if text.is_empty() {
            "no source has started\n".to_owned()
        } else {
            text
        }
    }

    fn stuck_text(&self) -> String {
        let stuck = self.threads().into_iter();
        stuck
            .filter(|(_, silence)| *silence > SILENCE_MAX)
            .map(|(name, silence)| {
                let seconds = silence.as_secs();
                format!("thread {name} has made no progress for {seconds} s\n")
            })
            .collect()
    }

    fn threads_json(&self) -> serde_json::Map<String, serde_json::Value> {
        let silent = |silence: Duration| u64::try_from(silence.as_millis()).unwrap_or(u64::MAX);
        self.threads()
            .into_iter()
            .map(|(name, silence)| (name.to_owned(), json!({ "silentMs": silent(silence) })))
            .collect()
    }

    fn summary(&self) -> Answer {
        let fine = self.is_alive() && self.is_ready();
        let uptime = Duration::from_millis(u64::try_from(self.uptime().as_millis()).unwrap_or(0));
        let sources: serde_json::Map<_, _> = lock(&self.sources)
            .iter()
            .map(|(name, state)| {
                let state = match state {
                    SourceState::Starting => json!({ "status": "starting" }),
                    SourceState::Running => json!({ "status": "running" }),
                    SourceState::Failed(why) => json!({ "status": "failed", "error": why }),
                };
                ((*name).to_owned(), state)
            })
            .collect();
        let body = json!({
            "status": if fine { "Server available" } else { "Server not available" },
            "upSince": rfc3339(self.started_at),
            "uptime": show_duration(uptime),
            "sources": sources,
            "threads": self.threads_json(),
        });
        Answer {
            status: status(fine),
            content_type: "application/json",
            body: Bytes::from(body.to_string()),
        }
    }
}

/// A thread that is watched.
#[derive(Debug)]
struct Beats {
    name: &'static str,
    started: Instant,
    /// Of its last round: milliseconds after `started`.
    last_ms: AtomicU64,
}

impl Beats {
    fn silence(&self) -> Duration {
        let last = Duration::from_millis(self.last_ms.load(Relaxed));
        self.started.elapsed().saturating_sub(last)
    }
}

/// Reports that a thread makes progress. Clones are of the same thread; the default one is of none.
#[derive(Clone, Debug, Default)]
pub struct Pulse(Option<Arc<Beats>>);

impl Pulse {
    /// The thread makes progress: call it at least every second.
    pub fn beat(&self) {
        if let Some(beats) = &self.0 {
            let now = beats.started.elapsed().as_millis();
            let now = u64::try_from(now).unwrap_or(u64::MAX);
            beats.last_ms.store(now, Relaxed);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Lists and maps are whole between any two statements that could panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers from a [`Health`].
#[derive(Debug)]
pub struct HealthHandler(pub Arc<Health>);

impl Handler for HealthHandler {
    fn answer(&self, path: &str, _: &HeaderMap) -> Answer {
        let health = &self.0;
        match path {
            "/livez" if health.is_alive() => Answer::text(StatusCode::OK, "ok\n"),
            "/livez" => Answer::text(StatusCode::SERVICE_UNAVAILABLE, health.stuck_text()),
            "/readyz" => Answer::text(status(health.is_ready()), health.sources_text()),
            "/" => health.summary(),
            _ => Answer::not_found("/livez, /readyz and /"),
        }
    }
}

fn status(fine: bool) -> StatusCode {
    if fine {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}

/// A time as `2026-11-21T12:04:31Z` (RFC 3339).
fn rfc3339(time: SystemTime) -> String {
    format!("{:.0}", Timestamp::try_from(time).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::http::Server;
    use crate::serve::http::tests::get;

    fn answer(health: &Arc<Health>, path: &str) -> (u16, String) {
        let answer = HealthHandler(health.clone()).answer(path, &HeaderMap::new());
        (
            answer.status.as_u16(),
            String::from_utf8(answer.body.to_vec()).unwrap(),
        )
    }

    #[test]
    fn ready_when_every_source_tried_and_one_runs() {
        let health = Arc::new(Health::default());
        assert_eq!(
            answer(&health, "/readyz"),
            (503, "no source has started\n".to_owned())
        );
        health.source("ebpf", SourceState::Starting);
        health.source("cilium", SourceState::Running);
        assert_eq!(answer(&health, "/readyz").0, 503);
        health.source("ebpf", SourceState::Failed("no BTF".to_owned()));
        assert_eq!(
            answer(&health, "/readyz"),
            (200, "cilium: running\nebpf: failed: no BTF\n".to_owned())
        );
        health.source("cilium", SourceState::Failed("gone".to_owned()));
        assert_eq!(answer(&health, "/readyz").0, 503);
    }

    /// As if the thread had been silent for so many seconds.
    fn silent_for(pulse: &Pulse, seconds: u64) {
        let beats = pulse.0.as_ref().unwrap();
        let last = beats.started.elapsed() - Duration::from_secs(seconds);
        let last_ms = u64::try_from(last.as_millis()).unwrap();
        beats.last_ms.store(last_ms, Relaxed);
    }

    #[test]
    fn alive_while_every_watched_thread_makes_progress() {
        let health = Arc::new(Health {
            started: Instant::now()
                .checked_sub(Duration::from_secs(60))
                .expect("the machine runs for longer than that"),
            ..Health::default()
        });
        assert_eq!(answer(&health, "/livez"), (200, "ok\n".to_owned()));
        let ebpf = health.watch("ebpf");
        let cilium = health.watch("cilium");
        assert_eq!(answer(&health, "/livez").0, 200);
        // Progress of one thread does not hide that another one is stuck.
        silent_for(&cilium, 31);
        ebpf.beat();
        let (status, text) = answer(&health, "/livez");
        assert_eq!(status, 503);
        assert!(
            text.starts_with("thread cilium has made no progress for 3")
                && text.lines().count() == 1,
            "{text}"
        );
        assert_eq!(answer(&health, "/").0, 503);
        cilium.beat();
        assert_eq!(answer(&health, "/livez").0, 200);
        // A thread that has ended is not watched.
        let ended = health.watch("ended");
        silent_for(&ended, 40);
        assert_eq!(answer(&health, "/livez").0, 503);
        drop(ended);
        assert_eq!(answer(&health, "/livez").0, 200);
    }

    #[test]
    fn pulses_of_one_name_are_of_one_thread() {
        let health = Health::default();
        let (first, second) = (health.watch("ebpf"), health.watch("ebpf"));
        assert_eq!(health.threads().len(), 1);
        drop(first);
        second.beat();
        assert_eq!(health.threads().len(), 1);
        drop(second);
        assert_eq!(health.threads().len(), 0);
    }

    #[tokio::test]
    async fn the_summary_reads_like_the_collectors() {
        let health = Arc::new(Health::default());
        let _pulse = health.watch("ebpf");
        health.source("ebpf", SourceState::Running);
        let handler = Arc::new(HealthHandler(health));
        let server = Server::start("extensions.health", "127.0.0.1:0", handler)
            .await
            .unwrap();
        let text = get(server.local(), "/").await;
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
        let body: serde_json::Value =
            serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap();
        assert_eq!(body["status"], "Server available");
        assert_eq!(body["sources"]["ebpf"]["status"], "running");
        assert!(body["threads"]["ebpf"]["silentMs"].is_u64(), "{body}");
        assert!(get(server.local(), "/x").await.starts_with("HTTP/1.1 404 "));
    }

    #[test]
    fn times_are_whole_seconds_of_rfc_3339() {
        let cases = [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_164_799, "2024-02-28T23:59:59Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(
                rfc3339(SystemTime::UNIX_EPOCH + Duration::from_millis(seconds * 1000 + 999)),
                expected
            );
        }
    }
}
