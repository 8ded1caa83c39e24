//! Hubble's fields as an OTLP `AnyValue`: the body of a log record, a map whose keys, values and units are those of the JSON form. Only
//! numbers of 64 bits differ: they are numbers here.

use std::fmt::Display;

use super::Fields;
use crate::otlp::wire::{self, ANY_ARRAY, Any, VALUES};

/// `KeyValue.key`.
const KEY: u8 = 1;
/// `KeyValue.value`.
const VALUE: u8 = 2;

/// Writes the elements of a `KeyValueList`.
#[derive(Debug)]
pub struct AnyFields {
    out: Vec<u8>,
    /// Where text is made.
    text: String,
}

impl AnyFields {
    /// Appends what `content` writes to `out`, as elements of a `KeyValueList` (see [`wire::any_kvlist`]).
    pub fn append(out: &mut Vec<u8>, content: impl FnOnce(&mut Self)) {
        let mut fields = Self {
            out: std::mem::take(out),
            text: String::new(),
        };
        content(&mut fields);
        *out = fields.out;
    }

    /// Gives the buffer to `write`, which may give it back in between by [`AnyFields::lend`].
    fn borrow(&mut self, write: impl FnOnce(&mut Self, &mut Vec<u8>)) {
        let mut out = std::mem::take(&mut self.out);
        write(self, &mut out);
        self.out = out;
    }

    /// Lets `content` write its fields at the end of `out`.
    fn lend(&mut self, out: &mut Vec<u8>, content: impl FnOnce(&mut Self)) {
        self.out = std::mem::take(out);
        content(self);
        *out = std::mem::take(&mut self.out);
    }
}

impl Fields for AnyFields {
    fn text(&mut self, key: &str, value: &str) {
        wire::any_kv(&mut self.out, VALUES, key, Any::Text(value));
    }

    fn display(&mut self, key: &str, value: impl Display) {
        use std::fmt::Write as _;
        self.text.clear();
        // Writing to a String cannot fail.
        write!(self.text, "{value}").unwrap_or_default();
        wire::any_kv(&mut self.out, VALUES, key, Any::Text(&self.text));
    }

    fn number(&mut self, key: &str, value: i64) {
        wire::any_kv(&mut self.out, VALUES, key, Any::Int(value));
    }

    fn number64(&mut self, key: &str, value: u64) {
        match i64::try_from(value) {
            Ok(value) => self.number(key, value),
            // OTLP has no larger integers.
            Err(_) => self.display(key, value),
        }
    }

    fn boolean(&mut self, key: &str, value: bool) {
        wire::any_kv(&mut self.out, VALUES, key, Any::Bool(value));
    }

    fn object(&mut self, key: &str, content: impl FnOnce(&mut Self)) {
        self.borrow(|fields, out| {
            wire::message::<2>(out, VALUES, |out| {
                wire::bytes(out, KEY, key.as_bytes());
                wire::any_kvlist(out, VALUE, |out| fields.lend(out, content));
            });
        });
    }

    fn texts<T: AsRef<str>>(&mut self, key: &str, values: impl Iterator<Item = T>) {
        list(&mut self.out, key, |out| {
            for value in values {
                // `AnyValue.string_value` is field 1.
                wire::message::<1>(out, VALUES, |out| {
                    wire::bytes(out, 1, value.as_ref().as_bytes())
                });
            }
        });
    }

    fn objects<T>(
        &mut self,
        key: &str,
        values: impl Iterator<Item = T>,
        content: impl Fn(&mut Self, T),
    ) {
        self.borrow(|fields, out| {
            list(out, key, |out| {
                for value in values {
                    wire::any_kvlist(out, VALUES, |out| {
                        fields.lend(out, |fields| content(fields, value))
                    });
                }
            });
        });
    }
}

/// A `KeyValue` with an `ArrayValue`.
fn list(out: &mut Vec<u8>, key: &str, elements: impl FnOnce(&mut Vec<u8>)) {
    wire::message::<2>(out, VALUES, |out| {
        wire::bytes(out, KEY, key.as_bytes());
        wire::message::<2>(out, VALUE, |out| {
            wire::message::<2>(out, ANY_ARRAY, elements)
        });
    });
}
