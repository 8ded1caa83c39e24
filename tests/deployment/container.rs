//! A rendered pod's container under an OCI runtime: its user, capabilities, read-only root, mounts and environment are those of the manifest.
//!
//! What a cluster does and this does not: the network is this machine's, there are no limits of resources, and no seccomp or AppArmor profile.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context, Result, ensure};
use netflume_tests::wait;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A running container. Killed when dropped.
pub(crate) struct Container {
    child: Child,
    id: String,
    bundle: TempDir,
}

impl Container {
    /// Starts the pod of `objects` (the only workload there) from the unpacked image at `root`.
    pub(crate) fn start(root: &Path, objects: &[Value], name: &str) -> Result<Self> {
        Self::start_as(root, objects, name, |_| ())
    }

    /// As [`Container::start`], with the OCI runtime's own specification changed by `change`.
    pub(crate) fn start_as(
        root: &Path,
        objects: &[Value],
        name: &str,
        change: impl FnOnce(&mut Value),
    ) -> Result<Self> {
        let bundle = tempfile::tempdir()?;
        let mut spec = spec(root, objects, bundle.path())?;
        change(&mut spec);
        fs::write(bundle.path().join("config.json"), spec.to_string())?;
        let id = format!("netflume-{}-{name}", std::process::id());
        // A node has one cgroup hierarchy, version 2; a machine that has both gets that view in a mount namespace.
        let node = "mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec \"$@\"";
        let child = Command::new("unshare")
            .args([
                "--mount",
                "--propagation",
                "private",
                "sh",
                "-c",
                node,
                "sh",
            ])
            .args(["crun", "--cgroup-manager=disabled", "run", "--bundle"])
            .arg(bundle.path())
            .arg(&id)
            .stdin(Stdio::null())
            .stdout(File::create(bundle.path().join("stdout"))?)
            .stderr(File::create(bundle.path().join("stderr"))?)
            .spawn()
            .context("unshare")?;
        Ok(Self { child, id, bundle })
    }

    /// What it printed about itself.
    pub(crate) fn stderr(&self) -> String {
        fs::read_to_string(self.bundle.path().join("stderr")).unwrap_or_default()
    }

    /// Waits for a line of its own that has `text`; gives what follows it there.
    pub(crate) fn waits_for(&self, text: &str) -> Result<String> {
        wait::until(text, || {
            let stderr = self.stderr();
            let line = stderr.lines().find_map(|line| line.split_once(text));
            line.map(|(_, rest)| rest.trim().to_owned())
        })
        .with_context(|| self.stderr())
    }

    /// Waits until it ends.
    pub(crate) fn ends(&mut self) -> Result<ExitStatus> {
        wait::until("the container ends", || {
            self.child.try_wait().ok().flatten()
        })
        .with_context(|| self.stderr())
    }

    /// Updates the ConfigMap `netflume` of its volume `config` to that of `objects`.
    pub(crate) fn update(&self, objects: &[Value]) -> Result<()> {
        write_config_map(objects, "netflume", &self.bundle.path().join("config"))
    }

    /// Asks it to end, as a cluster does.
    pub(crate) fn stop(&mut self) -> Result<ExitStatus> {
        let killed = Command::new("crun")
            .args(["kill", &self.id, "TERM"])
            .status()?;
        ensure!(killed.success(), "crun kill: {killed}");
        self.ends()
    }

