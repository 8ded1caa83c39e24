//! Regular expressions of filters: the syntax is RE2's, as Go's `regexp` has it and Hubble with it; the search is bounded.
//!
//! All expressions of a field become one automaton, whose states are made as texts need them and are kept in a cache of a fixed
//! size. A text is read once, byte by byte: whatever the expression, there is no backtracking. What an automaton takes is charged to
//! a [`Budget`] that the filters of a request share.

mod class;
mod syntax;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use regex_automata::Input;
use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::nfa::thompson::{self, NFA, WhichCaptures};
use regex_syntax::hir::Hir;

pub use syntax::SyntaxError;

/// Bytes that the expressions of a request may take, caches included.
const BUDGET_BYTES: usize = 4 << 20;

/// Bytes that a byte of an expression is charged with for the time in which it is read.
const PARSED_BYTES: usize = 64;

/// Bytes of states that are kept between texts; more when the automaton needs them for a single step.
const CACHE_BYTES: usize = 64 << 10;

/// Why an expression cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExpressionError {
    /// It is not one.
    #[error("{0}")]
    Syntax(#[from] SyntaxError),
    /// It is too large, alone or with the others of the request.
    #[error("the expressions together need more than {} MiB", BUDGET_BYTES >> 20)]
    TooLarge,
}

/// What the expressions of a request may still take.
#[derive(Debug)]
pub(super) struct Budget(usize);

impl Default for Budget {
    fn default() -> Self {
        Self(BUDGET_BYTES)
    }
}

impl Budget {
    fn charge(&mut self, bytes: usize) -> Result<(), ExpressionError> {
        self.0 = self.0.checked_sub(bytes).ok_or(ExpressionError::TooLarge)?;
        Ok(())
    }
}

/// One or more expressions, of which a text has to match one. Clones share their states.
#[derive(Clone, Debug)]
pub(super) struct Expression(Arc<Automaton>);

struct Automaton {
    dfa: DFA,
    cache: Mutex<Cache>,
}

impl fmt::Debug for Automaton {
    /// Without its thousands of states.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let states = self.dfa.get_nfa().states().len();
        f.debug_struct("Automaton")
            .field("states", &states)
            .finish_non_exhaustive()
    }
}

impl Expression {
    /// Makes expressions ready.
    ///
    /// # Errors
    /// The first that is none, or a budget that does not suffice; with the expression, or all of them.
    pub(super) fn new(
        expressions: &[String],
        budget: &mut Budget,
    ) -> Result<Self, (String, ExpressionError)> {
        let mut parsed = Vec::with_capacity(expressions.len());
        for expression in expressions {
            let read = budget
                .charge(expression.len().saturating_mul(PARSED_BYTES))
                .and_then(|()| Ok(syntax::parse(expression)?));
            parsed.push(read.map_err(|error| (expression.clone(), error))?);
        }
        Self::build(&parsed, budget).map_err(|error| (expressions.join(", "), error))
    }

    fn build(parsed: &[Hir], budget: &mut Budget) -> Result<Self, ExpressionError> {
        let nfa = NFA::compiler()
            .configure(
                thompson::Config::new()
                    .which_captures(WhichCaptures::None)
                    .nfa_size_limit(Some(budget.0)),
            )
            .build_many_from_hir(parsed)
            .map_err(|_| ExpressionError::TooLarge)?;
        let config = DFA::config();
        let least = config
            .get_minimum_cache_capacity(&nfa)
            .map_err(|_| ExpressionError::TooLarge)?;
        let cache_bytes = least.max(CACHE_BYTES);
        budget.charge(nfa.memory_usage().saturating_add(cache_bytes))?;
        let dfa = DFA::builder()
            .configure(config.cache_capacity(cache_bytes))
            .build_from_nfa(nfa)
            .map_err(|_| ExpressionError::TooLarge)?;
        let cache = Mutex::new(dfa.create_cache());
        Ok(Self(Arc::new(Automaton { dfa, cache })))
    }

    /// Whether one of the expressions matches somewhere in the text.
    pub(super) fn is_match(&self, text: &str) -> bool {
        let Automaton { dfa, cache } = &*self.0;
        let mut cache = cache.lock().unwrap_or_else(PoisonError::into_inner);
        let input = Input::new(text).earliest(true);
        // A search fails only where it is configured to give up, which this one is not.
        dfa.try_search_fwd(&mut cache, &input)
            .is_ok_and(|found| found.is_some())
    }
}

#[cfg(test)]
mod tests;
