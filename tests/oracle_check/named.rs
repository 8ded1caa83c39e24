//! With names from the agent's API alone (`api/*.json`, written by the API's own models), flows say what they say with all that the
//! agent knows, and so what Hubble says.

use std::fs;

use anyhow::{Context, Result, ensure};
use netflume_core::enrich::cilium::Directory;
use netflume_core::enrich::cilium::api::{
    Cgroups, Endpoint, Healthz, Identity, IpEntry, Lookup, ServiceEntry,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{compare, decoded, fixtures, world};

fn answer<T: DeserializeOwned>(release: &str, name: &str) -> Result<T> {
    let path = fixtures::folder()
        .join(release)
        .join(format!("api/{name}.json"));
    let text = fs::read(&path).with_context(|| path.display().to_string())?;
    serde_json::from_slice(&text).with_context(|| path.display().to_string())
}

fn directory(release: &str) -> Result<Directory> {
    let mut directory = Directory::default();
    for endpoint in answer::<Vec<Endpoint>>(release, "endpoint")? {
        directory.add_endpoint(&endpoint);
    }
    for identity in answer::<Vec<Identity>>(release, "identity")? {
        directory.add_identity(&identity);
    }
    for entry in answer::<Vec<IpEntry>>(release, "ip")? {
        directory.add_ip(&entry);
    }
    directory.replace_services(&answer::<Vec<ServiceEntry>>(release, "service")?);
    directory.replace_names(&answer::<Vec<Lookup>>(release, "fqdn-cache")?);
    directory.replace_cgroups(&answer::<Cgroups>(release, "cgroup-dump-metadata")?);
    Ok(directory)
}

/// The API tells neither a pod's owner nor the host's own interfaces.
fn untold(difference: &compare::Difference) -> bool {
    let host_link = |name: &Option<Value>| {
        let known = ["lo", "eth0", "cilium_host"];
        name.as_ref()
            .and_then(Value::as_str)
            .is_some_and(|name| known.contains(&name))
    };
    difference.ours.is_none()
        && (difference.path.ends_with(".workloads")
            || difference.path == "flow.interface.name" && host_link(&difference.hubble))
        || difference.path == "debug_event.message"
}

#[test]
fn what_the_agents_api_tells_names_flows_as_hubble_does() -> Result<()> {
    let all = world::directory();
    for release in fixtures::RELEASES {
        let says: Healthz = answer(release, "healthz")?;
        ensure!(Some(says.version().context("no version")?) == decoded::version(release));
        ensure!(says.node() == Some(decoded::NODE));
        let told = directory(release)?;
        let node = decoded::node(release);
        let (mut named, mut workloads) = (0, 0);
        for stream in fixtures::COUNTED {
            let expected = decoded::events(&all, release, stream, true)?;
            let ours = decoded::events(&told, release, stream, true)?;
            for (n, (expected, ours)) in expected.iter().zip(&ours).enumerate() {
                let (expected, ours) = match (expected, ours) {
                    (Ok(expected), Ok(ours)) => (
                        decoded::as_json(expected, &node)?,
                        decoded::as_json(ours, &node)?,
                    ),
                    (expected, ours) => {
                        ensure!(expected == ours, "{release}/{stream} {n}: {ours:?}");
                        continue;
                    }
                };
                named += usize::from(!ours["flow"]["source"]["pod_name"].is_null());
                for difference in compare::differences(&expected, &ours) {
                    ensure!(untold(&difference), "{release}/{stream} {n}: {difference}");
                    workloads += usize::from(difference.path.ends_with(".workloads"));
                }
            }
        }
        ensure!(
            named > 500 && workloads > 100,
            "{named} named, {workloads} without workload"
        );
    }
    Ok(())
}
