//! One console for all threads: what they want shown goes over a bounded hand-over to the one thread that writes.
//!
//! A terminal that does not scroll, or a pipe that nobody reads, holds up that thread and nobody else: what does not fit then is dropped,
//! booked, and told in the last line.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::export::console::{Console, ConsoleError, Line};
use netflume_core::ledger::{Ledger, Reason, Stage};
use netflume_core::model::request::Request;

/// Hand-overs that wait for the writer.
const WAITING_MAX: usize = 1024;
/// Bytes in them, about; one that is larger alone is taken.
const WAITING_BYTES_MAX: usize = 8 << 20;
/// Bytes of a line, about.
const LINE_BYTES: usize = 256;

/// What happens while the output is behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behind {
    /// What does not fit is dropped: for a source that goes on meanwhile.
    Drop,
    /// Whoever prints waits: for a recorded file.
    Wait,
}

#[derive(Debug)]
enum Job {
    Lines(Vec<Line>),
    Request(Request),
}

impl Job {
    fn items(&self) -> u64 {
        match self {
            Self::Lines(lines) => lines.len() as u64,
            Self::Request(request) => request.items,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Lines(lines) => lines.len() * LINE_BYTES,
            Self::Request(request) => request.body.len(),
        }
    }
}

#[derive(Debug)]
struct Shared {
    ledger: Arc<Ledger>,
    behind: Behind,
    waiting_bytes: AtomicUsize,
    waiting_items: AtomicU64,
    /// Why nothing more can be written.
    failed: Mutex<Option<ConsoleError>>,
}

/// Takes what is to be shown; cheap to clone.
#[derive(Clone, Debug)]
pub struct Printer {
    jobs: SyncSender<Job>,
    shared: Arc<Shared>,
}

impl Printer {
    /// Shows lines.
    ///
    /// # Errors
    /// The output cannot be written any more; [`Printing::finish`] tells why.
    pub fn lines(&self, lines: Vec<Line>) -> Result<(), ConsoleError> {
        if lines.is_empty() {
            return Ok(());
        }
        self.hand_over(Job::Lines(lines))
    }

    /// Shows a request as one line of OTLP JSON.
    ///
    /// # Errors
    /// As for [`Printer::lines`].
    pub fn request(&self, request: Request) -> Result<(), ConsoleError> {
        self.hand_over(Job::Request(request))
    }

    fn hand_over(&self, job: Job) -> Result<(), ConsoleError> {
        let shared = &self.shared;
        let (items, bytes) = (job.items(), job.bytes());
        let waiting = shared.waiting_bytes.fetch_add(bytes, Relaxed);
        shared.waiting_items.fetch_add(items, Relaxed);
        let refused = match shared.behind {
            Behind::Wait => self.jobs.send(job).err().map(|_| Reason::OutputFailed),
            Behind::Drop if waiting > 0 && waiting.saturating_add(bytes) > WAITING_BYTES_MAX => {
                Some(Reason::QueueFull)
            }
            Behind::Drop => self.jobs.try_send(job).err().map(|error| match error {
                TrySendError::Full(_) => Reason::QueueFull,
                TrySendError::Disconnected(_) => Reason::OutputFailed,
            }),
        };
        let Some(reason) = refused else {
            return Ok(());
        };
        shared.done(items, bytes);
        shared.ledger.received(Stage::Console, items);
        shared.ledger.dropped(Stage::Console, reason, items);
        match reason {
            Reason::OutputFailed => Err(ConsoleError::Closed),
            _ => Ok(()),
        }
    }
}

impl Shared {
    fn done(&self, items: u64, bytes: usize) {
        self.waiting_items.fetch_sub(items, Relaxed);
        self.waiting_bytes.fetch_sub(bytes, Relaxed);
    }
}

/// The writing thread.
#[derive(Debug)]
pub struct Printing {
    printer: Printer,
    end: Receiver<()>,
}

