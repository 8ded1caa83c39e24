//! The compose file and what it mounts, as far as it can be checked without a container engine.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use netflume::cli::{self, CheckOptions};
use serde_json::{Value, json};
use xtask::partner;

fn yaml(path: &std::path::Path) -> Result<Value> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    serde_yaml::from_str(&text).with_context(|| path.display().to_string())
}

#[test]
fn the_compose_file_mounts_what_is_there_and_grants_what_the_chart_grants() -> Result<()> {
    let folder = xtask::cache::root().join("docker");
    let compose = yaml(&folder.join("compose.yaml"))?;
    let services = compose["services"].as_object().context("services")?;
    let mut names = Vec::new();
    for (name, service) in services {
        names.push(name.as_str());
        assert!(
            service["image"]
                .as_str()
                .is_some_and(|image| image.contains(':')),
            "{name}"
        );
        for volume in service["volumes"].as_array().into_iter().flatten() {
            let source = volume.as_str().and_then(|volume| volume.split(':').next());
            let source = source.with_context(|| format!("{name}: {volume}"))?;
            // Others are the machine's own.
            if source.starts_with("./") {
                yaml(&folder.join(source))?;
            }
        }
        for other in service["depends_on"].as_array().into_iter().flatten() {
            assert!(
                services.contains_key(other.as_str().unwrap_or_default()),
                "{name}: {other}"
            );
        }
        for port in service["ports"].as_array().into_iter().flatten() {
            assert!(
                port.as_str()
                    .is_some_and(|port| port.starts_with("127.0.0.1:")),
                "{name}: {port}"
            );
        }
    }
    assert_eq!(
        names,
        [
            "netflume",
            "collector",
            "prometheus",
            "loki",
            "jaeger",
            "grafana"
        ]
    );
    let manifest = fs::read_to_string(folder.join("kubernetes/manifests/flows.yaml"))?;
    let granted = manifest
        .lines()
        .find_map(|line| line.trim().strip_prefix("add: "))
        .context("capabilities of flows.yaml")?;
    let granted: Value = serde_yaml::from_str(granted)?;
    assert_eq!(compose["services"]["netflume"]["cap_add"], granted);
    Ok(())
}

#[test]
fn netflume_accepts_the_configuration_of_the_compose_file() -> Result<()> {
    let config = xtask::cache::root().join("docker/compose/netflume.yaml");
    let (text, warnings) = cli::check(&CheckOptions {
        config: Some(config),
        secrets: false,
    })?;
    assert!(warnings.is_empty(), "{warnings:?}");
    assert!(text.contains("http://127.0.0.1:4317"), "{text}");
    Ok(())
}

/// The exporter to Loki is the one component that the Collector of the tests does not have: `nop` stands in for it.
#[test]
#[ignore = "needs the Collector that cargo xtask setup builds"]
fn a_real_collector_accepts_its_configuration_but_for_the_exporter_to_loki() -> Result<()> {
    let mut config = yaml(&xtask::cache::root().join("docker/compose/otelcol.yaml"))?;
    let folder = tempfile::tempdir()?;
    let validate = |config: &Value| -> Result<()> {
        let file = folder.path().join("otelcol.yaml");
        fs::write(&file, config.to_string())?;
        let mut collector = Command::new(partner::COLLECTOR.program()?);
        let out = collector
            .args(["validate", "--config"])
            .arg(&file)
            .output()?;
        ensure!(
            out.status.success(),
            "{}",
            String::from_utf8_lossy(&out.stderr)
        );
        Ok(())
    };
    let exporters = config["exporters"].as_object_mut().context("exporters")?;
    let loki = exporters.remove("otlphttp/loki").context("otlphttp/loki")?;
    assert_eq!(loki, json!({ "endpoint": "http://loki:3100/otlp" }));
    exporters.insert("nop/loki".to_owned(), json!({}));
    let logs = &mut config["service"]["pipelines"]["logs"]["exporters"];
    assert_eq!(logs, &json!(["otlphttp/loki"]));
    *logs = json!(["nop/loki"]);
    validate(&config)?;
    // That it looks at all.
    config["exporters"]["otlp/jaeger"]["endpiont"] = json!("jaeger:4317");
    let refused = validate(&config).expect_err("an unknown key").to_string();
    assert!(refused.contains("endpiont"), "{refused}");
    Ok(())
}
