//! A real API server, over etcd: whether it takes what the chart renders. There is no kubelet: nothing runs.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netflume_tests::wait;
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use xtask::partner;

use crate::chart;

/// Ready in under 20 s on a quiet machine.
const START: Duration = Duration::from_secs(240);

/// What the Prometheus operator would bring; of its schema only what the chart uses.
const SERVICE_MONITORS: &str = r#"{
  "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
  "metadata": { "name": "servicemonitors.monitoring.coreos.com" },
  "spec": {
    "group": "monitoring.coreos.com", "scope": "Namespaced",
    "names": { "plural": "servicemonitors", "singular": "servicemonitor", "kind": "ServiceMonitor", "listKind": "ServiceMonitorList" },
    "versions": [{ "name": "v1", "served": true, "storage": true, "schema": { "openAPIV3Schema": {
      "type": "object",
      "properties": { "spec": { "type": "object", "properties": {
        "selector": { "type": "object", "properties": { "matchLabels": { "type": "object", "additionalProperties": { "type": "string" } } } },
        "endpoints": { "type": "array", "items": { "type": "object", "properties": {
          "port": { "type": "string" }, "interval": { "type": "string" }, "honorLabels": { "type": "boolean" },
          "relabelings": { "type": "array", "items": { "type": "object", "properties": {
            "sourceLabels": { "type": "array", "items": { "type": "string" } }, "targetLabel": { "type": "string" } } } } } } }
      } } }
    } } }]
  }
}"#;

