use super::*;
use crate::decode::cilium::test_data::{PAYLOAD_DEFINITION, hex};

#[test]
fn numbers_follow_the_specification() {
    for (bytes, value) in [
        ("07", 7),
        ("7f", 127),
        ("ffc8", 200),
        ("fe012c", 300),
        ("fa010000000000", 1 << 40),
        ("f8ffffffffffffffff", u64::MAX),
    ] {
        assert_eq!(Reader::new(&hex(bytes)).uint(), Ok(value), "{bytes}");
    }
    for (bytes, value) in [
        ("7e", 63),
        ("ff80", 64),
        ("01", -1),
        ("7f", -64),
        ("f8ffffffffffffffff", i64::MIN),
    ] {
        assert_eq!(Reader::new(&hex(bytes)).int(), Ok(value), "{bytes}");
    }
    assert_eq!(
        Reader::new(&hex("f70102030405060708090a")).uint(),
        Err(GobError::Number)
    );
    assert_eq!(Reader::new(&hex("fe01")).uint(), Err(GobError::Truncated));
}

#[test]
fn a_definition_is_learnt_by_the_number_in_its_header() {
    let bytes = hex(PAYLOAD_DEFINITION);
    let (content, rest) = frame(&bytes).unwrap().unwrap();
    assert!(rest.is_empty());
    let mut types = Types::default();
    assert!(types.message(content).unwrap().is_none());
    let names: Vec<&str> = types
        .fields(64)
        .unwrap()
        .iter()
        .map(|(name, _)| &**name)
        .collect();
    assert_eq!(names, ["Data", "CPU", "Lost", "Type"]);
}

#[test]
fn every_prefix_of_a_definition_is_an_error_and_never_learnt() {
    let bytes = hex(PAYLOAD_DEFINITION);
    let (content, _) = frame(&bytes).unwrap().unwrap();
    for end in 0..content.len() {
        let mut types = Types::default();
        assert!(types.message(&content[..end]).is_err(), "{end}");
        assert!(types.get(64).is_none());
    }
}

#[test]
fn unknown_fields_of_every_kind_are_skipped() {
    let mut types = Types::default();
    types.define(70, Type::List(builtin::STRING)).unwrap();
    types.define(71, Type::Map(builtin::STRING, 70)).unwrap();
    types.define(72, Type::Opaque).unwrap();
    let fields = vec![
        ("A".into(), 71),
        ("B".into(), 72),
        ("C".into(), builtin::FLOAT),
        ("D".into(), 73),
    ];
    types.define(73, Type::Struct(fields)).unwrap();
    // A = {"k": ["v", "w"]}, B = 3 bytes, C = a float, D = {} (nested)
    let value = hex("01 01 016b 02 0176 0177 01 03 aabbcc 01 fef03f 01 00 00");
    let mut reader = Reader::new(&value);
    types.skip(73, &mut reader).unwrap();
    assert!(reader.rest().is_empty());
}

#[test]
fn nesting_is_bounded() {
    let mut types = Types::default();
    types.define(70, Type::List(70)).unwrap();
    let value = [1_u8; 100];
    assert_eq!(
        types.skip(70, &mut Reader::new(&value)),
        Err(GobError::TooDeep)
    );
}

#[test]
fn a_long_list_ends_with_the_message() {
    let mut types = Types::default();
    types.define(70, Type::List(builtin::UINT)).unwrap();
    let value = hex("f8ffffffffffffffff 01 01");
    assert_eq!(
        types.skip(70, &mut Reader::new(&value)),
        Err(GobError::Truncated)
    );
}

#[test]
fn a_frame_is_complete_or_awaited() {
    assert_eq!(frame(&hex("")), Ok(None));
    assert_eq!(frame(&hex("ff")), Ok(None));
    assert_eq!(frame(&hex("02aa")), Ok(None));
    assert_eq!(
        frame(&hex("02aabbcc")),
        Ok(Some((&[0xaa, 0xbb][..], &[0xcc][..])))
    );
    assert_eq!(frame(&hex("fc01000001")), Err(GobError::TooLong));
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(0_u8.., 0..300)) {
        let mut types = Types::default();
        let mut rest = &bytes[..];
        while let Ok(Some((content, next))) = frame(rest) {
            if let Ok(Some((id, mut reader))) = types.message(content) {
                let skipped = types.skip(id, &mut reader);
                proptest::prop_assert!(skipped.is_ok() || skipped.is_err());
            }
            rest = next;
        }
    }
}
