//! Resource attributes as `OTEL_RESOURCE_ATTRIBUTES` has them.

/// Reads `k1=v1,k2=v2` in the form of W3C baggage: blanks around names and values do not count, values are percent-encoded.
/// `None`: it is not of that form.
#[must_use]
pub fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    text.split(',')
        .map(str::trim)
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=')?;
            let key = percent_decoded(key.trim())?;
            (!key.is_empty()).then_some((key, percent_decoded(value.trim())?))
        })
        .collect()
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(if byte == b'%' {
            let digits = [bytes.next()?, bytes.next()?].map(|digit| char::from(digit).to_digit(16));
            u8::try_from(digits[0]? * 16 + digits[1]?).ok()?
        } else {
            byte
        });
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_read_as_baggage() {
        let read = |text: &str| pairs(text).map(|pairs| format!("{pairs:?}"));
        assert_eq!(
            read("a=1, b = x%20y%2C ,c=d=e,").as_deref(),
            Some(r#"[("a", "1"), ("b", "x y,"), ("c", "d=e")]"#)
        );
        for wrong in ["a", "=1", "a=%4", "a=%zz", "a=%ff"] {
            assert_eq!(pairs(wrong), None, "{wrong}");
        }
    }
}
