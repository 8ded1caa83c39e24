//! The Cilium agent's monitor socket (`monitor1_2`): a thread that only reads and frames, so that the agent's queue for us, which
//! drops silently when it is full, is drained at once.
//!
//! What is read goes through a bounded hand-over. When whoever decodes is behind, bytes pile up here, up to `BACKLOG_MAX`; beyond it
//! whole messages are dropped and counted, never type definitions, without which nothing later could be read.

use std::io::{ErrorKind, Read};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::decode::gob::{self, GobError};
use crate::export::retry::chance;
use crate::ledger::{Ledger, Reason, Stage};
use crate::serve::health::{Health, SourceState};
use crate::source::{Batch, BatchKind, clock};

/// Name of the source: its configuration key.
pub const CILIUM: &str = "cilium";
/// Batches that wait for their decoder.
const BATCHES_MAX: usize = 64;
/// Bytes that wait here while all places for batches are taken.
const BACKLOG_MAX: usize = 8 << 20;
/// Read at a time; a batch is at most this and what a message goes beyond it.
const READ_BYTES: usize = 256 * 1024;
/// A read waits this long, so that the end is noticed.
const READ_TIMEOUT: Duration = Duration::from_millis(200);
/// The first wait before a new connection; doubled up to [`BACKOFF_MAX`].
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// The longest wait before a new connection.
const BACKOFF_MAX: Duration = Duration::from_secs(10);

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

/// The reading thread.
#[derive(Debug)]
pub struct CiliumSource {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl CiliumSource {
    /// Starts reading; the socket may come and go. Batches of whole messages come out of the receiver.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(
        socket: PathBuf,
        ledger: Arc<Ledger>,
        health: Arc<Health>,
    ) -> std::io::Result<(Self, Receiver<Batch>)> {
        let stop = Arc::<AtomicBool>::default();
        let (sender, receiver) = sync_channel(BATCHES_MAX);
        let reader = Reader {
            socket,
            ledger,
            health,
            stop: Arc::clone(&stop),
            sender,
        };
        let thread = std::thread::Builder::new()
            .name(CILIUM.to_owned())
            .spawn(move || reader.run())?;
        Ok((
            Self {
                stop,
                thread: Some(thread),
            },
            receiver,
        ))
    }
}

impl Drop for CiliumSource {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
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
    health: Arc<Health>,
    stop: Arc<AtomicBool>,
    sender: SyncSender<Batch>,
}

