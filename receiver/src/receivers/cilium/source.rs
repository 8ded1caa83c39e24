//! The Cilium agent's monitor socket (`monitor1_2`): a thread that only reads and frames, so that the agent's queue for us, which
//! drops silently when it is full, is drained at once.
//!
//! What is read goes through a bounded hand-over. When whoever decodes is behind, bytes wait, up to `WAITING_MAX`; beyond it
//! whole messages are dropped and counted, never type definitions, without which nothing later could be read.

use std::io::{ErrorKind, Read};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{
    Receiver, RecvTimeoutError, SyncSender, TryRecvError, TrySendError, sync_channel,
};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::export::retry::chance;
use crate::platform::{clock, local_socket};
use crate::receivers::Waker;
use crate::serve::health::{Health, Pulse, SourceState};
use netflume_core::decode::cilium::{Monitor, values_lost};
use netflume_core::decode::gob::{self, GobError};
use netflume_core::ledger::{Ledger, Reason, Stage};
use netflume_core::model::batch::{Batch, BatchKind};

/// Name of the source: its configuration key.
pub const CILIUM: &str = "cilium";
/// The thread that reads, as distinct from the one that decodes.
const THREAD: &str = "cilium-read";
/// Batches that wait for their decoder.
const BATCHES_MAX: usize = 64;
/// Bytes that wait for their decoder; a single message may go beyond it.
const WAITING_MAX: usize = 16 << 20;
/// Read at a time.
const READ_BYTES: usize = 256 * 1024;
/// A read waits this long, so that the end is noticed.
const READ_TIMEOUT: Duration = Duration::from_millis(200);
/// At the end, the decoder has this long to take what waits.
const LAST_HAND_OVER: Duration = Duration::from_secs(1);

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    /// The agent closed it, or went away in the middle of a message.
    #[error("the agent closed the connection{}", if *.in_message { " in the middle of a message" } else { "" })]
    Closed {
        /// Bytes of a message were left.
        in_message: bool,
    },
    /// What came is not the monitor's protocol.
    #[error("what came is no monitor stream: {0}")]
    Garbage(#[from] GobError),
    /// The operating system said no.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// We were told to stop, or nobody takes the batches any more.
    #[error("stopped")]
    Stopped,
}

/// What is wrong, as far as it deserves a line of its own: an agent that goes away, takes its socket with it and comes back is one
/// outage, however often we try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outage {
    Absent,
    /// Something else than a socket.
    Misplaced,
    Garbage,
    Io(ErrorKind),
}

impl Outage {
    fn of(socket: &Path, ended: &Ended) -> Self {
        match ended {
            Ended::Closed { .. } | Ended::Stopped => Self::Absent,
            Ended::Garbage(_) => Self::Garbage,
            Ended::Io(error) => match error.kind() {
                ErrorKind::ConnectionRefused if local_socket::misplaced(socket).is_some() => {
                    Self::Misplaced
                }
                ErrorKind::NotFound | ErrorKind::ConnectionRefused => Self::Absent,
                kind => Self::Io(kind),
            },
        }
    }
}

/// How long to wait before a new connection: doubled each time, less up to a half by chance, so that many do not come at once.
#[derive(Debug)]
struct Backoff(Duration);

impl Backoff {
    const MIN: Duration = Duration::from_millis(100);
    const MAX: Duration = Duration::from_secs(10);

    /// The next wait. `chance`: from 0 to 1.
    fn next(&mut self, chance: f64) -> Duration {
        let wait = self.0.mul_f64(0.5 + chance / 2.0);
        self.0 = (self.0 * 2).min(Self::MAX);
        wait
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self(Self::MIN)
    }
}

/// Batches that wait for their decoder.
#[derive(Debug)]
pub struct Batches {
    receiver: Receiver<Batch>,
    /// To end a wait by an empty batch.
    wake: SyncSender<Batch>,
    waiting: Arc<AtomicUsize>,
    loss: Arc<Mutex<Loss>>,
}

/// Messages that had no room to wait, since they were last taken for a report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loss {
    /// How many.
    pub count: u64,
    /// When the first one was dropped, nanoseconds since 1970.
    pub first_ns: u64,
    /// When the last one was dropped, nanoseconds since 1970.
    pub last_ns: u64,
}

impl Batches {
    /// Takes what was lost since the last call.
    #[must_use]
    pub fn take_loss(&self) -> Option<Loss> {
        let mut loss = self.loss.lock().unwrap_or_else(PoisonError::into_inner);
        Some(std::mem::take(&mut *loss)).filter(|loss| loss.count > 0)
    }

    /// Ends a wait in [`Batches::recv_timeout`], by an empty batch.
    pub(crate) fn waker(&self) -> Waker {
        let wake = self.wake.clone();
        Waker::new(move || {
            // No room means that there is something to take.
            let _full = wake.try_send(empty());
        })
    }

