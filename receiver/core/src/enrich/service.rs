//! What runs on this host as resources: one for each service, shared by all its processes.
//!
//! A resource says whose record it is, so it names the container, pod or unit and the host, and no process: each process would be
//! a metric series of its own. The process stands on the record.
//!
//! `service.name`, the first that is known: what the process's own environment says (if that may be read), what ours says (if it
//! is the workload's), the container's name, the systemd unit, `unknown_service:<executable>` as the conventions want it.
//!
//! `service.instance.id` is always there, because a Prometheus exporter tells resources apart by it and by `service.name` alone:
//! the container, else the pod, else the host.
//!
//! `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` of our own environment name the workload only if we watch nothing else, as a
//! sidecar does (`scope: pod`). On a whole host they name netflume: its records are others', so only what is not `service.*`
//! (the deployment environment, the cluster, …) goes to all resources.

use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::container::CgroupNames;
use super::host::Host;
use crate::model::resource::{Resource, ResourceRef, Value};
use crate::semconv::resource as name;

/// What our own environment says.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Options {
    /// `OTEL_RESOURCE_ATTRIBUTES`, without `service.name`.
    pub attributes: Vec<(String, String)>,
    /// `OTEL_SERVICE_NAME`, or `service.name` of the attributes.
    pub service_name: Option<String>,
    /// Whether our environment is that of the workload: in a sidecar (`scope: pod`). Default: no.
    pub own_environment_is_workload: bool,
}

/// What tells one service of this host from another.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Service {
    /// From the cgroup.
    pub names: CgroupNames,
    /// Name of the executable; empty if unknown.
    pub executable: String,
    /// Resource attributes that the process was given in its own environment, `service.name` among them.
    pub environment: Vec<(String, String)>,
}

/// Resources that are remembered; beyond them those that nobody uses are forgotten.
const RESOURCES_MAX: usize = 4096;

/// The resources of this host.
#[derive(Debug)]
pub struct Resources {
    host: Vec<(&'static str, Value)>,
    /// `host.id`, else `host.name`.
    host_instance: Option<String>,
    extra: Vec<(String, String)>,
    service_name: Option<String>,
    made: HashMap<Service, ResourceRef, RandomState>,
}

impl Resources {
    /// For this host.
    #[must_use]
    pub fn new(host: &Host, options: Options) -> Self {
        let workload = options.own_environment_is_workload;
        let mut extra = options.attributes;
        extra.retain(|(key, _)| workload || !key.starts_with("service."));
        Self {
            host: host.attributes(),
            host_instance: host.id.clone().or_else(|| host.name.clone()),
            extra,
            service_name: options.service_name.filter(|_| workload),
            made: HashMap::default(),
        }
    }

    /// The resource of a service.
    pub fn of(&mut self, service: Service) -> ResourceRef {
        if let Some(resource) = self.made.get(&service) {
            return resource.clone();
        }
        if self.made.len() >= RESOURCES_MAX {
            self.made
                .retain(|_, resource| Arc::strong_count(resource) > 1);
        }
        let resource = Arc::new(self.make(&service));
        if self.made.len() < RESOURCES_MAX {
            self.made.insert(service, resource.clone());
        }
        resource
    }

