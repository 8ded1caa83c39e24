//! Kernels from Debian's package archive to the cache folder: image, release name and the modules that tests need. Nothing is installed.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use xtask::cache;
use xtask::run::{self as cmd, command};

/// Modules that the tests need, each after the ones it depends on; what a kernel has built in is not there as a file.
const MODULES: &[&str] = &["veth", "dummy", "inet_diag", "tcp_diag", "udp_diag"];

/// A kernel, and where apt finds it.
pub(crate) struct Kernel {
    /// Its short name.
    pub(crate) version: &'static str,
    /// Debian release whose package lists have it.
    suite: &'static str,
    /// Package that depends on the release's newest kernel of that version.
    package: &'static str,
}

/// The kernels that netflume is tested on beside the one it runs on.
pub(crate) const KERNELS: &[Kernel] = &[
    Kernel {
        version: "5.10",
        suite: "bullseye",
        package: "linux-image-cloud-amd64",
    },
    Kernel {
        version: "6.1",
        suite: "bookworm",
        package: "linux-image-cloud-amd64",
    },
    Kernel {
        version: "6.12",
        suite: "bookworm",
        package: "linux-image-6.12-cloud-amd64",
    },
];

impl Kernel {
    /// Folder with `vmlinuz`, `release` and `modules/`: from the cache folder or else from Debian.
    pub(crate) fn fetch(&self) -> Result<PathBuf> {
        let _lock = cache::lock("kernels")?;
        let cache = cache::dir()?.join("kernels");
        let kept = cache.join(self.version);
        if kept.join("release").is_file() {
            return Ok(kept);
        }
        // Own lists and caches: the machine's apt configuration stays as it is, and the suite need not be the machine's.
        let apt_dir = cache.join(format!("apt-{}", self.suite));
        fs::create_dir_all(apt_dir.join("lists/partial"))?;
        fs::create_dir_all(apt_dir.join("cache/archives/partial"))?;
        let signed =
            "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org";
        let suite = self.suite;
        fs::write(
            apt_dir.join("sources.list"),
            format!(
                "{signed}/debian {suite} main\n{signed}/debian-security {suite}-security main\n"
            ),
        )?;
        let apt = |line: &str| {
            let dir = apt_dir.display();
            let mut apt = command(line);
            apt.current_dir(&apt_dir).env("LC_ALL", "C");
            for option in [
                format!("Dir::Etc::sourcelist={dir}/sources.list"),
                "Dir::Etc::sourceparts=/dev/null".to_owned(),
                format!("Dir::State::lists={dir}/lists"),
                format!("Dir::Cache={dir}/cache"),
                "APT::Sandbox::User=".to_owned(),
                "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
                "Acquire::Languages=none".to_owned(),
                "Acquire::Retries=3".to_owned(),
            ] {
                apt.args(["-o", &option]);
            }
            apt
        };
        println!(
            "   fetching Debian's {} kernel into {}",
            self.version,
            kept.display()
        );
        cmd::output(&mut apt("apt-get -qq update"))?;
        let depends = cmd::output(apt("apt-cache depends").arg(self.package))?;
        let image = depends
            .lines()
            .find_map(|line| {
                line.trim()
                    .strip_prefix("Depends: ")
                    .filter(|name| name.starts_with("linux-image-"))
            })
            .with_context(|| {
                format!(
                    "package {} of {suite} names no kernel:\n{depends}",
                    self.package
                )
            })?;
        let release = image.trim_start_matches("linux-image-").to_owned();
        let fresh = cache.join(format!("{}.new", self.version));
        cache::remove(&fresh)?;
        fs::create_dir_all(fresh.join("modules"))?;
        cmd::output(apt("apt-get -qq download").arg(image).current_dir(&fresh))?;
        let package = only_file(&fresh, "deb")?;
        cmd::output(
            command("dpkg-deb --extract")
                .arg(&package)
                .arg(fresh.join("package")),
        )?;
        fs::rename(
            fresh.join(format!("package/boot/vmlinuz-{release}")),
            fresh.join("vmlinuz"),
        )?;
        let found = cmd::output(
            command("find")
                .arg(fresh.join("package"))
                .args(["-name", "*.ko*"]),
        )?;
        for (at, name) in MODULES.iter().enumerate() {
            for path in found.lines().map(Path::new) {
                let file = path
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned();
                let target = fresh.join(format!("modules/{at:02}-{name}.ko"));
                if file == format!("{name}.ko") {
                    fs::copy(path, &target)?;
                } else if file == format!("{name}.ko.xz") {
                    fs::copy(path, target.with_extension("ko.xz"))?;
                    cmd::output(command("xz --decompress").arg(target.with_extension("ko.xz")))?;
                }
            }
        }
        fs::remove_file(&package)?;
        fs::remove_dir_all(fresh.join("package"))?;
        fs::write(fresh.join("release"), &release)?;
        cache::remove(&kept)?;
        fs::rename(&fresh, &kept)?;
        Ok(kept)
    }
}

fn only_file(dir: &Path, extension: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(dir)?.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    entries
        .into_iter()
        .find(|path| path.extension().is_some_and(|e| e == extension))
        .with_context(|| format!("no .{extension} in {}", dir.display()))
}
