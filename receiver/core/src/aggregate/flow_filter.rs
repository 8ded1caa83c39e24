//! Hubble's flow filters: `flow.FlowFilter` into a test on compact flows, before any protobuf is made.
//!
//! One engine for the Observer API's lists, the metrics' include and exclude filters and those of the logs. Rules of Cilium
//! `pkg/hubble/filters` (1.19): a list holds when one of its filters does, a filter when all of its fields do, a field when one
//! of its values does. Expressions in CEL are refused.

mod check;
mod expression;
mod pattern;
mod selector;

use std::net::IpAddr;

use crate::model::flow::{Flow, Node};
use crate::proto::flow::FlowFilter;

use check::Check;
use expression::Budget;
pub use expression::{ExpressionError, SyntaxError};
pub use pattern::PatternError;
pub use selector::{Selector, SelectorError};

/// An include list and an exclude list, ready to be asked.
#[derive(Clone, Debug, Default)]
pub struct FlowFilters {
    include: Vec<Vec<Check>>,
    exclude: Vec<Vec<Check>>,
}

/// Why a filter is none. `field` is the field of `flow.FlowFilter`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// Not an address or prefix.
    #[error("{field}: `{value}` is no IP address and no prefix such as 10.0.0.0/8")]
    Address {
        /// The field.
        field: &'static str,
        /// What stands there.
        value: String,
    },
    /// Not a port.
    #[error("{field}: `{value}` is no port")]
    Port {
        /// The field.
        field: &'static str,
        /// What stands there.
        value: String,
    },
    /// Not a name pattern.
    #[error("{field}: `{value}`: {source}")]
    Pattern {
        /// The field.
        field: &'static str,
        /// What stands there.
        value: String,
        /// Why.
        source: PatternError,
    },
    /// Not a label selector.
    #[error("{field}: {source}")]
    Selector {
        /// The field.
        field: &'static str,
        /// Why.
        source: SelectorError,
    },
    /// Not a regular expression, or one that would need too much memory.
    #[error("{field}: `{value}` is no regular expression that can be used: {source}")]
    Expression {
        /// The field.
        field: &'static str,
        /// What stands there.
        value: String,
        /// Why.
        source: ExpressionError,
    },
    /// Not a status code.
    #[error("http_status_code: `{0}` is no status: write 404, or 4+ and 40+ for all that begin so")]
    Status(String),
    /// Not a protocol.
    #[error(
        "protocol: `{0}` is not known: icmp, icmpv4, icmpv6, tcp, udp, sctp, vrrp, igmp, dns, http, kafka are"
    )]
    Protocol(String),
    /// Not a UUID.
    #[error("uuid: `{0}` is no UUID")]
    Uuid(String),
    /// Empty where a name must stand.
    #[error("{field}: a name must not be empty")]
    Empty {
        /// The field.
        field: &'static str,
    },
    /// An HTTP field next to event types without access logs.
    #[error("{field}: goes only with event_type 129 (l7), or without event types")]
    NotL7 {
        /// The field.
        field: &'static str,
    },
    /// An expression in CEL.
    #[error("experimental.cel_expression: netflume does not evaluate CEL; use the other fields")]
    Cel,
}

impl FlowFilters {
    /// Makes both lists ready.
    ///
    /// # Errors
    /// The first value that cannot be read.
    pub fn compile(include: &[FlowFilter], exclude: &[FlowFilter]) -> Result<Self, FilterError> {
        let mut budget = Budget::default();
        let mut all = |filters: &[FlowFilter]| {
            let filters = filters.iter();
            filters
                .map(|filter| check::compile(filter, &mut budget))
                .collect::<Result<_, _>>()
        };
        Ok(Self {
            include: all(include)?,
            exclude: all(exclude)?,
        })
    }

    /// Whether the flow matches one of the include filters (or there are none) and none of the exclude filters.
    #[must_use]
    pub fn pass(&self, flow: &Flow, node: &Node) -> bool {
        let all = |filter: &Vec<Check>| filter.iter().all(|check| check.holds(flow, node));
        (self.include.is_empty() || self.include.iter().any(all)) && !self.exclude.iter().any(all)
    }

    /// Whether every flow passes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.include.is_empty() && self.exclude.is_empty()
    }
}

/// Whether `address` lies in the prefix; of two families never.
fn in_prefix(address: IpAddr, prefix: IpAddr, bits: u8) -> bool {
    match (address, prefix) {
        (IpAddr::V4(a), IpAddr::V4(p)) => {
            let differ = a.to_bits() ^ p.to_bits();
            differ.leading_zeros() >= u32::from(bits)
        }
        (IpAddr::V6(a), IpAddr::V6(p)) => {
            let differ = a.to_bits() ^ p.to_bits();
            differ.leading_zeros() >= u32::from(bits)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
