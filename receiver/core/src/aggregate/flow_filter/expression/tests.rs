use std::io::Read as _;

use flate2::read::GzDecoder;
use serde::Deserialize;

use super::*;

fn made(expression: &str, budget: &mut Budget) -> Result<Expression, ExpressionError> {
    Expression::new(&[expression.to_owned()], budget).map_err(|(_, error)| error)
}

fn error(expression: &str) -> ExpressionError {
    made(expression, &mut Budget::default()).unwrap_err()
}

/// What Go's `regexp` makes of some 4,300 expressions (`tests/fixtures/patterns`).
#[test]
fn expressions_are_taken_refused_and_matched_as_by_go() {
    #[derive(Deserialize)]
    struct Vector {
        pattern: String,
        matches: Option<String>,
    }
    let packed = include_bytes!("../../../../../../tests/fixtures/patterns/vectors.jsonl.gz");
    let mut text = String::new();
    GzDecoder::new(&packed[..])
        .read_to_string(&mut text)
        .unwrap();
    let mut lines = text.lines();
    let texts: Vec<String> = serde_json::from_str(lines.next().unwrap()).unwrap();
    // Names of classes that Rust's tables have beside Go's.
    let only_ours = [r"\p{Alphabetic}", r"\p{Old_Italic}"];
    let (mut taken, mut wrong) = (0, Vec::new());
    for line in lines {
        let Vector { pattern, matches } = serde_json::from_str(line).unwrap();
        if matches.is_none() && only_ours.contains(&pattern.as_str()) {
            continue;
        }
        let ours = made(&pattern, &mut Budget::default()).map(|expression| {
            let bit = |text: &String| if expression.is_match(text) { '1' } else { '0' };
            texts.iter().map(bit).collect::<String>()
        });
        taken += usize::from(matches.is_some());
        if ours.as_ref().ok() != matches.as_ref() {
            wrong.push(format!("{pattern:?}: ours {ours:?}, Go {matches:?}"));
        }
    }
    assert!(taken > 1500, "{taken} taken");
    assert!(
        wrong.is_empty(),
        "{} differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn large_expressions_are_refused_before_they_take_memory() {
    let too_large = |expression: &str| {
        assert_eq!(
            error(expression),
            ExpressionError::TooLarge,
            "{expression:.40}"
        );
    };
    too_large(r"\pL{1000}");
    too_large(&r"(a?){1000}".repeat(500));
    too_large(&"a".repeat(BUDGET_BYTES / PARSED_BYTES + 1));
    let ranges = ExpressionError::Syntax(SyntaxError::Ranges);
    assert_eq!(error(&r"\pL".repeat(1_000)), ranges);
    let count = ExpressionError::Syntax(SyntaxError::Count);
    assert_eq!(error("(x{1000}){1000}"), count);

    // However many small ones there are, in one field or in many.
    let many = vec![r"\pL+".to_owned(); 1_000];
    let refused = Expression::new(&many, &mut Budget::default());
    assert_eq!(refused.unwrap_err().1, ExpressionError::TooLarge);
    let mut budget = Budget::default();
    let fitting = (0..1_000).take_while(|_| made("a", &mut budget).is_ok());
    assert!((30..100).contains(&fitting.count()));
}

/// The stack of a thread of the server, in a build that is not optimized.
#[test]
fn depth_is_bounded() {
    let stack = std::thread::Builder::new().stack_size(1 << 20);
    let deepest = || {
        let nested = |depth: usize| {
            let (open, close) = (r"(?:^|a+".repeat(depth), r"b|$)*".repeat(depth));
            made(&format!("{open}{close}"), &mut Budget::default())
        };
        let (mut fits, mut refused) = (0, 0);
        for depth in 1..200 {
            match nested(depth) {
                Ok(expression) => {
                    assert!(expression.is_match("aab"));
                    fits += 1;
                }
                Err(error) => {
                    assert_eq!(error, ExpressionError::Syntax(SyntaxError::Depth));
                    refused += 1;
                }
            }
        }
        assert!(fits > 20 && refused > 50, "{fits} fit");
        // Without parentheses: each flag group lets another operator follow.
        let stars = r"*(?i)".repeat(5_000);
        assert_eq!(
            error(&format!("a{stars}")),
            ExpressionError::Syntax(SyntaxError::Depth)
        );
    };
    stack.spawn(deepest).unwrap().join().unwrap();
}

/// Each of these makes a matcher that backtracks try more ways than there are atoms in the universe, and a matcher without a bound
/// on its states keep two to the power of hundreds.
#[test]
fn hostile_expressions_read_a_text_once_and_keep_a_bounded_number_of_states() {
    let text: String = (0..4_000_u32)
        .map(|i| if (i * i / 7) % 3 == 0 { 'a' } else { 'b' })
        .collect();
    for hostile in [
        "^(a+)+$",
        "(?:a?){100}a{100}c",
        "^(?:(?:[ab]*a[ab]*)*)*c$",
        "[ab]*a[ab]{300}c",
        "(?:.*a){20}c",
    ] {
        let expression = made(hostile, &mut Budget::default()).unwrap();
        assert!(!expression.is_match(&text), "{hostile}");
        let Automaton { dfa, cache } = &*expression.0;
        let kept = cache.lock().unwrap().memory_usage();
        assert!(
            kept <= dfa.get_config().get_cache_capacity(),
            "{hostile}: {kept} bytes"
        );
    }
    assert!(
        made("[ab]*a[ab]{300}", &mut Budget::default())
            .unwrap()
            .is_match(&text)
    );
}