    /// The next batch, as [`Receiver::recv_timeout`].
    ///
    /// # Errors
    /// None came in time, or the source is gone and all its batches were taken.
    pub fn recv_timeout(&self, time: Duration) -> Result<Batch, RecvTimeoutError> {
        let batch = self.receiver.recv_timeout(time)?;
        self.waiting.fetch_sub(batch.bytes.len(), Relaxed);
        Ok(batch)
    }

    /// The next batch if it is there, as [`Receiver::try_recv`].
    ///
    /// # Errors
    /// None is there, or the source is gone and all its batches were taken.
    pub fn try_recv(&self) -> Result<Batch, TryRecvError> {
        let batch = self.receiver.try_recv()?;
        self.waiting.fetch_sub(batch.bytes.len(), Relaxed);
        Ok(batch)
    }
}

/// The reading thread.
#[derive(Debug)]
pub struct CiliumSource {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl CiliumSource {
    /// Starts reading; the socket may come and go. Batches of whole messages come out of the other end.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(
        socket: PathBuf,
        ledger: Arc<Ledger>,
        health: Arc<Health>,
    ) -> std::io::Result<(Self, Batches)> {
        let stop = Arc::<AtomicBool>::default();
        let waiting = Arc::<AtomicUsize>::default();
        let loss = Arc::<Mutex<Loss>>::default();
        let (sender, receiver) = sync_channel(BATCHES_MAX);
        let reader = Reader {
            socket,
            ledger,
            pulse: health.watch(THREAD),
            health,
            stop: Arc::clone(&stop),
            sender: sender.clone(),
            waiting: Arc::clone(&waiting),
            loss: Arc::clone(&loss),
            backlog: None,
            messages: 0,
            is_reported: false,
        };
        let thread = std::thread::Builder::new()
            .name(THREAD.to_owned())
            .spawn(move || reader.run())?;
        Ok((
            Self {
                stop,
                thread: Some(thread),
            },
            Batches {
                receiver,
                wake: sender,
                waiting,
                loss,
            },
        ))
    }
}

impl CiliumSource {
    /// Tells the thread to stop; what it has read is handed over meanwhile.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Relaxed);
    }

    /// Whether the thread is over.
    pub(crate) fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for CiliumSource {
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of receivers.cilium panicked");
        }
    }
}

struct Reader {
    socket: PathBuf,
    ledger: Arc<Ledger>,
    pulse: Pulse,
    health: Arc<Health>,
    stop: Arc<AtomicBool>,
    sender: SyncSender<Batch>,
    /// Bytes that were handed over and not taken yet.
    waiting: Arc<AtomicUsize>,
    loss: Arc<Mutex<Loss>>,
    /// What could not be handed over yet, and how many messages that are.
    backlog: Option<Batch>,
    messages: u64,
    /// It was reported that messages come, and no outage since.
    is_reported: bool,
}

impl Reader {
    fn run(mut self) {
        self.connections();
        let end = Instant::now() + LAST_HAND_OVER;
        while self.hand_over() && self.backlog.is_some() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.ledger
            .dropped(Stage::Source, Reason::Shutdown, self.messages);
    }

    /// One connection after the other, until told to stop.
    fn connections(&mut self) {
        let mut backoff = Backoff::default();
        let mut said = None;
        self.health.source(CILIUM, SourceState::Starting);
        while !self.stop.load(Relaxed) {
            let mut received = 0;
            let ended = match UnixStream::connect(&self.socket) {
                Ok(stream) => {
                    self.health.source(CILIUM, SourceState::Running);
                    self.read(stream, &mut received)
                }
                Err(error) => Ended::Io(error),
            };
            if matches!(ended, Ended::Stopped) {
                return;
            }
            let outage = Outage::of(&self.socket, &ended);
            // It worked before: what ends it now is a new outage. (Garbage again after some good messages is the old one.)
            if received > 0 && outage != Outage::Garbage {
                backoff = Backoff::default();
                said = None;
            }
            let why = explain(&self.socket, &ended);
            if said != Some(outage) {
                tracing::warn!("receivers.cilium: {why}; trying again");
                said = Some(outage);
                self.is_reported = false;
            }
            self.health.source(CILIUM, SourceState::Failed(why));
            self.pause(backoff.next(chance()));
        }
    }

    /// Waits, but not longer than until the end.
    fn pause(&mut self, how_long: Duration) {
        let mut left = how_long;
        while !left.is_zero() && !self.stop.load(Relaxed) {
            self.pulse.beat();
            self.hand_over();
            let step = left.min(READ_TIMEOUT);
            std::thread::sleep(step);
            left -= step;
        }
    }