    fn make(&self, service: &Service) -> Resource {
        let names = &service.names;
        let mut extra = self.extra.clone();
        for (key, value) in &service.environment {
            extra.retain(|(known, _)| known != key);
            extra.push((key.clone(), value.clone()));
        }
        let service_name = self
            .service_name
            .clone()
            .or_else(|| names.container_name.clone())
            .or_else(|| names.unit.clone())
            .unwrap_or_else(|| match service.executable.as_str() {
                "" => "unknown_service".to_owned(),
                executable => format!("unknown_service:{executable}"),
            });
        let instance = names
            .container_id
            .as_ref()
            .or(names.pod_uid.as_ref())
            .or(self.host_instance.as_ref());
        let own = [
            (name::CONTAINER_ID, names.container_id.as_deref()),
            (name::CONTAINER_NAME, names.container_name.as_deref()),
            (name::CONTAINER_RUNTIME_NAME, names.runtime),
            (name::K8S_POD_UID, names.pod_uid.as_deref()),
            (name::SERVICE_INSTANCE_ID, instance.map(String::as_str)),
            (name::SERVICE_NAME, Some(service_name.as_str())),
        ];
        let mut attributes = self.host.clone();
        attributes.extend(
            own.into_iter()
                .filter_map(|(name, text)| Some((name, Value::Text(text?.into())))),
        );
        // What the environments say wins, under one name each.
        attributes.retain(|(name, _)| !extra.iter().any(|(key, _)| key == name));
        attributes.sort_unstable_by_key(|(name, _)| *name);
        Resource { attributes, extra }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Host {
        Host {
            name: Some("node-a".into()),
            id: Some("machine".into()),
            ..Host::default()
        }
    }

    /// `service.name` and `service.instance.id`.
    fn identity(resource: &Resource) -> (String, String) {
        let value = |name: &str| {
            let extra = resource.extra.iter().find(|(key, _)| key == name);
            extra
                .map(|(_, value)| value.clone())
                .or_else(|| {
                    let found = resource.attributes.iter().find(|(key, _)| *key == name)?;
                    match &found.1 {
                        Value::Text(text) => Some(text.to_string()),
                        Value::Int(_) | Value::List(_) => None,
                    }
                })
                .unwrap_or_default()
        };
        (value("service.name"), value("service.instance.id"))
    }

    fn service(names: CgroupNames) -> Service {
        Service {
            names,
            executable: "curl".into(),
            environment: Vec::new(),
        }
    }

    #[test]
    fn a_service_is_named_by_the_best_that_is_known() {
        let named = |field: &str| CgroupNames {
            container_id: (field == "id").then(|| "c".repeat(64)),
            container_name: (field == "name").then(|| "web".to_owned()),
            pod_uid: (field == "pod").then(|| "uid".to_owned()),
            unit: (field == "unit").then(|| "nginx".to_owned()),
            runtime: None,
        };
        let mut resources = Resources::new(&host(), Options::default());
        let id = "c".repeat(64);
        for (field, name, instance) in [
            ("id", "unknown_service:curl", id.as_str()),
            ("name", "web", "machine"),
            ("pod", "unknown_service:curl", "uid"),
            ("unit", "nginx", "machine"),
            ("", "unknown_service:curl", "machine"),
        ] {
            let resource = resources.of(service(named(field)));
            assert_eq!(identity(&resource), (name.into(), instance.into()));
            let names: Vec<_> = resource.attributes.iter().map(|(name, _)| name).collect();
            assert!(names.is_sorted(), "{names:?}");
        }
        let nobody = resources.of(Service::default());
        assert_eq!(identity(&nobody).0, "unknown_service");
    }

    #[test]
    fn our_environment_names_the_workload_only_in_a_sidecar() {
        let options = |own_environment_is_workload| Options {
            attributes: vec![
                ("deployment.environment.name".into(), "test".into()),
                ("service.namespace".into(), "shop".into()),
                ("host.name".into(), "given".into()),
            ],
            service_name: Some("cart".into()),
            own_environment_is_workload,
        };
        let host_wide = Resources::new(&host(), options(false)).of(service(CgroupNames::default()));
        assert_eq!(identity(&host_wide).0, "unknown_service:curl");
        assert_eq!(host_wide.extra.len(), 2);
        assert!(
            !host_wide
                .attributes
                .iter()
                .any(|(name, _)| *name == "host.name")
        );
        let sidecar = Resources::new(&host(), options(true)).of(service(CgroupNames::default()));
        assert_eq!(identity(&sidecar).0, "cart");
        assert_eq!(sidecar.extra.len(), 3);
    }

    #[test]
    fn what_a_process_says_of_itself_wins() {
        let mut resources = Resources::new(
            &host(),
            Options {
                attributes: vec![("a".into(), "ours".into())],
                service_name: Some("ours".into()),
                own_environment_is_workload: true,
            },
        );
        let resource = resources.of(Service {
            environment: vec![
                ("service.name".into(), "theirs".into()),
                ("a".into(), "theirs".into()),
            ],
            ..service(CgroupNames::default())
        });
        assert_eq!(identity(&resource).0, "theirs");
        assert_eq!(resource.extra[0], ("service.name".into(), "theirs".into()));
        assert_eq!(resource.extra[1], ("a".into(), "theirs".into()));
    }

    #[test]
    fn equal_services_share_one_resource_and_unused_ones_are_forgotten() {
        let mut resources = Resources::new(&host(), Options::default());
        let kept = resources.of(Service::default());
        assert!(Arc::ptr_eq(&kept, &resources.of(Service::default())));
        for n in 0..=RESOURCES_MAX {
            let _ = resources.of(Service {
                executable: n.to_string(),
                ..Service::default()
            });
        }
        assert!(resources.made.len() < RESOURCES_MAX);
        assert!(Arc::ptr_eq(&kept, &resources.of(Service::default())));
    }
}
