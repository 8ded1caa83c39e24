//! The protobuf wire format, written straight into a buffer: values in, bytes of the OTLP messages out.
//!
//! A nested message needs its length before its content: [`message`] leaves room for the usual length and fills it in afterwards.
//! Varints are always the shortest form, so that equal values give equal bytes. Format: protobuf.dev/programming-guides/encoding.
//!
//! Pairs whose names are known at compile time have a writer of their own, [`KeyValues`](crate::otlp::pairs::KeyValues).

/// Wire type 0.
const VARINT: u8 = 0;
/// Wire type 1.
const FIXED64: u8 = 1;
/// Wire type 2.
const LENGTH: u8 = 2;
/// Wire type 5.
const FIXED32: u8 = 5;

/// `AnyValue.bool_value`.
const ANY_BOOL: u8 = tag(2, VARINT);
/// `AnyValue.int_value`.
const ANY_INT: u8 = tag(3, VARINT);
/// `AnyValue.double_value`.
const ANY_DOUBLE: u8 = tag(4, FIXED64);
/// `AnyValue.array_value`.
const ANY_ARRAY: u8 = 5;
/// `AnyValue.kvlist_value`.
const ANY_KVLIST: u8 = 6;
/// `ArrayValue.values` and `KeyValueList.values`.
pub const VALUES: u8 = 1;

/// The tag of a field whose number is at most 15: one byte.
const fn tag(field: u8, wire_type: u8) -> u8 {
    assert!(field >= 1 && field <= 15, "one byte holds fields 1 to 15");
    (field << 3) | wire_type
}