    /// `/proc/1/status` of its first process, by this machine's pid.
    pub(crate) fn status(&self) -> Result<String> {
        let out = Command::new("crun").args(["state", &self.id]).output()?;
        let state: Value = serde_json::from_slice(&out.stdout)?;
        let pid = state["pid"].as_u64().context("no pid")?;
        Ok(fs::read_to_string(format!("/proc/{pid}/status"))?)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _gone = Command::new("crun")
            .args(["delete", "--force", &self.id])
            .stderr(Stdio::null())
            .status();
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// The pod's specification.
pub(crate) fn pod(objects: &[Value]) -> Result<&Value> {
    let pods = objects
        .iter()
        .map(|object| &object["spec"]["template"]["spec"]);
    pods.into_iter()
        .find(|pod| pod.is_object())
        .context("no workload")
}

/// netflume's container in it.
pub(crate) fn container(pod: &Value) -> Result<&Value> {
    let lists = [&pod["containers"], &pod["initContainers"]];
    let mut all = lists.into_iter().filter_map(Value::as_array).flatten();
    all.find(|container| container["name"] == "netflume")
        .context("no container called netflume")
}

/// Whether this machine has CAP_SYS_RESOURCE to give: some virtual ones do not. Kernels from 5.11 on need it for nothing.
pub(crate) fn may_grant_resources() -> Result<bool> {
    let status = fs::read_to_string("/proc/self/status")?;
    Ok(capabilities(&status, "CapBnd")? & (1 << 24) != 0)
}

/// A set of capabilities in a `/proc/PID/status`.
pub(crate) fn capabilities(status: &str, set: &str) -> Result<u64> {
    let lines = status.lines().filter_map(|line| line.split_once(":\t"));
    let found = lines.into_iter().find(|(name, _)| *name == set);
    let (_, bits) = found.with_context(|| set.to_owned())?;
    Ok(u64::from_str_radix(bits.trim(), 16)?)
}

fn spec(root: &Path, objects: &[Value], bundle: &Path) -> Result<Value> {
    let pod = pod(objects)?;
    let container = container(pod)?;
    let rights = &container["securityContext"];
    let strings = |list: &Value| -> Vec<String> {
        let list = list.as_array().into_iter().flatten();
        list.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    ensure!(
        strings(&rights["capabilities"]["drop"]) == ["ALL"],
        "not all capabilities are dropped"
    );
    let resources = may_grant_resources()?;
    let capabilities: Vec<String> = strings(&rights["capabilities"]["add"])
        .iter()
        .filter(|name| resources || *name != "SYS_RESOURCE")
        .map(|name| format!("CAP_{name}"))
        .collect();
    let uid = rights["runAsUser"].as_u64().context("runAsUser")?;
    // Of a user that is not root, what is permitted is not in effect after execve.
    let held = if uid == 0 {
        capabilities.clone()
    } else {
        Vec::new()
    };
    let mut namespaces = vec![
        json!({ "type": "mount" }),
        json!({ "type": "uts" }),
        json!({ "type": "ipc" }),
    ];
    if pod["hostPID"] != true {
        namespaces.push(json!({ "type": "pid" }));
    }
    let mut args = vec!["/netflume".to_owned()];
    args.extend(strings(&container["args"]));
    Ok(json!({
        "ociVersion": "1.0.0",
        "hostname": "pod",
        "process": {
            "terminal": false,
            "user": {
                "uid": uid,
                "gid": rights["runAsGroup"],
                "additionalGids": pod["securityContext"]["supplementalGroups"].as_array().cloned().unwrap_or_default(),
            },
            "args": args,
            "env": environment(container),
            "cwd": "/",
            "noNewPrivileges": rights["allowPrivilegeEscalation"] == false,
            "capabilities": { "bounding": capabilities, "permitted": held, "effective": held },
        },
        "root": { "path": root, "readonly": rights["readOnlyRootFilesystem"] == true },
        "mounts": mounts(objects, pod, container, bundle)?,
        "linux": { "namespaces": namespaces },
    }))
}

/// Variables; what the API server would fill in is made up.
fn environment(container: &Value) -> Vec<String> {
    let variables = container["env"].as_array().into_iter().flatten();
    variables
        .filter_map(|variable| {
            let name = variable["name"].as_str()?;
            let value = variable["value"].as_str().unwrap_or("made-up");
            Some(format!(
                "{name}={}",
                value.replace("$(", "").replace(')', "")
            ))
        })
        .collect()
}

/// What every container has, and the pod's volumes.
fn mounts(objects: &[Value], pod: &Value, container: &Value, bundle: &Path) -> Result<Vec<Value>> {
    let mut mounts = vec![
        json!({ "destination": "/proc", "type": "proc", "source": "proc" }),
        json!({ "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"] }),
        json!({ "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"] }),
    ];
    for mount in container["volumeMounts"].as_array().into_iter().flatten() {
        let volumes = pod["volumes"].as_array().into_iter().flatten();
        let volume = volumes
            .into_iter()
            .find(|volume| volume["name"] == mount["name"]);
        let volume = volume.with_context(|| format!("no volume for {mount}"))?;
        let access = if mount["readOnly"] == true {
            "ro"
        } else {
            "rw"
        };
        mounts.push(json!({
            "destination": mount["mountPath"],
            "type": "bind",
            "source": source(objects, volume, bundle)?,
            "options": ["rbind", access, "nosuid", "nodev", "noexec"],
        }));
    }
    Ok(mounts)
}

/// Where a volume's content is on this machine.
fn source(objects: &[Value], volume: &Value, bundle: &Path) -> Result<PathBuf> {
    if let Some(path) = volume["hostPath"]["path"].as_str() {
        let path = PathBuf::from(path);
        let kind = volume["hostPath"]["type"].as_str().unwrap_or_default();
        if kind == "DirectoryOrCreate" {
            fs::create_dir_all(&path)?;
        }
        ensure!(
            if kind == "File" {
                path.is_file()
            } else {
                path.is_dir()
            },
            "{} is no {kind}",
            path.display()
        );
        return Ok(path);
    }
    let folder = bundle.join(volume["name"].as_str().unwrap_or_default());
    fs::create_dir_all(&folder)?;
    if let Some(name) = volume["configMap"]["name"].as_str() {
        write_config_map(objects, name, &folder)?;
    } else {
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777))?;
    }
    Ok(folder)
}

/// A ConfigMap as the kubelet mounts and updates it: each file is a link by way of `..data`, which is replaced at one stroke.
fn write_config_map(objects: &[Value], name: &str, folder: &Path) -> Result<()> {
    let map = objects
        .iter()
        .find(|object| object["kind"] == "ConfigMap" && object["metadata"]["name"] == name);
    let data = map
        .and_then(|map| map["data"].as_object())
        .context("no such ConfigMap")?;
    let version = tempfile::Builder::new()
        .prefix("..")
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir_in(folder)?
        .keep();
    for (file, text) in data {
        fs::write(version.join(file), text.as_str().unwrap_or_default())?;
        let link = folder.join(file);
        if !link.is_symlink() {
            symlink(Path::new("..data").join(file), link)?;
        }
    }
    let next = folder.join("..data_tmp");
    symlink(version.file_name().context("no name")?, &next)?;
    fs::rename(next, folder.join("..data"))?;
    Ok(())
}
