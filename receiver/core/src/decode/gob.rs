//! Go's `encoding/gob` streams, borrowed: framed messages to type definitions and struct fields.
//!
//! The encoding is specified in the documentation of Go's `encoding/gob`; only what Cilium's types need is read (no interfaces
//! with known contents, no top-level values other than structs). Values are never built: a [`StructReader`] hands out fields by
//! name, and what nobody asked for is skipped by its type. Every step consumes at least one byte of the message, so the time is
//! linear in its length; depth, number of types and number of fields are bounded.
//!
//! Types are keyed by the negated id in the header of their definition. The `id` inside a definition is not reliable: for a
//! marshalling type reached through a pointer it is another number.

#![cfg_attr(
    not(test),
    warn(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation
    )
)]

use std::borrow::Cow;

/// Longest message that is accepted; the agent's are a few tens of KiB at most.
pub const MESSAGE_MAX: usize = 16 << 20;
/// Most type definitions in a stream.
pub const TYPES_MAX: usize = 256;
/// Most fields in a struct.
pub const FIELDS_MAX: usize = 256;
/// Deepest nesting of values.
pub const DEPTH_MAX: u32 = 32;

/// Why a gob stream could not be read. A gob stream cannot resynchronise: the connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GobError {
    /// The message ends inside a value.
    #[error("gob message ends too early")]
    Truncated,
    /// A count byte announces more than eight bytes, or a number does not fit its type.
    #[error("gob number out of range")]
    Number,
    /// Longer than [`MESSAGE_MAX`].
    #[error("gob message longer than {MESSAGE_MAX} bytes")]
    TooLong,
    /// A value of a type that was never defined.
    #[error("gob type {0} is not defined")]
    UnknownType(i64),
    /// A definition that is none of the seven kinds, or defines a built-in type.
    #[error("gob type definition makes no sense")]
    Definition,
    /// More types or fields than accepted.
    #[error("gob stream defines too many types or fields")]
    TooMany,
    /// Values nested deeper than [`DEPTH_MAX`].
    #[error("gob values nested too deep")]
    TooDeep,
    /// A field is of another type than its name promises.
    #[error("gob field has an unexpected type")]
    UnexpectedType,
}

type Result<T> = std::result::Result<T, GobError>;

/// The number of a type: built in below 64, then as the stream defines it.
pub type TypeId = i64;

/// Built-in type ids.
pub mod builtin {
    use super::TypeId;
    /// `bool`.
    pub const BOOL: TypeId = 1;
    /// All signed integers.
    pub const INT: TypeId = 2;
    /// All unsigned integers.
    pub const UINT: TypeId = 3;
    /// Floats.
    pub const FLOAT: TypeId = 4;
    /// `[]byte`.
    pub const BYTES: TypeId = 5;
    /// `string`.
    pub const STRING: TypeId = 6;
    /// Complex numbers: two floats.
    pub const COMPLEX: TypeId = 7;
    /// Interface values.
    pub const INTERFACE: TypeId = 8;
}

/// A type that the stream defined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    /// Array or slice: count, then elements.
    List(TypeId),
    /// Map: count, then keys and values.
    Map(TypeId, TypeId),
    /// Fields by index: name and type.
    Struct(Vec<(Box<str>, TypeId)>),
    /// A type that marshals itself: length, then bytes.
    Opaque,
}

/// The types of one stream.
#[derive(Clone, Debug, Default)]
pub struct Types {
    list: Vec<(TypeId, Type)>,
}

impl Types {
    /// The definition of `id`.
    #[must_use]
    pub fn get(&self, id: TypeId) -> Option<&Type> {
        self.list
            .iter()
            .find(|(known, _)| *known == id)
            .map(|(_, t)| t)
    }

    /// Forgets everything, for a new stream.
    pub fn clear(&mut self) {
        self.list.clear();
    }

