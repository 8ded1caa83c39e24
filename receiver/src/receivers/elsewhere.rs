//! What a receiver reports on a system that its source does not exist on. Its engine does: recorded files are replayed everywhere.

use crate::platform::system;
use crate::receivers::{Diagnosis, Finding, FindingState, SourceError};

/// `needs` is a sentence: what the source needs.
pub(super) fn error(needs: &str) -> SourceError {
    SourceError::new(detail(needs))
}

pub(super) fn diagnosis(name: &'static str, needs: &str) -> Diagnosis {
    Diagnosis {
        machine: Vec::new(),
        findings: vec![Finding {
            name,
            state: FindingState::Absent,
            detail: detail(needs),
            cost: None,
            remedy: None,
        }],
    }
}

fn detail(needs: &str) -> String {
    format!("{needs}; this is {}", system::describe())
}
