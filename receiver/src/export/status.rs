//! What is told about a receiver: one line when it stops taking data, one when it takes them again, one for each kind of
//! loss; and the same as a snapshot, for health.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tonic::Code;

use crate::export::client::Failure;
use crate::export::endpoint::Endpoint;
use crate::export::queue::Held;
use netflume_core::model::request::Signal;

/// A line of one kind about one receiver stands at most once in this time.
const SAID_ONCE_IN: Duration = Duration::from_secs(60);

/// How a receiver is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointStatus {
    /// The receiver.
    pub endpoint: String,
    /// Set while requests to it fail and are tried again.
    pub failing: Option<Problem>,
    /// The last request that it refused for good.
    pub refused: Option<Problem>,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Since when; for a refusal: when.
    pub since: SystemTime,
    /// Of which signal the last such request was.
    pub signal: Signal,
    /// The gRPC code, as specifications spell it: `UNAVAILABLE`.
    pub code: &'static str,
    /// The last message.
    pub message: String,
}

impl Problem {
    fn new(since: SystemTime, signal: Signal, failure: &Failure) -> Self {
        Self {
            since,
            signal,
            code: code_name(failure.code),
            message: failure.message.clone(),
        }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.code)?;
        if !self.message.is_empty() {
            write!(f, " ({})", self.message)?;
        }
        Ok(())
    }
}

/// How gRPC's specification spells a code.
#[must_use]
pub fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// A kind of line that is not repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Refused(u8),
    Partial(u8),
    GivenUp,
    TooLarge,
    QueueFull,
}

/// Follows one receiver.
#[derive(Debug)]
pub(crate) struct Reporter {
    endpoint: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failing: Option<(Instant, Problem)>,
    /// Signals whose last attempt failed.
    failing_signals: Vec<Signal>,
    refused: Option<Problem>,
    /// When a line of a kind was last said, and what it would have said since.
    said: BTreeMap<Kind, (Instant, u64)>,
}

impl State {
    /// Whether to say a line of that kind now, and how many items went the same way unsaid.
    fn may_say(&mut self, kind: Kind, items: u64) -> Option<u64> {
        let now = Instant::now();
        match self.said.get_mut(&kind) {
            Some((last, unsaid)) if now.duration_since(*last) < SAID_ONCE_IN => {
                *unsaid += items;
                None
            }
            _ => Some(
                self.said
                    .insert(kind, (now, 0))
                    .map_or(0, |(_, unsaid)| unsaid),
            ),
        }
    }
}

impl Reporter {
    pub(crate) fn new(endpoint: &Endpoint) -> Arc<Self> {
        Arc::new(Self {
            endpoint: endpoint.to_string(),
            state: Mutex::default(),
        })
    }

    pub(crate) fn status(&self) -> EndpointStatus {
        let state = self.lock();
        EndpointStatus {
            endpoint: self.endpoint.clone(),
            failing: state.failing.as_ref().map(|(_, problem)| problem.clone()),
            refused: state.refused.clone(),
        }
    }

    /// An attempt failed and is made again.
    pub(crate) fn failed(&self, signal: Signal, failure: &Failure, wait: Duration, held: Held) {
        let mut state = self.lock();
        if !state.failing_signals.contains(&signal) {
            state.failing_signals.push(signal);
        }
        if let Some((_, problem)) = &mut state.failing {
            *problem = Problem::new(problem.since, signal, failure);
            return;
        }
        let problem = Problem::new(SystemTime::now(), signal, failure);
        tracing::warn!(
            "the Collector at {} does not take {}: {problem}; trying again in {:.1} s; \
             meanwhile requests are held ({held})",
            self.endpoint,
            signal.as_str(),
            wait.as_secs_f64(),
        );
        state.failing = Some((Instant::now(), problem));
    }

    /// A request was answered for: `taken`, or refused for good.
    pub(crate) fn answered(&self, signal: Signal, taken: bool, waiting: usize) {
        let mut state = self.lock();
        if state.failing.is_none() {
            return;
        }
        state.failing_signals.retain(|failing| *failing != signal);
        if state.failing_signals.is_empty()
            && let Some((since, _)) = state.failing.take()
            && taken
        {
            tracing::info!(
                "the Collector at {} takes data again, after {:.1} s; {waiting} requests wait",
                self.endpoint,
                since.elapsed().as_secs_f64(),
            );
        }
    }

    /// A request was refused for good.
    pub(crate) fn refused(&self, signal: Signal, failure: &Failure, items: u64) {
        let mut state = self.lock();
        let problem = Problem::new(SystemTime::now(), signal, failure);
        if let Some(unsaid) = state.may_say(Kind::Refused(signal as u8), items) {
            tracing::error!(
                "the Collector at {} refuses {}: {problem}; {items} items dropped, they are not sent again{}",
                self.endpoint,
                signal.as_str(),
                since_last(unsaid),
            );
        }
        state.refused = Some(problem);
    }

    /// A request was taken but for some of its items.
    pub(crate) fn partly_taken(&self, signal: Signal, rejected: u64, items: u64, message: &str) {
        if let Some(unsaid) = self.lock().may_say(Kind::Partial(signal as u8), rejected) {
            let signal = signal.as_str();
            tracing::warn!(
                "the Collector at {} refused {rejected} of {items} items of {signal}: {message}{}",
                self.endpoint,
                since_last(unsaid),
            );
        }
    }

    /// A request was tried until its time was over.
    pub(crate) fn given_up(
        &self,
        signal: Signal,
        failure: &Failure,
        items: u64,
        elapsed: Duration,
    ) {
        if let Some(unsaid) = self.lock().may_say(Kind::GivenUp, items) {
            tracing::error!(
                "gave up on {items} items of {} for the Collector at {} after {:.1} s of trying: {}{}",
                signal.as_str(),
                self.endpoint,
                elapsed.as_secs_f64(),
                Problem::new(SystemTime::now(), signal, failure),
                since_last(unsaid),
            );
        }
    }

    /// One item alone is larger than the receiver takes.
    pub(crate) fn too_large(&self, signal: Signal, failure: &Failure, items: u64) {
        if let Some(unsaid) = self.lock().may_say(Kind::TooLarge, items) {
            tracing::error!(
                "an item of {} is larger than the Collector at {} takes: {}; dropped{}",
                signal.as_str(),
                self.endpoint,
                failure.message,
                since_last(unsaid),
            );
        }
    }

    /// There was no room for a request.
    pub(crate) fn queue_full(&self, signal: Signal, items: u64, held: Held) {
        if let Some(unsaid) = self.lock().may_say(Kind::QueueFull, items) {
            tracing::error!(
                "the queue for the Collector at {} is full ({held}): {items} items of {} dropped; \
                 newer ones too until there is room{}",
                self.endpoint,
                signal.as_str(),
                since_last(unsaid),
            );
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn since_last(unsaid: u64) -> String {
    if unsaid == 0 {
        String::new()
    } else {
        format!("; {unsaid} more since this was last said")
    }
}
