//! Cgroup paths to what they name: container, pod, unit. Pure functions; the shapes are those of the container runtimes and of
//! systemd (Kubernetes `pkg/kubelet/cm`, containerd, CRI-O, moby, Podman, systemd.slice(5)).

/// What a cgroup path says about the processes in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct CgroupNames {
    /// `container.id`: 64 lower-case hex digits (on Amazon ECS also `<task>-<number>`).
    pub container_id: Option<String>,
    /// `container.runtime.name`, if the path tells it.
    pub runtime: Option<&'static str>,
    /// `container.name`: only LXC puts it into the path.
    pub container_name: Option<String>,
    /// `k8s.pod.uid`.
    pub pod_uid: Option<String>,
    /// The systemd service, without `.service`.
    pub unit: Option<String>,
}

/// How a runtime names the cgroup of a container.
struct Form {
    /// The group around it; empty: any.
    parent: &'static str,
    /// What stands before the id.
    prefix: &'static str,
    /// `container.runtime.name`.
    runtime: &'static str,
}

const fn form(parent: &'static str, prefix: &'static str, runtime: &'static str) -> Form {
    Form {
        parent,
        prefix,
        runtime,
    }
}

/// All forms that tell the runtime; the first that fits counts. An id alone, in whatever group, is a container of an unknown runtime.
const FORMS: &[Form] = &[
    form("", "cri-containerd-", "containerd"),
    form("", "nerdctl-", "containerd"),
    form("cri-containerd", "", "containerd"),
    form("nerdctl", "", "containerd"),
    // Containerd's namespaces, right below the root.
    form("/default", "", "containerd"),
    form("/k8s.io", "", "containerd"),
    form("/moby", "", "containerd"),
    form("", "crio-", "cri-o"),
    form("crio", "", "cri-o"),
    form("", "docker-", "docker"),
    form("docker", "", "docker"),
    // The container of a service whose cgroup Podman splits (Quadlet): beside it is Podman's own.
    form("", "libpod-payload-", "podman"),
    form("", "libpod-", "podman"),
    form("libpod_parent", "", "podman"),
    form("libpod", "", "podman"),
];

impl Form {
    /// The container's id, if this form fits.
    fn id<'a>(&self, part: &'a str, parent: Option<&str>, is_top: bool) -> Option<&'a str> {
        let fits = match self.parent.strip_prefix('/') {
            Some(top) => is_top && parent == Some(top),
            None => self.parent.is_empty() || parent == Some(self.parent),
        };
        part.strip_prefix(self.prefix)
            .filter(|id| fits && is_id(id))
    }
}

/// What `/proc/PID/cgroup` says: of cgroup v1 with many lines, of v2 with one, of both side by side.
///
/// A line that names a container wins, so that it does not matter in which hierarchy the runtime put it. Otherwise the unified
/// hierarchy (`0::`) comes first if the process is not in its root, then systemd's own, then memory.
#[must_use]
pub fn of_process(proc_cgroup: &str) -> CgroupNames {
    let mut best = (0, CgroupNames::default());
    for (rank, path) in proc_cgroup.lines().filter_map(line) {
        let names = of_path(path);
        let value = match () {
            () if names.container_id.is_some() || names.container_name.is_some() => 20,
            () if names.pod_uid.is_some() => 10,
            () if names.unit.is_some() => 5,
            () => 0,
        };
        if value > 0 && value + rank > best.0 {
            best = (value + rank, names);
        }
    }
    best.1
}

/// One line `hierarchy:controllers:path`: how much its hierarchy counts (0 to 3), and the path.
fn line(line: &str) -> Option<(u32, &str)> {
    let (hierarchy, rest) = line.split_once(':')?;
    let (controllers, path) = rest.split_once(':')?;
    let rank = match controllers {
        "" if hierarchy == "0" => 3,
        "name=systemd" => 2,
        _ if controllers.split(',').any(|name| name == "memory") => 1,
        _ => 0,
    };
    Some((rank, path))
}

