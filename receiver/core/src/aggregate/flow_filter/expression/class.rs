//! Classes of characters, and characters behind a backslash.

use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, Hir, HirKind};

use super::syntax::{Flags, SyntaxError};

/// The names of classes in brackets are shorter.
const NAME_BYTES_MAX: usize = 16;

/// A class by its ranges.
fn ranges(ranges: &[(char, char)]) -> ClassUnicode {
    ClassUnicode::new(
        ranges
            .iter()
            .map(|&(first, last)| ClassUnicodeRange::new(first, last)),
    )
}

/// Adds the characters that differ in case only.
pub(super) fn fold(class: &mut ClassUnicode) {
    // Fails only without the tables of cases, which are built in.
    let _folded = class.try_case_fold_simple();
}

/// Takes a class behind a backslash from the start of `rest`: `d`, `pL`, `P{Greek}`. `None`: there is none.
pub(super) fn escaped(rest: &mut &str, flags: Flags) -> Result<Option<ClassUnicode>, SyntaxError> {
    let mut chars = rest.chars();
    let Some(letter) = chars.next() else {
        return Ok(None);
    };
    let mut class = match letter.to_ascii_lowercase() {
        'd' => ranges(&[('0', '9')]),
        's' => ranges(&[('\t', '\n'), ('\x0c', '\r'), (' ', ' ')]),
        'w' => ranges(&[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')]),
        'p' => {
            *rest = chars.as_str();
            return property(rest, letter == 'P', flags).map(Some);
        }
        _ => return Ok(None),
    };
    *rest = chars.as_str();
    if flags.ignore_case {
        fold(&mut class);
    }
    if letter.is_ascii_uppercase() {
        class.negate();
    }
    Ok(Some(class))
}

/// Behind `\p`: one letter, or a name in braces, which `^` negates.
fn property(rest: &mut &str, negated: bool, flags: Flags) -> Result<ClassUnicode, SyntaxError> {
    let unknown = |name: &str| SyntaxError::Class(format!("\\p{name}"));
    let (name, after) = match rest.strip_prefix('{') {
        Some(inside) => inside.split_once('}').ok_or_else(|| unknown(rest))?,
        None => {
            let letter = rest.chars().next().ok_or_else(|| unknown(""))?;
            rest.split_at(letter.len_utf8())
        }
    };
    let (name, negated) = match name.strip_prefix('^') {
        Some(name) => (name, !negated),
        None => (name, negated),
    };
    // What else stands in such braces in Rust's expressions is no name.
    let is_name = |c: char| c.is_ascii_alphabetic() || " _-".contains(c);
    if name.is_empty() || !name.chars().all(is_name) {
        return Err(unknown(name));
    }
    let mut class = match regex_syntax::parse(&format!(r"\p{{{name}}}")).map(Hir::into_kind) {
        Ok(HirKind::Class(Class::Unicode(class))) => class,
        // Surrogates stand in no text.
        Err(_) if name == "Cs" => ClassUnicode::empty(),
        // A class of one character.
        Ok(HirKind::Literal(literal)) => std::str::from_utf8(&literal.0)
            .map(|text| {
                text.chars()
                    .map(|c| ClassUnicodeRange::new(c, c))
                    .collect::<Vec<_>>()
            })
            .map(ClassUnicode::new)
            .map_err(|_| unknown(name))?,
        _ => return Err(unknown(name)),
    };
    if flags.ignore_case {
        fold(&mut class);
    }
    if negated {
        class.negate();
    }
    *rest = after;
    Ok(class)
}

/// Behind `[`, to the closing bracket.
pub(super) fn bracketed(rest: &mut &str, flags: Flags) -> Result<ClassUnicode, SyntaxError> {
    let negated = skip(rest, "^");
    let mut class = ClassUnicode::empty();
    let mut is_first = true;
    // A bracket at the start closes nothing.
    while is_first || !skip(rest, "]") {
        is_first = false;
        if let Some(named) = named(rest, flags)? {
            class.union(&named);
            continue;
        }
        if let Some(after) = rest.strip_prefix('\\') {
            let mut after = after;
            if let Some(escaped) = escaped(&mut after, flags)? {
                class.union(&escaped);
                *rest = after;
                continue;
            }
        }
        let start = *rest;
        let first = member(rest)?;
        let is_range = rest
            .strip_prefix('-')
            .is_some_and(|rest| !rest.is_empty() && !rest.starts_with(']'));
        let last = if is_range {
            skip(rest, "-");
            member(rest)?
        } else {
            first
        };
        if last < first {
            let read = start.len() - rest.len();
            return Err(SyntaxError::Class(
                start.get(..read).unwrap_or(start).to_owned(),
            ));
        }
        class.push(ClassUnicodeRange::new(first, last));
    }
    if flags.ignore_case {
        fold(&mut class);
    }
    if negated {
        class.negate();
    }
    Ok(class)
}

/// `[:alpha:]` in a class. `None`: what comes is something else.
fn named(rest: &mut &str, flags: Flags) -> Result<Option<ClassUnicode>, SyntaxError> {
    let Some(inside) = rest.strip_prefix("[:") else {
        return Ok(None);
    };
    let length = inside
        .bytes()
        .take(NAME_BYTES_MAX)
        .position(|byte| byte == b':');
    let Some((name, after)) = length.and_then(|length| {
        let (name, after) = inside.split_at_checked(length)?;
        Some((name, after.strip_prefix(":]")?))
    }) else {
        return Ok(None);
    };
    let (word, negated) = match name.strip_prefix('^') {
        Some(word) => (word, true),
        None => (name, false),
    };
    let mut class = ranges(match word {
        "alnum" => &[('0', '9'), ('A', 'Z'), ('a', 'z')],
        "alpha" => &[('A', 'Z'), ('a', 'z')],
        "ascii" => &[('\0', '\x7f')],
        "blank" => &[('\t', '\t'), (' ', ' ')],
        "cntrl" => &[('\0', '\x1f'), ('\x7f', '\x7f')],
        "digit" => &[('0', '9')],
        "graph" => &[('!', '~')],
        "lower" => &[('a', 'z')],
        "print" => &[(' ', '~')],
        "punct" => &[('!', '/'), (':', '@'), ('[', '`'), ('{', '~')],
        "space" => &[('\t', '\r'), (' ', ' ')],
        "upper" => &[('A', 'Z')],
        "word" => &[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')],
        "xdigit" => &[('0', '9'), ('A', 'F'), ('a', 'f')],
        _ => return Err(SyntaxError::Class(format!("[:{name}:]"))),
    });
    if flags.ignore_case {
        fold(&mut class);
    }
    if negated {
        class.negate();
    }
    *rest = after;
    Ok(Some(class))
}

/// One character of a class.
fn member(rest: &mut &str) -> Result<char, SyntaxError> {
    let mut chars = rest.chars();
    let c = chars.next().ok_or(SyntaxError::Bracket)?;
    *rest = chars.as_str();
    if c == '\\' { character(rest) } else { Ok(c) }
}

/// Takes what stands behind a backslash for one character: `n`, `x41`, `x{1F600}`, `101`, `.`
pub(super) fn character(rest: &mut &str) -> Result<char, SyntaxError> {
    let start = *rest;
    let wrong = || SyntaxError::Escape(start.chars().take(8).collect());
    let mut chars = rest.chars();
    let c = chars.next().ok_or_else(wrong)?;
    *rest = chars.as_str();
    match c {
        'a' => Ok('\x07'),
        'f' => Ok('\x0c'),
        'n' => Ok('\n'),
        'r' => Ok('\r'),
        't' => Ok('\t'),
        'v' => Ok('\x0b'),
        'x' => hexadecimal(rest).ok_or_else(wrong),
        '0'..='7' => {
            let more = rest
                .bytes()
                .take(2)
                .take_while(|b| (b'0'..=b'7').contains(b))
                .count();
            // A single digit but zero would be a reference to a group.
            if c != '0' && more == 0 {
                return Err(wrong());
            }
            *rest = rest.get(more..).unwrap_or_default();
            let digits = start.get(..=more).unwrap_or_default();
            u32::from_str_radix(digits, 8)
                .ok()
                .and_then(char::from_u32)
                .ok_or_else(wrong)
        }
        c if c.is_ascii() && !c.is_ascii_alphanumeric() => Ok(c),
        _ => Err(wrong()),
    }
}

/// Behind `\x`: two digits, or any number of them in braces.
fn hexadecimal(rest: &mut &str) -> Option<char> {
    let (digits, after) = match rest.strip_prefix('{') {
        Some(inside) => inside.split_once('}')?,
        None => rest.split_at_checked(2)?,
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    *rest = after;
    let significant = digits.trim_start_matches('0');
    let number = if significant.is_empty() {
        0
    } else {
        u32::from_str_radix(significant, 16).ok()?
    };
    char::from_u32(number)
}

fn skip(rest: &mut &str, text: &str) -> bool {
    let after = rest.strip_prefix(text);
    *rest = after.unwrap_or(rest);
    after.is_some()
}
