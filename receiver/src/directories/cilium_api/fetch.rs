//! The thread that asks the agent's API: questions in, finished changes out.
//!
//! Questions that come close together are asked together. When nobody answers they are asked again after 100 ms, then less and less
//! often, every 10 s at the least. What no notification tells (services, domains, cgroups) is asked every 30 s, and everything every
//! five minutes: the agent drops notifications silently when we are slow.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Change;
use crate::directories::cilium_api::client::{AgentApi, ApiError, ApiLimits};
use crate::export::retry::chance;
use crate::{directories::links, platform::clock};
use netflume_core::enrich::cilium::api::{
    Cgroups, Endpoint, Healthz, Identity, IpEntry, Lookup, ServiceEntry,
};
use netflume_core::enrich::cilium::update::Refresh;
use netflume_core::enrich::cilium::{Directory, Table};

/// Where our own interfaces are listed.
const LINKS: &str = "/sys/class/net";
/// Questions that wait to be asked.
const QUESTIONS_MAX: usize = 1024;
/// Answers that wait to be taken.
const CHANGES_MAX: usize = 16;
/// Single questions at a time beyond which everything is asked.
const SINGLE_MAX: usize = 128;
/// Questions that come within this time are asked together.
const TOGETHER: Duration = Duration::from_millis(100);
/// The first wait after a failure; doubled up to [`BACKOFF_MAX`].
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// The longest wait after a failure.
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// Between two looks at what no notification tells.
const POLL: Duration = Duration::from_secs(30);
/// The first wait after an agent that could not answer everything, as one that starts; doubled up to [`POLL_ALL`].
const PART_MIN: Duration = Duration::from_secs(1);
/// Between two looks at everything.
const POLL_ALL: Duration = Duration::from_secs(300);

