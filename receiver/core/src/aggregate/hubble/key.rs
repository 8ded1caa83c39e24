//! The label values of a series as one run of bytes, written into the same buffer for every flow.

use std::fmt::Display;
use std::io::Write as _;

/// Ends each value; no UTF-8 text has this byte.
const END: u8 = 0xff;

/// Label values, one after the other.
#[derive(Clone, Debug, Default)]
pub(super) struct Key(Vec<u8>);

impl Key {
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) const fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Adds to the current value.
    pub(super) fn text(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }

    /// Adds to the current value, in lower case.
    pub(super) fn lower_case(&mut self, text: &str) {
        self.0.extend(text.bytes().map(|b| b.to_ascii_lowercase()));
    }

    /// Turns what was written since `start` into lower case.
    pub(super) fn make_lower_case(&mut self, start: usize) {
        if let Some(written) = self.0.get_mut(start..) {
            written.make_ascii_lowercase();
        }
    }

    /// Adds a number or address to the current value.
    pub(super) fn display(&mut self, value: impl Display) {
        // Writing into memory does not fail.
        if write!(self.0, "{value}").is_err() {
            self.0.push(b'?');
        }
    }

    /// Adds `text/` to the current value, nothing when it is empty.
    pub(super) fn path(&mut self, text: &str) {
        if !text.is_empty() {
            self.text(text);
            self.0.push(b'/');
        }
    }

    /// Adds texts with commas between them.
    pub(super) fn joined<'a>(&mut self, texts: impl Iterator<Item = &'a str>) {
        for (i, text) in texts.enumerate() {
            if i > 0 {
                self.0.push(b',');
            }
            self.text(text);
        }
    }

    /// Ends the current value.
    pub(super) fn end_value(&mut self) {
        self.0.push(END);
    }

    /// One whole value.
    pub(super) fn value(&mut self, text: &str) {
        self.text(text);
        self.end_value();
    }

    /// One whole value, a number.
    pub(super) fn number(&mut self, value: impl Display) {
        self.display(value);
        self.end_value();
    }
}

/// The values in a key, in the order in which they were written.
pub(super) fn values(key: &[u8]) -> impl Iterator<Item = &str> {
    key.split(|&byte| byte == END).map(|value| {
        // Only text was written between the ends.
        std::str::from_utf8(value).unwrap_or("")
    })
}
