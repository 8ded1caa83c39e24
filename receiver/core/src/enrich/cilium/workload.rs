//! From a pod's metadata to the workload behind it.

use crate::model::flow::Workload;

/// What a pod's metadata says of its owner.
#[derive(Clone, Copy, Debug, Default)]
pub struct Owner<'a> {
    /// `metadata.generateName`: empty for a bare pod, which has no workload.
    pub generate_name: &'a str,
    /// `kind` of the controlling owner reference.
    pub kind: &'a str,
    /// `name` of the controlling owner reference.
    pub name: &'a str,
    /// Label `pod-template-hash`; empty when absent.
    pub template_hash: &'a str,
    /// Label `deploymentconfig`; empty when absent.
    pub deployment_config: &'a str,
}

/// The workload, by Hubble's rules (Cilium `pkg/k8s/utils`).
#[must_use]
pub fn workload(owner: &Owner<'_>) -> Option<Workload> {
    if owner.generate_name.is_empty() || owner.name.is_empty() {
        return None;
    }
    let (kind, name) = match owner.kind {
        "ReplicaSet" => match deployment(owner) {
            Some(name) => ("Deployment", name),
            None => (owner.kind, owner.name),
        },
        "ReplicationController" if !owner.deployment_config.is_empty() => {
            ("DeploymentConfig", owner.deployment_config)
        }
        "Job" => match cron_job(owner.name) {
            Some(name) => ("CronJob", name),
            None => (owner.kind, owner.name),
        },
        kind => (kind, owner.name),
    };
    Some(Workload {
        name: name.into(),
        kind: kind.into(),
    })
}

fn deployment<'a>(owner: &Owner<'a>) -> Option<&'a str> {
    if owner.template_hash.is_empty() {
        return None;
    }
    owner
        .name
        .strip_suffix(owner.template_hash)?
        .strip_suffix('-')
}

/// A CronJob names its jobs by the scheduled minute since 1970: eight to ten digits.
fn cron_job(name: &str) -> Option<&str> {
    let (job, minute) = name.rsplit_once('-')?;
    let scheduled = (8..=10).contains(&minute.len()) && minute.bytes().all(|b| b.is_ascii_digit());
    scheduled.then_some(job)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: &str, name: &str, template_hash: &str, deployment_config: &str) -> String {
        let owner = Owner {
            generate_name: "x-",
            kind,
            name,
            template_hash,
            deployment_config,
        };
        workload(&owner).map_or_else(String::new, |w| format!("{}/{}", w.kind, w.name))
    }

    #[test]
    fn owners_become_the_workload_a_person_wrote() {
        assert_eq!(of("ReplicaSet", "web-7d4b", "7d4b", ""), "Deployment/web");
        assert_eq!(of("ReplicaSet", "web-7d4b", "", ""), "ReplicaSet/web-7d4b");
        assert_eq!(
            of("ReplicationController", "web-1", "", "web"),
            "DeploymentConfig/web"
        );
        assert_eq!(of("Job", "report-28512340", "", ""), "CronJob/report");
        assert_eq!(of("Job", "report-2851234", "", ""), "Job/report-2851234");
        assert_eq!(of("StatefulSet", "db", "", ""), "StatefulSet/db");
        assert_eq!(
            workload(&Owner {
                kind: "Job",
                name: "a",
                ..Owner::default()
            }),
            None
        );
    }
}
