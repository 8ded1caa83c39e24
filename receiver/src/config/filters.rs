//! Hubble's flow filters (`flow.FlowFilter`, in the field names of protobuf's JSON) as settings: YAML into messages, every mistake at its
//! place.

use serde::de::value::Error as SerdeError;
use serde::de::{DeserializeOwned, Deserializer, Error as _, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Map, Number, Value};

use crate::config::tree::Node;
use crate::config::value::{Allowed, Limits, Mismatch, Setting, nearest};
use netflume_core::aggregate::flow_filter::FlowFilters;
use netflume_core::proto::flow::FlowFilter;
use netflume_core::proto::names;

/// What stands in the list, in words.
const FORM: &str =
    "a list of Hubble's flow filters, such as `[{ verdict: [DROPPED] }, { source_pod: [shop/] }]`";

impl Setting for Vec<FlowFilter> {
    fn set(&mut self, node: &Node, _: &Limits) -> Result<(), Mismatch> {
        *self = filters(node)?;
        Ok(())
    }

    fn show(&self, _: &Limits) -> Option<String> {
        Some(json(self))
    }

    fn allowed(&self, _: &Limits) -> Allowed {
        FORM.into()
    }
}

/// A list of filters, each of which can be followed.
pub(super) fn filters(node: &Node) -> Result<Vec<FlowFilter>, Mismatch> {
    let Node::List(nodes) = node else {
        return Err(Mismatch::of(node, FORM));
    };
    nodes
        .iter()
        .enumerate()
        .map(|(n, node)| filter(node).map_err(|mismatch| mismatch.at(n)))
        .collect()
}

fn filter(node: &Node) -> Result<FlowFilter, Mismatch> {
    let Node::Map(entries) = node else {
        return Err(Mismatch::of(node, "a map of fields of Hubble's FlowFilter"));
    };
    let mut fields = Map::new();
    for (n, (name, node)) in entries.iter().enumerate() {
        known_key::<FlowFilter>(name).map_err(|mismatch| mismatch.at(n))?;
        let value = field(name, node).map_err(|mismatch| mismatch.at(n))?;
        fields.insert(name.clone(), value);
    }
    let filter = read::<FlowFilter>(Value::Object(fields)).map_err(|why| reason(node, why))?;
    FlowFilters::compile(std::slice::from_ref(&filter), &[])
        .map_err(|error| reason(node, error.to_string()))?;
    Ok(filter)
}

/// The value of a field, which can be read and followed.
fn field(name: &str, node: &Node) -> Result<Value, Mismatch> {
    let alone = |value: &Value| {
        let fields = Map::from_iter([(name.to_owned(), value.clone())]);
        read::<FlowFilter>(Value::Object(fields))
    };
    let Node::List(nodes) = node else {
        let value = value(node);
        return match alone(&value) {
            Ok(_) => Ok(value),
            Err(_) => Err(Mismatch::of(node, "a list of values")),
        };
    };
    let mut values = Vec::with_capacity(nodes.len());
    for (n, node) in nodes.iter().enumerate() {
        let mut one = Value::Array(vec![value(node)]);
        let mut read = alone(&one);
        // A port is text in the schema, and a number for everybody else.
        if let (Err(_), Node::Whole(number)) = (&read, node) {
            one = Value::Array(vec![Value::String(number.to_string())]);
            read = alone(&one);
        }
        let filter = read.map_err(|why| unknown_word(name, node, &why).at(n))?;
        match FlowFilters::compile(&[filter], &[]) {
            // Whether it goes with the other fields is asked when they are all there.
            Ok(_) | Err(netflume_core::aggregate::flow_filter::FilterError::NotL7 { .. }) => {}
            Err(error) => return Err(reason(node, error.to_string()).at(n)),
        }
        if let Value::Array(one) = one {
            values.extend(one);
        }
    }
    Ok(Value::Array(values))
}

