//! RE2's syntax (<https://github.com/google/re2/wiki/Syntax>) as Go's `regexp` reads it, into the form that automata are made of.
//!
//! It differs from that of Rust's `regex` where it matters here: `\w`, `\d`, `\s` and `\b` are ASCII, a brace that begins no count
//! stands for itself, `\Q…\E` quotes. Greediness and groups are read, but say nothing about whether a text matches.

use regex_syntax::hir::{ClassUnicode, ClassUnicodeRange, Dot, Hir, Look, Repetition};

use super::class;

/// The most that a count in braces says, also multiplied with those around it; as in RE2.
const REPEATS_MAX: u32 = 1000;

/// Within so many bytes a count in braces ends.
const COUNT_BYTES_MAX: usize = 32;

/// How deep operators may lie in each other.
const DEPTH_MAX: u32 = 100;

/// Ranges of characters in all classes together; `\pL` has some 650.
const RANGES_MAX: usize = 1 << 16;

/// Why a text is no expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SyntaxError {
    /// A parenthesis without its partner.
    #[error("a parenthesis has no partner")]
    Parenthesis,
    /// `[a`
    #[error("a class is not closed with `]`")]
    Bracket,
    /// A class or range that does not exist.
    #[error("`{0}` is no class or range of characters")]
    Class(String),
    /// A backslash before something that it gives no meaning, or before nothing.
    #[error("`\\{0}` means nothing")]
    Escape(String),
    /// `*` at the start.
    #[error("`{0}` repeats nothing")]
    RepeatsNothing(char),
    /// `a**`
    #[error("`{0}` repeats a repetition")]
    RepeatsRepetition(char),
    /// `a{1001}`
    #[error(
        "a count is above {REPEATS_MAX}, alone or multiplied with those around it, or its bounds are reversed"
    )]
    Count,
    /// `(?x)`
    #[error("`(?{0}` begins no group that is known")]
    Group(String),
    /// A group's name with other characters than letters, digits and underscores.
    #[error("`{0}` is no name of a group")]
    GroupName(String),
    /// Too deep.
    #[error("operators lie more than {DEPTH_MAX} deep in each other")]
    Depth,
    /// Too many characters in classes.
    #[error("its classes have too many ranges of characters")]
    Ranges,
}

/// Reads an expression.
pub(super) fn parse(text: &str) -> Result<Hir, SyntaxError> {
    let mut parser = Parser {
        rest: text,
        flags: Flags::default(),
        group: Group::default(),
        around: Vec::new(),
        ranges: 0,
    };
    parser.all()?;
    Ok(parser.group.finish()?.hir)
}

/// Flags that say which texts match.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flags {
    /// `i`: case does not matter.
    pub ignore_case: bool,
    /// `m`: `^` and `$` are the ends of lines too.
    multi_line: bool,
    /// `s`: `.` is a line feed too.
    dot_is_all: bool,
}

/// Part of an expression.
#[derive(Debug)]
struct Part {
    hir: Hir,
    /// The largest product of counts on a way to a leaf.
    repeats: u32,
    depth: u32,
}

impl Part {
    const fn of(hir: Hir) -> Self {
        Self {
            hir,
            repeats: 1,
            depth: 1,
        }
    }

    /// What `make` makes of several, one level above them.
    fn above(parts: Vec<Self>, make: fn(Vec<Hir>) -> Hir) -> Result<Self, SyntaxError> {
        let repeats = parts.iter().map(|part| part.repeats).max().unwrap_or(1);
        let below = parts.iter().map(|part| part.depth).max().unwrap_or(0);
        let depth = if parts.len() == 1 { below } else { below + 1 };
        if depth > DEPTH_MAX {
            return Err(SyntaxError::Depth);
        }
        Ok(Self {
            hir: make(parts.into_iter().map(|part| part.hir).collect()),
            repeats,
            depth,
        })
    }
}

/// What stands in one pair of parentheses so far.
#[derive(Debug, Default)]
struct Group {
    alternatives: Vec<Part>,
    sequence: Vec<Part>,
    /// Those around it, which hold again behind it.
    flags: Flags,
}

