//! Names of fields and attributes, encoded at compile time.

/// The tag of field `field` with wire type 2, a length; one byte, so `field` is at most 15.
pub(super) const fn length_tag(field: u8) -> u8 {
    assert!(field >= 1 && field <= 15, "one byte holds fields 1 to 15");
    (field << 3) | 2
}

/// `KeyValue.key`.
const KV_KEY: u8 = length_tag(1);
/// `KeyValue.value`.
pub(super) const KV_VALUE: u8 = length_tag(2);

/// A name that is known at compile time, in the form in which a [`KeyValue`] begins. Made by [`key!`](crate::key).
///
/// [`KeyValue`]: https://github.com/open-telemetry/opentelemetry-proto/blob/v1.10.0/opentelemetry/proto/common/v1/common.proto
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// A `KeyValue` up to the first byte of its value, as one piece that is copied at once: tag and length of the pair, tag, length
    /// and characters of the key, tag and length of the value, the tag of the value's kind, one byte. All but the key's part is
    /// written over.
    frame: &'static [u8],
    name: &'static str,
}

/// Bytes of a frame beside the characters.
pub const KEY_FRAME: usize = 8;
/// Where the key's tag stands, behind tag and length of the pair.
pub(super) const KEY_START: usize = 2;
/// Bytes behind the key's characters.
pub(super) const KEY_REST: usize = 4;
/// The longest name: pairs of numbers are below 128 bytes with it, whatever the number.
const NAME_MAX: usize = 96;

/// Encodes a name whose length is `N` - [`KEY_FRAME`]; for [`key!`](crate::key) only.
///
/// # Panics
/// At compile time, when `N` does not fit or the name is longer than 96 bytes.
#[must_use]
pub const fn frame<const N: usize>(name: &str) -> [u8; N] {
    let name = name.as_bytes();
    assert!(
        name.len() <= NAME_MAX && N == name.len() + KEY_FRAME,
        "a name has at most 96 bytes"
    );
    let mut out = [0; N];
    out[KEY_START] = KV_KEY;
    out[KEY_START + 1] = name.len() as u8;
    let mut i = 0;
    while i < name.len() {
        out[KEY_START + 2 + i] = name[i];
        i += 1;
    }
    out[N - KEY_REST] = KV_VALUE;
    out
}

impl Key {
    /// From a name and what [`frame`] made of it; for [`key!`](crate::key) only.
    #[must_use]
    pub const fn new(name: &'static str, frame: &'static [u8]) -> Self {
        Self { frame, name }
    }

    /// The beginning of a `KeyValue`.
    #[inline(always)]
    pub(super) const fn frame(self) -> &'static [u8] {
        self.frame
    }

    /// The `KeyValue.key` field alone.
    #[inline(always)]
    pub(super) fn field(self) -> &'static [u8] {
        &self.frame[KEY_START..self.frame.len() - KEY_REST]
    }

    /// The name.
    #[must_use]
    #[inline(always)]
    pub const fn name(self) -> &'static str {
        self.name
    }
}

/// A [`Key`](crate::otlp::key::Key) from a constant `&str`, encoded at compile time.
#[macro_export]
macro_rules! key {
    ($name:expr) => {{
        const FRAME: [u8; { $name.len() + $crate::otlp::key::KEY_FRAME }] =
            $crate::otlp::key::frame($name);
        const KEY: $crate::otlp::key::Key = $crate::otlp::key::Key::new($name, &FRAME);
        KEY
    }};
}