/// The running thread; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Fetcher {
    questions: mpsc::Sender<Refresh>,
    changes: mpsc::Receiver<Change>,
    end: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Fetcher {
    pub(crate) fn start(socket: PathBuf) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (questions, asked) = mpsc::channel(QUESTIONS_MAX);
        let (answers, changes) = mpsc::channel(CHANGES_MAX);
        let end = CancellationToken::new();
        let ended = end.clone();
        let thread = std::thread::Builder::new()
            .name("cilium-api".to_owned())
            .spawn(move || {
                let worker = Worker {
                    api: AgentApi::new(socket, ApiLimits::default()),
                    asked,
                    answers,
                    said: BTreeMap::new(),
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
            changes,
            end,
            thread: Some(thread),
        })
    }

    /// False when too many questions wait.
    pub(crate) fn ask(&self, question: Refresh) -> bool {
        self.questions.try_send(question).is_ok()
    }

    /// The next answer, if there is one.
    pub(crate) fn change(&mut self) -> Option<Change> {
        self.changes.try_recv().ok()
    }

    /// Waits for the next answer.
    #[cfg(test)]
    pub(crate) fn next_change(&mut self) -> Option<Change> {
        self.changes.blocking_recv()
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
    api: AgentApi,
    asked: mpsc::Receiver<Refresh>,
    answers: mpsc::Sender<Change>,
    /// The line that was said last of a path.
    said: BTreeMap<&'static str, String>,
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

/// Nobody answers now.
struct Away;

/// Names the node's other interfaces too, if ours are the node's: then one that leads to an endpoint is among them.
pub(crate) fn own_links(directory: &mut Directory, links: &[(u32, String)]) {
    let is_known = |(index, name): &(u32, String)| {
        directory.interface(*index).as_deref() == Some(name.as_str())
    };
    if links.iter().any(is_known) {
        for (index, name) in links {
            directory.set_interface(*index, name.as_str().into());
        }
    }
}

impl Worker {
    /// Until nobody asks any more.
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
                tokio::time::sleep(pause).await;
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

    async fn all(&mut self) -> Result<(), Away> {
        if let Some(says) = self.read::<Healthz>("healthz").await? {
            self.hand_over(Change::Agent {
                version: says.version(),
                node: says.node().map(str::to_owned),
            })
            .await;
        }
        let asked_ns = clock::now().unix_ns;
        let mut filled = Box::new(Directory::default());
        let mut tables = Vec::new();
        if let Some(list) = self.read::<Vec<Endpoint>>("endpoint").await? {
            list.iter().for_each(|one| filled.add_endpoint(one));
            own_links(&mut filled, &links::read(Path::new(LINKS)));
            tables.push(Table::Endpoints);
        }
        if let Some(list) = self.read::<Vec<Identity>>("identity").await? {
            list.iter().for_each(|one| filled.add_identity(one));
            tables.push(Table::Identities);
        }
        if let Some(list) = self.read::<Vec<IpEntry>>("ip").await? {
            list.iter().for_each(|one| filled.add_ip(one));
            tables.push(Table::Prefixes);
        }
        for question in [Refresh::Services, Refresh::Cgroups, Refresh::Names] {
            tables.extend(self.table(question, &mut filled).await?);
        }
        if !self.unanswered.now {
            self.unanswered.times = 0;
        }
        if tables.is_empty() {
            return Ok(());
        }
        let [endpoints, identities, prefixes, services] = filled.counts();
        self.hand_over(Change::Tables {
            tables,
            filled,
            asked_ns,
        })
        .await;
        self.said(
            "",
            format!("receivers.cilium knows {endpoints} endpoints, {identities} identities, {prefixes} addresses and prefixes, {services} services"),
            |line| tracing::info!("{line}"),
        );
        Ok(())
    }

    async fn one(&mut self, question: Refresh) -> Result<(), Away> {
        let change = match question {
            Refresh::Endpoint(id) => self
                .item(&format!("endpoint/{id}"))
                .await?
                .map(|endpoint| Change::Endpoint(Box::new(endpoint))),
            Refresh::Identity(number) => self
                .item(&format!("identity/{number}"))
                .await?
                .map(|identity| Change::Identity(Box::new(identity))),
            Refresh::None | Refresh::All | Refresh::EndpointGone(_) => None,
            Refresh::Services | Refresh::Cgroups | Refresh::Names => {
                let asked_ns = clock::now().unix_ns;
                let mut filled = Box::new(Directory::default());
                let table = self.table(question, &mut filled).await?;
                table.map(|table| Change::Tables {
                    tables: vec![table],
                    filled,
                    asked_ns,
                })
            }
        };
        if let Some(change) = change {
            self.hand_over(change).await;
        }
        Ok(())
    }

    async fn table(
        &mut self,
        question: Refresh,
        filled: &mut Directory,
    ) -> Result<Option<Table>, Away> {
        Ok(match question {
            Refresh::Services => self
                .read::<Vec<ServiceEntry>>("service")
                .await?
                .map(|list| {
                    filled.replace_services(&list);
                    Table::Services
                }),
            Refresh::Cgroups => self
                .read::<Cgroups>("cgroup-dump-metadata")
                .await?
                .map(|list| {
                    filled.replace_cgroups(&list);
                    Table::Cgroups
                }),
            Refresh::Names => self.read::<Vec<Lookup>>("fqdn/cache").await?.map(|list| {
                filled.replace_names(&list);
                Table::Names
            }),
            _ => None,
        })
    }

    /// A whole answer; none when it makes no sense, which is said once.
    async fn read<T: serde::de::DeserializeOwned>(
        &mut self,
        path: &'static str,
    ) -> Result<Option<T>, Away> {
        // Go writes an empty list as null.
        match self.api.read::<Option<T>>(path).await {
            Ok(answer) => {
                self.said.remove(path);
                self.said.remove("away");
                Ok(answer)
            }
            Err(error) if error.is_away() => {
                self.say_away(&error);
                Err(Away)
            }
            Err(error) => {
                self.unanswered.now |= error.may_pass();
                let line = format!(
                    "receivers.cilium.api_socket: {error}; flows go on without what it would tell"
                );
                self.said(path, line, |line| tracing::warn!("{line}"));
                Ok(None)
            }
        }
    }

    /// One endpoint or identity. That it is not there is an answer too.
    async fn item<T: serde::de::DeserializeOwned>(
        &mut self,
        path: &str,
    ) -> Result<Option<T>, Away> {
        match self.api.read::<T>(path).await {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if error.is_away() => {
                self.say_away(&error);
                Err(Away)
            }
            Err(error) => {
                tracing::debug!(%error, "the Cilium agent does not know");
                Ok(None)
            }
        }
    }

    fn say_away(&mut self, error: &ApiError) {
        let line = format!(
            "receivers.cilium.api_socket: {error}; flows go on with the names known so far; asking again"
        );
        self.said("away", line, |line| tracing::warn!("{line}"));
    }

    /// One line for each thing, not for each try.
    fn said(&mut self, of: &'static str, line: String, say: impl FnOnce(&str)) {
        if self.said.get(of) != Some(&line) {
            say(&line);
            self.said.insert(of, line);
        }
    }

    async fn hand_over(&self, change: Change) {
        // Nobody takes it any more: the end.
        let _ended = self.answers.send(change).await;
    }
}
