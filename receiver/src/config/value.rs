//! A [`Node`] into a value of its type, and back into text: what a setting accepts, and how it is written.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::tree::Node;
use crate::config::units::{parse_duration, parse_size, show_duration, show_size, show_text};

/// Bounds and form of a setting's value.
#[derive(Clone, Copy, Debug)]
pub enum Limits {
    /// Whatever the type allows.
    Any,
    /// A whole number, both ends allowed.
    Count(u64, u64),
    /// Bytes, both ends allowed; written as `64MiB`.
    Size(u64, u64),
    /// A number, both ends allowed.
    Real(f64, f64),
    /// A duration, both ends allowed.
    Duration(Duration, Duration),
    /// Text that the function accepts, and what it accepts in words.
    Text(fn(&str) -> bool, &'static str),
}

/// What a setting takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// Anything of this form, in words.
    Form(String),
    /// Not this; the words say what is wrong with it.
    Reason(String),
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OneOf(words) => f.write_str(&words.join(", ")),
            Self::Form(text) | Self::Reason(text) => f.write_str(text),
        }
    }
}

impl From<String> for Allowed {
    fn from(form: String) -> Self {
        Self::Form(form)
    }
}

impl From<&str> for Allowed {
    fn from(form: &str) -> Self {
        Self::Form(form.to_owned())
    }
}

/// A value that does not fit: what was found and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// As [`Node::found`] says it.
    pub found: String,
    /// What would fit.
    pub allowed: Allowed,
    /// The nearest allowed value.
    pub nearest: Option<String>,
    /// Where inside the value: names or numbers of entries, outermost first. Empty: the value itself.
    pub inside: Vec<usize>,
    /// It is the name of the innermost entry that does not fit, not its value.
    pub at_key: bool,
}

impl Mismatch {
    /// Of `node`, where `allowed` was expected.
    #[must_use]
    pub fn of(node: &Node, allowed: impl Into<Allowed>) -> Self {
        Self {
            found: node.found(),
            allowed: allowed.into(),
            nearest: None,
            inside: Vec::new(),
            at_key: false,
        }
    }

    /// The same, of the n-th entry of the value.
    #[must_use]
    pub fn at(mut self, n: usize) -> Self {
        self.inside.insert(0, n);
        self
    }
}

/// What is allowed within the limits, or `otherwise`.
fn form(limits: &Limits, otherwise: &str) -> Allowed {
    Allowed::Form(match limits {
        Limits::Any => otherwise.to_owned(),
        Limits::Count(low, high) => format!("a whole number from {low} to {high}"),
        Limits::Size(low, high) => {
            format!("a size from {} to {}", show_size(*low), show_size(*high))
        }
        Limits::Real(low, high) => format!("a number from {low} to {high}"),
        Limits::Duration(low, high) => format!(
            "a duration from {} to {}{}",
            show_duration(*low),
            show_duration(*high),
            examples(*low, *high)
        ),
        Limits::Text(_, words) => (*words).to_owned(),
    })
}

/// Durations that would be taken, one for each way to write them.
fn examples(low: Duration, high: Duration) -> String {
    let allowed: Vec<_> = ["200ms", "15s", "1h30m"]
        .into_iter()
        .filter(|text| parse_duration(text).is_some_and(|d| (low..=high).contains(&d)))
        .map(|text| format!("`{text}`"))
        .collect();
    match allowed.as_slice() {
        [] => String::new(),
        [one] => format!(", such as {one}"),
        [first @ .., last] => format!(", such as {} or {last}", first.join(", ")),
    }
}

/// A value that a configuration key sets.
pub trait Setting {
    /// Takes the node's value.
    ///
    /// # Errors
    /// The node is of another type, or outside the limits; the old value stays.
    fn set(&mut self, node: &Node, limits: &Limits) -> Result<(), Mismatch>;

    /// The value as YAML (in flow style, on one line), or `None` where nothing is set.
    fn show(&self, limits: &Limits) -> Option<String>;

    /// What is allowed, in words.
    fn allowed(&self, limits: &Limits) -> Allowed;
}

impl Setting for bool {
    fn set(&mut self, node: &Node, limits: &Limits) -> Result<(), Mismatch> {
        match node.typed() {
            Node::Flag(flag) => {
                *self = flag;
                Ok(())
            }
            _ => Err(Mismatch::of(node, self.allowed(limits))),
        }
    }

    fn show(&self, _: &Limits) -> Option<String> {
        Some(self.to_string())
    }

    fn allowed(&self, _: &Limits) -> Allowed {
        Allowed::OneOf(&["true", "false"])
    }
}

