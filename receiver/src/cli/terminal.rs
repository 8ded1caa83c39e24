//! What this program writes for people beside its records: lines on standard error, answers of commands on standard output. All
//! of it is made fit for a terminal here ([`printable`](netflume_core::model::printable)).

use std::io::{self, Write};

use netflume_core::model::printable::{printable, printable_lines};
use tracing_subscriber::fmt::MakeWriter;

/// Writes lines to standard error.
pub fn error(text: impl std::fmt::Display) {
    // Where standard error is gone, nothing more can be reported.
    let _gone = writeln!(io::stderr(), "{}", printable_lines(&text.to_string()));
}

/// Writes the answer of a command to standard output.
///
/// # Errors
/// Standard output cannot be written.
pub fn answer(text: &str) -> io::Result<()> {
    io::stdout().write_all(printable_lines(text).as_bytes())
}

/// Where log lines go: standard error, an event a line. Events are formatted without colours, which their values could forge.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogLines {
    /// Colours the levels.
    pub(crate) colour: bool,
}

impl<'a> MakeWriter<'a> for LogLines {
    type Writer = Line<io::Stderr>;

    fn make_writer(&'a self) -> Self::Writer {
        Line {
            output: io::stderr(),
            colour: self.colour,
        }
    }
}

/// Takes one formatted event at each write.
#[derive(Debug)]
pub(crate) struct Line<W> {
    output: W,
    colour: bool,
}

impl<W: Write> Write for Line<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let (event, end) = match text.strip_suffix('\n') {
            Some(event) => (event, "\n"),
            None => (&*text, ""),
        };
        let mut line = printable(event).into_owned();
        if self.colour {
            line = coloured(&line);
        }
        self.output.write_all((line + end).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

/// The level, which stands behind the time, in its colour.
fn coloured(line: &str) -> String {
    let mut words = line.split(' ').filter(|word| !word.is_empty());
    let level = words.nth(1).unwrap_or_default();
    let colour = match level {
        "ERROR" => 31,
        "WARN" => 33,
        "INFO" => 32,
        "DEBUG" => 34,
        "TRACE" => 35,
        _ => return line.to_owned(),
    };
    line.replacen(level, &format!("\x1b[{colour}m{level}\x1b[0m"), 1)
}

#[cfg(test)]
mod tests {
    use netflume_core::model::printable::is_printable;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;
    use crate::written::Written;

    #[test]
    fn an_event_is_one_line_without_sequences_of_its_values() {
        for colour in [false, true] {
            let written = Written::default();
            let shared = written.clone();
            let layer = tracing_subscriber::fmt::layer()
                .with_writer(move || Line {
                    output: shared.clone(),
                    colour,
                })
                .with_ansi(false);
            let subscriber = tracing_subscriber::registry().with(layer);
            tracing::subscriber::with_default(subscriber, || {
                let hostile = "a\nWARN forged\r\x1b[31m\x1b]0;title\x07\u{9b}2J\u{202e}";
                tracing::warn!(name = hostile, shown = %hostile, debug = ?hostile, "text {hostile}");
            });
            let text = written.text();
            let (line, rest) = text.split_once('\n').unwrap();
            assert_eq!(rest, "", "one line");
            let plain = line.replacen("\x1b[33mWARN\x1b[0m", "WARN", 1);
            assert_eq!(plain != line, colour, "{line:?}");
            assert!(plain.chars().all(is_printable), "{line:?}");
            assert_eq!(plain.matches("forged").count(), 4, "{line:?}");
        }
    }
}