/// What one cgroup path says. The last container in it counts: in a nested one (kind, Docker in Docker) that is the inner.
#[must_use]
pub fn of_path(path: &str) -> CgroupNames {
    let mut names = CgroupNames::default();
    let segments: Vec<&str> = path.split('/').filter(|s| !s.is_empty()).collect();
    for (n, segment) in segments.iter().enumerate().rev() {
        // systemd's own name for a unit that a cgroupfs driver was given: `slice:prefix:id`.
        let parts: Vec<&str> = segment.split(':').collect();
        for (m, part) in parts.iter().enumerate().rev() {
            if names.container_id.is_none()
                && names.container_name.is_none()
                && names.pod_uid.is_none()
            {
                let around = (parts[..m].last()).or_else(|| segments[..n].last());
                container(part, around.copied(), &segments[..n], &mut names);
            }
            if names.pod_uid.is_none() {
                names.pod_uid = pod_uid(part);
            }
        }
        if names.unit.is_none() {
            names.unit = unit(segment);
        }
    }
    if names.container_id.is_some() || names.container_name.is_some() || names.pod_uid.is_some() {
        // The unit is then the runtime's.
        names.unit = None;
    }
    names
}

fn container(part: &str, parent: Option<&str>, ancestors: &[&str], names: &mut CgroupNames) {
    // The monitor process of a container is not in it.
    if part.contains("conmon") || part.starts_with("lxc.monitor") {
        return;
    }
    let part = part.strip_suffix(".scope").unwrap_or(part);
    let is_top = ancestors.len() == 1;
    let of_form = |form: &Form| Some((Some(form.runtime), form.id(part, parent, is_top)?));
    let bare = || is_id(part).then_some((None, part));
    if let Some((runtime, id)) = FORMS.iter().find_map(of_form).or_else(bare) {
        names.container_id = Some(id.to_ascii_lowercase());
        names.runtime = runtime;
    } else if ancestors.first() == Some(&"ecs") && is_fargate_id(part) {
        names.container_id = Some(part.to_owned());
    } else if let Some(name) = lxc_name(part, parent) {
        names.container_name = Some(name.to_owned());
        names.runtime = Some("lxc");
    }
}

