//! Fields as OTLP `KeyValue`s: body and attributes of a log record.
//!
//! Each pair is copied behind those before it, never moved, with its lengths put in afterwards. Only what turns out to be longer than
//! 127 bytes (an object, a list, a text that is made on the way) is moved, once, by the few bytes that its lengths take more.

use std::fmt::{Display, Write};

use crate::otlp::fields::Fields;
use crate::otlp::key::{KEY_START, KV_VALUE, Key, length_tag};
use crate::otlp::text::Ascii;
use crate::otlp::wire::{self, varint_len};

/// `AnyValue.string_value`.
const STRING: u8 = length_tag(1);
/// `AnyValue.bool_value`, wire type 0.
const BOOL: u8 = 2 << 3;
/// `AnyValue.int_value`, wire type 0.
const INT: u8 = 3 << 3;
/// `AnyValue.array_value`.
const ARRAY: u8 = length_tag(5);
/// `AnyValue.kvlist_value`.
const KVLIST: u8 = length_tag(6);
/// `ArrayValue.values` and `KeyValueList.values`.
const VALUES: u8 = length_tag(1);

/// Lengths below this take one byte.
const SHORT: usize = 0x80;
/// The most that the three lengths of a nested value take beyond one byte each.
const MORE_MAX: usize = 27;

/// Writes pairs behind what is there.
#[derive(Debug)]
pub struct KeyValues<'a> {
    out: &'a mut Vec<u8>,
    /// Tag of the repeated field that the pairs are elements of.
    tag: u8,
}

impl<'a> KeyValues<'a> {
    /// Writes elements of the field with number `field`, at most 15.
    #[must_use]
    pub fn new(out: &'a mut Vec<u8>, field: u8) -> Self {
        Self {
            out,
            tag: length_tag(field),
        }
    }

    /// Writes a pair up to the first byte of its value: `kind` is the value's tag, `first` that byte, and `more` bytes will follow.
    /// The pair must be below 128 bytes.
    #[inline(always)]
    fn head(&mut self, key: Key, kind: u8, first: u8, more: usize) {
        let frame = key.frame();
        let n = frame.len();
        let start = self.out.len();
        self.out.extend_from_slice(frame);
        let pair = &mut self.out[start..];
        pair[0] = self.tag;
        pair[1] = (n - KEY_START + more) as u8;
        pair[n - 3] = (2 + more) as u8;
        pair[n - 2] = kind;
        pair[n - 1] = first;
    }

    /// A value whose length is known only when `content` has written it.
    #[inline(always)]
    fn nested(&mut self, key: Key, kind: u8, content: impl FnOnce(&mut Self)) {
        let start = self.out.len();
        self.head(key, kind, 0, 0);
        let tag = std::mem::replace(&mut self.tag, VALUES);
        content(self);
        self.tag = tag;
        let n = key.frame().len();
        let length = self.out.len() - start - n;
        if n - KEY_START + length < SHORT {
            let pair = &mut self.out[start..start + n];
            pair[1] = (n - KEY_START + length) as u8;
            pair[n - 3] = (2 + length) as u8;
            pair[n - 1] = length as u8;
        } else {
            lengthen(self.out, start, key, kind, length);
        }
    }
}

/// Puts in the lengths of a pair of 128 bytes or more, whose value's `length` bytes stand behind room for short lengths.
#[inline(never)]
fn lengthen(out: &mut Vec<u8>, start: usize, key: Key, kind: u8, length: usize) {
    let any = 1 + varint_len(length as u64) + length;
    let pair = key.field().len() + 1 + varint_len(any as u64) + any;
    let content = start + key.frame().len();
    let more = [pair, any, length].map(|length| varint_len(length as u64) - 1);
    make_room(out, content, more.iter().sum());
    let mut at = start + 1;
    put_varint(out, &mut at, pair);
    put(out, &mut at, key.field());
    put(out, &mut at, &[KV_VALUE]);
    put_varint(out, &mut at, any);
    put(out, &mut at, &[kind]);
    put_varint(out, &mut at, length);
}

/// Moves everything from `from` on by `more` bytes.
fn make_room(out: &mut Vec<u8>, from: usize, more: usize) {
    let end = out.len();
    out.extend_from_slice(&[0; MORE_MAX][..more]);
    out.copy_within(from..end, from + more);
}

/// Overwrites what stands at `at`.
fn put(out: &mut [u8], at: &mut usize, bytes: &[u8]) {
    out[*at..*at + bytes.len()].copy_from_slice(bytes);
    *at += bytes.len();
}

fn put_varint(out: &mut [u8], at: &mut usize, value: usize) {
    let mut value = value as u64;
    while value >= 0x80 {
        put(out, at, &[value as u8 | 0x80]);
        value >>= 7;
    }
    put(out, at, &[value as u8]);
}

/// Writes a few bytes: as two pieces of a fixed length that overlap, which for 8 to 32 bytes is faster than a copy of just so many.
#[inline(always)]
fn short(out: &mut Vec<u8>, value: &[u8]) {
    match value.len() {
        8..16 => overlapping::<8>(out, value),
        16..=32 => overlapping::<16>(out, value),
        _ => out.extend_from_slice(value),
    }
}

