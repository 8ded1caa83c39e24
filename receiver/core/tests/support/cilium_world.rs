//! The fixtures of `tests/fixtures/cilium`: what the agent knows (`world.json`) as a [`Directory`], and the streams.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use netflume_core::enrich::cilium::workload::{Owner, workload};
use netflume_core::enrich::cilium::{Directory, LocalEndpoint, labels};
use netflume_core::model::flow::{Pod, Service};
use serde_json::Value;

/// A file among the fixtures. Packages in different folders share this file.
pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .map(|folder| folder.join("tests/fixtures/cilium"))
        .find(|fixtures| fixtures.is_dir())
        .expect("the repository has tests/fixtures/cilium")
        .join(name)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn texts(value: &Value) -> impl Iterator<Item = &str> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}

fn number<T: TryFrom<u64>>(value: &Value, key: &str) -> T {
    let number = value[key].as_u64().unwrap_or_default();
    T::try_from(number).unwrap_or_else(|_| panic!("{key} is out of range: {number}"))
}

fn pod(value: &Value) -> Pod {
    let meta = &value["pod_meta"];
    let owner = Owner {
        generate_name: text(meta, "generate_name"),
        kind: text(meta, "owner_kind"),
        name: text(meta, "owner_name"),
        template_hash: text(&meta["labels"], "pod-template-hash"),
        deployment_config: text(&meta["labels"], "deploymentconfig"),
    };
    Pod {
        namespace: text(value, "namespace").into(),
        name: text(value, "pod").into(),
        workloads: workload(&owner).into_iter().collect(),
    }
}

/// The directory of `world.json`.
pub(crate) fn directory() -> Directory {
    let world = std::fs::read_to_string(fixture("world.json")).expect("the fixture world.json");
    let world: Value = serde_json::from_str(&world).expect("JSON in world.json");
    let mut directory = Directory::default();
    let list = |key: &str| world[key].as_array().cloned().unwrap_or_default();
    for item in list("identities") {
        directory.set_identity(number(&item, "id"), texts(&item["labels"]));
    }
    for item in list("endpoints") {
        let identity = number(&item, "identity");
        let addresses = [text(&item, "ipv4"), text(&item, "ipv6")];
        directory.set_endpoint(LocalEndpoint {
            id: number(&item, "id"),
            identity,
            pod: Some(Arc::new(pod(&item))),
            labels: Arc::new(labels::of(identity, texts(&item["labels"]))),
            addresses: addresses
                .iter()
                .filter_map(|address| address.parse().ok())
                .collect(),
        });
    }
    for item in list("ip_cache") {
        let (address, length) = text(&item, "cidr")
            .split_once('/')
            .expect("a prefix length");
        let pod = (!text(&item, "pod").is_empty()).then(|| Arc::new(pod(&item)));
        let (address, length) = (
            address.parse().expect("an address"),
            length.parse().expect("a length"),
        );
        directory.set_prefix(address, length, number(&item, "identity"), pod);
    }
    for item in list("services") {
        let service = Service {
            name: text(&item, "name").into(),
            namespace: text(&item, "namespace").into(),
        };
        let address = text(&item, "ip").parse().expect("an address");
        directory.set_service(address, number(&item, "port"), Arc::new(service));
    }
    for item in list("names") {
        let address = text(&item, "ip").parse().expect("an address");
        let names = texts(&item["names"]).map(Box::from).collect();
        directory.set_names(number(&item, "endpoint"), address, names);
    }
    for item in list("links") {
        directory.set_interface(number(&item, "index"), text(&item, "name").into());
    }
    for item in list("cgroups") {
        let addresses = texts(&item["ips"])
            .filter_map(|address| address.parse().ok())
            .collect();
        directory.set_cgroup(number(&item, "id"), addresses);
    }
    directory
}
