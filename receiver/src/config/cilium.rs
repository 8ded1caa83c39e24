//! The `receivers.cilium` keys.

use std::path::PathBuf;

use crate::config::Config;
use crate::config::schema::Row;
use crate::config::value::Limits;

/// `receivers.cilium`: events of the Cilium agent.
#[derive(Clone, Debug, PartialEq)]
pub struct Cilium {
    /// The agent's monitor socket.
    pub socket: PathBuf,
    /// The agent's API socket; empty: it is not asked.
    pub api_socket: PathBuf,
}

impl Default for Cilium {
    fn default() -> Self {
        Self {
            socket: PathBuf::from("/var/run/cilium/monitor1_2.sock"),
            api_socket: PathBuf::from("/var/run/cilium/cilium.sock"),
        }
    }
}

fn cilium(config: &mut Config) -> &mut Cilium {
    config.receivers.cilium.get_or_insert_default()
}

/// The keys.
pub const ROWS: &[Row] = &[
    Row::component(
        "receivers.cilium",
        "Events of the Cilium agent on this node: drops, traces, verdicts, L7 access logs, agent events.",
        |c| c.receivers.cilium.is_some(),
        |c, on| {
            if on {
                cilium(c);
            } else {
                c.receivers.cilium = None;
            }
        },
    ),
    Row::value(
        "receivers.cilium.socket",
        Limits::Any,
        |c| &mut cilium(c).socket,
        "The agent's monitor socket.",
    ),
    Row::value(
        "receivers.cilium.api_socket",
        Limits::Any,
        |c| &mut cilium(c).api_socket,
        "The agent's API socket, which names pods, labels, services and domains; empty leaves flows without them.",
    ),
];
