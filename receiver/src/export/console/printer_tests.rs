//! Outputs that take what the test lets them take.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::*;
use crate::export::console::ConsoleOptions;

/// More than a busy machine needs.
const LONG: Duration = Duration::from_secs(60);

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
    fn start(policy: OverflowPolicy) -> Self {
        let (gate, closed) = sync_channel(1_000_000);
        let text = Arc::<Mutex<Vec<u8>>>::default();
        let ledger = Arc::new(Ledger::default());
        let console = Console::new(
            Box::new(Gate(closed, Arc::clone(&text))),
            ConsoleOptions::default(),
        );
        let counted = Arc::clone(&ledger);
        let lost = move || counted.entry(Stage::Console).dropped_total();
        let printing = Printing::start(console, policy, lost).unwrap();
        Self {
            gate,
            text,
            ledger,
            printing,
        }
    }

    fn printer(&self) -> Printer {
        self.printing.printer(Arc::clone(&self.ledger))
    }

    fn open(&self) {
        for _ in 0..1_000_000 {
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

/// Prints this many times what waits at most; gives the lines.
fn flood(printer: &Printer, times: usize) -> u64 {
    let batches = times * WAITING_BYTES_MAX / LINE_BYTES / 1000;
    for _ in 0..batches {
        printer.lines(vec![line("x"); 1000]).unwrap();
    }
    batches as u64 * 1000
}

#[test]
fn several_threads_share_one_header_and_one_last_line() {
    let stalled = Stalled::start(OverflowPolicy::Drop);
    stalled.open();
    let threads: Vec<_> = ["a", "b"]
        .into_iter()
        .map(|name| {
            let printer = stalled.printer();
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
    stalled.printing.finish(Some(LONG)).unwrap();
    let text = String::from_utf8(text.lock().unwrap().clone()).unwrap();
    assert_eq!(text.matches("TIME").count(), 1);
    assert!(text.ends_with("200 records shown, 0 lost\n"), "{text}");
}

#[test]
fn a_stalled_terminal_holds_nobody_up_and_what_does_not_fit_is_reported() {
    let stalled = Stalled::start(OverflowPolicy::Drop);
    // Far more than waits; none of these calls waits.
    let sent = flood(&stalled.printer(), 3);
    let dropped = stalled.ledger.entry(Stage::Console).dropped_total();
    assert!(dropped > sent / 2 && dropped < sent, "{dropped} of {sent}");
    stalled.open();
    let Stalled {
        text,
        ledger,
        printing,
        gate,
    } = stalled;
    printing.finish(Some(LONG)).unwrap();
    drop(gate);
    let entry = ledger.entry(Stage::Console);
    assert_eq!((entry.received, entry.held()), (sent, 0));
    let text = String::from_utf8(text.lock().unwrap().clone()).unwrap();
    let last = format!("{} records shown, {dropped} lost\n", sent - dropped);
    assert!(text.ends_with(&last), "{last}");
}

#[test]
fn an_output_that_stays_stalled_is_left_at_the_end() {
    let stalled = Stalled::start(OverflowPolicy::Drop);
    let printer = stalled.printer();
    printer.lines(vec![line("x"); 3]).unwrap();
    drop(printer);
    let ledger = Arc::clone(&stalled.ledger);
    stalled.printing.finish(Some(Duration::ZERO)).unwrap();
    assert_eq!(
        ledger.entry(Stage::Console).dropped,
        [(Reason::Shutdown, 3)]
    );
    assert_eq!(stalled.gate.try_send(()), Ok(()));
}

#[test]
fn a_slow_pipe_is_waited_for_and_loses_nothing() {
    for policy in [OverflowPolicy::Wait, OverflowPolicy::WaitWhileMoving(LONG)] {
        let stalled = Stalled::start(policy);
        let printer = stalled.printer();
        let thread = std::thread::spawn(move || flood(&printer, 3));
        // More than fits is not taken before something is written.
        let full = || stalled.printing.0.lock().bytes > WAITING_BYTES_MAX / 2;
        while !full() {
            std::thread::yield_now();
        }
        assert!(!thread.is_finished());
        stalled.open();
        let sent = thread.join().unwrap();
        let ledger = Arc::clone(&stalled.ledger);
        stalled.printing.finish(Some(LONG)).unwrap();
        assert_eq!(ledger.entry(Stage::Console).passed, sent, "{policy:?}");
    }
}

#[test]
fn a_pipe_that_does_not_move_is_waited_for_once_and_again_when_it_moves() {
    let patience = Duration::from_millis(100);
    let stalled = Stalled::start(OverflowPolicy::WaitWhileMoving(patience));
    let printer = stalled.printer();
    let begin = Instant::now();
    let sent = flood(&printer, 3);
    let took = begin.elapsed();
    // One wait, not one for each hand-over that finds no room.
    assert!(took >= patience, "{took:?}");
    let dropped = stalled.ledger.entry(Stage::Console).dropped.clone();
    assert!(
        matches!(dropped[..], [(Reason::QueueFull, n)] if n > sent / 2),
        "{dropped:?}"
    );
    assert_eq!(
        stalled.printing.0.lock().stalled_at,
        Some(0),
        "there is no second wait before it moves"
    );
    stalled.open();
    let shared = Arc::clone(&stalled.printing.0);
    while shared.lock().bytes > 0 {
        std::thread::yield_now();
    }
    let again = Wait::default().next(&shared, &mut shared.lock());
    assert!(again.is_some(), "it has moved, so that it is waited for");
    drop(printer);
    let ledger = Arc::clone(&stalled.ledger);
    stalled.printing.finish(Some(LONG)).unwrap();
    let entry = ledger.entry(Stage::Console);
    assert_eq!((entry.received, entry.held()), (sent, 0));
    assert_eq!(entry.dropped, dropped);
}

#[test]
fn only_an_output_that_has_something_to_take_can_stall() {
    let stalled = Stalled::start(OverflowPolicy::WaitWhileMoving(Duration::ZERO));
    let shared = Arc::clone(&stalled.printing.0);
    let next = || Wait::default().next(&shared, &mut shared.lock());
    // As while lines are made ready, however long that takes.
    assert!(next().is_some());
    stalled.printer().lines(vec![line("x")]).unwrap();
    while !shared.output.is_awaited.load(Relaxed) {
        std::thread::yield_now();
    }
    assert!(next().is_none());
    stalled.open();
    stalled.printing.finish(Some(LONG)).unwrap();
}

#[test]
fn at_the_end_nobody_waits_beyond_the_time_allowed() {
    let stalled = Stalled::start(OverflowPolicy::WaitWhileMoving(Duration::MAX));
    stalled.printing.end_within(Duration::ZERO);
    // Would never come back.
    flood(&stalled.printer(), 2);
    stalled.printing.finish(Some(Duration::ZERO)).unwrap();
    let entry = stalled.ledger.entry(Stage::Console);
    assert_eq!((entry.passed, entry.held()), (0, 0));
}

#[test]
fn a_reader_that_goes_away_ends_the_printing() {
    let stalled = Stalled::start(OverflowPolicy::Drop);
    let printer = stalled.printer();
    assert!(stalled.text().is_empty());
    drop(stalled.gate);
    let mut sent = 0;
    while printer.lines(vec![line("x")]).is_ok() {
        sent += 1;
    }
    assert!(matches!(
        stalled.printing.finish(Some(LONG)),
        Err(ConsoleError::Closed)
    ));
    let entry = stalled.ledger.entry(Stage::Console);
    assert_eq!((entry.received, entry.held()), (sent + 1, 0));
}
