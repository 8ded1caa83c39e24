//! Durations, sizes and text as they stand in a configuration file, and back.

use std::fmt::Write as _;
use std::time::Duration;

const DURATION_UNITS: &[(&str, u64)] = &[
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Reads a duration as Go writes it: one or more decimal numbers, each with its unit (`h`, `m`, `s`, `ms`, `us`, `µs`, `ns`),
/// such as `1h30m` or `1.5s`. `None`: it is none, or over 584 years.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut total: u64 = 0;
    loop {
        let unit_at = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(unit_at);
        let unit_end = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let unit = if unit == "µs" || unit == "μs" {
            "us"
        } else {
            unit
        };
        let (_, unit_ns) = DURATION_UNITS.iter().find(|(name, _)| *name == unit)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let whole: u64 = if whole.is_empty() {
            0
        } else {
            whole.parse().ok()?
        };
        total = total.checked_add(whole.checked_mul(*unit_ns)?)?;
        // Digit by digit in whole nanoseconds, so that no rounding of binary fractions shows.
        let mut digit_ns = *unit_ns;
        for digit in fraction.bytes() {
            digit_ns /= 10;
            total = total
                .checked_add(u64::from(digit.checked_sub(b'0').filter(|d| *d < 10)?) * digit_ns)?;
        }
        if tail.is_empty() {
            return Some(Duration::from_nanos(total));
        }
        rest = tail;
    }
}

/// Writes a duration so that [`parse_duration`] reads it back.
#[must_use]
pub fn show_duration(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    if rest == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (name, unit_ns) in DURATION_UNITS {
        if rest >= *unit_ns {
            let _infallible = write!(text, "{}{name}", rest / unit_ns);
            rest %= unit_ns;
        }
    }
    text
}

const SIZE_UNITS: &[(&str, u64)] = &[
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("KB", 1_000),
    ("B", 1),
];

/// Reads a size: a whole number of bytes, or with a unit, such as `64MiB` or `10 MB`.
#[must_use]
pub fn parse_size(text: &str) -> Option<u64> {
    let unit_at = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let factor = match unit.trim() {
        "" => 1,
        unit => SIZE_UNITS.iter().find(|(name, _)| *name == unit)?.1,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// Writes a size so that [`parse_size`] reads it back.
#[must_use]
pub fn show_size(bytes: u64) -> String {
    match SIZE_UNITS
        .iter()
        .take(3)
        .find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor))
    {
        Some((name, factor)) => format!("{}{name}", bytes / factor),
        None => format!("{bytes}B"),
    }
}

/// Writes text as YAML: plain where that cannot be read as anything else, in double quotes elsewhere.
#[must_use]
pub fn show_text(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "/._-:".contains(c))
        && !text.ends_with(':')
        && serde_yaml::from_str::<String>(text).is_ok();
    if plain {
        return text.to_owned();
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            // Line breaks and what is not printable (YAML 1.1, 5.1).
            c if c.is_control() || "\u{2028}\u{2029}\u{FEFF}\u{FFFE}\u{FFFF}".contains(c) => {
                let _infallible = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            // What would be a variable when the text is read again.
            '$' => quoted.push_str("$$"),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn duration(text: &str, expected: Option<u64>) {
        assert_eq!(
            parse_duration(text),
            expected.map(Duration::from_nanos),
            "{text}"
        );
    }

    #[test]
    fn durations_are_read_as_go_writes_them() {
        duration("15s", Some(15_000_000_000));
        duration("1h30m", Some(5_400_000_000_000));
        duration("200ms", Some(200_000_000));
        duration("1.5s", Some(1_500_000_000));
        duration(".5m", Some(30_000_000_000));
        duration("3µs", Some(3_000));
        duration("0", Some(0));
        for wrong in [
            "",
            "15",
            "s",
            ".s",
            "1.2.3s",
            "15 s",
            "-1s",
            "1d",
            "1s2",
            "99999999999h",
            "1e3s",
        ] {
            duration(wrong, None);
        }
    }

    #[test]
    fn sizes_are_read_with_their_unit() {
        assert_eq!(parse_size("64MiB"), Some(64 << 20));
        assert_eq!(parse_size("10 MB"), Some(10_000_000));
        assert_eq!(parse_size("512"), Some(512));
        for wrong in ["", "MiB", "1.5MiB", "-1", "1mib", "99999999999GiB"] {
            assert_eq!(parse_size(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn text_that_yaml_does_not_print_is_read_back() {
        for text in [
            "a\u{2028}b",
            "\u{2029} ",
            "\u{feff}",
            "\u{fffe}",
            "\u{ffff}",
            "\u{85}\u{7f}",
        ] {
            let read = serde_yaml::from_str::<String>(&show_text(text));
            assert_eq!(read.ok().as_deref(), Some(text));
        }
    }

    proptest! {
        #[test]
        fn a_written_duration_is_read_back(ns in any::<u64>()) {
            let duration = Duration::from_nanos(ns);
            prop_assert_eq!(parse_duration(&show_duration(duration)), Some(duration));
        }

        #[test]
        fn a_written_size_is_read_back(bytes in any::<u64>()) {
            prop_assert_eq!(parse_size(&show_size(bytes)), Some(bytes));
        }

        #[test]
        fn no_text_makes_the_readers_panic(text in ".{0,40}") {
            let _unused = (parse_duration(&text), parse_size(&text));
        }

        #[test]
        fn written_text_is_read_back(text in "[^$]{0,40}") {
            let read = serde_yaml::from_str::<String>(&show_text(&text));
            prop_assert_eq!(read.ok(), Some(text));
        }
    }
}
