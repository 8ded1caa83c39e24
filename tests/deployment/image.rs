//! The image: built by buildah from `docker/Dockerfile`, unpacked, and run with exactly the rights of the rendered manifests.
//!
//! Not proven here: the stage that compiles (its base image cannot be pulled), and a kubelet's own way of starting it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};
use netflume_tests::fake_collector::FakeCollector;
use netflume_tests::monitor::{Messages, Monitor};
use netflume_tests::{http, traffic, wait};
use serde_json::Value;
use tempfile::TempDir;

use crate::chart;
use crate::container::{self, Container};

/// What the image may weigh, as it is stored and as it lies on a node.
const SIZE_MAX: u64 = 25 << 20;

/// The built image.
pub(crate) struct Image {
    folder: TempDir,
    /// Of the image's own configuration.
    config: Value,
    /// Its files and the bytes of each, before a container runtime made places to mount to.
    files: BTreeMap<String, u64>,
    /// Compressed bytes of its layers.
    stored: u64,
}

impl Image {
    /// Its unpacked files.
    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    pub(crate) fn get() -> Result<&'static Self> {
        static BUILT: OnceLock<Result<Image, String>> = OnceLock::new();
        let built = BUILT.get_or_init(|| Self::build().map_err(|error| format!("{error:#}")));
        built
            .as_ref()
            .map_err(|error| anyhow::anyhow!(error.clone()))
    }

    fn build() -> Result<Self> {
        let context = std::env::var_os("NETFLUME_IMAGE")
            .context("NETFLUME_IMAGE is not set: `cargo xtask test deployment` sets it")?;
        let folder = tempfile::tempdir()?;
        let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
        let (storage, state, oci) = (at("storage"), at("state"), at("oci"));
        let buildah = |args: &[&str]| {
            run(Command::new("buildah")
                .args([
                    "--storage-driver",
                    "vfs",
                    "--root",
                    &storage,
                    "--runroot",
                    &state,
                ])
                .args(args))
        };
        let stage = format!("build={}", Path::new(&context).display());
        let dockerfile = xtask::cache::root().join("docker/Dockerfile");
        let dockerfile = dockerfile.to_string_lossy();
        let empty = at("empty");
        fs::create_dir_all(&empty)?;
        buildah(&[
            "build",
            "--isolation",
            "chroot",
            "-f",
            &dockerfile,
            "--build-context",
            &stage,
            "-t",
            "netflume:test",
            &empty,
        ])?;
        buildah(&["push", "netflume:test", &format!("oci:{oci}:test")])?;
        let read = |digest: &Value| -> Result<(PathBuf, Value)> {
            let digest = digest
                .as_str()
                .and_then(|digest| digest.strip_prefix("sha256:"));
            let path = Path::new(&oci)
                .join("blobs/sha256")
                .join(digest.context("digest")?);
            let json = serde_json::from_slice(&fs::read(&path)?).unwrap_or_default();
            Ok((path, json))
        };
        let index: Value = serde_json::from_slice(&fs::read(Path::new(&oci).join("index.json"))?)?;
        let (_, manifest) = read(&index["manifests"][0]["digest"])?;
        let (_, config) = read(&manifest["config"]["digest"])?;
        let root = folder.path().join("root");
        fs::create_dir_all(&root)?;
        let mut stored = 0;
        for layer in manifest["layers"].as_array().context("layers")? {
            let (path, _) = read(&layer["digest"])?;
            stored += fs::metadata(&path)?.len();
            run(Command::new("tar")
                .arg("-xzf")
                .arg(path)
                .arg("-C")
                .arg(&root))?;
        }
        Ok(Self {
            files: files(&root)?,
            folder,
            config,
            stored,
        })
    }
}

fn run(command: &mut Command) -> Result<()> {
    let out = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(
        out.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    Ok(())
}

/// Every file below a folder, without the folder's own path, and its bytes.
fn files(root: &Path) -> Result<BTreeMap<String, u64>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(root)?.to_string_lossy().into_owned();
                found.insert(name, fs::symlink_metadata(&path)?.len());
            }
        }
    }
    Ok(found)
}

