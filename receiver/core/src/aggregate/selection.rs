//! Which Cilium events become log records: flows through include and exclude filters, then a sample of what is left.

use crate::aggregate::flow_filter::{FilterError, FlowFilters};
use crate::ledger::Reason;
use crate::model::cilium::CiliumEvent;
use crate::model::flow::Node;
use crate::proto::flow::FlowFilter;

/// What is selected.
#[derive(Clone, Debug, PartialEq)]
pub struct SelectionOptions {
    /// A flow is kept when it matches one of these, or there are none. Default: none.
    pub include: Vec<FlowFilter>,
    /// A flow is left out when it matches one of these. Default: none.
    pub exclude: Vec<FlowFilter>,
    /// The share of flows that is kept, from 0 to 1, of those that pass the filters. Default: 1.
    pub rate: f64,
}

impl Default for SelectionOptions {
    fn default() -> Self {
        Self {
            include: Vec::new(),
            exclude: Vec::new(),
            rate: 1.0,
        }
    }
}

/// The filters and the sampler. The same events in the same order give the same selection.
#[derive(Clone, Debug)]
pub struct Selection {
    filters: FlowFilters,
    rate: f64,
    /// Flows that reached the sampler.
    seen: u64,
}

impl Selection {
    /// Makes the filters ready.
    ///
    /// # Errors
    /// The first value of a filter that cannot be read.
    pub fn new(options: &SelectionOptions) -> Result<Self, FilterError> {
        Ok(Self {
            filters: FlowFilters::compile(&options.include, &options.exclude)?,
            rate: options.rate,
            seen: 0,
        })
    }

    /// Whether the event is kept; else why not. Only flows are ever left out: agent, debug and lost events are few and all kept.
    pub fn take(&mut self, event: &CiliumEvent, node: &Node) -> Result<(), Reason> {
        let CiliumEvent::Flow(flow) = event else {
            return Ok(());
        };
        if !self.filters.is_empty() && !self.filters.pass(flow, node) {
            return Err(Reason::NotSelected);
        }
        if self.rate >= 1.0 {
            return Ok(());
        }
        self.seen += 1;
        if share(self.seen) < self.rate {
            Ok(())
        } else {
            Err(Reason::Sampled)
        }
    }
}

/// A number from 0 to below 1 that looks random, the same for the same `n` (SplitMix64, Steele, Lea and Flood 2014): a counter alone would
/// keep step with traffic that alternates.
fn share(n: u64) -> f64 {
    let mut bits = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^= bits >> 31;
    // 32 bits are held exactly.
    f64::from(u32::try_from(bits >> 32).unwrap_or_default()) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::cilium::LostEvent;
    use crate::model::flow::{Flow, Verdict};

    fn flow(verdict: Verdict) -> CiliumEvent {
        CiliumEvent::Flow(Flow {
            verdict,
            ..Flow::default()
        })
    }

    fn kept(selection: &mut Selection, event: &CiliumEvent) -> usize {
        let node = Node::default();
        (0..10_000)
            .filter(|_| selection.take(event, &node).is_ok())
            .count()
    }

    #[test]
    fn filters_come_before_the_sample_and_touch_only_flows() {
        let filter = |text| serde_json::from_str::<FlowFilter>(text).unwrap();
        let mut selection = Selection::new(&SelectionOptions {
            include: vec![filter(r#"{"verdict":["DROPPED","FORWARDED"]}"#)],
            exclude: vec![filter(r#"{"verdict":["FORWARDED"]}"#)],
            rate: 0.0,
        })
        .unwrap();
        let node = Node::default();
        let mut take = |event: &CiliumEvent| selection.take(event, &node);
        assert_eq!(take(&flow(Verdict::FORWARDED)), Err(Reason::NotSelected));
        assert_eq!(take(&flow(Verdict::AUDIT)), Err(Reason::NotSelected));
        assert_eq!(take(&flow(Verdict::DROPPED)), Err(Reason::Sampled));
        assert_eq!(take(&CiliumEvent::Lost(LostEvent::default())), Ok(()));
    }

    #[test]
    fn the_rate_is_kept_and_the_same_each_time() {
        for (rate, least, most) in [
            (0.0, 0, 0),
            (0.1, 900, 1100),
            (0.5, 4850, 5150),
            (1.0, 10_000, 10_000),
        ] {
            let options = SelectionOptions {
                rate,
                ..SelectionOptions::default()
            };
            let mut selection = Selection::new(&options).unwrap();
            let mut again = selection.clone();
            let count = kept(&mut selection, &flow(Verdict::FORWARDED));
            assert!((least..=most).contains(&count), "{rate}: {count}");
            assert_eq!(kept(&mut again, &flow(Verdict::FORWARDED)), count);
        }
    }
}
