//! What receivers report to, and what is seen of them from outside.

use std::sync::Arc;

use netflume_core::ledger::Ledgers;

use crate::receivers::{Receiver, SourceContext};
use crate::serve::health::Health;

/// What is known of all receivers from outside.
#[derive(Clone, Debug, Default)]
pub(super) struct Monitor {
    /// What became of their items.
    pub(super) ledgers: Arc<Ledgers>,
    /// Whether they are alive and deliver.
    pub(super) health: Arc<Health>,
}

impl Monitor {
    /// The part that a receiver's source reports to.
    pub(super) fn source(&self, receiver: &dyn Receiver) -> SourceContext {
        SourceContext {
            ledger: self.ledgers.of(receiver.key()),
            health: Arc::clone(&self.health),
        }
    }
}
