//! One driver for every receiver: it owns the thread, the clock and the wake-ups, reads the source, feeds the engine, starts a
//! source anew that failed, and ends both.

use std::sync::mpsc::{
    Receiver as Commands, RecvTimeoutError, Sender, SyncSender, TryRecvError, channel, sync_channel,
};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use netflume_core::model::batch::{Batch, Now};
use netflume_core::model::metrics::ResourceMetrics;

use crate::platform::clock;
use crate::receivers::{
    Change, Engine, EngineError, Receiver, Schedule, Settings, Source, SourceContext, SourceError,
    Waker,
};
use crate::serve::health::{Pulse, SourceState};
use crate::serve::metrics;

/// How often time passes for an engine.
const TICK: Duration = Duration::from_secs(1);
/// A source is started anew so long after its last start, or at once if that was longer ago.
const RETRY: Duration = Duration::from_secs(30);

/// A page of metrics waits so long for a driver that is busy; then it shows the values that it had before.
const PAGE_PATIENCE: Duration = Duration::from_secs(5);

/// A driver looks for commands between two batches; one that takes longer than this is stuck.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// What a driver is asked to do, between two batches.
enum Command {
    /// Read what is left and end.
    Stop,
    /// Give the totals of the engine's metrics, as new as can be.
    Totals(SyncSender<Vec<ResourceMetrics>>),
    /// Take over new settings, and answer.
    Reconfigure(Box<Change>, SyncSender<Result<(), EngineError>>),
}

/// An engine for which time passes as its batches and the clock have it. The same for live and recorded batches.
pub(super) struct Timed {
    engine: Box<dyn Engine>,
    ticks: Schedule,
}

impl Timed {
    pub(super) fn new(engine: Box<dyn Engine>) -> Self {
        Self {
            engine,
            ticks: Schedule::every(TICK),
        }
    }

    pub(super) fn feed(&mut self, batch: &Batch) -> Result<(), EngineError> {
        self.pass(batch.now())?;
        self.engine.feed(batch)
    }

    /// Time has come to `now`.
    pub(super) fn pass(&mut self, now: Now) -> Result<(), EngineError> {
        if self.ticks.is_due(now) {
            self.engine.tick(now)?;
        }
        Ok(())
    }

    pub(super) fn finish(&mut self, now: Now) -> Result<(), EngineError> {
        self.engine.finish(now)
    }

    fn totals(&mut self, now: Now) -> Vec<ResourceMetrics> {
        self.engine.totals(now)
    }
}

/// A receiver before its thread runs.
pub(super) struct Driver {
    pub(super) receiver: &'static dyn Receiver,
    pub(super) settings: Settings,
    pub(super) context: SourceContext,
    /// Of the driver's thread.
    pub(super) pulse: Pulse,
    /// The opened source, or why there is none yet.
    pub(super) source: Result<Box<dyn Source>, SourceError>,
    pub(super) engine: Box<dyn Engine>,
}

/// A running driver.
pub(super) struct Running {
    commands: Sender<Command>,
    waker: Arc<Mutex<Option<Waker>>>,
    thread: JoinHandle<Result<(), EngineError>>,
}

impl Running {
    /// Asks for the end; does not wait for it.
    pub(super) fn stop(&self) {
        // A driver that is gone has ended already.
        let _ended = self.commands.send(Command::Stop);
        wake(&self.waker);
    }

    /// Lets source and engine take over new settings between two batches, and waits until they have.
    ///
    /// # Errors
    /// The engine cannot use an option. It goes on with the old ones.
    pub(super) fn reconfigure(&self, change: Change) -> Result<(), EngineError> {
        let (done, answer) = sync_channel(1);
        let command = Command::Reconfigure(Box::new(change), done);
        if self.commands.send(command).is_err() {
            // It has ended, and needs no settings any more.
            return Ok(());
        }
        wake(&self.waker);
        answer
            .recv_timeout(ANSWER_TIMEOUT)
            .unwrap_or_else(|error| match error {
                RecvTimeoutError::Disconnected => Ok(()),
                RecvTimeoutError::Timeout => Err(EngineError::Stuck),
            })
    }

    /// The metrics of its engine for a page, collected when they are asked for.
    pub(super) fn page(&self) -> metrics::Source {
        let (commands, waker) = (self.commands.clone(), Arc::clone(&self.waker));
        let known = Mutex::<Vec<ResourceMetrics>>::default();
        Arc::new(move || {
            let (reply, totals) = sync_channel(1);
            let asked = commands.send(Command::Totals(reply));
            wake(&waker);
            let totals = asked
                .ok()
                .and_then(|()| totals.recv_timeout(PAGE_PATIENCE).ok());
            let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(totals) = totals {
                *known = totals;
            }
            known.clone()
        })
    }

