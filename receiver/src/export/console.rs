//! Records to lines on stdout: aligned columns for people, OTLP JSON for programs.
//!
//! ```text
//! TIME      KIND    WHO         LOCAL         PEER               OUT      IN      RTT    NOTES
//! 12:04:31  tcp  →  curl[4711]  10.0.2.15:*   93.184.216.34:443  1.2 KiB  14 KiB  12 ms  1 opened, 1 closed
//! ```
//!
//! Columns start narrow and only grow, so that lines stay under each other; on a terminal the header is repeated after a page
//! and when a column grew.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::export::json_lines;
use netflume_core::ledger::{Ledger, Reason, Stage};
use netflume_core::model::printable::{printable, printable_json};
use netflume_core::model::request::Request;

mod line;
pub mod printer;

pub use line::{Line, bytes, round_trip};

/// Written at a time: what a pipe holds.
const WRITE_BYTES: usize = 64 * 1024;
/// Lines between two headers on a terminal.
const PAGE_LINES: usize = 40;
const COLUMNS: usize = 9;
const HEADER: [&str; COLUMNS] = [
    "TIME", "KIND", "WHO", "LOCAL", "PEER", "OUT", "IN", "RTT", "NOTES",
];
/// Narrowest widths, which hold most lines of an ordinary machine.
const WIDTHS: [usize; COLUMNS] = [8, 6, 16, 17, 21, 8, 8, 6, 0];
/// Widest widths; a longer cell pushes its own line only.
const WIDTHS_MAX: [usize; COLUMNS] = [8, 12, 24, 47, 47, 10, 10, 8, 0];

/// How records are written on stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// Aligned columns.
    #[default]
    Text,
    /// OTLP JSON, one request a line, as the Collector's file exporter writes it.
    Json,
}

/// How lines are written.
#[derive(Clone, Debug)]
pub struct ConsoleOptions {
    /// The output is a terminal: the header is repeated.
    pub terminal: bool,
    /// Colours by ANSI escape sequences.
    pub colour: bool,
    /// Whose clock times are shown by.
    pub time_zone: TimeZone,
}

impl Default for ConsoleOptions {
    /// Not on a terminal, without colours, times in UTC.
    fn default() -> Self {
        Self {
            terminal: false,
            colour: false,
            time_zone: TimeZone::UTC,
        }
    }
}

impl ConsoleOptions {
    /// For this process's stdout: colours if it is a terminal and `NO_COLOR` (no-color.org) is not set.
    #[must_use]
    pub fn for_stdout() -> Self {
        let terminal = io::stdout().is_terminal();
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            terminal,
            colour: terminal && !refused,
            time_zone: TimeZone::system(),
        }
    }
}

/// Why nothing more can be written.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    /// The reader went away (`| head`): the run is over, and well.
    #[error("the reader of the output went away")]
    Closed,
    /// Anything else, such as a full disk.
    #[error("console")]
    Write(#[source] io::Error),
}

impl From<io::Error> for ConsoleError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Write(error),
        }
    }
}

/// Writes to one output, and counts what that took and what it did not; what was received is counted where it is handed over.
pub struct Console {
    output: Box<dyn Write + Send>,
    options: ConsoleOptions,
    widths: [usize; COLUMNS],
    /// Since the last header; `None`: there was none yet.
    lines_since_header: Option<usize>,
    shown: u64,
    progress: Arc<Progress>,
}

/// Whether the output moves, as another thread sees it.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Bytes that it took.
    pub(crate) written: AtomicU64,
    /// It has been given bytes that it has not taken yet. What is made ready for it meanwhile is no matter of the output.
    pub(crate) is_awaited: AtomicBool,
}

impl Console {
    /// A console on `output`.
    #[must_use]
    pub fn new(output: Box<dyn Write + Send>, options: ConsoleOptions) -> Self {
        Self {
            output,
            options,
            widths: WIDTHS,
            lines_since_header: None,
            shown: 0,
            progress: Arc::default(),
        }
    }

    /// Shows lines, which `ledger` counts.
    ///
    /// # Errors
    /// The output cannot be written; what was not is booked as dropped.
    pub fn lines(&mut self, lines: &[Line], ledger: &Ledger) -> Result<(), ConsoleError> {
        if lines.is_empty() {
            return Ok(());
        }
        let rows: Vec<_> = lines.iter().map(|line| self.cells(line)).collect();
        let mut grown = false;
        for row in &rows {
            for (n, cell) in row.iter().enumerate() {
                let wanted = cell.chars().count().min(WIDTHS_MAX[n]);
                if wanted > self.widths[n] {
                    self.widths[n] = wanted;
                    grown = true;
                }
            }
        }
        let mut text = String::new();
        for (row, line) in rows.iter().zip(lines) {
            let due = match self.lines_since_header {
                None => true,
                Some(count) => self.options.terminal && (grown || count >= PAGE_LINES),
            };
            if due {
                self.header(&mut text);
                self.lines_since_header = Some(0);
                grown = false;
            }
            self.row(&mut text, row, line.failed);
            self.lines_since_header = self.lines_since_header.map(|count| count + 1);
        }
        self.write(&text, lines.len() as u64, ledger)
    }