impl Reader {
    fn run(self) {
        let mut backoff = BACKOFF_MIN;
        let mut said = String::new();
        self.health.source(CILIUM, SourceState::Starting);
        while !self.stop.load(Relaxed) {
            let mut received = 0;
            let ended = match UnixStream::connect(&self.socket) {
                Ok(stream) => {
                    self.health.source(CILIUM, SourceState::Running);
                    tracing::info!("receivers.cilium reads {}", self.socket.display());
                    said.clear();
                    self.read(stream, &mut received)
                }
                Err(error) => Ended::Io(error),
            };
            if matches!(ended, Ended::Stopped) {
                return;
            }
            if received > 0 {
                backoff = BACKOFF_MIN;
            }
            let why = explain(&self.socket, &ended);
            self.health.source(CILIUM, SourceState::Failed(why.clone()));
            // One line for each thing that is wrong, not for each try.
            if why != said {
                tracing::warn!("receivers.cilium: {why}; trying again");
                said = why;
            }
            self.pause(backoff.mul_f64(0.5 + chance() / 2.0));
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    /// Waits, but not longer than until the end.
    fn pause(&self, how_long: Duration) {
        let mut left = how_long;
        while !left.is_zero() && !self.stop.load(Relaxed) {
            let step = left.min(READ_TIMEOUT);
            std::thread::sleep(step);
            left -= step;
        }
    }

    /// Reads one connection to its end.
    fn read(&self, mut stream: UnixStream, received: &mut u64) -> Ended {
        if let Err(error) = stream.set_read_timeout(Some(READ_TIMEOUT)) {
            return error.into();
        }
        let mut buffer = vec![0; READ_BYTES];
        // A message that is not complete yet.
        let mut partial: Vec<u8> = Vec::new();
        let mut backlog: Option<Batch> = None;
        loop {
            if self.stop.load(Relaxed) {
                return Ended::Stopped;
            }
            let count = match stream.read(&mut buffer) {
                Ok(0) => {
                    self.hand_over(&mut backlog);
                    return Ended::Closed {
                        in_message: !partial.is_empty(),
                    };
                }
                Ok(count) => count,
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    0
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return error.into(),
            };
            partial.extend_from_slice(buffer.get(..count).unwrap_or_default());
            let taken = match self.take(&partial, &mut backlog, received) {
                Ok(taken) => taken,
                Err(error) => {
                    self.ledger.received(Stage::Cilium, 1);
                    self.ledger.dropped(Stage::Cilium, Reason::Malformed, 1);
                    return error.into();
                }
            };
            partial.drain(..taken);
            if !self.hand_over(&mut backlog) {
                return Ended::Stopped;
            }
        }
    }

    /// Moves the whole messages at the start of `bytes` to the backlog; returns how many bytes they take.
    fn take(
        &self,
        bytes: &[u8],
        backlog: &mut Option<Batch>,
        received: &mut u64,
    ) -> Result<usize, GobError> {
        let mut rest = bytes;
        let (mut messages, mut refused) = (0, 0);
        while let Some((content, after)) = gob::frame(rest)? {
            let message = rest.get(..rest.len() - after.len()).unwrap_or_default();
            let batch = backlog.get_or_insert_with(empty);
            // A type definition begins with a negative number: the lowest bit of its last byte is set.
            let is_definition = is_definition(content);
            messages += u64::from(!is_definition);
            if is_definition || batch.bytes.len() < BACKLOG_MAX {
                batch.bytes.extend_from_slice(message);
            } else {
                refused += 1;
            }
            rest = after;
        }
        *received += messages;
        self.ledger.received(Stage::Cilium, messages);
        self.ledger.passed(Stage::Cilium, messages - refused);
        self.ledger
            .dropped(Stage::Cilium, Reason::QueueFull, refused);
        Ok(bytes.len() - rest.len())
    }

    /// Gives the backlog to the decoder, if it has room; false when there is no decoder any more.
    fn hand_over(&self, backlog: &mut Option<Batch>) -> bool {
        let Some(batch) = backlog.take() else {
            return true;
        };
        match self.sender.try_send(batch) {
            Ok(()) => true,
            Err(TrySendError::Full(batch)) => {
                *backlog = Some(batch);
                true
            }
            Err(TrySendError::Disconnected(_)) => false,
        }
    }
}

fn empty() -> Batch {
    let (unix_ns, boot_ns) = clock::now();
    Batch {
        kind: BatchKind::CiliumMonitor,
        unix_ns,
        boot_ns,
        bytes: Vec::with_capacity(READ_BYTES),
    }
}

/// Whether a message defines a type: its first number, the type id, is negative (gob: the lowest bit of the number is set).
fn is_definition(content: &[u8]) -> bool {
    let mut reader = gob::Reader::new(content);
    reader.int().is_ok_and(|id| id < 0)
}

fn explain(socket: &Path, ended: &Ended) -> String {
    let socket = socket.display();
    match ended {
        Ended::Io(error) => match error.kind() {
            ErrorKind::NotFound => {
                format!("no socket at {socket}: is the Cilium agent running here?")
            }
            ErrorKind::PermissionDenied => {
                format!(
                    "{socket}: permission denied: run as root, or as a member of the socket's group"
                )
            }
            ErrorKind::ConnectionRefused => {
                format!("{socket}: nobody listens: the agent is not running")
            }
            _ => format!("{socket}: {error}"),
        },
        ended => format!("{socket}: {ended}"),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::decode::cilium::{Monitor, Payload};

    const STREAM: &[u8] = include_bytes!("../../../tests/fixtures/cilium/1.19.4/trace.gob");

    fn payloads(batches: &Receiver<Batch>, monitor: &mut Monitor, count: usize) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        while found.len() < count {
            let batch = batches
                .recv_timeout(Duration::from_secs(20))
                .expect("a batch");
            let mut rest = &batch.bytes[..];
            while !rest.is_empty() {
                let (payload, after) = monitor.next(rest).unwrap();
                if let Some(Payload::Sample { data, .. }) = payload {
                    found.push(data.to_vec());
                }
                rest = after;
            }
        }
        found
    }

    fn expected() -> Vec<Vec<u8>> {
        let (mut monitor, mut rest, mut all) = (Monitor::default(), STREAM, Vec::new());
        while !rest.is_empty() {
            let (payload, after) = monitor.next(rest).unwrap();
            if let Some(Payload::Sample { data, .. }) = payload {
                all.push(data.to_vec());
            }
            rest = after;
        }
        all
    }

    #[test]
    fn an_agent_that_trickles_stops_in_a_message_and_comes_back_is_read_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("monitor1_2.sock");
        let (ledger, health) = (Arc::new(Ledger::default()), Arc::new(Health::default()));
        let (source, batches) =
            CiliumSource::start(path.clone(), Arc::clone(&ledger), Arc::clone(&health)).unwrap();
        let listener = UnixListener::bind(&path).unwrap();
        let expected = expected();
        let mut monitor = Monitor::default();

        // Cut off in the middle of the last message.
        let (mut agent, _) = listener.accept().unwrap();
        for piece in STREAM[..STREAM.len() - 3].chunks(1000) {
            agent.write_all(piece).unwrap();
        }
        drop(agent);
        let found = payloads(&batches, &mut monitor, expected.len() - 1);
        assert_eq!(found, expected[..expected.len() - 1]);

        // The agent is back: definitions come anew.
        let (mut agent, _) = listener.accept().unwrap();
        agent.write_all(STREAM).unwrap();
        assert_eq!(payloads(&batches, &mut monitor, expected.len()), expected);
        assert_eq!(health.sources().get(CILIUM), Some(&SourceState::Running));

        // Garbage ends a connection, not the source.
        agent.write_all(&[0xf8; 64]).unwrap();
        let (mut agent, _) = listener.accept().unwrap();
        agent.write_all(STREAM).unwrap();
        assert_eq!(
            payloads(&batches, &mut Monitor::default(), expected.len()),
            expected
        );
        drop(source);
        let entry = ledger.entry(Stage::Cilium);
        assert_eq!(entry.held(), 0, "{entry:?}");
        assert_eq!(entry.dropped, [(Reason::Malformed, 1)]);
    }
}
