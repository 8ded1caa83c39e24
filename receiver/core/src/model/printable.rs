//! Text of others made fit for a terminal or a line of a log: the one place where that is done.
//!
//! Names of processes, DNS questions, HTTP methods and answers of servers are bytes that anyone may choose. What would move a cursor,
//! change colours, begin a line or turn the direction of writing is shown as an escape instead: `\n`, `\u{1b}`.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Whether a terminal shows a character and does nothing else.
#[must_use]
pub fn is_printable(c: char) -> bool {
    !c.is_control()
        // Ends of lines, and what turns the direction of writing, beside the control characters.
        && !matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A text for one line.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    replaced(text, is_printable, |out, c| out.extend(c.escape_default()))
}

/// A text whose line feeds are its own.
#[must_use]
pub fn printable_lines(text: &str) -> Cow<'_, str> {
    let fits = |c| c == '\n' || is_printable(c);
    replaced(text, fits, |out, c| out.extend(c.escape_default()))
}

/// JSON without line feeds between its values: the same values in other letters.
#[must_use]
pub fn printable_json(json: &str) -> Cow<'_, str> {
    replaced(json, is_printable, |out, c| {
        for unit in c.encode_utf16(&mut [0; 2]) {
            // Writing to a String cannot fail.
            let _infallible = write!(out, "\\u{unit:04x}");
        }
    })
}

fn replaced(
    text: &str,
    fits: impl Fn(char) -> bool,
    escape: impl Fn(&mut String, char),
) -> Cow<'_, str> {
    if text.chars().all(&fits) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if fits(c) {
            out.push(c);
        } else {
            escape(&mut out, c);
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_a_terminal_would_act_on_is_escaped_and_nothing_else() {
        let hostile = "\x1b[2J\r\na\tb\u{9b}31m\u{7f}\u{202e}gpj\u{2028}";
        let shown = r"\u{1b}[2J\r\na\tb\u{9b}31m\u{7f}\u{202e}gpj\u{2028}";
        assert_eq!(printable(hostile), shown);
        assert_eq!(printable_lines("a\nb\r"), "a\nb\\r");
        for plain in ["", "GET /ä?q=漢 \\ \u{1f600}", "e\u{301}"] {
            assert!(matches!(printable(plain), Cow::Borrowed(same) if same == plain));
        }
    }

    proptest! {
        #[test]
        fn json_keeps_its_value_and_becomes_printable(text: String) {
            let json = serde_json::to_string(&text).unwrap();
            let clean = printable_json(&json);
            prop_assert!(clean.chars().all(is_printable));
            prop_assert_eq!(serde_json::from_str::<String>(&clean).unwrap(), text.clone());
            prop_assert!(printable(&text).chars().all(is_printable));
        }
    }
}