/// 64 hex digits.
fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// `<32 hex digits>-<digits>`: a container of AWS Fargate.
fn is_fargate_id(text: &str) -> bool {
    text.split_once('-').is_some_and(|(task, number)| {
        task.len() == 32
            && task.bytes().all(|byte| byte.is_ascii_hexdigit())
            && !number.is_empty()
            && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// `/lxc/<name>`, `/lxc.payload/<name>` and `/lxc.payload.<name>`.
fn lxc_name<'a>(part: &'a str, parent: Option<&str>) -> Option<&'a str> {
    match parent {
        Some("lxc" | "lxc.payload") => Some(part),
        _ => part
            .strip_prefix("lxc.payload.")
            .filter(|name| !name.is_empty()),
    }
}

/// `pod<uid>` and `kubepods-burstable-pod<uid with _>.slice`; the uid of a static pod is 32 hex digits.
fn pod_uid(part: &str) -> Option<String> {
    let (prefix, uid) = match part.strip_suffix(".slice") {
        Some(slice) => slice.rsplit_once("-pod")?,
        None => ("", part.strip_prefix("pod")?),
    };
    let is_digit = |byte: u8| byte.is_ascii_hexdigit() || byte == b'-' || byte == b'_';
    let plausible = matches!(uid.len(), 32 | 36) && uid.bytes().all(is_digit);
    (plausible && (prefix.is_empty() || prefix.contains("kubepods"))).then(|| uid.replace('_', "-"))
}

/// `<unit>.service`, but not the manager of a user's session: what runs in it is no service by that name.
fn unit(segment: &str) -> Option<String> {
    let unit = segment.strip_suffix(".service")?;
    (!unit.is_empty() && !unit.starts_with("user@")).then(|| unescape(unit))
}

/// systemd's `\x2d` in unit names.
fn unescape(unit: &str) -> String {
    let mut parts = unit.split("\\x");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let byte = part
            .get(..2)
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (byte, part.get(2..)) {
            (Some(byte), Some(rest)) if byte.is_ascii_graphic() => {
                text.push(char::from(byte));
                text.push_str(rest);
            }
            _ => {
                text.push_str("\\x");
                text.push_str(part);
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f9";
    const OUTER: &str = "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff";
    const POD: &str = "6a4f1d4e-8a0b-4c3f-9d53-1d7b2c1f0e11";
    const POD_: &str = "6a4f1d4e_8a0b_4c3f_9d53_1d7b2c1f0e11";
    const STATIC_POD: &str = "2f1a9c0b7d3e4f5a6b7c8d9e0f1a2b3c";

    fn text(names: &CgroupNames) -> String {
        let id = match names.container_id.as_deref() {
            Some(ID) => "ID",
            Some(OUTER) => "OUTER",
            Some(other) => other,
            None => "",
        };
        let pod = match names.pod_uid.as_deref() {
            Some(POD) => "POD",
            Some(STATIC_POD) => "STATIC_POD",
            Some(other) => other,
            None => "",
        };
        let all = [
            ("", id),
            ("by ", names.runtime.unwrap_or_default()),
            ("name ", names.container_name.as_deref().unwrap_or_default()),
            ("in ", pod),
            ("unit ", names.unit.as_deref().unwrap_or_default()),
        ];
        let said = all.iter().filter(|(_, value)| !value.is_empty());
        said.map(|(word, value)| format!("{word}{value}"))
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn every_runtime_and_driver_is_read() {
        let table = [
            ("/", ""),
            ("", ""),
            // kubelet with cgroupfs: burstable, best effort, guaranteed; static pod.
            ("/kubepods/burstable/podPOD/ID", "ID in POD"),
            ("/kubepods/besteffort/podPOD/ID", "ID in POD"),
            ("/kubepods/podPOD/ID", "ID in POD"),
            ("/kubepods/podSTATIC_POD/ID", "ID in STATIC_POD"),
            ("/kubepods/burstable/podPOD", "in POD"),
            // kubelet with systemd.
            (
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podPOD_.slice/cri-containerd-ID.scope",
                "ID by containerd in POD",
            ),
            (
                "/kubepods.slice/kubepods-podPOD_.slice/crio-ID.scope",
                "ID by cri-o in POD",
            ),
            (
                "/kubepods.slice/kubepods-podPOD_.slice/crio-ID.scope/container",
                "ID by cri-o in POD",
            ),
            (
                "/kubepods.slice/kubepods-podPOD_.slice/crio-conmon-ID.scope",
                "in POD",
            ),
            (
                "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podPOD_.slice/docker-ID.scope",
                "ID by docker in POD",
            ),
            // containerd with a cgroupfs driver that was given a systemd path.
            (
                "/system.slice/containerd.service/kubepods-burstable-podPOD_.slice:cri-containerd:ID",
                "ID by containerd in POD",
            ),
            // kind and other nested kubelets: the last one counts.
            (
                "/docker/OUTER/kubelet/kubepods/burstable/podPOD/ID",
                "ID in POD",
            ),
            (
                "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-podPOD_.slice/cri-containerd-ID.scope",
                "ID by containerd in POD",
            ),
            (
                "/system.slice/docker-OUTER.scope/kubelet.slice/kubelet-kubepods-podPOD_.slice/cri-containerd-ID.scope",
                "ID by containerd in POD",
            ),
            (
                "/system.slice/docker-OUTER.scope/system.slice/kubelet.service",
                "OUTER by docker",
            ),
            // Plain runtimes.
            ("/docker/ID", "ID by docker"),
            ("/docker/OUTER/docker/ID", "ID by docker"),
            ("/system.slice/docker-ID.scope", "ID by docker"),
            ("/default/ID", "ID by containerd"),
            ("/k8s.io/ID", "ID by containerd"),
            ("/system.slice/nerdctl-ID.scope", "ID by containerd"),
            ("/machine.slice/libpod-ID.scope", "ID by podman"),
            ("/machine.slice/libpod-ID.scope/container", "ID by podman"),
            ("/machine.slice/libpod-conmon-ID.scope", ""),
            ("/libpod_parent/libpod-ID", "ID by podman"),
            ("/libpod_parent/OUTER/libpod-ID", "ID by podman"),
            ("/libpod_parent/ID", "ID by podman"),
            (
                "/machine.slice/machine-libpod_pod_OUTER.slice/libpod-ID.scope",
                "ID by podman",
            ),
            // A service whose cgroup Podman splits (Quadlet): the container beside its monitor.
            (
                "/system.slice/web.service/libpod-payload-ID",
                "ID by podman",
            ),
            (
                "/user.slice/user-1000.slice/user@1000.service/app.slice/web.service/libpod-payload-ID/init.scope",
                "ID by podman",
            ),
            ("/system.slice/web.service/runtime", "unit web"),
            ("/system.slice/web.service/supervisor", "unit web"),
            // systemd's name for a group that a cgroupfs driver was given.
            ("/system.slice:nerdctl:ID", "ID by containerd"),
            ("/system.slice:crio:ID", "ID by cri-o"),
            ("/machine.slice:libpod:ID", "ID by podman"),
            // Docker in rootless mode, and the group that a nested init makes.
            (
                "/user.slice/user-1000.slice/user@1000.service/user.slice/docker-ID.scope/init",
                "ID by docker",
            ),
            ("/docker/ID/system.slice/nginx.service", "ID by docker"),
            (
                "/ecstasks.slice/ecstasks-0123456789abcdef0123456789abcdef.slice/docker-ID.scope",
                "ID by docker",
            ),
            ("/actions_job/ID", "ID"),
            ("/moby/ID", "ID by containerd"),
            (
                "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope",
                "ID by podman",
            ),
            ("/ecs/0123456789abcdef0123456789abcdef/ID", "ID"),
            (
                "/ecs/0123456789abcdef0123456789abcdef/0123456789abcdef0123456789abcdef-1234567890",
                "0123456789abcdef0123456789abcdef-1234567890",
            ),
            ("/lxc/web", "by lxc name web"),
            (
                "/lxc.payload.web/system.slice/nginx.service",
                "by lxc name web",
            ),
            ("/lxc.monitor.web", ""),
            // Seen from another cgroup namespace.
            ("/../../kubepods/burstable/podPOD/ID", "ID in POD"),
            ("/../ID", "ID"),
            // No container.
            ("/system.slice/nginx.service", "unit nginx"),
            (
                "/system.slice/system-postgresql.slice/postgresql@15-main.service",
                "unit postgresql@15-main",
            ),
            ("/system.slice/a\\x2db\\x.service", "unit a-b\\x"),
            ("/user.slice/user-0.slice/session-3.scope", ""),
            (
                "/user.slice/user-1000.slice/user@1000.service/app.slice/app-web.service",
                "unit app-web",
            ),
            (
                "/user.slice/user-1000.slice/user@1000.service/init.scope",
                "",
            ),
            ("/process_api/2080734958395871d7fb8f3d73f162cd", ""),
            ("/podman/pod-notes.slice", ""),
            ("/ID0", ""),
        ];
        for (path, expected) in table {
            let path = path
                .replace("podPOD_", &format!("pod{POD_}"))
                .replace("podPOD", &format!("pod{POD}"))
                .replace("podSTATIC_POD", &format!("pod{STATIC_POD}"))
                .replace("OUTER", OUTER)
                .replace("ID", ID);
            assert_eq!(text(&of_path(&path)), expected, "{path}");
        }
    }

    #[test]
    fn each_form_that_tells_the_runtime_is_read() {
        for form in FORMS {
            let parent = match form.parent {
                "" => "/any.slice",
                parent if parent.starts_with('/') => parent,
                parent => &format!("/{parent}"),
            };
            for scope in ["", ".scope", ".scope/container"] {
                let path = format!("{parent}/{}{ID}{scope}", form.prefix);
                let expected = format!("ID by {}", form.runtime);
                assert_eq!(text(&of_path(&path)), expected, "{path}");
            }
        }
    }

    #[test]
    fn upper_case_ids_are_told_in_lower_case() {
        let path = format!("/docker/{}", ID.to_uppercase());
        assert_eq!(text(&of_path(&path)), "ID by docker");
    }

    #[test]
    fn the_hierarchy_that_names_a_container_wins() {
        let docker = format!("/docker/{ID}");
        let table = [
            // Version 2.
            (format!("0::{docker}\n"), "ID by docker"),
            ("0::/system.slice/nginx.service\n".to_owned(), "unit nginx"),
            ("0::/\n".to_owned(), ""),
            // Version 1.
            (
                format!("12:pids:{docker}\n5:cpu,cpuacct:{docker}\n1:name=systemd:{docker}\n"),
                "ID by docker",
            ),
            (
                "4:memory:/system.slice/a.service\n1:name=systemd:/system.slice/b.service\n"
                    .to_owned(),
                "unit b",
            ),
            // Both: the unified hierarchy first, unless the process is in its root.
            (
                "4:memory:/system.slice/a.service\n1:name=systemd:/\n0::/system.slice/c.service\n"
                    .to_owned(),
                "unit c",
            ),
            (
                format!("4:memory:{docker}\n1:name=systemd:/system.slice/a.service\n0::/\n"),
                "ID by docker",
            ),
            (
                format!("4:cpu,memory:{docker}\n0::/system.slice/docker.service\n"),
                "ID by docker",
            ),
            ("nonsense\n\n0:\n".to_owned(), ""),
        ];
        for (file, expected) in table {
            assert_eq!(text(&of_process(&file)), expected, "{file}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_taken(text in "\\PC*") {
            let of_text = of_path(&text).container_id;
            let of_line = of_process(&format!("0::{text}")).container_id;
            proptest::prop_assert!(of_text == of_line || text.contains('\n'));
        }
    }
}
