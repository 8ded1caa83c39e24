//! BTF bytes to offsets of structure members: a reader for the little that the loader needs.
//!
//! Format: Documentation/bpf/btf.rst of the kernel. Total on any bytes: nothing is read out of bounds, every loop is bounded by
//! the number of bytes.

use std::collections::HashMap;

use thiserror::Error;

/// Why bytes are not BTF.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum BtfError {
    /// The first two bytes are not the magic number in the byte order of this machine.
    #[error("no BTF magic number at the start")]
    Magic,
    /// A section or a type reaches beyond the end.
    #[error("truncated at byte {0}")]
    Truncated(usize),
    /// A kind that this reader does not know, so that it cannot tell where the next type starts.
    #[error("type {id} has the unknown kind {kind}")]
    Kind {
        /// Number of the type.
        id: u32,
        /// What stands in its `info`.
        kind: u32,
    },
}

const MAGIC: u16 = 0xeb9f;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
/// Deepest nesting of anonymous members and longest chain of typedefs that is followed; the kernel's own stay below 8.
const MAX_DEPTH: u32 = 32;
/// Members looked at for one path before the search is given up; the kernel's largest structures have hundreds.
const MAX_STEPS: u32 = 1 << 16;
/// Longest name; the kernel's KSYM_NAME_LEN.
const MAX_NAME: usize = 512;

/// What kind of thing a name is looked up as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// `typedef`: each BTF tracepoint has one, `btf_trace_NAME`.
    Typedef = 8,
    /// A function; each iterator target has one, `bpf_iter_NAME`.
    Func = 12,
}

/// Parsed BTF; borrows the bytes.
#[derive(Debug)]
pub struct Btf<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// Byte offset of type `id` within `types`; entry 0 stands for `void`.
    starts: Vec<u32>,
    structures: HashMap<&'a [u8], u32>,
}

#[derive(Clone, Copy)]
struct Type {
    name: u32,
    kind: u32,
    members: u32,
    bitfields: bool,
    /// Size, or the type it refers to.
    refers: u32,
    /// Where what follows the common part starts.
    body: usize,
}

