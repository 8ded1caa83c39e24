//! Connections that end before anybody was seen with them: a peer reset them within an interval.
//!
//! Who accepted such a connection is one of the processes that hold the listening socket. They are all known only after the next
//! look at the open sockets, so the end waits for it.

use std::sync::Arc;

use super::{FlowTable, known_owner};
use crate::model::netflow::{ConnectionState, Identity, Owner, Phase, Role, Transport};

/// Ends that wait; those beyond are reported without an owner.
const OWNERLESS_MAX: usize = 16_384;

impl FlowTable {
    /// Names the owners of connections that ended before anybody was seen with them. To be called at the end of an interval, after
    /// the observations of its pass, before [`Self::flush`].
    pub fn settle(&mut self, mut identify: impl FnMut(&Owner, u64) -> Arc<Identity>) {
        let waiting = std::mem::take(&mut self.ownerless);
        for state in waiting.into_values() {
            self.conclude(state, &mut identify);
        }
    }

    /// Lets an end wait that has no owner; false: it need not, or cannot.
    pub(super) fn hold(&mut self, state: &ConnectionState) -> bool {
        let ownerless = state.phase == Phase::Closed
            && state.transport == Transport::Tcp
            && state.owner.pid == 0
            && state.role != Role::Client
            && !self.has_known_owner(state.id)
            && self.ownerless.len() < OWNERLESS_MAX;
        if ownerless {
            self.ownerless.insert(state.id, *state);
        }
        ownerless
    }

    fn has_known_owner(&self, id: u64) -> bool {
        let number = self.by_id.get(&id);
        number.is_some_and(|&number| known_owner(&self.owners, &self.connections[number as usize]))
    }

    /// Concludes the end that waits under this id, because the id is seen again.
    pub(super) fn settle_one(
        &mut self,
        id: u64,
        identify: &mut impl FnMut(&Owner, u64) -> Arc<Identity>,
    ) {
        if !self.ownerless.is_empty()
            && let Some(state) = self.ownerless.remove(&id)
        {
            self.conclude(state, identify);
        }
    }

    fn conclude(
        &mut self,
        mut state: ConnectionState,
        identify: &mut impl FnMut(&Owner, u64) -> Arc<Identity>,
    ) {
        if let Some(owner) = self.listeners.acceptor(&state, self.pass) {
            state.owner = owner;
        }
        self.apply_state(&state, identify);
    }
}

#[cfg(test)]
mod tests {
    use crate::aggregate::netflow::tests::{Host, at};
    use crate::aggregate::netflow::{ConnectionState, Options, Phase, Role};
    use crate::model::netflow::{KernelEvent, Listener, Owner};

    /// `credentials` are the process's, as `pid` makes them.
    fn holds(host: &mut Host, socket: u64, pid: u32) {
        host.event(&KernelEvent::Listener(Listener {
            id: socket,
            netns: 1,
            local: at(1, 80),
            owner: Owner {
                pid,
                ..Owner::default()
            },
            credentials: pid * 10,
            listening: true,
            ..Listener::default()
        }));
    }

    fn reset(id: u64, acceptor: u32) -> ConnectionState {
        ConnectionState {
            id,
            phase: Phase::Closed,
            boot_time_ns: 2,
            opened_boot_time_ns: 1,
            role: Role::Server,
            local: at(1, 80),
            peer: at(2, 50_000),
            netns: 1,
            acceptor,
            ..ConnectionState::default()
        }
    }

    fn pids(host: &mut Host) -> Vec<u32> {
        let mut pids: Vec<u32> = host.flush().iter().map(|r| r.process.pid).collect();
        pids.sort_unstable();
        pids
    }

    fn host() -> Host {
        Host::new(Options::default())
    }

    #[test]
    fn a_connection_that_nobody_accepted_is_its_only_listeners() {
        let mut host = host();
        holds(&mut host, 1, 9);
        host.see(reset(1, 0));
        host.see(ConnectionState {
            netns: 2,
            ..reset(2, 0)
        });
        host.see(ConnectionState {
            role: Role::Client,
            ..reset(3, 0)
        });
        assert_eq!(
            pids(&mut host),
            [0, 0, 9],
            "not of another namespace, nor of one that connected"
        );
    }

    #[test]
    fn a_listener_with_several_holders_names_nobody() {
        // Four processes that inherited one socket, or have one each (SO_REUSEPORT); the second is seen only after the end.
        for sockets in [[1, 1], [1, 2]] {
            let mut host = host();
            holds(&mut host, sockets[0], 8);
            host.see(reset(1, 0));
            holds(&mut host, sockets[1], 9);
            assert_eq!(pids(&mut host), [0], "{sockets:?}");
        }
    }

    #[test]
    fn the_credentials_tell_who_of_several_accepted_it() {
        let mut host = host();
        holds(&mut host, 1, 8);
        host.see(reset(1, 90));
        host.see(reset(2, 80));
        host.see(reset(3, 70));
        holds(&mut host, 1, 9);
        assert_eq!(pids(&mut host), [0, 8, 9]);
        // The only one that is known was another: a child that is gone already accepted it.
        let mut host = self::host();
        holds(&mut host, 1, 8);
        host.see(reset(1, 90));
        assert_eq!(pids(&mut host), [0]);
    }

    #[test]
    fn who_holds_a_listener_no_more_does_not_hide_who_does() {
        let mut host = host();
        holds(&mut host, 1, 8);
        host.flush();
        host.flush();
        holds(&mut host, 1, 9);
        host.see(reset(1, 0));
        assert_eq!(pids(&mut host), [9]);
        // A closed one still names what ended before the pass was over.
        host.see(reset(2, 0));
        host.event(&KernelEvent::Listener(Listener {
            id: 1,
            netns: 1,
            local: at(1, 80),
            ..Listener::default()
        }));
        assert_eq!(pids(&mut host), [9]);
        assert_eq!(host.table.stats().listeners, 0);
    }

    #[test]
    fn an_id_that_is_used_again_does_not_wait() {
        let mut host = host();
        holds(&mut host, 1, 9);
        host.see(reset(1, 0));
        host.see(ConnectionState {
            opened_boot_time_ns: 3,
            boot_time_ns: 4,
            ..reset(1, 0)
        });
        let records = host.flush();
        let opened: u64 = records.iter().map(|r| r.tcp_established).sum();
        let closed: u64 = records.iter().map(|r| r.tcp_closed).sum();
        assert_eq!((opened, closed), (2, 2), "{records:?}");
    }
}