impl Printing {
    /// Starts the thread. `lost` tells how many items were lost anywhere, for the last line.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(
        console: Console,
        behind: Behind,
        ledger: Arc<Ledger>,
        lost: fn(&Ledger) -> u64,
    ) -> std::io::Result<Self> {
        let room = match behind {
            Behind::Drop => WAITING_MAX,
            Behind::Wait => 1,
        };
        let (jobs, to_do) = sync_channel(room);
        let (ended, end) = sync_channel(1);
        let shared = Arc::new(Shared {
            ledger,
            behind,
            waiting_bytes: AtomicUsize::new(0),
            waiting_items: AtomicU64::new(0),
            failed: Mutex::default(),
        });
        let printer = Printer {
            jobs,
            shared: Arc::clone(&shared),
        };
        std::thread::Builder::new()
            .name("console".to_owned())
            .spawn(move || {
                let printed = print(console, &to_do, &shared, lost);
                drop(to_do);
                if let Err(error) = printed {
                    *shared.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                }
                // Whoever waits may be gone already.
                let _told = ended.send(());
            })?;
        Ok(Self { printer, end })
    }

    /// The side of those who print.
    #[must_use]
    pub fn printer(&self) -> Printer {
        self.printer.clone()
    }

    /// Writes what waits and the last line, once nobody prints any more. An output that does not take it within `allowed` is left, and
    /// what still waited is booked as dropped.
    ///
    /// # Errors
    /// Why the output could not be written.
    pub fn finish(self, allowed: Duration) -> Result<(), ConsoleError> {
        let Self { printer, end } = self;
        let Printer { jobs, shared } = printer;
        drop(jobs);
        let stalled = end.recv_timeout(allowed) == Err(RecvTimeoutError::Timeout);
        let left = shared.waiting_items.load(Relaxed);
        if left > 0 {
            let reason = if stalled {
                tracing::warn!(
                    "exporters.console: the output takes no more; {left} items were not shown"
                );
                Reason::Shutdown
            } else {
                Reason::OutputFailed
            };
            shared.ledger.received(Stage::Console, left);
            shared.ledger.dropped(Stage::Console, reason, left);
        }
        let failed = shared
            .failed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        failed.map_or(Ok(()), Err)
    }
}

