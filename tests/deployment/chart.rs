//! The chart by Helm itself: what it renders, what it refuses, and whether netflume accepts the configuration in it.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use netflume::cli::{self, CheckOptions};
use serde::Deserialize as _;
use serde_json::Value;
use xtask::partner;

use crate::schema;

/// The rendered manifests that are kept beside the chart, and the values of each.
pub(crate) const MANIFESTS: &[(&str, &[&str])] = &[
    ("flows", &["profile=flows"]),
    ("cilium-only", &["profile=cilium-only"]),
    ("full", &["profile=full"]),
    (
        "sidecar",
        &[
            "form=sidecar",
            "sidecar.containers[0].name=app",
            "sidecar.containers[0].image=registry.example/app:1",
        ],
    ),
];

/// Where the kept manifests send to.
pub(crate) const COLLECTOR: &str = "endpoint=http://otel-collector.observability:4317";

/// Every toggle on.
pub(crate) const EVERYTHING: &[&str] = &[
    "profile=full",
    "rbac.create=true",
    "rbac.rules[0].apiGroups[0]=",
    "rbac.rules[0].resources[0]=pods",
    "rbac.rules[0].verbs[0]=watch",
    "serviceMonitor.enabled=true",
    "networkPolicy.enabled=true",
    "networkPolicy.metricsFrom[0].namespaceSelector.matchLabels.team=monitoring",
    "networkPolicy.collectorTo[0].ipBlock.cidr=10.0.0.0/8",
    "hostNetwork=true",
    "priorityClassName=system-node-critical",
    "podAnnotations.a=b",
    "env[0].name=TOKEN",
    "env[0].valueFrom.secretKeyRef.name=collector",
    "env[0].valueFrom.secretKeyRef.key=token",
    "config.exporters.otlp_grpc.headers.authorization=Bearer ${env:TOKEN}",
    "config.receivers.ebpf.interval=30s",
];

fn folder() -> PathBuf {
    xtask::cache::root().join("docker/kubernetes")
}

fn helm(args: &[&str], values: &[&str]) -> Result<Output> {
    let mut helm = Command::new(partner::HELM.program()?);
    helm.args(args);
    for value in values {
        helm.args(["--set", value]);
    }
    helm.output().context("helm")
}

/// What `helm template` renders, or the reason of its refusal.
pub(crate) fn render(values: &[&str]) -> Result<String> {
    let chart = folder().join("netflume");
    let chart = chart.to_string_lossy();
    let args = ["template", "netflume", &chart, "--namespace", "netflume"];
    let out = helm(&args, values)?;
    ensure!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    Ok(String::from_utf8(out.stdout)?)
}

/// As [`render`], to the Collector of the kept manifests.
pub(crate) fn render_to_collector(values: &[&str]) -> Result<String> {
    render(&[&[COLLECTOR], values].concat())
}

/// The objects of a rendered file.
pub(crate) fn objects(text: &str) -> Result<Vec<Value>> {
    let documents = serde_yaml::Deserializer::from_str(text);
    let all: Result<Vec<Value>, _> = documents.map(Value::deserialize).collect();
    Ok(all?
        .into_iter()
        .filter(|object| !object.is_null())
        .collect())
}

/// netflume's configuration in a rendered file.
pub(crate) fn configuration(text: &str) -> Result<String> {
    let objects = objects(text)?;
    let map = objects.iter().find(|object| object["kind"] == "ConfigMap");
    let text = map.and_then(|map| map["data"]["netflume.yaml"].as_str());
    Ok(text.context("no ConfigMap with netflume.yaml")?.to_owned())
}

/// A kept manifest as it should be.
fn manifest(values: &[&str]) -> Result<String> {
    let rendered = render_to_collector(values)?;
    let head = "# Rendered from the chart beside this folder by `cargo xtask chart`; replace image and endpoint by your own.\n";
    let namespace = "---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: netflume\n";
    Ok(format!("{head}{namespace}{rendered}"))
}

#[test]
#[ignore = "writes files: cargo xtask chart"]
fn manifests_and_schema_written_anew() -> Result<()> {
    fs::write(schema::path(), schema::made_anew()?)?;
    for (name, values) in MANIFESTS {
        let path = folder().join(format!("manifests/{name}.yaml"));
        fs::write(path, manifest(values)?)?;
    }
    Ok(())
}

