//! The thread that asks the agent's API: questions in, finished changes out.
//!
//! Questions that come close together are asked together. When the agent does not answer they are asked again after 100 ms, then less and less
//! often, every 10 s at the least. What no notification reports (services, domains, cgroups) is asked every 30 s, and everything every
//! five minutes: the agent drops notifications silently when we are slow.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use netflume_core::enrich::cilium::answer::{Answer, Change, Content, LINKS, LISTS};
use netflume_core::enrich::cilium::update::Refresh;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::client::{AgentApi, ApiError, ApiLimits};
use super::question::{Answers, Bad, Good, Lists, ask, known};
use crate::directories::links;
use crate::export::retry::chance;
use crate::platform::clock;

/// Where our own interfaces are listed.
const LINKS_FOLDER: &str = "/sys/class/net";
/// Questions that wait to be asked.
const QUESTIONS_MAX: usize = 1024;
/// Rounds of answers that wait to be taken.
const ANSWERS_MAX: usize = 16;
/// Single questions at a time beyond which everything is asked.
const SINGLE_MAX: usize = 128;
/// Questions that come within this time are asked together.
const TOGETHER: Duration = Duration::from_millis(100);
/// The first wait after a failure; doubled up to [`BACKOFF_MAX`].
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// The longest wait after a failure.
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// Between two looks at what no notification reports.
const POLL: Duration = Duration::from_secs(30);
/// The first wait after an agent that could not answer everything, as one that starts; doubled up to [`POLL_ALL`].
const PART_MIN: Duration = Duration::from_secs(1);
/// Between two looks at everything.
const POLL_ALL: Duration = Duration::from_secs(300);

/// The running thread; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Fetcher {
    questions: mpsc::Sender<Refresh>,
    answers: mpsc::Receiver<Answers>,
    end: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Fetcher {
    /// Asks at this socket. With `raw`, answers come as batches of a recording too.
    pub(crate) fn start(socket: PathBuf, raw: bool) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (questions, asked) = mpsc::channel(QUESTIONS_MAX);
        let (sender, answers) = mpsc::channel(ANSWERS_MAX);
        let end = CancellationToken::new();
        let ended = end.clone();
        let thread = std::thread::Builder::new()
            .name("cilium-api".to_owned())
            .spawn(move || {
                let worker = Worker {
                    api: AgentApi::new(socket.clone(), ApiLimits::default()),
                    socket,
                    raw,
                    asked,
                    answers: sender,
                    reported: BTreeMap::new(),
                    unanswered: Unanswered::default(),
                };
                runtime.block_on(async {
                    tokio::select! {
                        () = ended.cancelled() => {}
                        () = worker.run() => {}
                    }
                });
            })?;
        Ok(Self {
            questions,
            answers,
            end,
            thread: Some(thread),
        })
    }

    /// False when too many questions wait.
    pub(crate) fn ask(&self, question: Refresh) -> bool {
        self.questions.try_send(question).is_ok()
    }

    /// The next answers, if there are any.
    pub(crate) fn answers(&mut self) -> Option<Answers> {
        self.answers.try_recv().ok()
    }

    /// Waits for the next answers.
    #[cfg(test)]
    pub(crate) fn next_answers(&mut self) -> Option<Answers> {
        self.answers.blocking_recv()
    }
}

impl Drop for Fetcher {
    fn drop(&mut self) {
        self.end.cancel();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the Cilium agent's API panicked");
        }
    }
}

struct Worker {
    /// For single questions.
    api: AgentApi,
    socket: PathBuf,
    raw: bool,
    asked: mpsc::Receiver<Refresh>,
    answers: mpsc::Sender<Answers>,
    /// The line that was printed last about a path.
    reported: BTreeMap<String, String>,
    unanswered: Unanswered,
}

/// Whether a list was refused by an agent that is busy, and how often in a row.
#[derive(Default)]
struct Unanswered {
    now: bool,
    times: u32,
}

impl Unanswered {
    /// When to ask for everything again, if something is missing.
    fn take_wait(&mut self) -> Option<Duration> {
        if !std::mem::take(&mut self.now) {
            return None;
        }
        self.times = self.times.saturating_add(1);
        let doubled = PART_MIN.saturating_mul(1 << self.times.min(9));
        Some(doubled.min(POLL_ALL))
    }
}

/// The agent does not answer now.
struct Away;

/// What is reported about it.
const AWAY: &str = "away";

impl Worker {
    /// Until the engine is gone.
    async fn run(mut self) {
        let mut wanted = BTreeSet::from([Refresh::All]);
        let (mut poll, mut poll_all) = (Instant::now() + POLL, Instant::now() + POLL_ALL);
        let mut backoff = BACKOFF_MIN;
        loop {
            let pause = match self.answer(&mut wanted).await {
                Ok(()) => {
                    backoff = BACKOFF_MIN;
                    if let Some(wait) = self.unanswered.take_wait() {
                        poll_all = poll_all.min(Instant::now() + wait);
                    }
                    None
                }
                Err(Away) => {
                    let pause = backoff.mul_f64(0.5 + chance() / 2.0);
                    backoff = (backoff * 2).min(BACKOFF_MAX);
                    Some(pause)
                }
            };
            if let Some(pause) = pause {
                let until = Instant::now() + pause;
                loop {
                    tokio::select! {
                        () = tokio::time::sleep_until(until) => break,
                        question = self.asked.recv() => match question {
                            // The engine knows that the agent is there.
                            Some(Refresh::All) => {
                                wanted.insert(Refresh::All);
                                backoff = BACKOFF_MIN;
                                break;
                            }
                            Some(question) => wanted.extend([question]),
                            None => return,
                        },
                    }
                }
            } else {
                tokio::select! {
                    question = self.asked.recv() => match question {
                        Some(question) => wanted.extend([question]),
                        None => return,
                    },
                    () = tokio::time::sleep_until(poll.min(poll_all)) => {}
                }
                tokio::time::sleep(TOGETHER).await;
            }
            while let Ok(question) = self.asked.try_recv() {
                wanted.insert(question);
            }
            let now = Instant::now();
            if now >= poll {
                poll = now + POLL.mul_f64(0.9 + chance() / 5.0);
                wanted.extend([Refresh::Services, Refresh::Names, Refresh::Cgroups]);
            }
            if now >= poll_all || wanted.len() > SINGLE_MAX {
                wanted.insert(Refresh::All);
            }
            if wanted.contains(&Refresh::All) {
                poll_all = now + POLL_ALL.mul_f64(0.9 + chance() / 5.0);
            }
        }
    }

