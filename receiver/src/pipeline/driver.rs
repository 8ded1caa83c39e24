//! One driver for every receiver: it owns the thread, the clock and the wake-ups, reads the source, feeds the engine, starts a
//! source anew that failed, and ends both.

use std::sync::mpsc::{Receiver as Commands, RecvTimeoutError, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use netflume_core::model::batch::{Batch, Now};

use crate::platform::clock;
use crate::receivers::{
    Engine, EngineError, Receiver, Schedule, Settings, Source, SourceContext, SourceError, Waker,
};
use crate::serve::health::SourceState;

/// How often time passes for an engine.
const TICK: Duration = Duration::from_secs(1);
/// A source that could not start, or stopped working, is tried again after this.
const RETRY: Duration = Duration::from_secs(30);

/// What a driver is asked to do, between two batches.
enum Command {
    /// Read what is left and end.
    Stop,
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
}

/// A receiver before its thread runs.
pub(super) struct Driver {
    pub(super) receiver: &'static dyn Receiver,
    pub(super) settings: Settings,
    pub(super) context: SourceContext,
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
        let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(waker) = &*waker {
            waker.wake();
        }
    }

    /// Waits for the end.
    pub(super) fn join(self) -> Result<(), EngineError> {
        self.thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Driver {
    /// Starts the thread; `ended` gets a message when it is over, for whatever reason.
    ///
    /// # Errors
    /// No thread can be started.
    pub(super) fn start(self, ended: tokio::sync::mpsc::Sender<()>) -> std::io::Result<Running> {
        let (commands, received) = channel();
        let waker = Arc::<Mutex<Option<Waker>>>::default();
        let drive = Drive {
            receiver: self.receiver,
            settings: self.settings,
            context: self.context,
            engine: Timed::new(self.engine),
            commands: received,
            waker: Arc::clone(&waker),
        };
        let source = self.source;
        let thread = std::thread::Builder::new()
            .name(self.receiver.key().to_owned())
            .spawn(move || {
                let result = drive.run(source);
                // The main thread may have stopped waiting, or know of another end.
                let _unread = ended.try_send(());
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
    engine: Timed,
    commands: Commands<Command>,
    waker: Arc<Mutex<Option<Waker>>>,
}

impl Drive {
    fn run(mut self, source: Result<Box<dyn Source>, SourceError>) -> Result<(), EngineError> {
        let mut source = source;
        loop {
            let failed = match source {
                Ok(opened) => self.read(opened)?,
                Err(error) => Some(error),
            };
            let Some(error) = failed else {
                return self.engine.finish(clock::now());
            };
            if !self.wait_after(&error)? {
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
            self.context.health.beat();
            let stop = match self.commands.try_recv() {
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => true,
                Err(TryRecvError::Empty) => false,
            };
            let read = if stop {
                source.finish(&mut batches);
                Ok(())
            } else {
                source.read(deadline, &mut batches)
            };
            for batch in batches.drain(..) {
                self.engine.feed(&batch)?;
            }
            if stop {
                break None;
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
    fn wait_after(&mut self, error: &SourceError) -> Result<bool, EngineError> {
        let key = self.receiver.key();
        tracing::error!(
            receiver = key,
            retry_seconds = RETRY.as_secs(),
            "source does not work: {error}"
        );
        let state = SourceState::Failed(error.to_string());
        self.context.health.source(key, state);
        let until = Instant::now() + RETRY;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(true);
            }
            match self.commands.recv_timeout(left.min(TICK)) {
                Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => return Ok(false),
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.context.health.beat();
            self.engine.pass(clock::now())?;
        }
    }

    fn set_waker(&self, waker: Option<Waker>) {
        *self.waker.lock().unwrap_or_else(PoisonError::into_inner) = waker;
    }
}
