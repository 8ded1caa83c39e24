//! Which configuration is in effect, and how reloads ended.

use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use foldhash::quality::FixedState;
use netflume_core::model::metrics::{AttributeValue, Number};
use netflume_core::model::resource::Value;
use netflume_core::semconv::own;

use crate::telemetry::state::Reading;

/// How a reload ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReloadResult {
    /// The new configuration is in effect.
    Applied,
    /// The old one stays.
    Refused,
}

impl ReloadResult {
    const ALL: [Self; 2] = [Self::Applied, Self::Refused];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Refused => "refused",
        }
    }
}

/// What there is to report about configurations. Shared.
#[derive(Debug)]
pub struct Reloads(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    generation: i64,
    hash: String,
    /// Count and time (seconds since 1970), by [`ReloadResult`].
    results: [(i64, Option<f64>); 2],
}

impl Reloads {
    /// The first configuration, printed whole.
    #[must_use]
    pub fn new(effective: &str) -> Self {
        Self(Mutex::new(State {
            generation: 1,
            hash: hash(effective),
            ..State::default()
        }))
    }

    /// Another configuration is in effect.
    pub fn applied(&self, effective: &str) {
        let mut state = self.lock();
        state.generation += 1;
        state.hash = hash(effective);
        state.record(ReloadResult::Applied);
    }

    /// A configuration was refused.
    pub fn refused(&self) {
        self.lock().record(ReloadResult::Refused);
    }

    /// Number and hash of the configuration in effect.
    #[must_use]
    pub fn generation(&self) -> (i64, String) {
        let state = self.lock();
        (state.generation, state.hash.clone())
    }

    /// Reloads by result.
    #[must_use]
    pub fn counts(&self) -> Vec<Reading> {
        let state = self.lock();
        let count = |result| {
            let (count, _) = state.results[result as usize];
            (attributes(result), Number::Int(count))
        };
        ReloadResult::ALL.into_iter().map(count).collect()
    }

    /// Times of the last reloads by result; none of what never happened.
    #[must_use]
    pub fn times(&self) -> Vec<Reading> {
        let state = self.lock();
        let time = |result| {
            let (_, time) = state.results[result as usize];
            Some((attributes(result), Number::Double(time?)))
        };
        ReloadResult::ALL.into_iter().filter_map(time).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn record(&mut self, result: ReloadResult) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let (count, time) = &mut self.results[result as usize];
        *count += 1;
        *time = Some(now.unwrap_or_default().as_secs_f64());
    }
}

fn attributes(result: ReloadResult) -> Vec<(&'static str, AttributeValue)> {
    let text = Value::Text(result.as_str().into());
    vec![(own::RESULT, AttributeValue::Value(text))]
}

/// The same text has the same hash on every machine.
fn hash(text: &str) -> String {
    let mut hasher = FixedState::default().build_hasher();
    hasher.write(text.as_bytes());
    format!("{:016x}", hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generation_and_hash_follow_what_is_in_effect() {
        let reloads = Reloads::new("a: 1");
        let (generation, first) = reloads.generation();
        assert_eq!((generation, first.len()), (1, 16));
        assert_eq!(reloads.times(), []);
        reloads.refused();
        assert_eq!(reloads.generation(), (1, first.clone()));
        reloads.applied("a: 2");
        let (generation, second) = reloads.generation();
        assert_eq!(generation, 2);
        assert_ne!(first, second);
        let counts: Vec<_> = reloads.counts().into_iter().map(|(_, n)| n).collect();
        assert_eq!(counts, [Number::Int(1), Number::Int(1)]);
        assert_eq!(reloads.times().len(), 2);
    }
}