impl<'a> Btf<'a> {
    /// Reads the header, and where each type starts.
    ///
    /// # Errors
    /// [`BtfError`] when the bytes are not BTF of this machine's byte order.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BtfError> {
        let magic = bytes
            .first_chunk::<2>()
            .ok_or(BtfError::Truncated(bytes.len()))?;
        if u16::from_ne_bytes(*magic) != MAGIC {
            return Err(BtfError::Magic);
        }
        let header = |offset| word(bytes, offset).ok_or(BtfError::Truncated(bytes.len()));
        let header_len = header(4)? as usize;
        let section = |offset: u32, len: u32| {
            let start = header_len.checked_add(offset as usize)?;
            bytes.get(start..start.checked_add(len as usize)?)
        };
        let types = section(header(8)?, header(12)?).ok_or(BtfError::Truncated(bytes.len()))?;
        let strings = section(header(16)?, header(20)?).ok_or(BtfError::Truncated(bytes.len()))?;
        let mut btf = Self {
            types,
            strings,
            starts: vec![0],
            structures: HashMap::new(),
        };
        let mut at = 0_usize;
        while at < types.len() {
            let id = u32::try_from(btf.starts.len()).unwrap_or(u32::MAX);
            let ty = btf
                .type_at(at)
                .ok_or(BtfError::Truncated(header_len.saturating_add(at)))?;
            let extra = match ty.kind {
                1 | 14 | 17 => 4,
                2 | 7..=12 | 16 | 18 => 0,
                3 => 12,
                STRUCT | UNION | 15 | 19 => ty.members as usize * 12,
                6 | 13 => ty.members as usize * 8,
                kind => return Err(BtfError::Kind { id, kind }),
            };
            btf.starts.push(u32::try_from(at).unwrap_or(u32::MAX));
            if ty.kind == STRUCT {
                let name = btf.string(ty.name);
                if !name.is_empty() {
                    btf.structures.entry(name).or_insert(id);
                }
            }
            at = ty.body.saturating_add(extra);
        }
        Ok(btf)
    }

    /// Byte offset of a member within a structure: `("sock", "__sk_common.skc_family")`. Anonymous structures and unions are
    /// looked through. `None`: no such member, or one that does not start at a byte.
    #[must_use]
    pub fn offset(&self, structure: &str, path: &str) -> Option<u32> {
        let bits = self.bit_offset(structure, path)?;
        bits.is_multiple_of(8).then_some(bits / 8)
    }

    /// Offset of a member in bits: of a bit field, its lowest one (on little-endian machines).
    #[must_use]
    pub fn bit_offset(&self, structure: &str, path: &str) -> Option<u32> {
        let mut id = *self.structures.get(structure.as_bytes())?;
        let mut bits = 0_u32;
        let mut steps = MAX_STEPS;
        for name in path.split('.') {
            let (offset, member) =
                self.member(self.resolve(id)?, name.as_bytes(), 0, &mut steps)?;
            bits = bits.checked_add(offset)?;
            id = member;
        }
        Some(bits)
    }

    /// Whether there is a typedef or function of this name.
    #[must_use]
    pub fn has(&self, kind: Kind, name: &str) -> bool {
        self.starts.iter().skip(1).any(|&start| {
            self.type_at(start as usize)
                .is_some_and(|ty| ty.kind == kind as u32 && self.is_named(ty.name, name.as_bytes()))
        })
    }

    /// Offset in bits and type of the named member.
    fn member(&self, ty: Type, name: &[u8], depth: u32, steps: &mut u32) -> Option<(u32, u32)> {
        if depth > MAX_DEPTH || !matches!(ty.kind, STRUCT | UNION) {
            return None;
        }
        for i in 0..ty.members as usize {
            *steps = steps.checked_sub(1)?;
            let at = ty.body.checked_add(i * 12)?;
            let (member_name, id, raw) = (
                word(self.types, at)?,
                word(self.types, at + 4)?,
                word(self.types, at + 8)?,
            );
            let offset = if ty.bitfields { raw & 0x00ff_ffff } else { raw };
            if member_name == 0 {
                let inner = self
                    .resolve(id)
                    .and_then(|inner| self.member(inner, name, depth + 1, steps));
                if let Some((inner_offset, found)) = inner {
                    return Some((offset.checked_add(inner_offset)?, found));
                }
            } else if self.is_named(member_name, name) {
                return Some((offset, id));
            }
        }
        None
    }

    /// The type behind typedefs and qualifiers.
    fn resolve(&self, mut id: u32) -> Option<Type> {
        for _ in 0..MAX_DEPTH {
            let start = *self.starts.get(id as usize).filter(|_| id != 0)?;
            let ty = self.type_at(start as usize)?;
            match ty.kind {
                8..=11 | 18 => id = ty.refers,
                _ => return Some(ty),
            }
        }
        None
    }

    fn type_at(&self, at: usize) -> Option<Type> {
        let info = word(self.types, at.checked_add(4)?)?;
        Some(Type {
            name: word(self.types, at)?,
            kind: (info >> 24) & 0x1f,
            members: info & 0xffff,
            bitfields: info >> 31 == 1,
            refers: word(self.types, at.checked_add(8)?)?,
            body: at.checked_add(12)?,
        })
    }

    /// Whether the string at `offset` is `name`.
    fn is_named(&self, offset: u32, name: &[u8]) -> bool {
        let rest = self.strings.get(offset as usize..).unwrap_or_default();
        rest.strip_prefix(name)
            .is_some_and(|rest| rest.first() == Some(&0))
    }

    /// The NUL-terminated string at `offset`; empty if there is none, or none of up to [`MAX_NAME`] bytes.
    fn string(&self, offset: u32) -> &'a [u8] {
        let rest = self.strings.get(offset as usize..).unwrap_or_default();
        let end = rest.iter().take(MAX_NAME).position(|&byte| byte == 0);
        end.and_then(|end| rest.get(..end)).unwrap_or_default()
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `struct outer { int a; union { struct { int b; inner_t c; }; long d; }; int flag:3; }` with `typedef struct inner inner_t`.
    fn sample() -> Vec<u8> {
        let mut strings = vec![0_u8];
        let mut name = |text: &str| {
            let at = u32::try_from(strings.len()).unwrap();
            strings.extend_from_slice(text.as_bytes());
            strings.push(0);
            at
        };
        let mut types: Vec<u32> = vec![name("int"), 1 << 24, 4, 32];
        types.extend([name("inner"), (4 << 24) | 1, 4, name("x"), 1, 0]);
        types.extend([name("inner_t"), 8 << 24, 2]);
        types.extend([0, (4 << 24) | 2, 8, name("b"), 1, 0, name("c"), 3, 32]);
        types.extend([0, (5 << 24) | 2, 8, 0, 4, 0, name("d"), 1, 0]);
        types.extend([name("outer"), (1 << 31) | (4 << 24) | 3, 16]);
        types.extend([name("a"), 1, 0, 0, 5, 64, name("flag"), 1, (3 << 24) | 129]);
        types.extend([name("btf_trace_x"), 8 << 24, 1]);
        let types: Vec<u8> = types.into_iter().flat_map(u32::to_ne_bytes).collect();
        let mut bytes = MAGIC.to_ne_bytes().to_vec();
        bytes.extend([1, 0]);
        let (types_len, strings_len) = (types.len() as u32, strings.len() as u32);
        for field in [24, 0, types_len, types_len, strings_len] {
            bytes.extend(field.to_ne_bytes());
        }
        bytes.extend(types);
        bytes.extend(strings);
        bytes
    }

    #[test]
    fn members_are_found_through_anonymous_unions_and_typedefs() {
        let bytes = sample();
        let btf = Btf::parse(&bytes).unwrap();
        assert_eq!(btf.offset("outer", "a"), Some(0));
        assert_eq!(btf.offset("outer", "b"), Some(8));
        assert_eq!(btf.offset("outer", "c.x"), Some(12));
        assert_eq!(btf.offset("outer", "d"), Some(8));
    }

    #[test]
    fn what_is_not_there_or_not_at_a_byte_has_no_offset() {
        let bytes = sample();
        let btf = Btf::parse(&bytes).unwrap();
        for (structure, path) in [
            ("outer", "flag"),
            ("outer", "e"),
            ("other", "a"),
            ("outer", "a.b"),
            ("outer", ""),
        ] {
            assert_eq!(btf.offset(structure, path), None, "{structure}.{path}");
        }
        assert!(btf.has(Kind::Typedef, "btf_trace_x"));
        assert!(!btf.has(Kind::Func, "btf_trace_x"));
    }

    #[test]
    fn a_name_without_its_end_is_none() {
        let mut bytes = sample();
        // The last name of the section is that of the typedef; the section ends one byte early.
        let at = bytes.len() - 1;
        bytes.truncate(at);
        let strings_len = u32::from_ne_bytes(*bytes[20..].first_chunk().unwrap()) - 1;
        bytes[20..24].copy_from_slice(&strings_len.to_ne_bytes());
        assert!(
            !Btf::parse(&bytes)
                .unwrap()
                .has(Kind::Typedef, "btf_trace_x")
        );
        // Now that of a structure.
        let typedef = bytes.len() - strings_len as usize - 12;
        bytes[typedef + 4..typedef + 8].copy_from_slice(&(STRUCT << 24).to_ne_bytes());
        let btf = Btf::parse(&bytes).unwrap();
        assert!(!btf.structures.contains_key(&b"btf_trace_x"[..]));
    }

    #[test]
    fn every_prefix_is_refused_or_read_without_panic() {
        let bytes = sample();
        for end in 0..bytes.len() {
            assert!(Btf::parse(&bytes[..end]).is_err(), "{end}");
        }
    }

    proptest! {
        #[test]
        fn changed_bytes_never_panic(at in 0_usize..400, value in any::<u8>(), more in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut bytes = sample();
            let len = bytes.len();
            bytes[at % len] = value;
            bytes.extend(more);
            if let Ok(btf) = Btf::parse(&bytes) {
                let offset = btf.offset("outer", "c.x");
                prop_assert!(offset.is_none_or(|offset| offset < 1 << 29));
                prop_assert!(!btf.has(Kind::Func, "no such function"));
            }
        }
    }
}
