//! What the container image holds: the static program, root certificates, licence texts, bill of materials. `docker/Dockerfile` copies it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use xtask::cache;
use xtask::run::{self as cmd, command};

use crate::{kernels, tools};

/// Debian's bundle of root certificates.
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// An architecture that there is an image for.
#[derive(Clone, Copy)]
pub(crate) struct Architecture {
    /// As containers call it.
    pub(crate) name: &'static str,
    /// As Rust calls it.
    pub(crate) target: &'static str,
}

/// All of them.
pub(crate) const ARCHITECTURES: [Architecture; 2] = [
    Architecture {
        name: "amd64",
        target: "x86_64-unknown-linux-musl",
    },
    Architecture {
        name: "arm64",
        target: "aarch64-unknown-linux-musl",
    },
];

impl Architecture {
    /// The one called `name`.
    pub(crate) fn named(name: &str) -> Result<Self> {
        let found = ARCHITECTURES.into_iter().find(|known| known.name == name);
        found.with_context(|| format!("unknown architecture `{name}`, known are amd64 and arm64"))
    }

    /// Sets how cargo compiles C and links for it, from a machine of any architecture.
    pub(crate) fn set(self, cargo: &mut std::process::Command) {
        if self.name == "arm64" {
            cargo
                .env("CC_aarch64_unknown_linux_musl", "aarch64-linux-gnu-gcc")
                // Rust brings musl and the start files; a linker that knows the architecture is all that is missing.
                .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER", "rust-lld");
        }
    }
}

/// `cargo xtask image [ARCHITECTURE [FOLDER]]`: the release build.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let architecture = Architecture::named(args.first().map_or("amd64", String::as_str))?;
    let folder = args
        .get(1)
        .map_or_else(|| context(architecture), PathBuf::from);
    crate::setup::targets(&[architecture.target])?;
    let line = format!(
        "cargo build --release --package netflume --bin netflume --target {}",
        architecture.target
    );
    let mut cargo = command(&line);
    architecture.set(&mut cargo);
    let [program] = cmd::cargo_executables(&mut cargo, ["netflume"])?;
    fill(&folder.join("image"), &program, architecture)?;
    println!("   {}", folder.display());
    Ok(())
}

/// The same with the program that the kernel tests use: no release build, no optimisation across crates.
pub(crate) fn of_tests() -> Result<PathBuf> {
    let architecture = Architecture::named("amd64")?;
    let (program, _) = kernels::build()?;
    let folder = cache::root().join("target/image/tests");
    fill(&folder.join("image"), &program, architecture)?;
    Ok(folder)
}

/// Where `docker/Dockerfile` looks by default.
fn context(architecture: Architecture) -> PathBuf {
    cache::root().join("target/image").join(architecture.name)
}

fn fill(root: &Path, program: &Path, architecture: Architecture) -> Result<()> {
    cache::remove(root)?;
    let docs = root.join("usr/share/doc/netflume");
    let certificates = root.join(CERTIFICATES.trim_start_matches('/'));
    for folder in [Some(docs.as_path()), certificates.parent()]
        .into_iter()
        .flatten()
    {
        fs::create_dir_all(folder)?;
    }
    fs::copy(program, root.join("netflume"))?;
    fs::copy(CERTIFICATES, certificates)
        .with_context(|| format!("no {CERTIFICATES}: install ca-certificates"))?;
    fs::copy(cache::root().join("LICENSE"), docs.join("LICENSE"))?;
    fs::write(
        docs.join("THIRD-PARTY-LICENSES.txt"),
        licences(architecture)?,
    )?;
    fs::write(docs.join("sbom.cdx.json"), bill_of_materials(architecture)?)?;
    Ok(())
}