    /// The fields of struct type `id`.
    pub(crate) fn fields(&self, id: TypeId) -> Result<&[(Box<str>, TypeId)]> {
        match self.get(id) {
            Some(Type::Struct(fields)) => Ok(fields),
            Some(_) => Err(GobError::UnexpectedType),
            None => Err(GobError::UnknownType(id)),
        }
    }

    /// Adds a definition. A second definition of an id replaces the first: a new connection may start anew without notice.
    fn define(&mut self, id: TypeId, definition: Type) -> Result<()> {
        if id < 16 {
            return Err(GobError::Definition);
        }
        if let Some(entry) = self.list.iter_mut().find(|(known, _)| *known == id) {
            entry.1 = definition;
        } else if self.list.len() < TYPES_MAX {
            self.list.push((id, definition));
        } else {
            return Err(GobError::TooMany);
        }
        Ok(())
    }

    /// Reads the content of one message (without its byte count): a definition is learnt and gives `None`, a value gives its type
    /// and a reader that stands before it.
    ///
    /// # Errors
    /// What is wrong with the definition or the header.
    pub fn message<'a>(&mut self, content: &'a [u8]) -> Result<Option<(TypeId, Reader<'a>)>> {
        let mut reader = Reader::new(content);
        let id = reader.int()?;
        if id >= 0 {
            return Ok(Some((id, reader)));
        }
        let id = id.checked_neg().ok_or(GobError::Number)?;
        let definition = definition(&mut reader)?;
        self.define(id, definition)?;
        Ok(None)
    }

    /// Skips one value.
    ///
    /// # Errors
    /// When the value does not follow its type.
    pub fn skip(&self, id: TypeId, reader: &mut Reader<'_>) -> Result<()> {
        self.skip_at(id, reader, DEPTH_MAX)
    }

    fn skip_at(&self, id: TypeId, reader: &mut Reader<'_>, depth: u32) -> Result<()> {
        let depth = depth.checked_sub(1).ok_or(GobError::TooDeep)?;
        match id {
            builtin::BOOL | builtin::INT | builtin::UINT | builtin::FLOAT => {
                reader.uint().map(drop)
            }
            builtin::BYTES | builtin::STRING => reader.bytes().map(drop),
            builtin::COMPLEX => reader.uint().and_then(|_| reader.uint()).map(drop),
            builtin::INTERFACE => {
                if !reader.bytes()?.is_empty() {
                    reader.int()?;
                    reader.bytes()?;
                }
                Ok(())
            }
            _ => match self.get(id).ok_or(GobError::UnknownType(id))? {
                Type::Opaque => reader.bytes().map(drop),
                Type::List(element) => {
                    for _ in 0..reader.uint()? {
                        self.skip_at(*element, reader, depth)?;
                    }
                    Ok(())
                }
                Type::Map(key, element) => {
                    for _ in 0..reader.uint()? {
                        self.skip_at(*key, reader, depth)?;
                        self.skip_at(*element, reader, depth)?;
                    }
                    Ok(())
                }
                Type::Struct(fields) => {
                    let mut index = None;
                    while let Some(at) = reader.field(index)? {
                        let (_, field) = fields.get(at).ok_or(GobError::UnexpectedType)?;
                        self.skip_at(*field, reader, depth)?;
                        index = Some(at);
                    }
                    Ok(())
                }
            },
        }
    }
}

/// Splits the first message off a stream: its content without the byte count, and the rest. `None`: not complete yet.
///
/// # Errors
/// When the byte count is not one, or over [`MESSAGE_MAX`].
pub fn frame(stream: &[u8]) -> Result<Option<(&[u8], &[u8])>> {
    let mut reader = Reader::new(stream);
    let length = match reader.uint() {
        Ok(length) => length,
        Err(GobError::Truncated) => return Ok(None),
        Err(error) => return Err(error),
    };
    let length = usize::try_from(length).map_err(|_| GobError::TooLong)?;
    if length > MESSAGE_MAX {
        return Err(GobError::TooLong);
    }
    Ok(reader.rest().split_at_checked(length))
}

