//! A source that watches the test's own sockets, and a memory of what it said.

use std::net::SocketAddr;
use std::sync::Arc;

use netflume::decode::kernel::decode;
use netflume::ledger::Ledger;
use netflume::model::netflow::{ConnectionState, Endpoint, KernelEvent, Listener};
use netflume::source::Batch;
use netflume::source::kernel::{KernelOptions, KernelSource};

/// A running source, and everything that it has said so far.
pub(crate) struct Watch {
    pub(crate) source: KernelSource,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) connections: Vec<ConnectionState>,
    pub(crate) listeners: Vec<Listener>,
}

impl Watch {
    /// With the options of a test: own sockets are not left out.
    pub(crate) fn start() -> Self {
        Self::with(&KernelOptions {
            exclude_own: false,
            ..KernelOptions::default()
        })
    }

    pub(crate) fn with(options: &KernelOptions) -> Self {
        let ledger = Arc::new(Ledger::default());
        let source = KernelSource::start(options, Arc::clone(&ledger))
            .unwrap_or_else(|e| panic!("kernel tests need root and a kernel with BTF: {e}"));
        Self {
            source,
            ledger,
            connections: Vec::new(),
            listeners: Vec::new(),
        }
    }

    /// One interval: drains and asks for every open connection.
    pub(crate) fn collect(&mut self) {
        let mut batches: Vec<Batch> = Vec::new();
        self.source.collect(&mut batches).unwrap();
        for batch in batches {
            decode(&batch.bytes, |event| match event.unwrap() {
                KernelEvent::Connection(state) => self.connections.push(state),
                KernelEvent::Listener(listener) => self.listeners.push(listener),
            });
        }
    }

    /// Everything said about the connection with this local and peer address, in order.
    pub(crate) fn about(&self, local: SocketAddr, peer: SocketAddr) -> Vec<ConnectionState> {
        let (local, peer) = (Endpoint::from(local), Endpoint::from(peer));
        self.connections
            .iter()
            .copied()
            .filter(|c| c.local == local && c.peer == peer)
            .collect()
    }
}