/// etcd and the API server; both end with it.
struct Cluster {
    processes: Vec<Child>,
    folder: TempDir,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for process in self.processes.iter_mut().rev() {
            let _ended = process.kill();
            let _reaped = process.wait();
        }
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

impl Cluster {
    fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
        let (clients, peers, api) = (free_port()?, free_port()?, free_port()?);
        let log = |name: &str| File::create(folder.path().join(name));
        let mut cluster = Vec::new();
        let (clients, peers) = (
            format!("http://127.0.0.1:{clients}"),
            format!("http://127.0.0.1:{peers}"),
        );
        cluster.push(
            Command::new("etcd")
                .args(["--data-dir", &at("etcd"), "--listen-client-urls", &clients])
                .args([
                    "--advertise-client-urls",
                    &clients,
                    "--listen-peer-urls",
                    &peers,
                ])
                .args(["--initial-advertise-peer-urls", &peers])
                .args([
                    "--initial-cluster",
                    &format!("default={peers}"),
                    "--unsafe-no-fsync",
                ])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log("etcd.log")?)
                .spawn()
                .context("etcd")?,
        );
        let (key, public, tokens) = (at("account.key"), at("account.pub"), at("tokens.csv"));
        let pair = rcgen::KeyPair::generate()?;
        fs::write(&key, pair.serialize_pem())?;
        fs::write(&public, pair.public_key_pem())?;
        fs::write(&tokens, "test-token,test,test,system:masters\n")?;
        cluster.push(
            Command::new(partner::API_SERVER.program()?)
                .args(["--etcd-servers", &clients, "--bind-address", "127.0.0.1"])
                .args([
                    "--secure-port",
                    &api.to_string(),
                    "--cert-dir",
                    &at("certificates"),
                ])
                .args([
                    "--service-account-key-file",
                    &public,
                    "--service-account-signing-key-file",
                    &key,
                ])
                .args(["--service-account-issuer", "https://kubernetes.default.svc"])
                .args(["--token-auth-file", &tokens, "--authorization-mode", "RBAC"])
                .args(["--service-cluster-ip-range", "10.96.0.0/16"])
                .args(["--disable-admission-plugins", "ServiceAccount"])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log("api-server.log")?)
                .spawn()
                .context("kube-apiserver")?,
        );
        let access = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{ "name": "test", "cluster": {
                "server": format!("https://127.0.0.1:{api}"), "insecure-skip-tls-verify": true } }],
            "users": [{ "name": "test", "user": { "token": "test-token" } }],
            "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "test" } }],
        });
        fs::write(at("kubeconfig"), access.to_string())?;
        let mut cluster = Self {
            processes: cluster,
            folder,
        };
        wait::until_within(START, "the API server is ready", || {
            let dead = cluster
                .processes
                .iter_mut()
                .any(|child| matches!(child.try_wait(), Ok(Some(_))));
            (dead || cluster.kubectl(&["get", "--raw", "/readyz"], "").is_ok()).then_some(())
        })
        .with_context(|| cluster.log())?;
        cluster
            .kubectl(&["get", "--raw", "/readyz"], "")
            .with_context(|| cluster.log())?;
        Ok(cluster)
    }

    /// The end of the API server's log.
    fn log(&self) -> String {
        let text =
            fs::read_to_string(self.folder.path().join("api-server.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines
            .get(lines.len().saturating_sub(20)..)
            .unwrap_or_default()
            .join("\n")
    }

    /// Runs kubectl on `input`; its output.
    fn kubectl(&self, args: &[&str], input: &str) -> Result<String> {
        let file = self.folder.path().join("input");
        fs::write(&file, input)?;
        let out = Command::new(partner::KUBECTL.program()?)
            .arg("--kubeconfig")
            .arg(self.folder.path().join("kubeconfig"))
            .args([
                "--cache-dir",
                &self.folder.path().join("cache").to_string_lossy(),
            ])
            .args(args)
            .stdin(File::open(file)?)
            .output()?;
        ensure!(
            out.status.success(),
            "kubectl {args:?}: {}",
            String::from_utf8_lossy(&out.stderr)
        );
        Ok(String::from_utf8(out.stdout)?)
    }
}

/// One server for all that is asked of it: its start is what costs.
#[test]
#[ignore = "needs etcd, and the API server that cargo xtask setup builds"]
fn a_real_api_server_takes_every_form_of_the_chart_and_refuses_what_is_wrong() -> Result<()> {
    let cluster = Cluster::start()?;
    let apply = ["apply", "--dry-run=server", "--validate=strict", "-f", "-"];
    cluster.kubectl(&["create", "namespace", "netflume"], "")?;
    cluster.kubectl(&["apply", "-f", "-"], SERVICE_MONITORS)?;
    let wait = ["wait", "--for=condition=Established", "--timeout=60s"];
    cluster.kubectl(
        &[&wait[..], &["crd/servicemonitors.monitoring.coreos.com"]].concat(),
        "",
    )?;
    let everything = chart::render_to_collector(chart::EVERYTHING)?;
    let mut rendered = vec![("everything".to_owned(), everything.clone())];
    for (name, _) in chart::MANIFESTS {
        let path = xtask::cache::root().join(format!("docker/kubernetes/manifests/{name}.yaml"));
        rendered.push(((*name).to_owned(), fs::read_to_string(path)?));
    }
    for (name, text) in &rendered {
        let taken = cluster
            .kubectl(&apply, text)
            .with_context(|| name.clone())?;
        let objects = chart::objects(text)?.len();
        assert_eq!(
            taken
                .lines()
                .filter(|line| line.contains("dry run"))
                .count(),
            objects,
            "{taken}"
        );
    }
    // That it looks at all.
    let wrong = everything.replace("readOnlyRootFilesystem:", "readOnlyRoot:");
    let refused = cluster
        .kubectl(&apply, &wrong)
        .expect_err("a field that there is not")
        .to_string();
    assert!(refused.contains("readOnlyRoot"), "{refused}");
    conforms(&cluster, &rendered)
}

/// kubeconform with the schemas of this very server: no network and no cluster is needed for what it checks elsewhere.
fn conforms(cluster: &Cluster, rendered: &[(String, String)]) -> Result<()> {
    let schemas = cluster.folder.path().join("schemas");
    write_schemas(
        &cluster.kubectl(&["get", "--raw", "/openapi/v2"], "")?,
        &schemas,
    )?;
    let location = format!("{}/{{{{ .ResourceKind }}}}.json", schemas.display());
    let check = |text: &str| -> Result<(bool, String)> {
        let file = cluster.folder.path().join("checked.yaml");
        fs::write(&file, text)?;
        let out = Command::new(partner::KUBECONFORM.program()?)
            .args([
                "-strict",
                "-summary",
                "-skip",
                "ServiceMonitor",
                "-schema-location",
                &location,
            ])
            .arg(&file)
            .output()?;
        Ok((
            out.status.success(),
            String::from_utf8_lossy(&out.stdout).into_owned(),
        ))
    };
    for (name, text) in rendered {
        let (passed, report) = check(text)?;
        assert!(
            passed && report.contains("Invalid: 0, Errors: 0"),
            "{name}: {report}"
        );
    }
    for (_, text) in rendered.iter().take(1) {
        let (passed, report) = check(&text.replace("hostPID: true", "hostPID: 1"))?;
        assert!(!passed && report.contains("hostPID"), "{report}");
        let (passed, report) = check(&text.replace("hostPID:", "hostPid:"))?;
        assert!(!passed && report.contains("hostPid"), "{report}");
    }
    Ok(())
}

/// One file a kind of the server's description of itself, and one with all definitions.
fn write_schemas(openapi: &str, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    let mut document: Value = serde_json::from_str(openapi)?;
    let definitions = document["definitions"]
        .as_object_mut()
        .context("definitions")?;
    let mut kinds = Map::new();
    for (name, definition) in definitions.iter_mut() {
        close(definition);
        let known = definition["x-kubernetes-group-version-kind"]
            .as_array()
            .into_iter()
            .flatten();
        for kind in known.filter_map(|known| known["kind"].as_str()) {
            let kind = kind.to_lowercase();
            kinds.insert(
                kind,
                json!({ "$ref": format!("definitions.json#/definitions/{name}") }),
            );
        }
    }
    fs::write(
        folder.join("definitions.json"),
        json!({ "definitions": definitions }).to_string(),
    )?;
    for (kind, schema) in kinds {
        fs::write(folder.join(format!("{kind}.json")), schema.to_string())?;
    }
    Ok(())
}

/// Keys that are not listed are mistakes; what is a number or a text is written so in JSON Schema.
fn close(schema: &mut Value) {
    if let Some(object) = schema.as_object_mut() {
        let form = object.get("format").and_then(Value::as_str);
        if form == Some("int-or-string") {
            object.remove("format");
            object.insert("type".to_owned(), json!(["integer", "string"]));
        }
        if object.get("properties").is_some_and(Value::is_object)
            && !object.contains_key("additionalProperties")
        {
            object.insert("additionalProperties".to_owned(), json!(false));
        }
    }
    match schema {
        Value::Object(object) => object.values_mut().for_each(close),
        Value::Array(list) => list.iter_mut().for_each(close),
        _ => {}
    }
}
