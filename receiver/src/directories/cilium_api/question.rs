//! One question to the agent's API and its answer; what comes of a round of them.

use bytes::Bytes;
use netflume_core::enrich::cilium::Table;
use netflume_core::enrich::cilium::answer::{Answer, AnswerError, Change, Content};

use super::client::{AgentApi, ApiError};
use crate::platform::clock;

/// What came of one round of questions.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    /// To be applied in this order, at once.
    pub(crate) changes: Vec<Change>,
    /// The same as batches of a recording, if one is made.
    pub(crate) raw: Vec<Vec<u8>>,
    /// How far the lists are known now.
    pub(crate) lists: Lists,
    /// When the lists were asked for, nanoseconds since 1970.
    pub(crate) lists_ns: u64,
}

/// How far the lists of the agent are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Lists {
    /// As far as before.
    #[default]
    Same,
    /// All were answered, be it by a refusal.
    Complete,
    /// The agent's socket cannot be reached.
    Unreachable,
}

/// An answer that makes sense.
pub(super) struct Good {
    pub(super) change: Change,
    pub(super) raw: Option<Vec<u8>>,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum Bad {
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error(transparent)]
    Answer(#[from] AnswerError),
}

impl Bad {
    /// The agent does not answer at all, at least now.
    pub(super) fn is_away(&self) -> bool {
        matches!(self, Self::Api(error) if error.is_away())
    }

    /// Whether the same question may soon be answered.
    pub(super) fn may_pass(&self) -> bool {
        matches!(self, Self::Api(error) if error.may_pass())
    }
}

/// Asks one thing. The body does not outlive its reading, but for a recording.
pub(super) async fn ask(api: &mut AgentApi, path: &str, raw: bool) -> Result<Good, Bad> {
    let asked_ns = clock::now().unix_ns;
    let body: Bytes = api.get(path).await?;
    let answer = Answer {
        asked_ns,
        path,
        body: &body,
    };
    Ok(Good {
        change: answer.change()?,
        raw: raw.then(|| answer.to_bytes()),
    })
}

/// What the lists have, in a line.
pub(super) fn known(changes: &[Change]) -> Option<String> {
    let mut all = [0; 4];
    let mut any = false;
    for change in changes {
        if let Content::Table(table, filled) = &change.content {
            any = true;
            let counts = filled.counts();
            let of = match table {
                Table::Endpoints => 0,
                Table::Identities => 1,
                Table::Prefixes => 2,
                Table::Services => 3,
                Table::Names | Table::Cgroups => continue,
            };
            all[of] = counts[of];
        }
    }
    let [endpoints, identities, prefixes, services] = all;
    any.then(|| format!("receivers.cilium knows {endpoints} endpoints, {identities} identities, {prefixes} addresses and prefixes, {services} services"))
}