/// CycloneDX, without this machine's paths, its clock and chance.
fn bill_of_materials(architecture: Architecture) -> Result<String> {
    const NAME: &str = "netflume-image.cdx";
    let tool = tools::CYCLONEDX.program()?;
    let mut write = command(&tool.to_string_lossy());
    write
        .args([
            "cyclonedx",
            "--manifest-path",
            "receiver/Cargo.toml",
            "--format",
            "json",
        ])
        .args(["--spec-version", "1.5", "--no-build-deps", "--quiet"])
        .args(["--target", architecture.target, "--override-filename", NAME])
        .env("SOURCE_DATE_EPOCH", "0");
    cmd::output(&mut write)?;
    // It writes one beside the manifest of every package of the workspace.
    let mut text = None;
    for package in packages(architecture)?.packages() {
        let Some(manifest) = package["manifest_path"].as_str().map(Path::new) else {
            continue;
        };
        let file = manifest.with_file_name(format!("{NAME}.json"));
        if !manifest.starts_with(cache::root()) || !file.is_file() {
            continue;
        }
        if package["name"] == "netflume" {
            text = Some(fs::read_to_string(&file)?);
        }
        fs::remove_file(file)?;
    }
    let text = text.context("cargo-cyclonedx wrote no bill of materials for netflume")?;
    let root = cache::root().to_string_lossy();
    Ok(text.replace(&format!("file://{root}/"), "file:///netflume/"))
}

/// The output of `cargo metadata`.
struct Metadata(Value);

impl Metadata {
    fn packages(&self) -> impl Iterator<Item = &Value> {
        self.0["packages"].as_array().into_iter().flatten()
    }

    /// Ids of netflume and of all that is linked into it: no build scripts' and no tests' dependencies.
    fn linked(&self) -> BTreeSet<&str> {
        let nodes: BTreeMap<&str, &Value> = self.0["resolve"]["nodes"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|node| Some((node["id"].as_str()?, node)))
            .collect();
        let mut found = BTreeSet::new();
        let mut next: Vec<&str> = self
            .packages()
            .filter(|package| package["name"] == "netflume")
            .filter_map(|package| package["id"].as_str())
            .collect();
        while let Some(id) = next.pop() {
            if !found.insert(id) {
                continue;
            }
            let dependencies = nodes.get(id).and_then(|node| node["deps"].as_array());
            for dependency in dependencies.into_iter().flatten() {
                let kinds = dependency["dep_kinds"].as_array();
                let normal = kinds
                    .into_iter()
                    .flatten()
                    .any(|kind| kind["kind"].is_null());
                next.extend(dependency["pkg"].as_str().filter(|_| normal));
            }
        }
        found
    }
}

fn packages(architecture: Architecture) -> Result<Metadata> {
    let line = "cargo metadata --format-version 1 --locked --filter-platform";
    let text = cmd::output(command(line).arg(architecture.target))?;
    Ok(Metadata(serde_json::from_str(&text)?))
}

/// The texts of every licence under which something is linked, each once, with what it is for.
fn licences(architecture: Architecture) -> Result<String> {
    let metadata = packages(architecture)?;
    let linked = metadata.linked();
    // Text, then the crates that carry it.
    let mut texts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut list = String::new();
    for package in metadata.packages() {
        let (Some(id), Some(manifest)) =
            (package["id"].as_str(), package["manifest_path"].as_str())
        else {
            continue;
        };
        let folder = Path::new(manifest).parent().unwrap_or(Path::new("."));
        if !linked.contains(id) || folder.starts_with(cache::root()) {
            continue;
        }
        let text = |key: &str| package[key].as_str().unwrap_or_default();
        let name = format!("{} {}", text("name"), text("version"));
        list.push_str(&format!("{name}: {}\n", text("license")));
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let file = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .to_uppercase();
            let names_terms = ["LICEN", "COPYING", "NOTICE", "UNLICENSE"];
            if path.is_file() && names_terms.iter().any(|start| file.starts_with(start)) {
                let text = String::from_utf8_lossy(&fs::read(&path)?).trim().to_owned();
                texts.entry(text).or_default().insert(name.clone());
            }
        }
    }
    let sysroot = cmd::output(&mut command("rustc --print sysroot"))?;
    let rust = Path::new(sysroot.trim()).join("share/doc/rust/licenses");
    list.push_str("Rust's standard library: MIT OR Apache-2.0\nmusl libc: MIT\n");
    for (file, what) in [("MIT.txt", "Rust's standard library, musl libc")] {
        if let Ok(text) = fs::read_to_string(rust.join(file)) {
            texts
                .entry(text.trim().to_owned())
                .or_default()
                .insert(what.to_owned());
        }
    }
    if texts.is_empty() {
        bail!("no licence text found");
    }
    let mut all = format!("What is linked into netflume, and its terms.\n\n{list}");
    for (text, crates) in texts {
        let crates: Vec<String> = crates.into_iter().collect();
        all.push_str(&format!(
            "\n{}\n{}\n\n{text}\n",
            "-".repeat(80),
            crates.join(", ")
        ));
    }
    Ok(all)
}