fn print(
    mut console: Console,
    jobs: &Receiver<Job>,
    shared: &Shared,
    lost: fn(&Ledger) -> u64,
) -> Result<(), ConsoleError> {
    for job in jobs {
        let (items, bytes) = (job.items(), job.bytes());
        let shown = match job {
            Job::Lines(lines) => console.lines(&lines),
            Job::Request(request) => console.request(&request),
        };
        shared.done(items, bytes);
        shown?;
    }
    console.finish(lost(&shared.ledger))
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};

    use super::*;
    use crate::export::console::ConsoleOptions;

    /// An output that takes a write only when the test lets it.
    struct Gate(Receiver<()>, Arc<Mutex<Vec<u8>>>);

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0
                .recv()
                .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
            self.1.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Stalled {
        gate: SyncSender<()>,
        text: Arc<Mutex<Vec<u8>>>,
        ledger: Arc<Ledger>,
        printing: Printing,
    }

    impl Stalled {
        fn start(behind: Behind) -> Self {
            let (gate, closed) = sync_channel(100_000);
            let text = Arc::<Mutex<Vec<u8>>>::default();
            let ledger = Arc::new(Ledger::default());
            let console = Console::new(
                Box::new(Gate(closed, Arc::clone(&text))),
                ConsoleOptions::default(),
                Arc::clone(&ledger),
            );
            let lost = |ledger: &Ledger| ledger.entry(Stage::Console).dropped_total();
            let printing = Printing::start(console, behind, Arc::clone(&ledger), lost).unwrap();
            Self {
                gate,
                text,
                ledger,
                printing,
            }
        }

        fn open(&self) {
            for _ in 0..100_000 {
                let _open = self.gate.try_send(());
            }
        }

        fn text(&self) -> String {
            String::from_utf8(self.text.lock().unwrap().clone()).unwrap()
        }
    }

    fn line(notes: &str) -> Line {
        Line {
            notes: notes.to_owned(),
            ..Line::default()
        }
    }

    #[test]
    fn several_threads_share_one_header_and_one_last_line() {
        let stalled = Stalled::start(Behind::Drop);
        stalled.open();
        let threads: Vec<_> = ["a", "b"]
            .into_iter()
            .map(|name| {
                let printer = stalled.printing.printer();
                std::thread::spawn(move || {
                    for _ in 0..50 {
                        printer.lines(vec![line(name), line(name)]).unwrap();
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        let text = Arc::clone(&stalled.text);
        stalled.printing.finish(Duration::from_secs(30)).unwrap();
        let text = String::from_utf8(text.lock().unwrap().clone()).unwrap();
        assert_eq!(text.matches("TIME").count(), 1);
        assert!(text.ends_with("200 records shown, 0 lost\n"), "{text}");
    }

    #[test]
    fn a_stalled_output_holds_nobody_up_and_what_does_not_fit_is_told() {
        let stalled = Stalled::start(Behind::Drop);
        let printer = stalled.printing.printer();
        // Far more than waits; none of these calls waits.
        let lines = 3 * WAITING_BYTES_MAX / LINE_BYTES;
        for _ in 0..lines / 1000 {
            printer.lines(vec![line("x"); 1000]).unwrap();
        }
        let sent = lines as u64 / 1000 * 1000;
        drop(printer);
        let dropped = stalled.ledger.entry(Stage::Console).dropped_total();
        assert!(dropped > sent / 2 && dropped < sent, "{dropped} of {sent}");
        stalled.open();
        let Stalled {
            text,
            ledger,
            printing,
            gate,
        } = stalled;
        printing.finish(Duration::from_secs(30)).unwrap();
        drop(gate);
        let entry = ledger.entry(Stage::Console);
        assert_eq!((entry.received, entry.held()), (sent, 0));
        let text = String::from_utf8(text.lock().unwrap().clone()).unwrap();
        let last = format!("{} records shown, {dropped} lost\n", sent - dropped);
        assert!(text.ends_with(&last), "{last}");
    }

    #[test]
    fn an_output_that_stays_stalled_is_left_at_the_end() {
        let stalled = Stalled::start(Behind::Drop);
        let printer = stalled.printing.printer();
        printer.lines(vec![line("x"); 3]).unwrap();
        drop(printer);
        let ledger = Arc::clone(&stalled.ledger);
        stalled.printing.finish(Duration::ZERO).unwrap();
        assert_eq!(
            ledger.entry(Stage::Console).dropped,
            [(Reason::Shutdown, 3)]
        );
        assert_eq!(stalled.gate.try_send(()), Ok(()));
    }

    #[test]
    fn a_recorded_file_waits_and_loses_nothing() {
        let stalled = Stalled::start(Behind::Wait);
        let printer = stalled.printing.printer();
        let thread = std::thread::spawn(move || {
            for _ in 0..5000 {
                printer.lines(vec![line("x")]).unwrap();
            }
        });
        stalled.open();
        thread.join().unwrap();
        let ledger = Arc::clone(&stalled.ledger);
        stalled.printing.finish(Duration::from_secs(30)).unwrap();
        assert_eq!(ledger.entry(Stage::Console).passed, 5000);
    }

    #[test]
    fn a_reader_that_goes_away_ends_the_printing() {
        let stalled = Stalled::start(Behind::Drop);
        let printer = stalled.printing.printer();
        assert!(stalled.text().is_empty());
        drop(stalled.gate);
        let mut sent = 0;
        while printer.lines(vec![line("x")]).is_ok() {
            sent += 1;
        }
        assert!(matches!(
            stalled.printing.finish(Duration::from_secs(30)),
            Err(ConsoleError::Closed)
        ));
        let entry = stalled.ledger.entry(Stage::Console);
        assert_eq!((entry.received, entry.held()), (sent + 1, 0));
    }
}
