//! Which Kubernetes namespaces were seen in the last hour. Follows the ring beside its clients, so that the writer pays nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

use super::ring::{FlowRing, Read};
use netflume_core::model::cilium::CiliumEvent;

/// How long a namespace is remembered after it was seen.
const MEMORY_NS: u64 = 3_600_000_000_000;

/// Namespaces beyond which none is added.
const LIMIT: usize = 65_536;

/// Cluster and namespace, and when it was last seen (nanoseconds since 1970).
type Seen = BTreeMap<(Box<str>, Box<str>), u64>;

/// The namespaces of the last hour; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Namespaces(Arc<Mutex<Seen>>);

impl Namespaces {
    /// Reads the ring until `stop`.
    pub(super) async fn follow(self, ring: FlowRing, stop: CancellationToken) {
        let mut published = ring.watch();
        let mut reader = ring.reader(0);
        loop {
            match reader.read() {
                Read::Events(chunk, offset) => {
                    let node = ring.node();
                    let cluster = node.name.split_once('/').map_or("", |(cluster, _)| cluster);
                    self.saw(cluster, chunk.events.iter().skip(offset));
                    tokio::task::yield_now().await;
                }
                Read::Missed(_) => {}
                Read::End => tokio::select! {
                    () = stop.cancelled() => return,
                    changed = published.changed() => if changed.is_err() { return },
                },
            }
        }
    }

    /// The namespaces seen in the hour before `now`, sorted by cluster and name.
    pub(super) fn list(&self, unix_ns: u64) -> Vec<(Box<str>, Box<str>)> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.retain(|_, last| last.saturating_add(MEMORY_NS) >= unix_ns);
        seen.keys().cloned().collect()
    }

    fn saw<'a>(&self, cluster: &str, events: impl Iterator<Item = &'a CiliumEvent>) {
        // Neighbours in the ring are often of the same namespaces.
        let mut latest: BTreeMap<&str, u64> = BTreeMap::new();
        for event in events {
            if let CiliumEvent::Flow(flow) = event {
                for namespace in [flow.source.namespace(), flow.destination.namespace()] {
                    if !namespace.is_empty() {
                        latest.insert(namespace, flow.time_ns);
                    }
                }
            }
        }
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (namespace, time_ns) in latest {
            let key = (cluster.into(), namespace.into());
            if seen.len() < LIMIT || seen.contains_key(&key) {
                seen.insert(key, time_ns);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use netflume_core::model::flow::{Endpoint, Flow, Pod};

    fn flow(namespace: &str, time_ns: u64) -> CiliumEvent {
        let pod = Pod {
            namespace: namespace.into(),
            ..Pod::default()
        };
        CiliumEvent::Flow(Flow {
            time_ns,
            destination: Endpoint {
                pod: Some(Arc::new(pod)),
                ..Endpoint::default()
            },
            ..Flow::default()
        })
    }

    #[test]
    fn namespaces_are_forgotten_after_an_hour() {
        let namespaces = Namespaces::default();
        namespaces.saw("prod", [flow("b", 5), flow("a", 10), flow("", 11)].iter());
        let names = |now| -> Vec<_> {
            let list = namespaces.list(now);
            list.into_iter()
                .map(|(cluster, name)| format!("{cluster}/{name}"))
                .collect()
        };
        assert_eq!(names(MEMORY_NS), ["prod/a", "prod/b"]);
        assert_eq!(names(MEMORY_NS + 6), ["prod/a"]);
    }
}
