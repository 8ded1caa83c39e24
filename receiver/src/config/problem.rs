//! What is wrong with a configuration, one line each.

use std::fmt;

use crate::config::expand::ExpandError;
use crate::config::tree::Position;
use crate::config::value::{Allowed, Mismatch};

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file as it was named, or the environment variable.
    pub source: String,
    /// Where in the file; `None` for variables.
    pub position: Option<Position>,
    /// The key's path, `receivers.ebpf.interval`; empty for the whole file.
    pub path: String,
    /// What is wrong.
    pub cause: Cause,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Not YAML.
    Syntax(String),
    /// No such key.
    UnknownKey {
        /// The most similar key of this level.
        nearest: Option<String>,
        /// All keys of this level.
        allowed: Vec<&'static str>,
    },
    /// The key stands there twice.
    Repeated,
    /// A key that is known and deliberately not there; the text says why.
    NotHere(&'static str),
    /// A wrong value.
    Value(Mismatch),
    /// Not a map where keys are expected.
    NotAMap {
        /// What was found.
        found: String,
        /// The keys of this level.
        allowed: Vec<&'static str>,
    },
    /// A variable that cannot be expanded.
    Expand(ExpandError),
    /// Two settings that do not go together, or one that is missing; the text says what to do.
    Conflict(String),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)?;
        if let Some(Position { line, column }) = self.position {
            write!(f, ":{line}:{column}")?;
        }
        if !self.path.is_empty() {
            write!(f, ": {}", self.path)?;
        }
        f.write_str(": ")?;
        match &self.cause {
            Cause::Syntax(message) => write!(f, "not valid YAML: {message}"),
            Cause::UnknownKey {
                nearest: Some(nearest),
                ..
            } => write!(f, "unknown key, did you mean `{nearest}`?"),
            Cause::UnknownKey { allowed, .. } => {
                write!(f, "unknown key, allowed are {}", allowed.join(", "))
            }
            Cause::Repeated => f.write_str("the key stands here a second time"),
            Cause::NotHere(why) => f.write_str(why),
            Cause::Value(Mismatch {
                found,
                allowed,
                nearest,
                ..
            }) => {
                match allowed {
                    Allowed::OneOf(_) => write!(f, "found {found}, allowed are {allowed}")?,
                    Allowed::Form(_) => write!(f, "found {found}, allowed is {allowed}")?,
                    Allowed::Reason(why) => f.write_str(why)?,
                }
                match nearest {
                    Some(nearest) => write!(f, " (did you mean `{nearest}`?)"),
                    None => Ok(()),
                }
            }
            Cause::NotAMap { found, allowed } => {
                write!(
                    f,
                    "found {found}, allowed is a map with {}",
                    allowed.join(", ")
                )
            }
            Cause::Expand(error) => write!(f, "{error}"),
            Cause::Conflict(text) => f.write_str(text),
        }
    }
}