/// Writes a value of `N` to 2 `N` bytes.
#[inline(always)]
fn overlapping<const N: usize>(out: &mut Vec<u8>, value: &[u8]) {
    if let (Some(first), Some(last)) = (value.first_chunk::<N>(), value.last_chunk::<N>()) {
        out.extend_from_slice(first);
        out.truncate(out.len() + value.len() - 2 * N);
        out.extend_from_slice(last);
    }
}

/// A pair of 128 bytes or more.
#[inline(never)]
fn long_text(out: &mut Vec<u8>, tag: u8, key: &[u8], value: &[u8]) {
    let any = 1 + varint_len(value.len() as u64) + value.len();
    let pair = key.len() + 1 + varint_len(any as u64) + any;
    out.push(tag);
    wire::varint(out, pair as u64);
    out.extend_from_slice(key);
    out.push(KV_VALUE);
    wire::varint(out, any as u64);
    out.push(STRING);
    wire::varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// An element of a list of texts.
#[inline]
fn element(out: &mut Vec<u8>, value: &[u8]) {
    let length = value.len();
    if length + 2 < SHORT {
        out.extend_from_slice(&[VALUES, length as u8 + 2, STRING, length as u8]);
        short(out, value);
    } else {
        let any = 1 + varint_len(length as u64) + length;
        out.push(VALUES);
        wire::varint(out, any as u64);
        out.push(STRING);
        wire::varint(out, length as u64);
        out.extend_from_slice(value);
    }
}

/// Puts in the lengths of a list's element that is an object; room for short ones begins behind `start`.
#[inline]
fn close_element(out: &mut Vec<u8>, start: usize) {
    let length = out.len() - start - 4;
    if length + 2 < SHORT {
        out[start + 1] = length as u8 + 2;
        out[start + 3] = length as u8;
    } else {
        let any = 1 + varint_len(length as u64) + length;
        let more = [any, length].map(|length| varint_len(length as u64) - 1);
        make_room(out, start + 4, more.iter().sum());
        let mut at = start + 1;
        put_varint(out, &mut at, any);
        put(out, &mut at, &[KVLIST]);
        put_varint(out, &mut at, length);
    }
}

/// Takes what the formatter makes.
struct Text<'a>(&'a mut Vec<u8>);

impl Write for Text<'_> {
    #[inline]
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

// Always inlined: there the key's length is a constant, and copying it a few moves instead of a call.
impl Fields for KeyValues<'_> {
    #[inline(always)]
    fn text(&mut self, key: Key, value: &str) {
        let length = value.len();
        if key.frame().len() - KEY_START + length < SHORT {
            self.head(key, STRING, length as u8, length);
            short(self.out, value.as_bytes());
        } else {
            long_text(self.out, self.tag, key.field(), value.as_bytes());
        }
    }

    #[inline(always)]
    fn ascii(&mut self, key: Key, value: &Ascii) {
        let length = value.as_bytes().len();
        if key.frame().len() - KEY_START + length < SHORT {
            self.head(key, STRING, length as u8, length);
            value.append(self.out);
        } else {
            long_text(self.out, self.tag, key.field(), value.as_bytes());
        }
    }

    fn display(&mut self, key: Key, value: impl Display) {
        self.nested(key, STRING, |fields| {
            // Nothing that writes into a buffer fails.
            write!(Text(fields.out), "{value}").unwrap_or_default();
        });
    }

    #[inline(always)]
    fn number(&mut self, key: Key, value: i64) {
        // A negative int64 is its two's complement: ten bytes.
        let value = value as u64;
        if value < SHORT as u64 {
            self.head(key, INT, value as u8, 0);
        } else {
            self.head(key, INT, value as u8 | 0x80, varint_len(value) - 1);
            wire::varint(self.out, value >> 7);
        }
    }

    #[inline(always)]
    fn number64(&mut self, key: Key, value: u64) {
        match i64::try_from(value) {
            Ok(value) => self.number(key, value),
            // OTLP has no larger integers.
            Err(_) => self.display(key, value),
        }
    }

    #[inline(always)]
    fn boolean(&mut self, key: Key, value: bool) {
        self.head(key, BOOL, u8::from(value), 0);
    }

    #[inline(always)]
    fn object(&mut self, key: Key, content: impl FnOnce(&mut Self)) {
        self.nested(key, KVLIST, content);
    }

    #[inline(always)]
    fn texts<T: AsRef<str>>(&mut self, key: Key, values: impl Iterator<Item = T>) {
        self.nested(key, ARRAY, |fields| {
            for value in values {
                element(fields.out, value.as_ref().as_bytes());
            }
        });
    }

    fn objects<T>(
        &mut self,
        key: Key,
        values: impl Iterator<Item = T>,
        content: impl Fn(&mut Self, T),
    ) {
        self.nested(key, ARRAY, |fields| {
            for value in values {
                let start = fields.out.len();
                fields.out.extend_from_slice(&[VALUES, 0, KVLIST, 0]);
                content(fields, value);
                close_element(fields.out, start);
            }
        });
    }
}

#[cfg(test)]
#[path = "pairs_tests.rs"]
mod tests;