#[test]
#[ignore = "needs Helm, which cargo xtask setup builds"]
fn the_kept_manifests_are_what_the_chart_renders() -> Result<()> {
    for (name, values) in MANIFESTS {
        let kept = fs::read_to_string(folder().join(format!("manifests/{name}.yaml")))?;
        assert!(
            kept == manifest(values)?,
            "manifests/{name}.yaml is out of date: run `cargo xtask chart`"
        );
    }
    Ok(())
}

#[test]
#[ignore = "needs Helm, which cargo xtask setup builds"]
fn helm_lints_every_profile() -> Result<()> {
    let chart = folder().join("netflume");
    for (name, values) in MANIFESTS.iter().chain([&("everything", EVERYTHING)]) {
        let values = [&[COLLECTOR], *values].concat();
        let out = helm(&["lint", "--strict", &chart.to_string_lossy()], &values)?;
        assert!(out.status.success(), "{name}: {out:?}");
    }
    Ok(())
}

#[test]
#[ignore = "needs Helm, which cargo xtask setup builds"]
fn netflume_accepts_the_configuration_of_every_profile() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for (name, values) in MANIFESTS.iter().chain([&("everything", EVERYTHING)]) {
        let file = folder.path().join(format!("{name}.yaml"));
        let text = configuration(&render_to_collector(values)?)?;
        // The variable is the pod's.
        fs::write(&file, text.replace("${env:TOKEN}", "token"))?;
        let checked = cli::check(&CheckOptions {
            config: Some(file),
            secrets: false,
        });
        checked.with_context(|| (*name).to_owned())?;
    }
    Ok(())
}

#[test]
#[ignore = "needs Helm, which cargo xtask setup builds"]
fn bad_values_are_refused_with_the_place_of_the_mistake() -> Result<()> {
    for (values, places) in [
        (
            vec![COLLECTOR, "config.receivers.ebpf.intervall=5s"],
            vec!["/config/receivers/ebpf", "intervall"],
        ),
        (
            vec![COLLECTOR, "config.receivers.ebpf.group_by=pod"],
            vec!["/config/receivers/ebpf/group_by"],
        ),
        (
            vec![COLLECTOR, "config.receivers.ebpf.max_connections=1"],
            vec!["/config/receivers/ebpf/max_connections"],
        ),
        (
            vec![COLLECTOR, "config.receivers.windows.a=1"],
            vec!["/config/receivers", "windows"],
        ),
        (vec![COLLECTOR, "profile=everything"], vec!["/profile"]),
        (
            vec![COLLECTOR, "resource.limits.memory=1Gi"],
            vec!["resource"],
        ),
        (
            vec![COLLECTOR, "form=sidecar"],
            vec!["sidecar.containers is empty"],
        ),
        (
            vec![COLLECTOR, "dashboards.enabled=true"],
            vec!["dashboards/"],
        ),
        (vec!["profile=flows"], vec!["endpoint is not set"]),
    ] {
        let refused = render(&values)
            .err()
            .with_context(|| format!("accepted: {values:?}"))?;
        for place in places {
            assert!(refused.to_string().contains(place), "{values:?}: {refused}");
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs Helm, which cargo xtask setup builds"]
fn a_changed_configuration_changes_the_pods_and_nothing_else_does() -> Result<()> {
    let checksum = |values: &[&str]| -> Result<String> {
        let rendered = render_to_collector(values)?;
        let line = rendered
            .lines()
            .find(|line| line.contains("checksum/config:"));
        Ok(line.context("no checksum")?.to_owned())
    };
    let plain = checksum(&[])?;
    assert_ne!(plain, checksum(&["config.receivers.ebpf.interval=5s"])?);
    assert_eq!(plain, checksum(&["image.tag=other"])?);
    // Where pods are to read it anew instead.
    assert!(checksum(&["rollOnConfigChange=false"]).is_err());
    Ok(())
}

#[test]
#[ignore = "needs Helm, which cargo xtask setup builds"]
fn null_removes_what_the_profile_brings() -> Result<()> {
    let text =
        render_to_collector(&["config.extensions.prometheus=null", "ports.prometheus=null"])?;
    assert!(!text.contains("9466"), "{text}");
    Ok(())
}