/// A whole number or a size in bytes, whatever its integer type.
fn whole(node: &Node, limits: &Limits) -> Option<u64> {
    let (number, low, high) = match (node.typed(), limits) {
        (Node::Whole(number), Limits::Count(low, high) | Limits::Size(low, high)) => {
            (u64::try_from(number).ok()?, *low, *high)
        }
        (Node::Text(text), Limits::Size(low, high)) => (parse_size(&text)?, *low, *high),
        (Node::Whole(number), _) => (u64::try_from(number).ok()?, 0, u64::MAX),
        _ => return None,
    };
    (low..=high).contains(&number).then_some(number)
}

macro_rules! whole_number {
    ($($type:ty),*) => {$(
        impl Setting for $type {
            fn set(&mut self, node: &Node, limits: &Limits) -> Result<(), Mismatch> {
                let number = whole(node, limits).and_then(|number| Self::try_from(number).ok());
                *self = number.ok_or_else(|| Mismatch::of(node, self.allowed(limits)))?;
                Ok(())
            }

            fn show(&self, limits: &Limits) -> Option<String> {
                Some(match limits {
                    Limits::Size(..) => u64::try_from(*self).map_or_else(|_| self.to_string(), show_size),
                    _ => self.to_string(),
                })
            }

            fn allowed(&self, limits: &Limits) -> Allowed {
                form(limits, "a whole number")
            }
        }
    )*};
}
whole_number!(u16, u32, u64, usize);

impl Setting for f64 {
    #[expect(
        clippy::cast_precision_loss,
        reason = "a whole number in a configuration file is small"
    )]
    fn set(&mut self, node: &Node, limits: &Limits) -> Result<(), Mismatch> {
        let number = match node.typed() {
            Node::Whole(number) => Some(number as Self),
            Node::Real(number) => Some(number),
            _ => None,
        };
        let (low, high) = match limits {
            Limits::Real(low, high) => (*low, *high),
            _ => (Self::MIN, Self::MAX),
        };
        *self = number
            .filter(|number| (low..=high).contains(number))
            .ok_or_else(|| Mismatch::of(node, self.allowed(limits)))?;
        Ok(())
    }

    fn show(&self, _: &Limits) -> Option<String> {
        Some(self.to_string())
    }

    fn allowed(&self, limits: &Limits) -> Allowed {
        form(limits, "a number")
    }
}

impl Setting for Duration {
    fn set(&mut self, node: &Node, limits: &Limits) -> Result<(), Mismatch> {
        let duration = match node.typed() {
            Node::Text(text) => parse_duration(&text),
            Node::Whole(0) => Some(Self::ZERO),
            _ => None,
        };
        let (low, high) = match limits {
            Limits::Duration(low, high) => (*low, *high),
            _ => (Self::ZERO, Self::MAX),
        };
        *self = duration
            .filter(|duration| (low..=high).contains(duration))
            .ok_or_else(|| Mismatch::of(node, self.allowed(limits)))?;
        Ok(())
    }

    fn show(&self, _: &Limits) -> Option<String> {
        Some(show_duration(*self))
    }

    fn allowed(&self, limits: &Limits) -> Allowed {
        form(limits, "a duration such as `15s`, `1h30m` or `200ms`")
    }
}

/// The text of a scalar that is text; numbers and booleans are to be quoted, so that `1.10` stays what was written.
fn text<'n>(node: &'n Node, limits: &Limits) -> Result<&'n str, Mismatch> {
    let (Node::Text(text) | Node::Variable(text)) = node else {
        let quotes = match node {
            Node::Flag(_) | Node::Whole(_) | Node::Real(_) => " (in quotes)",
            _ => "",
        };
        return Err(Mismatch::of(
            node,
            format!("{}{quotes}", form(limits, "text")),
        ));
    };
    match limits {
        Limits::Text(accepts, _) if !accepts(text) => Err(Mismatch::of(node, form(limits, "text"))),
        _ => Ok(text),
    }
}

impl Setting for String {
    fn set(&mut self, node: &Node, limits: &Limits) -> Result<(), Mismatch> {
        text(node, limits)?.clone_into(self);
        Ok(())
    }

    fn show(&self, _: &Limits) -> Option<String> {
        Some(show_text(self))
    }

    fn allowed(&self, limits: &Limits) -> Allowed {
        form(limits, "text")
    }
}

impl Setting for PathBuf {
    fn set(&mut self, node: &Node, limits: &Limits) -> Result<(), Mismatch> {
        *self = Self::from(text(node, limits)?);
        Ok(())
    }

    fn show(&self, _: &Limits) -> Option<String> {
        Some(show_text(&self.to_string_lossy()))
    }

