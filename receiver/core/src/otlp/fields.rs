//! What a record holds, as a list of named fields: written once, for every form in which it leaves.
//!
//! | [`Fields`] | gives |
//! | --- | --- |
//! | [`KeyValues`](crate::otlp::pairs::KeyValues) | body and attributes of a log record |
//! | [`Json`](crate::otlp::hubble::json::Json) | the text of `hubble observe -o json` |

use std::fmt::Display;

use crate::otlp::key::Key;
use crate::otlp::text::Ascii;

/// Takes the fields of an object, in order.
pub trait Fields: Sized {
    /// A text.
    fn text(&mut self, key: Key, value: &str);
    /// A short text of ASCII characters.
    fn ascii(&mut self, key: Key, value: &Ascii);
    /// A text that is made on the way.
    fn display(&mut self, key: Key, value: impl Display);
    /// A number of at most 32 bits, or a count.
    fn number(&mut self, key: Key, value: i64);
    /// A number of 64 bits: a text in JSON, as protobuf wants it.
    fn number64(&mut self, key: Key, value: u64);
    /// True or false.
    fn boolean(&mut self, key: Key, value: bool);
    /// An object.
    fn object(&mut self, key: Key, content: impl FnOnce(&mut Self));
    /// A list of texts.
    fn texts<T: AsRef<str>>(&mut self, key: Key, values: impl Iterator<Item = T>);
    /// A list of objects.
    fn objects<T>(
        &mut self,
        key: Key,
        values: impl Iterator<Item = T>,
        content: impl Fn(&mut Self, T),
    );
}

/// Fields whose default value is left out.
pub(crate) trait FieldsExt: Fields {
    #[inline(always)]
    fn text_unless_empty(&mut self, key: Key, value: &str) {
        if !value.is_empty() {
            self.text(key, value);
        }
    }

    #[inline(always)]
    fn text_if_known(&mut self, key: Key, value: Option<&str>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }

    #[inline(always)]
    fn number_unless_zero(&mut self, key: Key, value: impl Into<i64>) {
        let value = value.into();
        if value != 0 {
            self.number(key, value);
        }
    }

    #[inline(always)]
    fn number64_unless_zero(&mut self, key: Key, value: u64) {
        if value != 0 {
            self.number64(key, value);
        }
    }

    #[inline(always)]
    fn true_only(&mut self, key: Key, value: bool) {
        if value {
            self.boolean(key, true);
        }
    }

    #[inline(always)]
    fn texts_unless_empty<T: AsRef<str>>(&mut self, key: Key, values: &[T]) {
        if !values.is_empty() {
            self.texts(key, values.iter());
        }
    }

    /// An enumeration: its name, or its number when the schema has no name for it; zero is left out.
    #[inline(always)]
    fn enumeration(&mut self, key: Key, name: Option<&'static str>, number: impl Into<i64>) {
        let number = number.into();
        match name {
            _ if number == 0 => {}
            Some(name) => self.text(key, name),
            None => self.number(key, number),
        }
    }
}

impl<F: Fields> FieldsExt for F {}
