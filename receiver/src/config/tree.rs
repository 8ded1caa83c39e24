//! YAML text into a tree of [`Node`]s, and the path of a node back into its line and column.
//!
//! Both come from one parser. The tree is built without positions; when a problem is to be reported, [`locate`] walks the same
//! text again with a visitor that gives up exactly at the node in question, and the parser says where that was.

use std::cell::Cell;
use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error as _, IgnoredAny, MapAccess, SeqAccess,
    Visitor,
};

/// One value of a configuration file.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// Nothing: `key:`, `~`, `null`.
    Null,
    /// `true` or `false`.
    Flag(bool),
    /// A whole number.
    Whole(i128),
    /// Any other number.
    Real(f64),
    /// Text.
    Text(String),
    /// Text from the environment (`${env:NAME}` alone in a value): it has no type of its own, it may be text or number.
    Variable(String),
    /// A list.
    List(Vec<Self>),
    /// Keys and values in the order of the file; a key may stand there twice.
    Map(Vec<(String, Self)>),
}

impl Node {
    /// The same with its type guessed as YAML would, if it came from the environment.
    #[must_use]
    pub fn typed(&self) -> Self {
        match self {
            Self::Variable(text) => {
                match serde_yaml::Deserializer::from_str(text).deserialize_any(Build) {
                    Ok(scalar @ (Self::Flag(_) | Self::Whole(_) | Self::Real(_))) => scalar,
                    _ => Self::Text(text.clone()),
                }
            }
            other => other.clone(),
        }
    }

    /// What a message says was found.
    #[must_use]
    pub fn found(&self) -> String {
        match self {
            Self::Null => "nothing".to_owned(),
            Self::Flag(flag) => format!("`{flag}`"),
            Self::Whole(number) => format!("`{number}`"),
            Self::Real(number) => format!("`{number}`"),
            Self::Text(text) | Self::Variable(text) => {
                let mut shown: String = text.chars().take(60).collect();
                if shown.len() < text.len() {
                    shown.push('…');
                }
                format!("`{}`", shown.escape_debug())
            }
            Self::List(_) => "a list".to_owned(),
            Self::Map(_) => "a map".to_owned(),
        }
    }
}

/// One step from a node to something inside it; numbers count entries from zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// To the name of the n-th entry of a map.
    Key(usize),
    /// To the value of the n-th entry of a map, or to the n-th element of a list.
    Value(usize),
}

/// Line and column, both from 1; columns count characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

/// The text is not YAML, or uses a part of YAML that has no meaning here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// Where, if the parser told.
    pub position: Option<Position>,
    /// What the parser said.
    pub message: String,
}

/// Parses one YAML document. An empty one is [`Node::Null`].
///
/// # Errors
/// The first place where the text is not YAML, has a tag, or nests deeper than 128 levels.
pub fn parse(text: &str) -> Result<Node, SyntaxError> {
    serde_yaml::Deserializer::from_str(text)
        .deserialize_any(Build)
        .map_err(|error| {
            let position = position(&error);
            let mut message = error.to_string();
            // The parser appends the position, which the message's head says already.
            if let Some(at) = position
                && let Some(cut) =
                    message.find(&format!(" at line {} column {}", at.line, at.column))
            {
                message.truncate(cut);
            }
            SyntaxError { position, message }
        })
}

/// Where the node or key at the end of `path` stands. `None`: there is no such node.
#[must_use]
pub fn locate(text: &str, path: &[Step]) -> Option<Position> {
    let arrived = Cell::new(false);
    let visitor = Locate {
        path,
        arrived: &arrived,
    };
    match serde_yaml::Deserializer::from_str(text).deserialize_any(visitor) {
        Err(error) if arrived.get() => position(&error),
        _ => None,
    }
}

fn position(error: &serde_yaml::Error) -> Option<Position> {
    error.location().map(|at| Position {
        line: at.line(),
        column: at.column(),
    })
}

#[derive(Clone, Copy)]
struct Build;

