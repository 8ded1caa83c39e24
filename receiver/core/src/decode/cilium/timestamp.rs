//! RFC 3339 times, as Go's `time.RFC3339Nano` writes and reads them, to nanoseconds since 1970.

/// Reads `2026-01-02T03:04:05.000000006Z` or with an offset `+01:00`. `None` when it is not such a time, or not within 1678 to 2262.
#[must_use]
pub fn parse(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let (date_time, rest) = bytes.split_at_checked(19)?;
    let number = |from: usize, to: usize| digits(date_time.get(from..to)?);
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if !separators
        .iter()
        .all(|(at, wanted)| date_time.get(*at) == Some(wanted))
    {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (nanoseconds, rest) = fraction(rest)?;
    let offset = offset_seconds(rest)?;
    let days = days_since_1970(year, month, day)?;
    let seconds = days
        .checked_mul(86_400)?
        .checked_add(hour.checked_mul(3600)?)?
        .checked_add(minute.checked_mul(60)?)?
        .checked_add(second)?
        .checked_sub(offset)?;
    seconds.checked_mul(1_000_000_000)?.checked_add(nanoseconds)
}

fn digits(bytes: &[u8]) -> Option<i64> {
    bytes.iter().try_fold(0_i64, |value, byte| {
        let digit = byte
            .is_ascii_digit()
            .then(|| i64::from(byte.wrapping_sub(b'0')))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

/// `.123` to nanoseconds; digits beyond the ninth are dropped.
fn fraction(rest: &[u8]) -> Option<(i64, &[u8])> {
    // Go reads a comma as well.
    let [b'.' | b',', after @ ..] = rest else {
        return Some((0, rest));
    };
    let length = after
        .iter()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(after.len());
    let (text, rest) = after.split_at_checked(length)?;
    if text.is_empty() {
        return None;
    }
    let mut nine = [b'0'; 9];
    for (to, from) in nine.iter_mut().zip(text) {
        *to = *from;
    }
    Some((digits(&nine)?, rest))
}

fn offset_seconds(zone: &[u8]) -> Option<i64> {
    match *zone {
        [b'Z'] => Some(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (digits(&[h1, h2])?, digits(&[m1, m2])?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let seconds = hours
                .checked_mul(3600)?
                .checked_add(minutes.checked_mul(60)?)?;
            Some(if sign == b'-' {
                seconds.wrapping_neg()
            } else {
                seconds
            })
        }
        _ => None,
    }
}

const fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

const fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 in the Gregorian calendar. The year is counted from March, so that the leap day is its last one.
fn days_since_1970(year: i64, month: i64, day: i64) -> Option<i64> {
    let (year, month) = if month > 2 {
        (year, month.checked_sub(3)?)
    } else {
        (year.checked_sub(1)?, month.checked_add(9)?)
    };
    let leap_days = year
        .div_euclid(4)
        .checked_sub(year.div_euclid(100))?
        .checked_add(year.div_euclid(400))?;
    let months = month.checked_mul(153)?.checked_add(2)?.div_euclid(5);
    year.checked_mul(365)?
        .checked_add(leap_days)?
        .checked_add(months)?
        .checked_add(day)?
        .checked_sub(719_469)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn times_become_nanoseconds_since_1970() {
        assert_eq!(parse("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(
            parse("2026-01-02T03:04:05.000000006Z"),
            Some(1_767_323_045_000_000_006)
        );
        assert_eq!(
            parse("2000-02-29T23:59:59.5+01:00"),
            Some(951_865_199_500_000_000)
        );
        assert_eq!(parse("1969-12-31T23:59:59-00:30"), Some(1_799_000_000_000));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "2026-01-02",
            "2026-01-02T03:04:05",
            "2026-01-02 03:04:05Z",
            "2026-02-29T03:04:05Z",
            "2026-13-01T03:04:05Z",
            "2026-01-02T24:04:05Z",
            "2026-01-02T03:04:05.Z",
            "2026-01-02T03:04:05+1:00",
            "2026-01-02T03:04:05Zz",
            "0001-01-01T00:00:00Z",
            "2026-01-02T03:04:0\u{e9}Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
