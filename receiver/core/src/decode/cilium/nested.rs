//! The gob stream inside an agent event: its definitions, once, and its one value.
//!
//! The agent repeats all definitions in every access log (about 1.1 KiB) and notification, byte for byte as long as it runs. So they
//! are read once and then known by their bytes.

use super::EventError;
use crate::decode::gob::{self, GobError, Reader, StructReader, TypeId, Types};

/// Runs of definitions that are kept: an agent has two, and a new one replaces them.
const KNOWN_MAX: usize = 8;

/// Longest run of definitions that is kept, bytes.
const KEPT_MAX: usize = 16 << 10;

/// Type definitions of agent events, by their bytes. They say nothing about the connection: one that is known stays right.
#[derive(Clone, Debug, Default)]
pub struct Definitions {
    /// Oldest first.
    known: Vec<(Box<[u8]>, Types)>,
}

impl Definitions {
    /// Reads `Data`: learns the definitions behind the type byte if they are new, and hands the value to `read`.
    pub(super) fn value<'a, T>(
        &mut self,
        data: &'a [u8],
        read: impl FnOnce(&mut StructReader<'_>, &mut Reader<'a>) -> Result<T, EventError>,
    ) -> Result<T, EventError> {
        let stream = data.get(1..).unwrap_or_default();
        for (bytes, types) in &self.known {
            if let Some(rest) = stream.strip_prefix(&**bytes)
                && let Some((id, mut reader)) = value(rest)
            {
                return read(&mut StructReader::new(types, id)?, &mut reader);
            }
        }
        let mut types = Types::default();
        let mut rest = stream;
        loop {
            let (content, next) = gob::frame(rest)?.ok_or(GobError::Truncated)?;
            if let Some((id, mut reader)) = types.message(content)? {
                let length = stream.len().saturating_sub(rest.len());
                let bytes = stream.get(..length).unwrap_or_default();
                let result = read(&mut StructReader::new(&types, id)?, &mut reader)?;
                self.keep(bytes, types);
                return Ok(result);
            }
            rest = next;
        }
    }

    fn keep(&mut self, bytes: &[u8], types: Types) {
        if bytes.len() > KEPT_MAX {
            return;
        }
        if self.known.len() >= KNOWN_MAX {
            self.known.remove(0);
        }
        self.known.push((bytes.into(), types));
    }
}

/// The value at the front of a stream; `None` if it is another definition, or not complete.
fn value(stream: &[u8]) -> Option<(TypeId, Reader<'_>)> {
    let (content, _) = gob::frame(stream).ok()??;
    let mut reader = Reader::new(content);
    let id = reader.int().ok()?;
    (id >= 0).then_some((id, reader))
}