    /// Writes a request, whose items `ledger` counts, as one line of OTLP JSON.
    ///
    /// # Errors
    /// The output cannot be written; its items are booked as dropped.
    pub fn request(&mut self, request: &Request, ledger: &Ledger) -> Result<(), ConsoleError> {
        match json_lines::encode(request) {
            Ok(text) => {
                let mut text = printable_json(&text).into_owned();
                text.push('\n');
                self.write(&text, request.items, ledger)
            }
            Err(error) => {
                ledger.dropped(Stage::Console, Reason::Malformed, request.items);
                tracing::error!(%error, "request not shown");
                Ok(())
            }
        }
    }

    /// Records, points and spans shown so far.
    #[must_use]
    pub fn shown(&self) -> u64 {
        self.shown
    }

    /// Whether the output moves, for another thread.
    #[must_use]
    pub(crate) fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    /// The last line, for people: `214 records shown, 0 lost`. Nothing if no line was shown.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn finish(&mut self, lost: u64) -> Result<(), ConsoleError> {
        if self.lines_since_header.is_some() {
            // The terminal wrote `^C` in front of it.
            let blank = if self.options.terminal { " " } else { "" };
            let records = if self.shown == 1 { "record" } else { "records" };
            writeln!(
                self.output,
                "{blank}{} {records} shown, {lost} lost",
                self.shown
            )?;
        }
        self.output.flush()?;
        Ok(())
    }

    fn write(&mut self, text: &str, items: u64, ledger: &Ledger) -> Result<(), ConsoleError> {
        match self.write_all(text.as_bytes()) {
            Ok(()) => {
                ledger.passed(Stage::Console, items);
                self.shown += items;
                Ok(())
            }
            Err(error) => {
                ledger.dropped(Stage::Console, Reason::OutputFailed, items);
                Err(error.into())
            }
        }
    }

    fn write_all(&mut self, text: &[u8]) -> io::Result<()> {
        self.progress.is_awaited.store(true, Relaxed);
        let written = text.chunks(WRITE_BYTES).try_for_each(|part| {
            self.output.write_all(part)?;
            self.progress.written.fetch_add(part.len() as u64, Relaxed);
            Ok(())
        });
        let written = written.and_then(|()| self.output.flush());
        self.progress.is_awaited.store(false, Relaxed);
        written
    }

    fn header(&self, text: &mut String) {
        if self.options.colour {
            text.push_str("\x1b[1m");
        }
        self.columns(text, &HEADER.map(str::to_owned));
        text.push_str(HEADER[COLUMNS - 1]);
        if self.options.colour {
            text.push_str("\x1b[0m");
        }
        text.push('\n');
    }

    fn row(&self, text: &mut String, row: &[String; COLUMNS], failed: bool) {
        let notes = &row[COLUMNS - 1];
        let start = text.len();
        self.columns(text, row);
        if notes.is_empty() {
            text.truncate(start + text.get(start..).unwrap_or_default().trim_end().len());
        } else if failed && self.options.colour {
            let _infallible = write!(text, "\x1b[31m{notes}\x1b[0m");
        } else {
            text.push_str(notes);
        }
        text.push('\n');
    }

    /// All but the last column, each padded.
    fn columns(&self, text: &mut String, cells: &[String; COLUMNS]) {
        for (cell, width) in cells.iter().zip(self.widths).take(COLUMNS - 1) {
            let _infallible = write!(text, "{cell:width$}  ");
        }
    }

    fn cells(&self, line: &Line) -> [String; COLUMNS] {
        // Names, questions, methods and addresses of requests are anybody's text.
        let foreign = |text: &str| printable(text).into_owned();
        [
            self.time(line.unix_ns),
            foreign(&line.kind),
            foreign(&line.who),
            foreign(&line.local),
            foreign(&line.peer),
            bytes(line.out),
            bytes(line.r#in),
            round_trip(line.rtt_us),
            foreign(&line.notes),
        ]
    }

    fn time(&self, unix_ns: u64) -> String {
        // Beyond the year 2554 there is nothing to show.
        let time = Timestamp::from_nanosecond(unix_ns.into()).unwrap_or_default();
        let local = self.options.time_zone.to_datetime(time);
        format!(
            "{:02}:{:02}:{:02}",
            local.hour(),
            local.minute(),
            local.second()
        )
    }
}

#[cfg(test)]
mod tests;