impl Group {
    fn alternative(&mut self) -> Result<(), SyntaxError> {
        let sequence = std::mem::take(&mut self.sequence);
        self.alternatives.push(Part::above(sequence, Hir::concat)?);
        Ok(())
    }

    fn finish(mut self) -> Result<Part, SyntaxError> {
        self.alternative()?;
        Part::above(self.alternatives, Hir::alternation)
    }
}

struct Parser<'a> {
    rest: &'a str,
    flags: Flags,
    group: Group,
    /// Groups that are still open around the current one, the outermost first.
    around: Vec<Group>,
    ranges: usize,
}

impl Parser<'_> {
    fn all(&mut self) -> Result<(), SyntaxError> {
        let mut after_repetition = false;
        while let Some(c) = self.next() {
            let mut is_repetition = false;
            match c {
                '(' => self.open()?,
                ')' => self.close()?,
                '|' => self.group.alternative()?,
                '^' if self.flags.multi_line => self.look(Look::StartLF),
                '^' => self.look(Look::Start),
                '$' if self.flags.multi_line => self.look(Look::EndLF),
                '$' => self.look(Look::End),
                '.' if self.flags.dot_is_all => self.push(Hir::dot(Dot::AnyChar)),
                '.' => self.push(Hir::dot(Dot::AnyCharExceptLF)),
                '[' => {
                    let class = class::bracketed(&mut self.rest, self.flags)?;
                    self.class(class)?;
                }
                '*' | '+' | '?' => {
                    let (min, max) = match c {
                        '*' => (0, None),
                        '+' => (1, None),
                        _ => (0, Some(1)),
                    };
                    self.repeat(c, min, max, false, after_repetition)?;
                    is_repetition = true;
                }
                '{' => match self.count()? {
                    Some((min, max)) => {
                        self.repeat(c, min, max, true, after_repetition)?;
                        is_repetition = true;
                    }
                    None => self.literal(c)?,
                },
                '\\' => self.escape()?,
                c => self.literal(c)?,
            }
            after_repetition = is_repetition;
        }
        if self.around.is_empty() {
            Ok(())
        } else {
            Err(SyntaxError::Parenthesis)
        }
    }

    fn next(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let next = chars.next();
        self.rest = chars.as_str();
        next
    }

    fn skip(&mut self, text: &str) -> bool {
        let rest = self.rest.strip_prefix(text);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn push(&mut self, hir: Hir) {
        self.group.sequence.push(Part::of(hir));
    }

    fn look(&mut self, look: Look) {
        self.push(Hir::look(look));
    }

    fn literal(&mut self, c: char) -> Result<(), SyntaxError> {
        if self.flags.ignore_case {
            let mut class = ClassUnicode::new([ClassUnicodeRange::new(c, c)]);
            class::fold(&mut class);
            return self.class(class);
        }
        self.push(Hir::literal(c.encode_utf8(&mut [0; 4]).as_bytes()));
        Ok(())
    }

    fn class(&mut self, class: ClassUnicode) -> Result<(), SyntaxError> {
        self.ranges += class.ranges().len();
        if self.ranges > RANGES_MAX {
            return Err(SyntaxError::Ranges);
        }
        self.push(Hir::class(regex_syntax::hir::Class::Unicode(class)));
        Ok(())
    }

    fn escape(&mut self) -> Result<(), SyntaxError> {
        if let Some(class) = class::escaped(&mut self.rest, self.flags)? {
            return self.class(class);
        }
        match self.rest.chars().next() {
            Some('A') => self.look(Look::Start),
            Some('z') => self.look(Look::End),
            Some('b') => self.look(Look::WordAscii),
            Some('B') => self.look(Look::WordAsciiNegate),
            Some('Q') => {
                let quoted = self.rest.get(1..).unwrap_or_default();
                let (quoted, rest) = quoted.split_once(r"\E").unwrap_or((quoted, ""));
                self.rest = rest;
                return quoted.chars().try_for_each(|c| self.literal(c));
            }
            _ => {
                let c = class::character(&mut self.rest)?;
                return self.literal(c);
            }
        }
        self.next();
        Ok(())
    }

    /// Behind an opening parenthesis.
    fn open(&mut self) -> Result<(), SyntaxError> {
        let mut inside = self.flags;
        if self.skip("?P<") || self.skip("?<") {
            let (name, rest) = self
                .rest
                .split_once('>')
                .ok_or_else(|| SyntaxError::GroupName(self.rest.to_owned()))?;
            let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if name.is_empty() || !name.chars().all(is_word) {
                return Err(SyntaxError::GroupName(name.to_owned()));
            }
            self.rest = rest;
        } else if self.skip("?") {
            let start = self.rest;
            let (mut on, mut seen) = (true, true);
            loop {
                let flag = self.next();
                match flag {
                    Some('i') => inside.ignore_case = on,
                    Some('m') => inside.multi_line = on,
                    Some('s') => inside.dot_is_all = on,
                    Some('U') => {}
                    Some('-') if on => {
                        (on, seen) = (false, false);
                        continue;
                    }
                    Some(':') if seen => break,
                    Some(')') if seen => {
                        self.flags = inside;
                        return Ok(());
                    }
                    _ => {
                        let read = start.len() - self.rest.len();
                        let read = start.get(..read).unwrap_or(start);
                        return Err(SyntaxError::Group(read.to_owned()));
                    }
                }
                seen = true;
            }
        }
        let inner = Group {
            flags: self.flags,
            ..Group::default()
        };
        self.around.push(std::mem::replace(&mut self.group, inner));
        self.flags = inside;
        Ok(())
    }

    fn close(&mut self) -> Result<(), SyntaxError> {
        let outer = self.around.pop().ok_or(SyntaxError::Parenthesis)?;
        let inner = std::mem::replace(&mut self.group, outer);
        self.flags = inner.flags;
        self.group.sequence.push(inner.finish()?);
        Ok(())
    }

    /// Behind a brace: the bounds of a count and the closing brace, or nothing.
    fn count(&mut self) -> Result<Option<(u32, Option<u32>)>, SyntaxError> {
        // Not to the end of the text for each brace.
        let near = self.rest.bytes().take(COUNT_BYTES_MAX);
        let Some((inside, rest)) = near.enumerate().find_map(|(at, byte)| {
            let (inside, rest) = self.rest.split_at_checked(at)?;
            (byte == b'}').then_some((inside, rest.strip_prefix('}')?))
        }) else {
            return Ok(None);
        };
        let (min, max) = match inside.split_once(',') {
            Some((min, max)) => (min, Some(max)),
            None => (inside, None),
        };
        let is_number = |text: &str| {
            text.bytes().all(|b| b.is_ascii_digit())
                && !text.is_empty()
                && (text.len() == 1 || !text.starts_with('0'))
        };
        if !is_number(min) || !max.is_none_or(|max| max.is_empty() || is_number(max)) {
            return Ok(None);
        }
        self.rest = rest;
        let number = |text: &str| {
            let number = text.parse().ok().filter(|number| *number <= REPEATS_MAX);
            number.ok_or(SyntaxError::Count)
        };
        let min = number(min)?;
        let max = match max {
            None => Some(min),
            Some("") => None,
            Some(max) => Some(number(max)?),
        };
        if max.is_some_and(|max| max < min) {
            return Err(SyntaxError::Count);
        }
        Ok(Some((min, max)))
    }

    fn repeat(
        &mut self,
        operator: char,
        min: u32,
        max: Option<u32>,
        is_count: bool,
        after_repetition: bool,
    ) -> Result<(), SyntaxError> {
        let greedy = !self.skip("?");
        if after_repetition {
            return Err(SyntaxError::RepeatsRepetition(operator));
        }
        let part = self.group.sequence.pop();
        let part = part.ok_or(SyntaxError::RepeatsNothing(operator))?;
        let repeats = match max {
            _ if !is_count => part.repeats,
            // Nothing of what is never there counts.
            Some(0) => 1,
            _ => part.repeats * max.unwrap_or(min).max(1),
        };
        if repeats > REPEATS_MAX {
            return Err(SyntaxError::Count);
        }
        let depth = part.depth + 1;
        if depth > DEPTH_MAX {
            return Err(SyntaxError::Depth);
        }
        let hir = Hir::repetition(Repetition {
            min,
            max,
            greedy,
            sub: Box::new(part.hir),
        });
        self.group.sequence.push(Part {
            hir,
            repeats,
            depth,
        });
        Ok(())
    }
}
