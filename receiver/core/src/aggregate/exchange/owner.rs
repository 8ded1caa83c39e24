//! Whose an exchange is: the pod at whose proxy it was seen, as a resource.

use std::sync::Arc;

use hashbrown::HashMap;

use super::said::Side;
use crate::model::flow::{Endpoint, Flow};
use crate::model::resource::{Resource, ResourceRef, Value};
use crate::semconv::resource as name;

/// Pods that are remembered; when one more comes, all are forgotten and made anew as they are met.
const PODS_MAX: usize = 4096;

/// Labels that name an application, the first one that is there.
const APP_LABELS: [&str; 4] = [
    "k8s:app.kubernetes.io/instance=",
    "k8s:app.kubernetes.io/name=",
    "k8s:app=",
    "k8s:k8s-app=",
];

/// The label that names the namespace.
const NAMESPACE_LABEL: &str = "k8s:io.kubernetes.pod.namespace=";

/// The resources of this node's pods.
#[derive(Debug)]
pub struct Owners {
    node: ResourceRef,
    pods: HashMap<String, ResourceRef, foldhash::fast::RandomState>,
    /// Reused for every look-up.
    key: String,
}

impl Owners {
    /// `node` is the resource of what belongs to no pod.
    #[must_use]
    pub fn new(node: ResourceRef) -> Self {
        Self {
            node,
            pods: HashMap::default(),
            key: String::new(),
        }
    }

    /// The node.
    #[must_use]
    pub fn node(&self) -> &ResourceRef {
        &self.node
    }

    /// The resource of the end at whose proxy a request was seen. Where the directory does not know the pod, the record's own labels
    /// still tell its namespace and application.
    pub fn of(&mut self, request: &Flow) -> ResourceRef {
        let end = match Side::of(request) {
            Side::Client => &request.source,
            Side::Server => &request.destination,
        };
        let workload = end.workloads().first();
        let app = label(end, &APP_LABELS);
        if end.pod_name().is_empty() && app.is_none() {
            return Arc::clone(&self.node);
        }
        self.key.clear();
        for part in [
            namespace(end),
            end.pod_name(),
            workload.map_or("", |workload| &workload.name),
            app.unwrap_or_default(),
        ] {
            self.key.push_str(part);
            self.key.push('\0');
        }
        if let Some(known) = self.pods.get(&self.key) {
            return Arc::clone(known);
        }
        if self.pods.len() >= PODS_MAX {
            self.pods.clear();
        }
        let made = Arc::new(self.make(end));
        self.pods.insert(self.key.clone(), Arc::clone(&made));
        made
    }

    /// The pod on its node. What the user says of netflume's own surroundings holds for the pods too, but for the service.
    fn make(&self, end: &Endpoint) -> Resource {
        let (namespace, pod) = (namespace(end), end.pod_name());
        let mut attributes: Vec<_> = self
            .node
            .attributes
            .iter()
            .filter(|(key, _)| *key == name::SERVICE_INSTANCE_ID || !key.starts_with("service."))
            .cloned()
            .collect();
        let mut add = |key, text: &str| {
            if !text.is_empty() {
                attributes.retain(|(known, _)| *known != key);
                attributes.push((key, Value::Text(text.into())));
            }
        };
        add(name::K8S_NAMESPACE_NAME, namespace);
        add(name::K8S_POD_NAME, pod);
        let workload = end.workloads().first();
        if let Some(workload) = workload
            && let Some(key) = workload_key(&workload.kind)
        {
            add(key, &workload.name);
        }
        let service = workload
            .map(|workload| &*workload.name)
            .or_else(|| label(end, &APP_LABELS))
            .unwrap_or(pod);
        add(name::SERVICE_NAME, service);
        add(name::SERVICE_NAMESPACE, namespace);
        if !pod.is_empty() {
            add(name::SERVICE_INSTANCE_ID, &format!("{namespace}.{pod}"));
        }
        attributes.sort_unstable_by_key(|(key, _)| *key);
        let mut extra = self.node.extra.clone();
        extra.retain(|(key, _)| !key.starts_with("service."));
        Resource { attributes, extra }
    }
}

fn namespace(end: &Endpoint) -> &str {
    match end.namespace() {
        "" => label(end, &[NAMESPACE_LABEL]).unwrap_or_default(),
        namespace => namespace,
    }
}

/// The value of the first of these labels that is there.
fn label<'a>(end: &'a Endpoint, labels: &[&str]) -> Option<&'a str> {
    labels.iter().find_map(|label| {
        let values = end.labels().iter();
        let found = values.filter_map(|text| text.strip_prefix(label)).next();
        found.filter(|text| !text.is_empty())
    })
}

fn workload_key(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "CronJob" => name::K8S_CRONJOB_NAME,
        "DaemonSet" => name::K8S_DAEMONSET_NAME,
        "Deployment" => name::K8S_DEPLOYMENT_NAME,
        "Job" => name::K8S_JOB_NAME,
        "ReplicaSet" => name::K8S_REPLICASET_NAME,
        "StatefulSet" => name::K8S_STATEFULSET_NAME,
        _ => return None,
    })
}