    fn allowed(&self, limits: &Limits) -> Allowed {
        form(limits, "a path")
    }
}

impl<T: Setting + Default> Setting for Option<T> {
    fn set(&mut self, node: &Node, limits: &Limits) -> Result<(), Mismatch> {
        let mut value = T::default();
        value.set(node, limits)?;
        *self = Some(value);
        Ok(())
    }

    fn show(&self, limits: &Limits) -> Option<String> {
        self.as_ref().and_then(|value| value.show(limits))
    }

    fn allowed(&self, limits: &Limits) -> Allowed {
        T::default().allowed(limits)
    }
}

impl Setting for Vec<String> {
    fn set(&mut self, node: &Node, limits: &Limits) -> Result<(), Mismatch> {
        let Node::List(nodes) = node else {
            return Err(Mismatch::of(node, self.allowed(limits)));
        };
        *self = nodes
            .iter()
            .enumerate()
            .map(|(n, node)| {
                text(node, limits)
                    .map(str::to_owned)
                    .map_err(|error| error.at(n))
            })
            .collect::<Result<_, _>>()?;
        Ok(())
    }

    fn show(&self, _: &Limits) -> Option<String> {
        let texts: Self = self.iter().map(|text| show_text(text)).collect();
        Some(format!("[{}]", texts.join(", ")))
    }

    fn allowed(&self, limits: &Limits) -> Allowed {
        Allowed::Form(format!("a list, each {}", form(limits, "text")))
    }
}

/// Names and values, in order.
impl Setting for Vec<(String, String)> {
    fn set(&mut self, node: &Node, limits: &Limits) -> Result<(), Mismatch> {
        let Node::Map(entries) = node else {
            return Err(Mismatch::of(node, self.allowed(limits)));
        };
        *self = entries
            .iter()
            .enumerate()
            .map(|(n, (name, node))| match text(node, limits) {
                Ok(value) => Ok((name.clone(), value.to_owned())),
                Err(error) => Err(error.at(n)),
            })
            .collect::<Result<_, _>>()?;
        Ok(())
    }

    fn show(&self, _: &Limits) -> Option<String> {
        let entries: Vec<_> = self
            .iter()
            .map(|(name, value)| format!("{}: {}", show_text(name), show_text(value)))
            .collect();
        Some(if entries.is_empty() {
            "{}".to_owned()
        } else {
            format!("{{ {} }}", entries.join(", "))
        })
    }

    fn allowed(&self, limits: &Limits) -> Allowed {
        Allowed::Form(format!(
            "a map of names, each with {}",
            form(limits, "text")
        ))
    }
}

/// Makes an enumeration a [`Setting`] with one word for each value.
macro_rules! choice {
    ($type:ty { $($variant:ident = $word:literal),* $(,)? }) => {
        impl $crate::config::value::Setting for $type {
            fn set(
                &mut self,
                node: &$crate::config::tree::Node,
                limits: &$crate::config::value::Limits,
            ) -> Result<(), $crate::config::value::Mismatch> {
                use $crate::config::{tree::Node, value};
                *self = match node {
                    $(Node::Text(word) | Node::Variable(word) if word == $word => Self::$variant,)*
                    _ => {
                        let mut error = value::Mismatch::of(node, self.allowed(limits));
                        if let Node::Text(word) | Node::Variable(word) = node {
                            error.nearest = value::nearest(word, [$($word),*]).map(str::to_owned);
                        }
                        return Err(error);
                    }
                };
                Ok(())
            }

            fn show(&self, _: &$crate::config::value::Limits) -> Option<String> {
                Some(match self { $(Self::$variant => $word),* }.to_owned())
            }

            fn allowed(&self, _: &$crate::config::value::Limits) -> $crate::config::value::Allowed {
                $crate::config::value::Allowed::OneOf(&[$($word),*])
            }
        }
    };
}
pub(crate) use choice;

/// The candidate that is most like `word`, if one is like enough to be what was meant; case does not count.
#[must_use]
pub fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let word = word.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| {
            let distance = strsim::damerau_levenshtein(&word, &candidate.to_lowercase());
            (distance, candidate)
        })
        // A third of the letters may be wrong: `intervall` is `interval`, but `lzma` is not `gzip`.
        .filter(|(distance, candidate)| *distance * 3 <= candidate.chars().count().max(3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_likely_word_is_suggested() {
        let words = ["gzip", "zstd", "none"];
        assert_eq!(nearest("gzp", words), Some("gzip"));
        assert_eq!(nearest("ZSTD", words), Some("zstd"));
        assert_eq!(nearest("lzma", words), None);
        assert_eq!(nearest("intervall", ["interval"]), Some("interval"));
    }
}
