//! The Cilium receiver as its user runs it, beside the agent's own listener code (`tests/oracle`).

mod collector;
mod listener;
mod outages;
mod replay;
mod support;