    /// Reads one connection to its end; adds the messages to `received`.
    fn read(&mut self, mut stream: UnixStream, received: &mut u64) -> Ended {
        if let Err(error) = stream.set_read_timeout(Some(READ_TIMEOUT)) {
            return error.into();
        }
        let mut monitor = Monitor::default();
        let mut buffer = vec![0; READ_BYTES];
        // A message that is not complete yet.
        let mut partial: Vec<u8> = Vec::new();
        loop {
            if self.stop.load(Relaxed) {
                self.refuse(Reason::Shutdown, u64::from(!partial.is_empty()));
                return Ended::Stopped;
            }
            self.pulse.beat();
            let count = match stream.read(&mut buffer) {
                Ok(0) => {
                    let in_message = !partial.is_empty();
                    self.refuse(Reason::CutOff, u64::from(in_message));
                    return Ended::Closed { in_message };
                }
                Ok(count) => count,
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    0
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => {
                    self.refuse(Reason::CutOff, u64::from(!partial.is_empty()));
                    return error.into();
                }
            };
            self.ledger.bytes(Stage::Source, count as u64);
            partial.extend_from_slice(buffer.get(..count).unwrap_or_default());
            let (taken, wrong) = self.take(&mut monitor, &partial, received);
            partial.drain(..taken);
            if !self.hand_over() {
                return Ended::Stopped;
            }
            if let Some(error) = wrong {
                // Nothing that was read behind it is ever decoded.
                self.refuse(Reason::Malformed, values_lost(&partial));
                return error.into();
            }
        }
    }

    /// Moves the whole messages at the start of `bytes` to the backlog; returns how many bytes they take, and what is wrong with the
    /// message behind them.
    fn take(
        &mut self,
        monitor: &mut Monitor,
        bytes: &[u8],
        received: &mut u64,
    ) -> (usize, Option<GobError>) {
        let mut rest = bytes;
        let (mut kept, mut refused) = (0, 0);
        let wrong = loop {
            match gob::frame(rest) {
                Ok(Some(_)) => {}
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
            let (payload, after) = match monitor.next(rest) {
                Ok(read) => read,
                Err(error) => break Some(error),
            };
            let message = rest.get(..rest.len() - after.len()).unwrap_or_default();
            rest = after;
            let batch = self.backlog.get_or_insert_with(empty);
            if payload.is_none() {
                batch.bytes.extend_from_slice(message);
            } else if self.waiting.load(Relaxed) + batch.bytes.len() < WAITING_MAX {
                batch.bytes.extend_from_slice(message);
                kept += 1;
            } else {
                refused += 1;
            }
        };
        if !self.is_reported && kept + refused > 0 {
            tracing::info!("receivers.cilium reads {}", self.socket.display());
            self.is_reported = true;
        }
        *received += kept + refused;
        self.messages += kept;
        self.ledger.received(Stage::Source, kept);
        self.refuse(Reason::QueueFull, refused);
        if refused > 0 {
            let now_ns = clock::now().unix_ns;
            let mut loss = self.loss.lock().unwrap_or_else(PoisonError::into_inner);
            if loss.count == 0 {
                loss.first_ns = now_ns;
            }
            loss.count += refused;
            loss.last_ns = now_ns;
        }
        (bytes.len() - rest.len(), wrong)
    }

    /// Books messages that go no further.
    fn refuse(&self, reason: Reason, messages: u64) {
        self.ledger.received(Stage::Source, messages);
        self.ledger.dropped(Stage::Source, reason, messages);
    }

    /// Gives the backlog to the decoder, if it has room; false when there is no decoder any more.
    fn hand_over(&mut self) -> bool {
        let Some(batch) = self.backlog.take() else {
            return true;
        };
        let bytes = batch.bytes.len();
        self.waiting.fetch_add(bytes, Relaxed);
        match self.sender.try_send(batch) {
            Ok(()) => {
                self.ledger.passed(Stage::Source, self.messages);
                self.messages = 0;
                true
            }
            Err(TrySendError::Full(batch)) => {
                self.waiting.fetch_sub(bytes, Relaxed);
                self.backlog = Some(batch);
                true
            }
            Err(TrySendError::Disconnected(_)) => false,
        }
    }
}

fn empty() -> Batch {
    let now = clock::now();
    Batch {
        kind: BatchKind::CILIUM_MONITOR,
        unix_ns: now.unix_ns,
        boot_ns: now.boot_ns,
        bytes: Vec::new(),
    }
}

fn explain(socket: &Path, ended: &Ended) -> String {
    match ended {
        Ended::Io(error) => local_socket::explain(socket, error, "the Cilium agent"),
        ended => format!("{}: {ended}", socket.display()),
    }
}

#[cfg(test)]
mod tests;
