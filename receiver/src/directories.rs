//! Watchers of what the host knows of its processes; they fill what [`netflume_core::enrich`] looks up.

pub mod cgroups;
pub mod cilium_api;
pub mod host;
pub mod links;
pub mod process;