    /// Waits for the end.
    pub(super) fn join(self) -> Result<(), EngineError> {
        self.thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

fn wake(waker: &Mutex<Option<Waker>>) {
    let waker = waker.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(waker) = &*waker {
        waker.wake();
    }
}

impl Driver {
    /// Starts the thread; `failed` gets a message when it is over though nothing asked for that.
    ///
    /// # Errors
    /// No thread can be started.
    pub(super) fn start(
        self,
        failed: tokio::sync::mpsc::Sender<&'static str>,
    ) -> std::io::Result<Running> {
        let (commands, received) = channel();
        let waker = Arc::<Mutex<Option<Waker>>>::default();
        let drive = Drive {
            receiver: self.receiver,
            settings: self.settings,
            context: self.context,
            pulse: self.pulse,
            engine: Timed::new(self.engine),
            commands: received,
            waker: Arc::clone(&waker),
        };
        let (source, key) = (self.source, self.receiver.key());
        let thread = std::thread::Builder::new()
            .name(key.to_owned())
            .spawn(move || {
                let result = drive.run(source);
                if result.is_err() {
                    // The main thread may have stopped waiting, or know of another failure.
                    let _unread = failed.try_send(key);
                }
                result
            })?;
        Ok(Running {
            commands,
            waker,
            thread,
        })
    }
}

/// On the driver's own thread.
struct Drive {
    receiver: &'static dyn Receiver,
    settings: Settings,
    context: SourceContext,
    pulse: Pulse,
    engine: Timed,
    commands: Commands<Command>,
    waker: Arc<Mutex<Option<Waker>>>,
}

impl Drive {
    fn run(mut self, source: Result<Box<dyn Source>, SourceError>) -> Result<(), EngineError> {
        let mut source = source;
        loop {
            let started = Instant::now();
            let failed = match source {
                Ok(opened) => self.read(opened)?,
                Err(error) => Some(error),
            };
            let Some(error) = failed else {
                return self.engine.finish(clock::now());
            };
            // The failed one is gone: never are there two.
            if !self.wait_after(&error, started)? {
                return self.engine.finish(clock::now());
            }
            source = self.receiver.open(&self.settings, &self.context);
            if source.is_ok() {
                tracing::info!(receiver = self.receiver.key(), "source works again");
            }
        }
    }

    /// Reads until the end (none) or until the source fails.
    fn read(&mut self, mut source: Box<dyn Source>) -> Result<Option<SourceError>, EngineError> {
        self.set_waker(Some(source.waker()));
        let mut batches = Vec::new();
        let mut deadline = Instant::now();
        let failed = loop {
            self.pulse.beat();
            let (stop, totals) = match self.commands.try_recv() {
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => (true, None),
                Ok(Command::Totals(reply)) => (false, Some(reply)),
                Ok(Command::Reconfigure(change, done)) => {
                    source.reconfigure(&change.settings);
                    self.reconfigure(*change, &done);
                    (false, None)
                }
                Err(TryRecvError::Empty) => (false, None),
            };
            let read = if stop {
                source.finish(&mut batches);
                Ok(())
            } else if totals.is_some() {
                source.refresh(&mut batches)
            } else {
                source.read(deadline, &mut batches)
            };
            for batch in batches.drain(..) {
                self.engine.feed(&batch)?;
            }
            if stop {
                break None;
            }
            if let Some(reply) = totals {
                self.answer(&reply);
            }
            if Instant::now() >= deadline {
                self.engine.pass(clock::now())?;
                deadline = Instant::now() + TICK;
            }
            if let Err(error) = read {
                break Some(error);
            }
        };
        self.set_waker(None);
        Ok(failed)
    }

    /// Waits for the next try; false at the end. Time passes for the engine meanwhile.
    fn wait_after(&mut self, error: &SourceError, started: Instant) -> Result<bool, EngineError> {
        let key = self.receiver.key();
        let until = started + RETRY;
        tracing::error!(
            receiver = key,
            retry_seconds = until.saturating_duration_since(Instant::now()).as_secs(),
            "source does not work: {error}"
        );
        let state = SourceState::Failed(error.to_string());
        self.context.health.source(key, state);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(true);
            }
            match self.commands.recv_timeout(left.min(TICK)) {
                Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => return Ok(false),
                Ok(Command::Totals(reply)) => self.answer(&reply),
                Ok(Command::Reconfigure(change, done)) => self.reconfigure(*change, &done),
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.pulse.beat();
            self.engine.pass(clock::now())?;
        }
    }

    fn answer(&mut self, reply: &SyncSender<Vec<ResourceMetrics>>) {
        // A page that has waited for too long is gone.
        let _gone = reply.try_send(self.engine.totals(clock::now()));
    }

    fn reconfigure(&mut self, change: Change, done: &SyncSender<Result<(), EngineError>>) {
        let taken = self.engine.engine.reconfigure(&change);
        if taken.is_ok() {
            self.settings = change.settings;
        }
        // Nothing is waiting for it after a timeout.
        let _unread = done.try_send(taken);
    }

    fn set_waker(&self, waker: Option<Waker>) {
        *self.waker.lock().unwrap_or_else(PoisonError::into_inner) = waker;
    }
}
