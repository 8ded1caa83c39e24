//! `world.json`, what the agent of the fixtures knows, to the directory that flows are named from.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use netflume::enrich::cilium::workload::{Owner, workload};
use netflume::enrich::cilium::{Directory, LocalEndpoint, labels};
use netflume::model::flow::{Pod, Service};
use serde_json::Value;

/// The fixtures' node.
pub(crate) struct World {
    pub(crate) directory: Directory,
    /// As in flows: `cluster/node`.
    pub(crate) node: String,
    /// Time of the first event of a stream, as the first line of each expects it: 2026-05-13T10:00:00Z.
    pub(crate) start_ns: u64,
    /// Time between two events.
    pub(crate) step_ns: u64,
}

/// Seconds since 1970 of the one time in `world.json`.
const START: (&str, u64) = ("2026-05-13T10:00:00Z", 1_778_666_400);

pub(crate) fn load(fixtures: &Path) -> Result<World> {
    let path = fixtures.join("world.json");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let world: Value = serde_json::from_str(&text)?;
    anyhow::ensure!(
        world["start"] == START.0,
        "the world starts at another time"
    );
    let mut directory = Directory::default();
    for endpoint in list(&world, "endpoints") {
        let identity = number(endpoint, "identity")?;
        directory.set_endpoint(LocalEndpoint {
            id: number(endpoint, "id")?,
            identity,
            pod: (!text_of(endpoint, "pod").is_empty()).then(|| Arc::new(local_pod(endpoint))),
            labels: Arc::new(labels::of(identity, texts(&endpoint["labels"]))),
            addresses: vec![address(endpoint, "ipv4")?, address(endpoint, "ipv6")?],
        });
    }
    for identity in list(&world, "identities") {
        directory.set_identity(number(identity, "id")?, texts(&identity["labels"]));
    }
    for entry in list(&world, "ip_cache") {
        let (ip, length) = text_of(entry, "cidr").split_once('/').context("cidr")?;
        let pod = (!text_of(entry, "pod").is_empty()).then(|| Arc::new(pod(entry)));
        directory.set_prefix(
            ip.parse()?,
            length.parse()?,
            number(entry, "identity")?,
            pod,
        );
    }
    for service in list(&world, "services") {
        let named = Service {
            name: text_of(service, "name").into(),
            namespace: text_of(service, "namespace").into(),
        };
        directory.set_service(
            address(service, "ip")?,
            number(service, "port")?,
            Arc::new(named),
        );
    }
    for known in list(&world, "names") {
        let names = texts(&known["names"]).map(Box::from).collect();
        directory.set_names(number(known, "endpoint")?, address(known, "ip")?, names);
    }
    for link in list(&world, "links") {
        directory.set_interface(number(link, "index")?, text_of(link, "name").into());
    }
    for cgroup in list(&world, "cgroups") {
        // The agent drops texts that are no addresses.
        let addresses = texts(&cgroup["ips"])
            .filter_map(|ip| ip.parse().ok())
            .collect();
        directory.set_cgroup(number(cgroup, "id")?, addresses);
    }
    Ok(World {
        directory,
        node: text_of(&world, "node").to_owned(),
        start_ns: START.1 * 1_000_000_000,
        step_ns: number(&world, "step_ns")?,
    })
}

fn pod(named: &Value) -> Pod {
    Pod {
        namespace: text_of(named, "namespace").into(),
        name: text_of(named, "pod").into(),
        ..Pod::default()
    }
}

fn local_pod(endpoint: &Value) -> Pod {
    let meta = &endpoint["pod_meta"];
    let owner = Owner {
        generate_name: text_of(meta, "generate_name"),
        kind: text_of(meta, "owner_kind"),
        name: text_of(meta, "owner_name"),
        template_hash: text_of(&meta["labels"], "pod-template-hash"),
        deployment_config: text_of(&meta["labels"], "deploymentconfig"),
    };
    Pod {
        workloads: workload(&owner).into_iter().collect(),
        ..pod(endpoint)
    }
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

/// Absent is empty.
fn text_of<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn texts(value: &Value) -> impl Iterator<Item = &str> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}

fn number<T: TryFrom<u64>>(value: &Value, key: &str) -> Result<T> {
    let number = value[key].as_u64().with_context(|| key.to_owned())?;
    T::try_from(number)
        .ok()
        .with_context(|| format!("{key} is too large"))
}

fn address(value: &Value, key: &str) -> Result<IpAddr> {
    text_of(value, key).parse().with_context(|| key.to_owned())
}
