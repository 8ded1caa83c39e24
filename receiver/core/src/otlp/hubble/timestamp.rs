//! Times as protobuf's JSON form has them.

use crate::otlp::text::Ascii;

/// An RFC 3339 time in UTC with 0, 3, 6 or 9 digits behind the second, as protobuf's JSON form has it.
#[must_use]
pub fn time(ns: i64) -> Ascii {
    let (seconds, nanoseconds) = (ns.div_euclid(1_000_000_000), ns.rem_euclid(1_000_000_000));
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    // Digits put in their places at once: the formatter's padding costs ten times as much, and every flow has a time.
    let mut text = *b"0000-00-00T00:00:00.000000000Z";
    for (place, number) in [
        (0, year / 100),
        (2, year),
        (5, month),
        (8, day),
        (11, hour),
        (14, minute),
        (17, second),
        (20, nanoseconds / 10_000_000),
        (22, nanoseconds / 100_000),
        (24, nanoseconds / 1000),
        (26, nanoseconds / 10),
    ] {
        let [tens, ones] = PAIRS[(number % 100) as usize];
        text[place] = tens;
        text[place + 1] = ones;
    }
    text[28] = b'0' + (nanoseconds % 10) as u8;
    let length = match nanoseconds {
        0 => 20,
        ns if ns % 1_000_000 == 0 => 24,
        ns if ns % 1000 == 0 => 27,
        _ => 30,
    };
    text[length - 1] = b'Z';
    Ascii::first(length, text)
}

/// The two digits of every number below 100.
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut n = 0;
    while n < pairs.len() {
        pairs[n] = [b'0' + (n / 10) as u8, b'0' + (n % 10) as u8];
        n += 1;
    }
    pairs
};

/// Year, month and day of a day since 1970-01-01, in the Gregorian calendar.
fn date(days: i64) -> (i64, i64, i64) {
    // Counted from 1 March of year 0, in eras of 400 years.
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}
