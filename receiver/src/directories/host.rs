//! What this host's files say of it, for resource attributes.

use std::path::{Path, PathBuf};

use netflume_core::enrich::host::Host;

use crate::platform::system;

/// Where the host's files are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots {
    /// The host's root directory. Default `/`; in a container that the host is mounted into, `HOST_ROOT` of the environment.
    pub root: PathBuf,
    /// The host's `/proc`. Default `/proc`, or `HOST_PROC` of the environment.
    pub proc: PathBuf,
    /// The host's cgroup mount. Default `/sys/fs/cgroup`, or `HOST_SYS` of the environment with `fs/cgroup`.
    pub cgroup: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self {
            root: "/".into(),
            proc: "/proc".into(),
            cgroup: "/sys/fs/cgroup".into(),
        }
    }
}

impl Roots {
    /// By the variables that containers of host agents are commonly given: `HOST_ROOT`, `HOST_PROC`, `HOST_SYS`.
    #[must_use]
    pub fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Self {
        let path = |name: &str| variable(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let default = Self::default();
        Self {
            root: path("HOST_ROOT").unwrap_or(default.root),
            proc: path("HOST_PROC").unwrap_or(default.proc),
            cgroup: path("HOST_SYS").map_or(default.cgroup, |sys| sys.join("fs/cgroup")),
        }
    }
}

/// Reads what the host's files say. What cannot be read is left out.
#[must_use]
pub fn read_host(roots: &Roots) -> Host {
    let file = |path: &str| read_line(&roots.root.join(path));
    let release = read(&roots.root.join("etc/os-release"))
        .or_else(|| read(&roots.root.join("usr/lib/os-release")))
        .unwrap_or_default();
    // The name of our own UTS namespace is the host's only if we run in it.
    let name = if roots.root == Path::new("/") {
        system::host_name()
    } else {
        file("etc/hostname").or_else(system::host_name)
    };
    let (name_of_product, version_of_product) = system::product().unzip();
    Host {
        name,
        id: file("etc/machine-id")
            .or_else(|| file("var/lib/dbus/machine-id"))
            .filter(|id| id != "uninitialized"),
        arch: arch(&system::machine()),
        os_type: Some(system::OS_TYPE),
        os_name: release_value(&release, "NAME").or(name_of_product.map(str::to_owned)),
        os_version: release_value(&release, "VERSION_ID").or(version_of_product),
        os_description: release_value(&release, "PRETTY_NAME"),
    }
}

/// `host.arch` of what uname(2) reports.
fn arch(machine: &str) -> Option<&'static str> {
    Some(match machine {
        "x86_64" | "amd64" => "amd64",
        "aarch64" | "arm64" => "arm64",
        "ppc64" | "ppc64le" => "ppc64",
        "ppc" => "ppc32",
        "s390x" => "s390x",
        "ia64" => "ia64",
        _ if machine.starts_with("arm") => "arm32",
        _ if machine.starts_with('i') && machine.ends_with("86") => "x86",
        _ => return None,
    })
}

/// A value of os-release(5).
fn release_value(file: &str, key: &str) -> Option<String> {
    let value = file
        .lines()
        .filter_map(|line| line.trim().split_once('='))
        .find(|(name, _)| *name == key)?
        .1;
    let quoted = value
        .strip_prefix('"')
        .and_then(|value| value.strip_suffix('"'))
        .or_else(|| value.strip_prefix('\'')?.strip_suffix('\''));
    let mut text = String::new();
    let mut escaped = false;
    for c in quoted.unwrap_or(value).chars() {
        if c == '\\' && !escaped {
            escaped = true;
        } else {
            text.push(c);
            escaped = false;
        }
    }
    (!text.is_empty()).then_some(text)
}

fn read(path: &Path) -> Option<String> {
    super::process::read_bounded(path, 64 * 1024)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn read_line(path: &Path) -> Option<String> {
    let text = read(path)?;
    let line = text.lines().next().unwrap_or_default().trim();
    (!line.is_empty()).then(|| line.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host_with(files: &[(&str, &str)]) -> Host {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        read_host(&Roots {
            root: root.path().to_owned(),
            ..Roots::default()
        })
    }

    #[test]
    fn a_mounted_host_is_read_from_its_files() {
        let host = host_with(&[
            ("etc/hostname", "node-a\n"),
            ("etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
            (
                "etc/os-release",
                "PRETTY_NAME=\"Debian GNU/Linux 12 (\\\"bookworm\\\")\"\nNAME='Debian GNU/Linux'\nVERSION_ID=12\nEMPTY=\n",
            ),
        ]);
        assert_eq!(host.name.as_deref(), Some("node-a"));
        assert_eq!(host.id.as_deref(), Some("0123456789abcdef0123456789abcdef"));
        assert_eq!(
            host.os_description.as_deref(),
            Some("Debian GNU/Linux 12 (\"bookworm\")")
        );
        assert_eq!(host.os_name.as_deref(), Some("Debian GNU/Linux"));
        assert_eq!(host.os_version.as_deref(), Some("12"));
        let names: Vec<_> = host
            .attributes()
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        assert!(names.is_sorted(), "{names:?}");
        assert_eq!(names.len(), 7);
    }

    #[test]
    fn what_a_host_does_not_tell_is_left_out() {
        let host = host_with(&[
            ("etc/machine-id", "uninitialized\n"),
            ("usr/lib/os-release", "NAME=X\n"),
        ]);
        assert_eq!((host.id, host.os_version), (None, None));
        assert_eq!(host.os_name.as_deref(), Some("X"));
        assert!(host.name.is_some(), "our own name is better than none");
    }

    #[test]
    fn architectures_have_the_names_of_the_conventions() {
        for (machine, expected) in [
            ("x86_64", Some("amd64")),
            ("aarch64", Some("arm64")),
            ("armv7l", Some("arm32")),
            ("i686", Some("x86")),
            ("ppc64le", Some("ppc64")),
            ("riscv64", None),
        ] {
            assert_eq!(arch(machine), expected);
        }
    }

    #[test]
    fn the_roots_come_from_the_environment() {
        let roots = Roots::from_environment(|name| match name {
            "HOST_PROC" => Some("/host/proc".into()),
            "HOST_SYS" => Some("/host/sys".into()),
            _ => Some(String::new()),
        });
        assert_eq!(roots.proc, Path::new("/host/proc"));
        assert_eq!(roots.cgroup, Path::new("/host/sys/fs/cgroup"));
        assert_eq!(roots.root, Path::new("/"));
    }
}
