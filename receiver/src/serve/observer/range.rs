//! Which part of the ring a request means: `first`, `last`, `since`, `until`, `follow`.
//!
//! As in Cilium `pkg/hubble/observer/local_observer.go` (1.19), but only events of the kind that was asked for count for `number`
//! (there, agent and debug events do too), and of these only such as are not after `until`.

use std::sync::Arc;

use tonic::Status;

use super::ring::{Chunk, FlowRing};
use super::service::Turn;
use netflume_core::model::cilium::CiliumEvent;

/// The common part of the three streaming requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Range {
    /// At most so many; zero for no limit.
    number: u64,
    /// The oldest instead of the newest.
    first: bool,
    /// Goes on with new events.
    pub follow: bool,
    since_ns: Option<i128>,
    until_ns: Option<i128>,
}

/// Where an event stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Before the range.
    Before,
    /// In it.
    Within,
    /// After it: nothing more will come.
    After,
}

impl Range {
    /// Checks a request.
    pub(super) fn new(
        number: u64,
        first: bool,
        follow: bool,
        since: Option<prost_types::Timestamp>,
        until: Option<prost_types::Timestamp>,
    ) -> Result<Self, Status> {
        if first && follow {
            return Err(Status::invalid_argument(
                "first cannot be asked for together with follow",
            ));
        }
        Ok(Self {
            number,
            first,
            follow,
            since_ns: since.map(|time| unix_ns("since", time)).transpose()?,
            until_ns: until.map(|time| unix_ns("until", time)).transpose()?,
        })
    }

    /// Where an event of this time stands.
    pub(super) fn place(&self, unix_ns: u64) -> Place {
        let time = i128::from(unix_ns);
        if self.until_ns.is_some_and(|until| time > until) {
            Place::After
        } else if self.since_ns.is_some_and(|since| time < since) {
            Place::Before
        } else {
            Place::Within
        }
    }

    /// Whether so many events are all that was asked for.
    pub(super) const fn is_done(&self, sent: u64) -> bool {
        !self.follow && self.number > 0 && sent >= self.number
    }

    /// The number of the first event to look at. `since` wins over `number`.
    pub(super) async fn start(
        &self,
        ring: &FlowRing,
        matches: impl Fn(&CiliumEvent) -> bool,
        turn: &mut Turn,
    ) -> u64 {
        let chunks = ring.chunks();
        let oldest = chunks.first().map_or(0, |chunk| chunk.first);
        let newest = chunks.last().map_or(0, |chunk| chunk.end());
        if self.since_ns.is_some() {
            return self.first_since(&chunks).unwrap_or(newest);
        }
        if self.first {
            return oldest;
        }
        match (self.number, self.follow) {
            (0, true) => newest,
            (0, false) => oldest,
            (number, _) => {
                let last = self.last(&chunks, number, matches, turn).await;
                last.unwrap_or(oldest)
            }
        }
    }

    fn first_since(&self, chunks: &[Arc<Chunk>]) -> Option<u64> {
        let is_new = |event: &CiliumEvent| self.place(time_ns(event)) != Place::Before;
        // Times rise: one look at the end of each chunk is enough.
        let chunk = chunks.get(
            chunks.partition_point(|chunk| chunk.events.last().is_none_or(|event| !is_new(event))),
        )?;
        let offset = chunk.events.iter().position(is_new)?;
        Some(chunk.first + offset as u64)
    }

    async fn last(
        &self,
        chunks: &[Arc<Chunk>],
        number: u64,
        matches: impl Fn(&CiliumEvent) -> bool,
        turn: &mut Turn,
    ) -> Option<u64> {
        let mut found = 0;
        for chunk in chunks.iter().rev() {
            for (offset, event) in chunk.events.iter().enumerate().rev() {
                turn.pass().await;
                if self.place(time_ns(event)) == Place::Within && matches(event) {
                    found += 1;
                    if found == number {
                        return Some(chunk.first + offset as u64);
                    }
                }
            }
        }
        None
    }
}