/// A position in a message.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    /// At the start of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// What was not read yet.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    /// An unsigned number: one byte below 128, else a negated count and as many bytes, most significant first.
    ///
    /// # Errors
    /// [`GobError::Truncated`], or [`GobError::Number`] for more than eight bytes.
    #[inline]
    pub fn uint(&mut self) -> Result<u64> {
        let (&first, rest) = self.bytes.split_first().ok_or(GobError::Truncated)?;
        if first < 0x80 {
            self.bytes = rest;
            return Ok(u64::from(first));
        }
        let count = usize::from(first.wrapping_neg());
        if count > 8 {
            return Err(GobError::Number);
        }
        let (number, rest) = rest.split_at_checked(count).ok_or(GobError::Truncated)?;
        self.bytes = rest;
        Ok(number
            .iter()
            .fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    /// A signed number: the lowest bit says that the others are inverted.
    ///
    /// # Errors
    /// As [`Reader::uint`].
    #[inline]
    pub fn int(&mut self) -> Result<i64> {
        let value = self.uint()?;
        let magnitude = i64::try_from(value >> 1).map_err(|_| GobError::Number)?;
        Ok(if value & 1 == 0 {
            magnitude
        } else {
            !magnitude
        })
    }

    /// Length and bytes.
    ///
    /// # Errors
    /// [`GobError::Truncated`] when the length is past the end.
    #[inline]
    pub fn bytes(&mut self) -> Result<&'a [u8]> {
        let length = usize::try_from(self.uint()?).map_err(|_| GobError::Truncated)?;
        let (bytes, rest) = self
            .bytes
            .split_at_checked(length)
            .ok_or(GobError::Truncated)?;
        self.bytes = rest;
        Ok(bytes)
    }

    /// Length and text. Go's strings may hold any bytes; what is not UTF-8 is replaced by U+FFFD.
    ///
    /// # Errors
    /// As [`Reader::bytes`].
    pub fn string(&mut self) -> Result<Cow<'a, str>> {
        self.bytes().map(String::from_utf8_lossy)
    }

    /// The index of the next field of a struct after field `last`; `None` at its end.
    #[inline]
    pub(crate) fn field(&mut self, last: Option<usize>) -> Result<Option<usize>> {
        let delta = usize::try_from(self.uint()?).map_err(|_| GobError::Number)?;
        if delta == 0 {
            return Ok(None);
        }
        let next = match last {
            None => delta.checked_sub(1),
            Some(last) => last.checked_add(delta),
        };
        next.map(Some).ok_or(GobError::Number)
    }
}

/// Walks the fields of a struct value that stand in the message.
///
/// Every field that [`StructReader::next`] returns must be consumed from the reader, or skipped, before the next call.
#[derive(Debug)]
pub struct StructReader<'t> {
    types: &'t Types,
    fields: &'t [(Box<str>, TypeId)],
    index: Option<usize>,
}

impl<'t> StructReader<'t> {
    /// For a value of type `id`.
    ///
    /// # Errors
    /// When `id` is not a struct that the stream defined.
    pub fn new(types: &'t Types, id: TypeId) -> Result<Self> {
        Ok(Self {
            types,
            fields: types.fields(id)?,
            index: None,
        })
    }

    /// Name and type of the next field, at whose value `reader` then stands.
    ///
    /// # Errors
    /// When the field index is beyond the definition.
    #[inline]
    pub fn next(&mut self, reader: &mut Reader<'_>) -> Result<Option<(&'t str, TypeId)>> {
        self.index = match reader.field(self.index)? {
            None => return Ok(None),
            index => index,
        };
        let field = self.index.and_then(|index| self.fields.get(index));
        let (name, id) = field.ok_or(GobError::UnexpectedType)?;
        Ok(Some((name, *id)))
    }

