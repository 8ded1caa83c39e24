//! Two JSON values, field by field.

use std::fmt;

use serde_json::Value;

/// A field in which two values differ.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Difference {
    /// Keys joined by dots; places in lists as numbers.
    pub(crate) path: String,
    pub(crate) hubble: Option<Value>,
    pub(crate) ours: Option<Value>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text =
            |value: &Option<Value>| value.as_ref().map_or("absent".to_owned(), Value::to_string);
        write!(
            f,
            "{}: Hubble {}, ours {}",
            self.path,
            text(&self.hubble),
            text(&self.ours)
        )
    }
}

/// All differences of the leaves.
pub(crate) fn differences(hubble: &Value, ours: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    walk("", Some(hubble), Some(ours), &mut found);
    found
}

fn walk(path: &str, hubble: Option<&Value>, ours: Option<&Value>, found: &mut Vec<Difference>) {
    let below = |key: &str| {
        if path.is_empty() {
            key.to_owned()
        } else {
            format!("{path}.{key}")
        }
    };
    match (hubble, ours) {
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            for (key, value) in a {
                walk(&below(key), Some(value), b.get(key), found);
            }
            for (key, value) in b.iter().filter(|(key, _)| !a.contains_key(*key)) {
                walk(&below(key), None, Some(value), found);
            }
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) if a.len() == b.len() => {
            for (at, (a, b)) in a.iter().zip(b).enumerate() {
                walk(&below(&at.to_string()), Some(a), Some(b), found);
            }
        }
        (a, b) if a == b => {}
        (a, b) => found.push(Difference {
            path: path.to_owned(),
            hubble: a.cloned(),
            ours: b.cloned(),
        }),
    }
}
