//! Builds the kernel programs of `receiver-ebpf` for every Linux target, and puts the object where `source::kernel` embeds it.
//!
//! What is needed beyond the pinned toolchain is installed once: `bpf-linker` into the workspace's `target/tools`, and the
//! toolchain's `rust-src` through rustup if it is missing. Nothing outside these two places is touched.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// The last release that reads the LLVM of the pinned toolchain without an LLVM installation of its own.
const BPF_LINKER: &str = "0.10.3";

/// Leaves the object as `OUT_DIR/netflume-ebpf`; nothing to do for targets other than Linux.
pub(crate) fn compile() -> Result<()> {
    if variable("CARGO_CFG_TARGET_OS")? != "linux" {
        return Ok(());
    }
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("the workspace is the folder above the package")?
        .to_path_buf();
    for path in ["receiver-ebpf", "Cargo.toml", "rust-toolchain.toml"] {
        println!("cargo:rerun-if-changed={}", workspace.join(path).display());
    }
    let out = PathBuf::from(variable("OUT_DIR")?);
    let target_directory = target_directory(&out);
    ensure_rust_src()?;
    let linker = ensure_bpf_linker(&workspace, &target_directory)?;
    let object = build_programs(&workspace, &target_directory, &linker)?;
    let destination = out.join("netflume-ebpf");
    std::fs::copy(&object, &destination).with_context(|| {
        format!(
            "cannot copy {} to {}",
            object.display(),
            destination.display()
        )
    })?;
    Ok(())
}

fn variable(name: &str) -> Result<String> {
    env::var(name).with_context(|| format!("{name} is not set: run by cargo only"))
}

/// The workspace's target folder: cargo puts a CACHEDIR.TAG at its root, and `OUT_DIR` below it. A build for a named target
/// has another tag in between, so the outermost one counts.
fn target_directory(out: &Path) -> PathBuf {
    out.ancestors()
        .filter(|path| path.join("CACHEDIR.TAG").is_file())
        .last()
        .unwrap_or(out)
        .to_path_buf()
}

/// A cargo or rustc that does not inherit what this build was told about its own target, wrapper and flags.
fn clean(program: &str) -> Command {
    let mut command = Command::new(env::var(program).unwrap_or_else(|_| program.to_lowercase()));
    for name in [
        "CARGO_BUILD_TARGET",
        "CARGO_BUILD_RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_TARGET_DIR",
        "CARGO_UNSTABLE_BUILD_STD",
        "RUSTC",
        "RUSTC_LINKER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTC_WRAPPER",
        "RUSTFLAGS",
    ] {
        command.env_remove(name);
    }
    command
}

/// The sources of `core`, which is compiled for the bpf target.
fn ensure_rust_src() -> Result<()> {
    let output = clean("RUSTC")
        .args(["--print", "sysroot"])
        .output()
        .context("cannot run rustc")?;
    let sysroot = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    if sysroot.join("lib/rustlib/src/rust/library/core").is_dir() {
        return Ok(());
    }
    say("the kernel programs need the toolchain's rust-src: rustup component add rust-src");
    let status = Command::new("rustup")
        .args(["component", "add", "rust-src"])
        .status();
    if !status.is_ok_and(|status| status.success()) {
        bail!(
            "the kernel programs need the sources of Rust's core library, which are not in {}.\n\
             With rustup: `rustup component add rust-src`. Without: install the rust-src package of this very toolchain.",
            sysroot.display()
        );
    }
    Ok(())
}

/// Path of the pinned `bpf-linker`, installed if it is not there yet.
fn ensure_bpf_linker(workspace: &Path, target_directory: &Path) -> Result<PathBuf> {
    let tools = target_directory.join("tools");
    let linker = tools.join("bin/bpf-linker");
    let version = Command::new(&linker).arg("--version").output();
    let wanted = format!("bpf-linker {BPF_LINKER}");
    if version.is_ok_and(|v| String::from_utf8_lossy(&v.stdout).starts_with(&wanted)) {
        return Ok(linker);
    }
    say(&format!(
        "installing bpf-linker {BPF_LINKER} into {} (once, one to five minutes)",
        tools.display()
    ));
    let scratch = tools.join("build");
    let output = clean("CARGO")
        .current_dir(workspace)
        .args([
            "install",
            "bpf-linker",
            "--version",
            BPF_LINKER,
            "--locked",
            "--force",
            "--root",
        ])
        .arg(&tools)
        .arg("--target-dir")
        .arg(&scratch)
        .output()
        .context("cannot run cargo")?;
    if !output.status.success() {
        bail!(
            "cannot install bpf-linker {BPF_LINKER}, which links the kernel programs:\n{}\n\
             It needs the crate registry and a C compiler. By hand: `cargo install bpf-linker --version {BPF_LINKER} --locked --root {}`.",
            String::from_utf8_lossy(&output.stderr),
            tools.display()
        );
    }
    // Best effort: only disk space is at stake.
    drop(std::fs::remove_dir_all(&scratch));
    Ok(linker)
}

/// Compiles `receiver-ebpf` with feature `programs`; gives the path of the object.
fn build_programs(workspace: &Path, target_directory: &Path, linker: &Path) -> Result<PathBuf> {
    let target = match variable("CARGO_CFG_TARGET_ENDIAN")?.as_str() {
        "big" => "bpfeb-unknown-none",
        _ => "bpfel-unknown-none",
    };
    let architecture = variable("CARGO_CFG_TARGET_ARCH")?;
    // Its own target folder: this cargo waits for nothing that the outer one holds, and every target and profile shares it.
    let own_target_directory = target_directory.join("ebpf").join(&architecture);
    let flags = [
        format!("--cfg=bpf_target_arch=\"{architecture}\""),
        "-Cdebuginfo=2".to_owned(),
        format!("-Clinker={}", linker.display()),
        "-Clink-arg=--btf".to_owned(),
    ];
    let output = clean("CARGO")
        .current_dir(workspace)
        // The pinned stable compiler builds `core` for a target that rustup has none for.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .args([
            "build",
            "--package",
            "netflume-ebpf",
            "--bin",
            "netflume-ebpf",
            "--features",
            "programs",
        ])
        .args([
            "--profile",
            "ebpf",
            "-Zbuild-std=core",
            "--locked",
            "--target",
            target,
            "--target-dir",
        ])
        .arg(&own_target_directory)
        .output()
        .context("cannot run cargo")?;
    if !output.status.success() {
        bail!(
            "the kernel programs do not compile:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    for line in String::from_utf8_lossy(&output.stderr).lines() {
        if line.contains("warning") {
            say(line);
        }
    }
    Ok(own_target_directory.join(target).join("ebpf/netflume-ebpf"))
}

fn say(line: &str) {
    println!("cargo:warning={line}");
}