    /// The types of the stream, for the values of fields.
    #[must_use]
    pub const fn types(&self) -> &'t Types {
        self.types
    }
}

/// A value of type `id` that must be a signed integer.
///
/// # Errors
/// [`GobError::UnexpectedType`] for another type.
pub fn int(id: TypeId, reader: &mut Reader<'_>) -> Result<i64> {
    expect(id, builtin::INT)?;
    reader.int()
}

/// A value of type `id` that must be an unsigned integer.
///
/// # Errors
/// [`GobError::UnexpectedType`] for another type.
pub fn uint(id: TypeId, reader: &mut Reader<'_>) -> Result<u64> {
    expect(id, builtin::UINT)?;
    reader.uint()
}

/// A value of type `id` that must be a string, as [`Reader::string`].
///
/// # Errors
/// [`GobError::UnexpectedType`] for another type.
pub fn string<'a>(id: TypeId, reader: &mut Reader<'a>) -> Result<Cow<'a, str>> {
    expect(id, builtin::STRING)?;
    reader.string()
}

fn expect(found: TypeId, wanted: TypeId) -> Result<()> {
    if found == wanted {
        Ok(())
    } else {
        Err(GobError::UnexpectedType)
    }
}

/// A type definition: a struct of which one field, by kind, is set.
fn definition(reader: &mut Reader<'_>) -> Result<Type> {
    let kind = reader.field(None)?.ok_or(GobError::Definition)?;
    let definition = match kind {
        // ArrayType {common, elem, len}, SliceType {common, elem}: on the wire of values they look the same.
        0 | 1 => Type::List(parts(reader)?.0),
        2 => struct_definition(reader)?,
        3 => {
            let (key, element) = parts(reader)?;
            Type::Map(key, element)
        }
        4..=6 => {
            parts(reader)?;
            Type::Opaque
        }
        _ => return Err(GobError::Definition),
    };
    match reader.field(Some(kind))? {
        None => Ok(definition),
        Some(_) => Err(GobError::Definition),
    }
}

/// The two numbers that follow `common` in the definition of an array, slice, map or marshalling type; zero when absent.
fn parts(reader: &mut Reader<'_>) -> Result<(TypeId, TypeId)> {
    let mut parts = (0, 0);
    let mut index = None;
    while let Some(at) = reader.field(index)? {
        match at {
            0 => common(reader)?,
            1 => parts.0 = reader.int()?,
            2 => parts.1 = reader.int()?,
            _ => return Err(GobError::Definition),
        }
        index = Some(at);
    }
    Ok(parts)
}

/// `CommonType {Name string, Id int}`: neither is used.
fn common(reader: &mut Reader<'_>) -> Result<()> {
    named(reader).map(drop)
}

/// A struct of a string and an integer: `CommonType` and `fieldType`.
fn named<'a>(reader: &mut Reader<'a>) -> Result<(Cow<'a, str>, TypeId)> {
    let mut result = (Cow::Borrowed(""), 0);
    let mut index = None;
    while let Some(at) = reader.field(index)? {
        match at {
            0 => result.0 = reader.string()?,
            1 => result.1 = reader.int()?,
            _ => return Err(GobError::Definition),
        }
        index = Some(at);
    }
    Ok(result)
}

fn struct_definition(reader: &mut Reader<'_>) -> Result<Type> {
    let mut fields = Vec::new();
    let mut index = None;
    while let Some(at) = reader.field(index)? {
        match at {
            0 => common(reader)?,
            1 => {
                for _ in 0..reader.uint()? {
                    if fields.len() == FIELDS_MAX {
                        return Err(GobError::TooMany);
                    }
                    let (name, id) = named(reader)?;
                    fields.push((name.into(), id));
                }
            }
            _ => return Err(GobError::Definition),
        }
        index = Some(at);
    }
    Ok(Type::Struct(fields))
}

#[cfg(test)]
#[path = "gob_tests.rs"]
mod tests;