/// Bytes that `value` takes as a varint: 1 to 10.
#[must_use]
pub const fn varint_len(value: u64) -> usize {
    // 7 bits a byte; zero takes one byte too.
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// Writes a varint.
#[inline]
pub fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Writes a `uint32`, `uint64`, `bool` or enum field.
#[inline]
pub fn uint(out: &mut Vec<u8>, field: u8, value: u64) {
    out.push(tag(field, VARINT));
    varint(out, value);
}

/// Writes a `fixed64` or, as bits, a `sfixed64` or `double` field.
#[inline]
pub fn fixed64(out: &mut Vec<u8>, field: u8, value: u64) {
    let mut bytes = [0; 9];
    bytes[0] = tag(field, FIXED64);
    bytes[1..].copy_from_slice(&value.to_le_bytes());
    out.extend_from_slice(&bytes);
}

/// Writes a `fixed32` field, whose number may be over 15.
pub fn fixed32(out: &mut Vec<u8>, field: u8, value: u32) {
    varint(out, u64::from(field) << 3 | u64::from(FIXED32));
    out.extend_from_slice(&value.to_le_bytes());
}

/// Writes a `string` or `bytes` field.
#[inline]
pub fn bytes(out: &mut Vec<u8>, field: u8, value: &[u8]) {
    out.push(tag(field, LENGTH));
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// Writes the tag and length of a nested message of `length` bytes, which follow.
#[inline]
pub fn length_header(out: &mut Vec<u8>, field: u8, length: usize) {
    out.push(tag(field, LENGTH));
    varint(out, length as u64);
}

/// Writes the tag and length of a packed `fixed64` or `double` field; the elements follow by [`packed64_element`].
pub fn packed64(out: &mut Vec<u8>, field: u8, elements: usize) {
    out.push(tag(field, LENGTH));
    varint(out, elements as u64 * 8);
}

/// Writes one element after [`packed64`].
#[inline]
pub fn packed64_element(out: &mut Vec<u8>, bits: u64) {
    out.extend_from_slice(&bits.to_le_bytes());
}

/// Writes a nested message with what `content` writes. `RESERVE` is the number of length bytes that is usual: 1 below 128
/// bytes, 2 below 16 KiB; another length is right too, but moves the content.
#[inline]
pub fn message<const RESERVE: usize>(
    out: &mut Vec<u8>,
    field: u8,
    content: impl FnOnce(&mut Vec<u8>),
) {
    out.push(tag(field, LENGTH));
    let start = out.len();
    out.extend_from_slice(&[0; RESERVE]);
    content(out);
    patch_length(out, start, RESERVE);
}

/// Fills in the length of the message whose `reserved` length bytes start at `start`.
#[inline]
fn patch_length(out: &mut Vec<u8>, start: usize, reserved: usize) {
    let mut length = (out.len() - start - reserved) as u64;
    let needed = varint_len(length);
    if needed != reserved {
        move_content(out, start + reserved, start + needed);
    }
    for byte in &mut out[start..start + needed - 1] {
        *byte = length as u8 | 0x80;
        length >>= 7;
    }
    out[start + needed - 1] = length as u8;
}

/// Moves everything from `from` to the end so that it starts at `to`.
#[cold]
fn move_content(out: &mut Vec<u8>, from: usize, to: usize) {
    let end = out.len();
    if to > from {
        out.resize(end + (to - from), 0);
    }
    out.copy_within(from..end, to);
    out.truncate(end - from + to);
}

/// Writes an `AnyValue { kvlist_value }` as field `field`; `content` writes the list's elements with field [`VALUES`].
pub fn any_kvlist(out: &mut Vec<u8>, field: u8, content: impl FnOnce(&mut Vec<u8>)) {
    message::<2>(out, field, |out| message::<2>(out, ANY_KVLIST, content));
}

/// A value whose kind is only known at run time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Any<'a> {
    /// Text.
    Text(&'a str),
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A real number.
    Double(f64),
    /// A list of texts.
    Texts(&'a [std::sync::Arc<str>]),
}

/// Writes a `KeyValue` whose key is only known at run time.
pub fn any_kv(out: &mut Vec<u8>, field: u8, key: &str, value: Any<'_>) {
    message::<1>(out, field, |out| {
        bytes(out, 1, key.as_bytes());
        message::<1>(out, 2, |out| any_value(out, value));
    });
}

/// Writes the content of an `AnyValue`.
fn any_value(out: &mut Vec<u8>, value: Any<'_>) {
    match value {
        Any::Text(text) => bytes(out, 1, text.as_bytes()),
        Any::Bool(value) => out.extend_from_slice(&[ANY_BOOL, u8::from(value)]),
        Any::Int(value) => {
            out.push(ANY_INT);
            varint(out, value as u64);
        }
        Any::Double(value) => {
            out.push(ANY_DOUBLE);
            out.extend_from_slice(&value.to_le_bytes());
        }
        Any::Texts(texts) => message::<1>(out, ANY_ARRAY, |out| {
            for text in texts {
                message::<1>(out, VALUES, |out| bytes(out, 1, text.as_bytes()));
            }
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::common::v1::{
        AnyValue, KeyValue, KeyValueList, any_value::Value,
    };
    use proptest::prelude::*;
    use prost::Message as _;

    fn encoded(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out);
        out
    }

    /// `KeyValueList` has the same shape as every repeated `KeyValue` field.
    fn list(value: Value) -> KeyValueList {
        KeyValueList {
            values: vec![KeyValue {
                key: "name".into(),
                value: Some(AnyValue { value: Some(value) }),
                ..KeyValue::default()
            }],
        }
    }

    proptest! {
        #[test]
        fn varints_are_what_prost_writes(value: u64) {
            let mut theirs = Vec::new();
            prost::encoding::encode_varint(value, &mut theirs);
            prop_assert_eq!(varint_len(value), theirs.len());
            prop_assert_eq!(encoded(|out| varint(out, value)), theirs);
        }

        #[test]
        fn key_values_are_what_prost_writes(text in ".{0,200}", int: i64, double: f64, truth: bool) {
            let pairs = [
                (encoded(|out| any_kv(out, VALUES, "name", Any::Text(&text))), Value::StringValue(text.clone())),
                (encoded(|out| any_kv(out, VALUES, "name", Any::Int(int))), Value::IntValue(int)),
                (encoded(|out| any_kv(out, VALUES, "name", Any::Double(double))), Value::DoubleValue(double)),
                (encoded(|out| any_kv(out, VALUES, "name", Any::Bool(truth))), Value::BoolValue(truth)),
            ];
            for (ours, value) in pairs {
                prop_assert_eq!(ours, list(value).encode_to_vec());
            }
        }

        #[test]
        fn lengths_are_the_shortest_whatever_was_reserved(content in prop::collection::vec(any::<u8>(), 0..20_000)) {
            let mut expected = Vec::new();
            bytes(&mut expected, 5, &content);
            let fill = |out: &mut Vec<u8>| out.extend_from_slice(&content);
            prop_assert_eq!(&encoded(|out| message::<1>(out, 5, fill)), &expected);
            prop_assert_eq!(&encoded(|out| message::<2>(out, 5, fill)), &expected);
            prop_assert_eq!(&encoded(|out| message::<3>(out, 5, fill)), &expected);
        }
    }

    #[test]
    fn a_list_of_texts_is_an_array() {
        let texts = [std::sync::Arc::from("a"), std::sync::Arc::from("")];
        let ours = encoded(|out| any_kv(out, VALUES, "name", Any::Texts(&texts)));
        let Some(Value::ArrayValue(array)) = KeyValueList::decode(&*ours)
            .unwrap()
            .values
            .remove(0)
            .value
            .unwrap()
            .value
        else {
            panic!("not an array");
        };
        let values: Vec<_> = array.values.into_iter().map(|v| v.value.unwrap()).collect();
        assert_eq!(
            values,
            [
                Value::StringValue("a".into()),
                Value::StringValue(String::new())
            ]
        );
    }
}