#[test]
#[ignore = "needs buildah, and the folder that cargo xtask test deployment makes"]
fn the_image_is_small_and_holds_the_program_its_certificates_and_documents_only() -> Result<()> {
    let image = Image::get()?;
    let root = image.root();
    let expected = [
        "etc/ssl/certs/ca-certificates.crt",
        "netflume",
        "usr/share/doc/netflume/LICENSE",
        "usr/share/doc/netflume/THIRD-PARTY-LICENSES.txt",
        "usr/share/doc/netflume/sbom.cdx.json",
    ];
    let found: Vec<&str> = image.files.keys().map(String::as_str).collect();
    assert_eq!(found, expected);
    let unpacked: u64 = image.files.values().sum();
    println!("image: {} bytes stored, {unpacked} unpacked", image.stored);
    assert!(
        image.stored < SIZE_MAX && unpacked < SIZE_MAX,
        "{} {unpacked}",
        image.stored
    );
    let config = &image.config["config"];
    assert_eq!(config["Entrypoint"], serde_json::json!(["/netflume"]));
    assert_eq!(config["Cmd"], serde_json::json!(["run"]));
    assert_eq!(config["User"], "65532:65532");
    let program = fs::metadata(root.join("netflume"))?;
    assert_eq!(
        (program.uid(), program.permissions().mode() & 0o7777),
        (0, 0o755)
    );
    let documents = root.join("usr/share/doc/netflume");
    let bill: Value = serde_json::from_slice(&fs::read(documents.join("sbom.cdx.json"))?)?;
    let components = bill["components"].as_array().context("components")?;
    let licences = fs::read_to_string(documents.join("THIRD-PARTY-LICENSES.txt"))?;
    for linked in ["tonic", "aya", "rustls", "ring", "zstd-sys"] {
        assert!(
            components
                .iter()
                .any(|component| component["name"] == linked),
            "{linked}"
        );
        assert!(licences.contains(&format!("\n{linked} ")), "{linked}");
    }
    let paths = [bill.to_string(), licences];
    let here = xtask::cache::root().to_string_lossy();
    assert!(paths.iter().all(|text| !text.contains(&*here)));
    Ok(())
}

#[test]
fn the_dockerfile_compiles_with_the_repositorys_toolchain_and_command() -> Result<()> {
    let root = xtask::cache::root();
    let toolchain = fs::read_to_string(root.join("rust-toolchain.toml"))?;
    let channel = toolchain
        .lines()
        .find_map(|line| line.strip_prefix("channel = "));
    let channel = channel.context("channel")?.trim_matches('"');
    let dockerfile = fs::read_to_string(root.join("docker/Dockerfile"))?;
    for line in [
        &*format!("ARG RUST_VERSION={channel}"),
        // Fills the folder /image, as it fills target/image/ARCHITECTURE/image by default.
        "RUN cargo xtask image \"${TARGETARCH}\" /",
        "COPY --from=build /image/ /",
    ] {
        assert!(dockerfile.lines().any(|found| found == line), "{line}");
    }
    Ok(())
}

/// Values by which a pod of this machine sends to the test, and shows itself on free ports.
pub(crate) fn values(collector: &FakeCollector, profile: &str) -> Vec<String> {
    vec![
        format!("profile={profile}"),
        format!("endpoint={}", collector.endpoint()),
        "config.extensions.health.endpoint=127.0.0.1:0".to_owned(),
        "config.extensions.prometheus.endpoint=127.0.0.1:0".to_owned(),
        "config.service.telemetry.export=false".to_owned(),
        "config.service.shutdown_timeout=5s".to_owned(),
    ]
}

pub(crate) fn render(values: &[String]) -> Result<Vec<Value>> {
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    chart::objects(&chart::render(&values)?)
}

/// The port of an extension, out of the line in which netflume reports it.
fn listens(container: &Container, extension: &str) -> Result<SocketAddr> {
    let line = container.waits_for(&format!("{extension} listens local="))?;
    let address = line.split_whitespace().next().context("no address")?;
    address.parse().with_context(|| line.clone())
}

/// Names of the log records that came.
pub(crate) fn names(collector: &FakeCollector) -> BTreeSet<String> {
    let resources = collector
        .logs()
        .into_iter()
        .flat_map(|request| request.resource_logs);
    let scopes = resources.flat_map(|resource| resource.scope_logs);
    let records = scopes.flat_map(|scope| scope.log_records);
    records.map(|record| record.event_name).collect()
}

#[test]
#[ignore = "needs root, buildah and crun: cargo xtask test deployment"]
fn profile_flows_reports_connections_with_the_rights_of_its_manifest() -> Result<()> {
    let collector = FakeCollector::start()?;
    let mut values = values(&collector, "flows");
    values.push("config.receivers.ebpf.interval=1s".to_owned());
    let mut pod = Container::start(&Image::get()?.root(), &render(&values)?, "flows")?;
    let health = listens(&pod, "extensions.health")?;
    wait::until("ready", || http::get(health, "/readyz").ok()).with_context(|| pod.stderr())?;
    http::get(health, "/livez")?;
    wait::until("a netflow record", || {
        traffic::tcp(Ipv4Addr::LOCALHOST.into(), 1000, 2000).ok()?;
        names(&collector).contains("netflow").then_some(())
    })
    .with_context(|| pod.stderr())?;
    // NET_ADMIN, SYS_PTRACE, PERFMON, BPF, SYS_RESOURCE and nothing else.
    let mut granted: u64 = [12, 19, 38, 39].iter().map(|bit| 1_u64 << bit).sum();
    if container::may_grant_resources()? {
        granted |= 1 << 24;
    }
    assert_eq!(container::capabilities(&pod.status()?, "CapPrm")?, granted);
    assert!(pod.stop()?.success(), "{}", pod.stderr());
    Ok(())
}