/// When an event was read.
pub(super) const fn time_ns(event: &CiliumEvent) -> u64 {
    match event {
        CiliumEvent::Flow(flow) => flow.time_ns,
        CiliumEvent::Agent(agent) => agent.time_ns,
        CiliumEvent::Debug(debug) => debug.time_ns,
        CiliumEvent::Lost(lost) => lost.time_ns,
    }
}

fn unix_ns(field: &str, time: prost_types::Timestamp) -> Result<i128, Status> {
    if (0..1_000_000_000).contains(&time.nanos) {
        Ok(i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos))
    } else {
        Err(Status::invalid_argument(format!(
            "{field}: {} nanoseconds are no part of a second",
            time.nanos
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::observer::ring::{Capacity, ring};
    use netflume_core::model::cilium::LostEvent;
    use netflume_core::model::flow::{Flow, Verdict};

    /// Flows at 10, 20, …, 100; every second one is dropped; after 50 a loss.
    fn filled() -> FlowRing {
        let ring = ring(Capacity::default(), Arc::default());
        let mut writer = ring.writer();
        for i in 1..=10_u8 {
            writer.push(CiliumEvent::Flow(Flow {
                time_ns: u64::from(i) * 10,
                verdict: if i % 2 == 0 {
                    Verdict::DROPPED
                } else {
                    Verdict::FORWARDED
                },
                ..Flow::default()
            }));
            if i == 5 {
                writer.push(CiliumEvent::Lost(LostEvent {
                    time_ns: 50,
                    ..LostEvent::default()
                }));
            }
            if i % 3 == 0 {
                writer.flush();
            }
        }
        writer.flush();
        ring
    }

    async fn start(range: Range) -> u64 {
        let is_drop = |event: &CiliumEvent| matches!(event, CiliumEvent::Flow(flow) if flow.verdict == Verdict::DROPPED);
        range.start(&filled(), is_drop, &mut Turn::begin()).await
    }

    fn at(nanos: i32) -> Option<prost_types::Timestamp> {
        Some(prost_types::Timestamp { seconds: 0, nanos })
    }

    #[tokio::test]
    async fn ranges_begin_where_hubbles_do() {
        let range = async |number, first, follow, since, until| {
            start(Range::new(number, first, follow, since, until).unwrap()).await
        };
        assert_eq!(range(0, false, false, None, None).await, 0, "everything");
        assert_eq!(range(0, false, true, None, None).await, 11, "only new ones");
        assert_eq!(range(2, true, false, None, None).await, 0, "the oldest");
        assert_eq!(
            range(2, false, false, None, None).await,
            8,
            "the newest two drops, at 80 and 100"
        );
        assert_eq!(
            range(2, false, true, None, None).await,
            8,
            "the same, and on"
        );
        assert_eq!(
            range(99, false, false, None, None).await,
            0,
            "more than there are"
        );
        assert_eq!(
            range(2, false, false, None, at(60)).await,
            3,
            "the newest two until 60: 40 and 60"
        );
        assert_eq!(range(0, false, false, at(60), None).await, 6);
        assert_eq!(range(1, true, false, at(65), None).await, 7, "since wins");
        assert_eq!(
            range(0, false, true, at(101), None).await,
            11,
            "nothing yet"
        );
    }

    #[test]
    fn requests_that_mean_nothing_are_refused() {
        assert!(Range::new(1, true, true, None, None).is_err());
        assert!(Range::new(1, false, false, at(-1), None).is_err());
        let range = Range::new(2, false, false, at(20), at(30)).unwrap();
        assert_eq!(
            [19, 20, 30, 31].map(|ns| range.place(ns)),
            [Place::Before, Place::Within, Place::Within, Place::After]
        );
        assert!(!range.is_done(1) && range.is_done(2));
    }
}