    /// Asks what is wanted; what was answered is wanted no more.
    async fn answer(&mut self, wanted: &mut BTreeSet<Refresh>) -> Result<(), Away> {
        if wanted.contains(&Refresh::All) {
            self.all().await?;
            wanted.clear();
        }
        while let Some(question) = wanted.first().copied() {
            self.one(question).await?;
            wanted.remove(&question);
        }
        Ok(())
    }

    /// All lists, at the same time: an agent that takes its time with one of them delays no other.
    async fn all(&mut self) -> Result<(), Away> {
        let (socket, raw) = (&self.socket, self.raw);
        let mut answers = Answers {
            lists: Lists::Complete,
            lists_ns: clock::now().unix_ns,
            ..Answers::default()
        };
        let ask_alone = |path: &'static str| async move {
            let mut api = AgentApi::new(socket.clone(), ApiLimits::default());
            ask(&mut api, path, raw).await
        };
        let [a, b, c, d, e, f, g] = LISTS.map(ask_alone);
        let (a, b, c, d, e, f, g) = tokio::join!(a, b, c, d, e, f, g);
        let mut away = None;
        for (path, result) in LISTS.into_iter().zip([a, b, c, d, e, f, g]) {
            match result {
                Ok(good) => self.take(path, good, &mut answers),
                Err(error) if error.is_away() => {
                    answers.lists = match error {
                        Bad::Api(ApiError::Connect { .. }) => Lists::Unreachable,
                        _ => Lists::Same,
                    };
                    away.get_or_insert(error);
                }
                Err(error) => self.report_bad(path, &error),
            }
        }
        if let Some(error) = &away {
            self.report_away(error);
        }
        if !self.unanswered.now {
            self.unanswered.times = 0;
        } else if answers.lists == Lists::Complete {
            answers.lists = Lists::Same;
        }
        if let Some(line) = known(&answers.changes) {
            self.report("", line, |line| tracing::info!("{line}"));
        }
        self.hand_over(answers).await;
        away.map_or(Ok(()), |_| Err(Away))
    }

    /// Puts an answer to the others, and our own interfaces behind those of the endpoints.
    fn take(&mut self, path: &str, good: Good, answers: &mut Answers) {
        self.reported.remove(path);
        self.reported.remove(AWAY);
        answers.changes.push(good.change);
        answers.raw.extend(good.raw);
        if path != "endpoint" {
            return;
        }
        let links = links::read(Path::new(LINKS_FOLDER));
        let asked_ns = clock::now().unix_ns;
        if self.raw
            && let Ok(body) = serde_json::to_vec(&links)
        {
            let answer = Answer {
                asked_ns,
                path: LINKS,
                body: &body,
            };
            answers.raw.push(answer.to_bytes());
        }
        answers.changes.push(Change {
            asked_ns,
            content: Content::Links(links),
        });
    }

    async fn one(&mut self, question: Refresh) -> Result<(), Away> {
        let path = match question {
            Refresh::Endpoint(id) => format!("endpoint/{id}"),
            Refresh::Identity(number) => format!("identity/{number}"),
            Refresh::Services => "service".to_owned(),
            Refresh::Cgroups => "cgroup-dump-metadata".to_owned(),
            Refresh::Names => "fqdn/cache".to_owned(),
            Refresh::None | Refresh::All | Refresh::EndpointGone(_) => return Ok(()),
        };
        match ask(&mut self.api, &path, self.raw).await {
            Ok(good) => {
                let mut answers = Answers::default();
                self.take(&path, good, &mut answers);
                self.hand_over(answers).await;
            }
            Err(error) if error.is_away() => {
                self.report_away(&error);
                return Err(Away);
            }
            // That an endpoint or identity is not there is an answer too.
            Err(error) if matches!(question, Refresh::Endpoint(_) | Refresh::Identity(_)) => {
                tracing::debug!(%error, "the Cilium agent does not know");
            }
            Err(error) => self.report_bad(&path, &error),
        }
        Ok(())
    }

    /// An answer that makes no sense, or a refusal: reported once.
    fn report_bad(&mut self, path: &str, error: &Bad) {
        self.unanswered.now |= error.may_pass();
        let line = format!("receivers.cilium.api_socket: {error}; flows go on without these names");
        self.report(path, line, |line| tracing::warn!("{line}"));
    }

    fn report_away(&mut self, error: &Bad) {
        let line = format!(
            "receivers.cilium.api_socket: {error}; flows go on with the names known so far; asking again"
        );
        self.report(AWAY, line, |line| tracing::warn!("{line}"));
    }

    /// One line for each thing, not for each try.
    fn report(&mut self, of: &str, line: String, print: impl FnOnce(&str)) {
        if self.reported.get(of) != Some(&line) {
            print(&line);
            self.reported.insert(of.to_owned(), line);
        }
    }

    async fn hand_over(&self, answers: Answers) {
        // It fails when the engine is gone: the end.
        let _ended = self.answers.send(answers).await;
    }
}