#[test]
#[ignore = "needs root, buildah and crun: cargo xtask test deployment"]
fn profile_cilium_only_reads_the_agent_without_root_and_without_any_capability() -> Result<()> {
    let node = tempfile::tempdir()?;
    let sockets = node.path().join("cilium");
    fs::create_dir(&sockets)?;
    fs::set_permissions(node.path(), fs::Permissions::from_mode(0o755))?;
    let monitor = Monitor::listen(&sockets.join("monitor1_2.sock"))?;
    // As the agent makes it: for root's group.
    fs::set_permissions(monitor.path(), fs::Permissions::from_mode(0o660))?;
    let collector = FakeCollector::start()?;
    let mut values = values(&collector, "cilium-only");
    values.push(format!("cilium.socketDir={}", sockets.display()));
    let mut pod = Container::start(&Image::get()?.root(), &render(&values)?, "cilium")?;
    let mut client = monitor.accept().with_context(|| pod.stderr())?;
    let messages = Messages::of("drop")?;
    client.send(&messages.definitions)?;
    client.send_all(&messages.events)?;
    wait::until("a cilium.drop record", || {
        names(&collector).contains("cilium.drop").then_some(())
    })
    .with_context(|| pod.stderr())?;
    let status = pod.status()?;
    assert_eq!(container::capabilities(&status, "CapPrm")?, 0);
    assert!(
        status.contains("\nUid:\t65532\t65532\t65532\t65532\n"),
        "{status}"
    );
    assert!(status.contains("\nNoNewPrivs:\t1\n"), "{status}");
    // The ConfigMap changes under the running pod.
    values.push("config.receivers.cilium.logs.enabled=false".to_owned());
    pod.update(&render(&values)?)?;
    pod.waits_for("configuration reloaded")?;
    assert!(pod.stop()?.success(), "{}", pod.stderr());
    Ok(())
}

#[test]
#[ignore = "needs root, buildah and crun: cargo xtask test deployment"]
fn a_sidecar_reports_its_pods_connections_in_its_own_process_namespace() -> Result<()> {
    let collector = FakeCollector::start()?;
    let mut values = values(&collector, "flows");
    values.extend(
        [
            "config.receivers.ebpf.interval=1s",
            "form=sidecar",
            "sidecar.containers[0].name=app",
            "sidecar.containers[0].image=registry.example/app:1",
        ]
        .map(str::to_owned),
    );
    let objects = render(&values)?;
    assert_ne!(container::pod(&objects)?["hostPID"], true);
    let mut pod = Container::start(&Image::get()?.root(), &objects, "sidecar")?;
    // This test shares the network and the cgroup of the container, as another container of its pod would.
    wait::until("a netflow record", || {
        traffic::tcp(Ipv4Addr::LOCALHOST.into(), 1000, 2000).ok()?;
        names(&collector).contains("netflow").then_some(())
    })
    .with_context(|| pod.stderr())?;
    assert!(pod.stop()?.success(), "{}", pod.stderr());
    Ok(())
}

#[test]
#[ignore = "needs root, buildah and crun: cargo xtask test deployment"]
fn a_pod_without_a_right_that_it_needs_names_the_right_and_ends() -> Result<()> {
    let collector = FakeCollector::start()?;
    let mut objects = render(&values(&collector, "flows"))?;
    for object in &mut objects {
        if let Some(add) =
            object.pointer_mut("/spec/template/spec/containers/0/securityContext/capabilities/add")
        {
            let kept = add
                .as_array()
                .into_iter()
                .flatten()
                .filter(|name| *name != "BPF");
            *add = kept.cloned().collect();
        }
    }
    let rights = &container::container(container::pod(&objects)?)?["securityContext"];
    assert!(
        rights["capabilities"]["add"]
            .as_array()
            .is_some_and(|add| add.len() == 4),
        "{rights}"
    );
    let mut pod = Container::start(&Image::get()?.root(), &objects, "without")?;
    assert_eq!(pod.ends()?.code(), Some(1));
    let expected = "netflume: receivers.ebpf: no right to load kernel programs: grant CAP_BPF (or run as root)\n";
    // What listened until then is logged before it.
    assert!(pod.stderr().ends_with(expected), "{}", pod.stderr());
    Ok(())
}