impl<'de> DeserializeSeed<'de> for Build {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Build {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Flag(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Whole(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Whole(value.into()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Node, E> {
        Ok(Node::Whole(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Real(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(node) = seq.next_element_seed(Self)? {
            list.push(node);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key_seed(KeyName)? {
            entries.push((key, map.next_value_seed(Self)?));
        }
        Ok(Node::Map(entries))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, _: A) -> Result<Node, A::Error> {
        Err(A::Error::custom("tags have no meaning here"))
    }
}

/// The name of a map's entry, as text whatever YAML makes of it.
struct KeyName;

impl<'de> DeserializeSeed<'de> for KeyName {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        match deserializer.deserialize_any(Build)? {
            Node::Text(text) | Node::Variable(text) => Ok(text),
            Node::Flag(flag) => Ok(flag.to_string()),
            Node::Whole(number) => Ok(number.to_string()),
            Node::Real(number) => Ok(number.to_string()),
            Node::Null => Ok("null".to_owned()),
            Node::List(_) | Node::Map(_) => {
                Err(D::Error::custom("a key must be text, not a list or a map"))
            }
        }
    }
}

/// Follows the steps and fails at their end, so that the parser tells the position.
#[derive(Clone, Copy)]
struct Locate<'p> {
    path: &'p [Step],
    /// Set when the end was reached, so that its error is told from one of the parser.
    arrived: &'p Cell<bool>,
}

impl<'de> DeserializeSeed<'de> for Locate<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Locate<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        self.arrived()
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<(), E> {
        self.arrived()
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<(), E> {
        self.arrived()
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<(), E> {
        self.arrived()
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<(), E> {
        self.arrived()
    }

    fn visit_i128<E: serde::de::Error>(self, _: i128) -> Result<(), E> {
        self.arrived()
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<(), E> {
        self.arrived()
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<(), E> {
        self.arrived()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        self.arrived()?;
        if let Some((Step::Value(n), rest)) = self.path.split_first() {
            for _ in 0..*n {
                seq.next_element::<IgnoredAny>()?;
            }
            seq.next_element_seed(self.on(rest))?;
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        self.arrived()?;
        let Some((step, rest)) = self.path.split_first() else {
            return Ok(());
        };
        let (Step::Key(n) | Step::Value(n)) = *step;
        for _ in 0..n {
            map.next_entry::<IgnoredAny, IgnoredAny>()?;
        }
        if let Step::Key(_) = step {
            map.next_key_seed(self.on(&[]))?;
        } else if map.next_key::<IgnoredAny>()?.is_some() {
            map.next_value_seed(self.on(rest))?;
        }
        Ok(())
    }
}

impl<'p> Locate<'p> {
    fn on(self, path: &'p [Step]) -> Self {
        Self { path, ..self }
    }

    fn arrived<E: serde::de::Error>(self) -> Result<(), E> {
        if self.path.is_empty() {
            self.arrived.set(true);
            Err(E::custom("here"))
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "receivers:\n  ebpf:\n    interval: 10s\n    \"ünï\": [1, two, {k: ~}]\nempty:\n";

    #[track_caller]
    fn check(path: &[Step], line: usize, column: usize) {
        assert_eq!(locate(TEXT, path), Some(Position { line, column }));
    }

    #[test]
    fn every_node_and_key_has_its_line_and_column() {
        use Step::{Key, Value};
        check(&[Key(0)], 1, 1);
        check(&[Value(0)], 2, 3);
        check(&[Value(0), Value(0), Key(0)], 3, 5);
        check(&[Value(0), Value(0), Value(0)], 3, 15);
        check(&[Value(0), Value(0), Key(1)], 4, 5);
        check(&[Value(0), Value(0), Value(1)], 4, 12);
        check(&[Value(0), Value(0), Value(1), Value(1)], 4, 16);
        check(&[Value(0), Value(0), Value(1), Value(2), Key(0)], 4, 22);
        check(&[Value(0), Value(0), Value(1), Value(2), Value(0)], 4, 25);
        check(&[Key(1)], 5, 1);
    }

    #[test]
    fn a_path_that_leads_nowhere_has_no_position() {
        assert_eq!(locate(TEXT, &[Step::Value(7)]), None);
        assert_eq!(
            locate(
                TEXT,
                &[Step::Value(0), Step::Value(0), Step::Value(0), Step::Key(0)]
            ),
            None
        );
    }

    #[test]
    fn scalars_keep_the_type_that_yaml_gives_them() {
        let Ok(Node::Map(entries)) =
            parse("a: 1\nb: 1.5\nc: true\nd: text\ne: \"1\"\nf:\ng: [-3]\n1: x\n")
        else {
            panic!("a map")
        };
        let nodes: Vec<_> = entries.into_iter().map(|(_, node)| node).collect();
        assert_eq!(
            nodes,
            [
                Node::Whole(1),
                Node::Real(1.5),
                Node::Flag(true),
                Node::Text("text".into()),
                Node::Text("1".into()),
                Node::Null,
                Node::List(vec![Node::Whole(-3)]),
                Node::Text("x".into())
            ]
        );
    }

    #[test]
    fn a_variable_has_the_type_that_is_asked_for() {
        assert_eq!(Node::Variable("15".into()).typed(), Node::Whole(15));
        assert_eq!(
            Node::Variable("15s".into()).typed(),
            Node::Text("15s".into())
        );
        assert_eq!(
            Node::Variable("a: b".into()).typed(),
            Node::Text("a: b".into())
        );
    }

    #[test]
    fn what_is_not_yaml_is_told_with_its_place() {
        let error = parse("a: [1, 2\nb: 3\n").unwrap_err();
        assert!(error.position.is_some(), "{error:?}");
        assert!(!error.message.contains("line 2"), "{}", error.message);
        assert!(parse("a: !tag 1\n").is_err());
        assert!(parse("a: 1\n---\nb: 2\n").is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_text_parses_or_fails_in_order(text in ".{0,200}") {
            let _unused = parse(&text);
            let _unused = locate(&text, &[Step::Value(0), Step::Key(0)]);
        }
    }
}