/// A value that the field does not take; for an enumeration with the nearest name.
fn unknown_word(field: &str, node: &Node, why: &str) -> Mismatch {
    let mut mismatch = reason(node, format!("{field}: {why}"));
    let names: Vec<&str> = match field {
        "verdict" => names::verdict::names().collect(),
        "drop_reason_desc" | "dropReasonDesc" => names::dropreason::names().collect(),
        "traffic_direction" | "trafficDirection" => names::trafficdirection::names().collect(),
        "ip_version" | "ipVersion" => names::ipversion::names().collect(),
        _ => Vec::new(),
    };
    if let Node::Text(word) | Node::Variable(word) = node {
        mismatch.nearest = nearest(word, names).map(str::to_owned);
    }
    mismatch
}

/// A mistake that tells itself.
pub(super) fn reason(node: &Node, why: impl Into<String>) -> Mismatch {
    Mismatch::of(node, Allowed::Reason(why.into()))
}

/// Whether the message or struct has a field of this name.
pub(super) fn known_key<T: DeserializeOwned>(name: &str) -> Result<(), Mismatch> {
    let fields = field_names::<T>();
    if fields.contains(&name) {
        return Ok(());
    }
    let mut mismatch = Mismatch::of(&Node::Text(name.to_owned()), "");
    mismatch.nearest = nearest(name, fields.iter().copied()).map(str::to_owned);
    mismatch.allowed = Allowed::Form(match mismatch.nearest {
        Some(_) => "another key".to_owned(),
        None => format!("one of {}", schema_names(fields).join(", ")),
    });
    mismatch.at_key = true;
    Err(mismatch)
}

/// The names without their other spelling.
fn schema_names(fields: &[&'static str]) -> Vec<&'static str> {
    let is_camel = |name: &str| name.contains(|c: char| c.is_ascii_uppercase());
    fields
        .iter()
        .copied()
        .filter(|name| !is_camel(name))
        .collect()
}

/// The names that a struct's reader knows, all spellings.
fn field_names<T: DeserializeOwned>() -> &'static [&'static str] {
    struct Ask<'a>(&'a mut &'static [&'static str]);
    impl<'de> Deserializer<'de> for Ask<'_> {
        type Error = SerdeError;

        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, SerdeError> {
            Err(SerdeError::custom("only asked for its fields"))
        }

        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            visitor: V,
        ) -> Result<V::Value, SerdeError> {
            *self.0 = fields;
            self.deserialize_any(visitor)
        }

        forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
            newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }
    let mut fields: &'static [&'static str] = &[];
    let _asked = T::deserialize(Ask(&mut fields)).err();
    fields
}

fn read<T: DeserializeOwned>(value: Value) -> Result<T, String> {
    serde_json::from_value(value).map_err(|error| error.to_string())
}

/// The node in the form that the messages are read from.
fn value(node: &Node) -> Value {
    match node {
        Node::Null => Value::Null,
        Node::Flag(flag) => Value::Bool(*flag),
        Node::Whole(number) => match (i64::try_from(*number), u64::try_from(*number)) {
            (Ok(number), _) => Value::Number(number.into()),
            (_, Ok(number)) => Value::Number(number.into()),
            _ => Value::String(number.to_string()),
        },
        Node::Real(number) => Number::from_f64(*number).map_or(Value::Null, Value::Number),
        Node::Text(text) | Node::Variable(text) => Value::String(text.clone()),
        Node::List(nodes) => Value::Array(nodes.iter().map(value).collect()),
        Node::Map(entries) => Value::Object(
            entries
                .iter()
                .map(|(key, node)| (key.clone(), value(node)))
                .collect(),
        ),
    }
}

/// As JSON, which is YAML too, without fields that have their default.
pub(super) fn json(what: &impl serde::Serialize) -> String {
    let mut value = serde_json::to_value(what).unwrap_or_default();
    prune(&mut value);
    // A dollar would begin a variable when the text is read again.
    value.to_string().replace('$', "$$")
}

fn prune(value: &mut Value) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(prune),
        Value::Object(fields) => {
            fields.values_mut().for_each(prune);
            fields.retain(|_, value| match value {
                Value::Null | Value::Bool(false) => false,
                Value::Number(number) => number.as_f64() != Some(0.0),
                Value::String(text) => !text.is_empty(),
                Value::Array(values) => !values.is_empty(),
                Value::Bool(true) | Value::Object(_) => true,
            });
        }
        _ => {}
    }
}
