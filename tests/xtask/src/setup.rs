//! Makes a fresh machine able to build and test: Rust components, Debian packages, Go partners. Installs only what is missing and says what.

use std::path::Path;

use anyhow::{Result, bail};
use xtask::partner;
use xtask::run::{self as cmd, command, exists, is_root};

use crate::image::ARCHITECTURES;
use crate::tools;

/// A program that must be there, and the Debian package that has it.
const PACKAGES: &[(&str, &str)] = &[
    ("cc", "gcc"),
    ("g++", "g++"),                            // libFuzzer
    ("musl-gcc", "musl-tools"),                // static binaries
    ("qemu-system-x86_64", "qemu-system-x86"), // other kernels
    ("busybox", "busybox-static"),             // their user space
    ("xz", "xz-utils"),                        // their modules
    ("ip", "iproute2"),                        // network namespaces
    // C sources of crates (ring, zstd) for Windows. Of the package mingw-w64 (1.2 GB) this is the part that is needed.
    ("x86_64-w64-mingw32-gcc", "gcc-mingw-w64-x86-64-win32"),
    ("buildah", "buildah"),         // the image
    ("crun", "crun"),               // what runs it
    ("etcd", "etcd-server"),        // the API server's store
    ("systemd-analyze", "systemd"), // what reads the unit
    ("qemu-aarch64", "qemu-user"),  // arm64 programs
    // Their C parts.
    (
        "aarch64-linux-gnu-gcc",
        "gcc-aarch64-linux-gnu libc6-dev-arm64-cross",
    ),
];

/// The target of static binaries.
pub(crate) const STATIC_TARGET: &str = "x86_64-unknown-linux-musl";

/// The target of Windows.
pub(crate) const WINDOWS_TARGET: &str = "x86_64-pc-windows-gnu";

/// A target that has no system calls to cheat with.
pub(crate) const BARE_TARGET: &str = "wasm32-unknown-unknown";

/// Everything, in order.
pub(crate) fn run() -> Result<()> {
    rust()?;
    packages()?;
    for tool in tools::ALL {
        tool.program()?;
    }
    for partner in partner::ALL {
        let program = partner.program()?;
        println!("   {}: {}", partner.name, program.display());
    }
    Ok(())
}

/// The components of rust-toolchain.toml and the targets that are built or checked.
pub(crate) fn rust() -> Result<()> {
    cmd::run(&mut command("rustup --quiet toolchain install"))?;
    let images = ARCHITECTURES.map(|architecture| architecture.target);
    targets(&[STATIC_TARGET, WINDOWS_TARGET, BARE_TARGET])?;
    targets(&images)
}

/// Rust's standard library for each of these targets.
pub(crate) fn targets(names: &[&str]) -> Result<()> {
    cmd::run(command("rustup --quiet target add").args(names))
}

/// Installs the Debian packages that are missing.
pub(crate) fn packages() -> Result<()> {
    let missing: Vec<&str> = PACKAGES
        .iter()
        .filter(|(program, _)| !exists(program))
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let missing = missing.join(" ");
    if !is_root() || !exists("apt-get") {
        bail!(
            "missing packages (Debian's names): {missing}; install them, on Debian: sudo apt-get install {missing}"
        );
    }
    println!("   installing Debian packages: {missing}");
    // Lists of a source that cannot be reached do not matter as long as the packages are found.
    cmd::run(&mut command("apt-get -qq update")).or_else(|error| {
        println!("   {error:#}; going on with the lists at hand");
        anyhow::Ok(())
    })?;
    let install = format!("apt-get -qq install --yes --no-install-recommends {missing}");
    cmd::run(command(&install).env("DEBIAN_FRONTEND", "noninteractive"))
}

/// Mounts what kernel programs are attached through, where a bare machine has not done so.
pub(crate) fn mounts() -> Result<()> {
    let (kind, place) = ("bpf", "/sys/fs/bpf");
    let mounted = std::fs::read_to_string("/proc/mounts")?.contains(place);
    if !mounted && is_root() && Path::new(place).exists() {
        cmd::run(&mut command(&format!("mount -t {kind} {kind} {place}")))?;
    }
    Ok(())
}
