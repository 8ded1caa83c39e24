//! Health over HTTP: is the main loop alive, have the sources started.
//!
//! | path | 200 when |
//! | --- | --- |
//! | `/livez` | the main loop beat within the last 30 s |
//! | `/readyz` | every source that was to start has tried, and at least one runs |
//! | `/` | both; the body is that of the Collector's health check, with the sources beside it |

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use ::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::json;

use crate::config::units::show_duration;
use crate::serve::http::{Answer, Handler};

/// Silence of the main loop after which it counts as stuck; it beats at least every second.
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

/// What the program knows about its own health. Shared; written by the main loop and the sources.
#[derive(Debug)]
pub struct Health {
    started: Instant,
    started_at: SystemTime,
    /// Milliseconds after `started`.
    last_beat: AtomicU64,
    sources: Mutex<BTreeMap<&'static str, SourceState>>,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            started_at: SystemTime::now(),
            last_beat: AtomicU64::new(0),
            sources: Mutex::default(),
        }
    }
}

impl Health {
    /// The main loop goes round: call it at least every second.
    pub fn beat(&self) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_beat.store(now, Relaxed);
    }

    /// Says how a source is doing; its name is its configuration key.
    pub fn source(&self, name: &'static str, state: SourceState) {
        self.lock().insert(name, state);
    }

    /// All sources that were named.
    #[must_use]
    pub fn sources(&self) -> BTreeMap<&'static str, SourceState> {
        self.lock().clone()
    }

    /// The main loop is alive.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.silence() <= SILENCE_MAX
    }

    /// The sources have started, as far as they could.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let sources = self.lock();
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

    fn silence(&self) -> Duration {
        self.uptime()
            .saturating_sub(Duration::from_millis(self.last_beat.load(Relaxed)))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, SourceState>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sources_text(&self) -> String {
        let line = |(name, state): (&&str, &SourceState)| match state {
            SourceState::Starting => format!("{name}: starting\n"),
            SourceState::Running => format!("{name}: running\n"),
            SourceState::Failed(why) => format!("{name}: failed: {why}\n"),
        };
        let text: String = self.lock().iter().map(line).collect();
        if text.is_empty() {
            "no source has started\n".to_owned()
        } else {
            text
        }
    }

    fn summary(&self) -> Answer {
        let fine = self.is_alive() && self.is_ready();
        let uptime = Duration::from_millis(u64::try_from(self.uptime().as_millis()).unwrap_or(0));
        let sources: serde_json::Map<_, _> = self
            .lock()
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
        });
        Answer {
            status: status(fine),
            content_type: "application/json",
            body: Bytes::from(body.to_string()),
        }
    }
}

/// Answers from a [`Health`].
#[derive(Debug)]
pub struct HealthHandler(pub Arc<Health>);

impl Handler for HealthHandler {
    fn answer(&self, path: &str, _: &HeaderMap) -> Answer {
        let health = &self.0;
        match path {
            "/livez" if health.is_alive() => Answer::text(StatusCode::OK, "ok\n"),
            "/livez" => Answer::text(
                StatusCode::SERVICE_UNAVAILABLE,
                format!(
                    "the main loop stands still for {} s\n",
                    health.silence().as_secs()
                ),
            ),
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

    #[test]
    fn alive_while_the_main_loop_beats() {
        let mut health = Health::default();
        health.beat();
        assert!(health.is_alive());
        // As if it had started, and beaten for the last time, 31 seconds ago.
        health.last_beat = AtomicU64::new(0);
        if let Some(earlier) = health
            .started
            .checked_sub(SILENCE_MAX + Duration::from_secs(1))
        {
            health.started = earlier;
        }
        let health = Arc::new(health);
        assert_eq!(
            answer(&health, "/livez"),
            (503, "the main loop stands still for 31 s\n".to_owned())
        );
        health.beat();
        assert_eq!(answer(&health, "/livez"), (200, "ok\n".to_owned()));
    }

    #[tokio::test]
    async fn the_summary_reads_like_the_collectors() {
        let health = Arc::new(Health::default());
        health.beat();
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
