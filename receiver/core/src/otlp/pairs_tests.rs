//! Fields as pairs, against the generated code.

use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, KeyValue, KeyValueList, any_value::Value as Wire,
};
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::key;

const KEYS: [Key; 3] = [
    key!("k"),
    key!("name"),
    key!(
        "a.name.that.is.about.as.long.as.names.may.be.for.so.a.number.takes.a.byte.for.the.length"
    ),
];

#[derive(Clone, Debug)]
enum Value {
    Text(String),
    Ascii(u32),
    Display(String),
    Number(i64),
    Number64(u64),
    Boolean(bool),
    Object(Object),
    Texts(Vec<String>),
    Objects(Vec<Object>),
}

type Object = Vec<(usize, Value)>;

fn value() -> impl Strategy<Value = Value> {
    let text = || ".{0,200}";
    let leaf = prop_oneof![
        text().prop_map(Value::Text),
        any::<u32>().prop_map(Value::Ascii),
        text().prop_map(Value::Display),
        any::<i64>().prop_map(Value::Number),
        any::<u64>().prop_map(Value::Number64),
        any::<bool>().prop_map(Value::Boolean),
        vec(text(), 0..4).prop_map(Value::Texts),
        // As long as it takes for lengths of three bytes.
        (0_usize..40_000).prop_map(|n| Value::Display("x".repeat(n))),
    ];
    leaf.prop_recursive(4, 40, 6, |value| {
        let object = || vec((0..KEYS.len(), value.clone()), 0..6);
        prop_oneof![
            object().prop_map(Value::Object),
            vec(object(), 0..4).prop_map(Value::Objects),
        ]
    })
}

fn write(fields: &mut KeyValues<'_>, object: &Object) {
    for (key, value) in object {
        let key = KEYS[*key];
        match value {
            Value::Text(value) => fields.text(key, value),
            Value::Ascii(value) => fields.ascii(key, &Ascii::decimal(*value)),
            Value::Display(value) => fields.display(key, value),
            Value::Number(value) => fields.number(key, *value),
            Value::Number64(value) => fields.number64(key, *value),
            Value::Boolean(value) => fields.boolean(key, *value),
            Value::Object(value) => fields.object(key, |fields| write(fields, value)),
            Value::Texts(value) => fields.texts(key, value.iter()),
            Value::Objects(value) => fields.objects(key, value.iter(), write),
        }
    }
}

fn any_value(value: Wire) -> AnyValue {
    AnyValue { value: Some(value) }
}

fn expected(object: &Object) -> KeyValueList {
    let of = |value: &Value| match value {
        Value::Text(value) | Value::Display(value) => Wire::StringValue(value.clone()),
        Value::Ascii(value) => Wire::StringValue(value.to_string()),
        Value::Number(value) => Wire::IntValue(*value),
        Value::Number64(value) => match i64::try_from(*value) {
            Ok(value) => Wire::IntValue(value),
            Err(_) => Wire::StringValue(value.to_string()),
        },
        Value::Boolean(value) => Wire::BoolValue(*value),
        Value::Object(value) => Wire::KvlistValue(expected(value)),
        Value::Texts(values) => Wire::ArrayValue(ArrayValue {
            values: values
                .iter()
                .map(|text| any_value(Wire::StringValue(text.clone())))
                .collect(),
        }),
        Value::Objects(values) => Wire::ArrayValue(ArrayValue {
            values: values
                .iter()
                .map(|object| any_value(Wire::KvlistValue(expected(object))))
                .collect(),
        }),
    };
    let pair = |(key, value): &(usize, Value)| KeyValue {
        key: KEYS[*key].name().to_owned(),
        value: Some(any_value(of(value))),
        ..KeyValue::default()
    };
    KeyValueList {
        values: object.iter().map(pair).collect(),
    }
}

proptest! {
    /// Whatever is nested in whatever, the bytes are those of the generated code, whose lengths are the shortest.
    #[test]
    fn fields_are_what_prost_writes(object in vec((0..KEYS.len(), value()), 0..6)) {
        let mut ours = Vec::new();
        // `KeyValueList` has the same shape as every repeated `KeyValue` field.
        write(&mut KeyValues::new(&mut ours, 1), &object);
        prop_assert_eq!(ours, expected(&object).encode_to_vec());
    }
}
