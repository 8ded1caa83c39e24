//! Type information of a kernel: every question has the answer that a second, simpler reader finds, wherever the sections stand.

use netflume_core::decode::btf::{Btf, Kind};

/// Names that are asked for, of those in the bytes.
const NAMES_MAX: usize = 12;

/// Asks for all pairs of some names.
pub fn btf(data: &[u8]) {
    let (Ok(btf), Some(sections)) = (Btf::parse(data), Sections::of(data)) else {
        return;
    };
    let moved = sections.moved();
    let elsewhere = Btf::parse(&moved).expect("the same sections");
    let names = sections.names();
    for structure in &names {
        for member in names
            .iter()
            .flat_map(|name| [name.to_string(), format!("{name}.b")])
        {
            let offset = btf.offset(structure, &member);
            assert_eq!(
                offset,
                elsewhere.offset(structure, &member),
                "{structure} {member}"
            );
            // A dot leads into a member, whatever a name in the bytes has.
            let direct = (!member.contains('.')).then(|| sections.direct(structure, &member));
            if let Some(bits) = direct.flatten() {
                let expected = bits.is_multiple_of(8).then_some(bits / 8);
                assert_eq!(offset, expected, "{structure} {member}");
            }
        }
        for (kind, number) in [(Kind::Typedef, 8), (Kind::Func, 12)] {
            let has = btf.has(kind, structure);
            assert_eq!(
                has,
                sections
                    .types()
                    .any(|ty| ty.kind == number && sections.is(ty.name, structure))
            );
        }
    }
}

/// The two sections (Documentation/bpf/btf.rst of the kernel).
struct Sections<'a> {
    types: &'a [u8],
    strings: &'a [u8],
}

struct Type {
    kind: u32,
    name: u32,
    members: u32,
    /// Members carry sizes of bit fields in the top byte of their offsets.
    bitfields: bool,
    /// Where members stand.
    body: usize,
}

impl<'a> Sections<'a> {
    fn of(data: &'a [u8]) -> Option<Self> {
        let length = word(data, 4)? as usize;
        let section = |at: usize| {
            let (offset, size) = (word(data, at)? as usize, word(data, at + 4)? as usize);
            data.get(length.checked_add(offset)?..)?.get(..size)
        };
        Some(Self {
            types: section(8)?,
            strings: section(16)?,
        })
    }

    /// The same sections in the other order, behind a longer header.
    fn moved(&self) -> Vec<u8> {
        let words = [
            32,
            self.strings.len(),
            self.types.len(),
            0,
            self.strings.len(),
            0,
            0,
        ];
        let mut moved = 0xeb9f_u16.to_ne_bytes().to_vec();
        moved.extend([1, 0]);
        for word in words {
            moved.extend(u32::try_from(word).unwrap_or(u32::MAX).to_ne_bytes());
        }
        moved.extend(self.strings);
        moved.extend(self.types);
        moved
    }

    fn names(&self) -> Vec<&'a str> {
        // What follows the last NUL is no name.
        let end = self.strings.iter().rposition(|byte| *byte == 0);
        let names = self.strings.split_at(end.unwrap_or_default()).0;
        let names = names.split(|byte| *byte == 0);
        let names = names.filter_map(|name| std::str::from_utf8(name).ok());
        let plain =
            names.filter(|name| !name.is_empty() && name.len() < 100 && !name.contains('.'));
        plain.take(NAMES_MAX).collect()
    }

    fn is(&self, at: u32, name: &str) -> bool {
        let rest = self.strings.get(at as usize..).unwrap_or_default();
        let end = rest.iter().position(|byte| *byte == 0);
        end.is_some_and(|end| rest.split_at(end).0 == name.as_bytes())
    }

    fn types(&self) -> impl Iterator<Item = Type> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let (name, info) = (word(self.types, at)?, word(self.types, at + 4)?);
            let (kind, members) = (info >> 24 & 0x1f, info & 0xffff);
            let body = at + 12;
            let each = match kind {
                4 | 5 | 15 | 19 => 12,
                6 | 13 => 8,
                _ => 0,
            };
            let fixed = match kind {
                1 | 14 | 17 => 4,
                3 => 12,
                _ => 0,
            };
            at = body + fixed + each * members as usize;
            Some(Type {
                kind,
                name,
                members,
                bitfields: info >> 31 == 1,
                body,
            })
        })
    }

    /// Offset in bits of a member of the first structure of that name, if no anonymous member stands before it.
    fn direct(&self, structure: &str, member: &str) -> Option<u32> {
        let ty = self
            .types()
            .find(|ty| ty.kind == 4 && ty.name != 0 && self.is(ty.name, structure))?;
        for at in (0..ty.members as usize).map(|n| ty.body + 12 * n) {
            let (name, offset) = (word(self.types, at)?, word(self.types, at + 8)?);
            if name == 0 {
                return None;
            }
            if self.is(name, member) {
                return Some(if ty.bitfields {
                    offset & 0xff_ffff
                } else {
                    offset
                });
            }
        }
        None
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}
