//! The arm64 program: cross-built with its own kernel programs, and run under QEMU's user mode as far as that goes (it has no bpf system call).

use anyhow::{Result, bail};
use xtask::run::{self as cmd, command, run};

use crate::image::Architecture;

/// Builds the program and the unit tests of the pure centre; runs both.
pub(crate) fn test() -> Result<()> {
    let architecture = Architecture::named("arm64")?;
    let cargo = |line: &str| {
        let mut cargo = command(&format!("cargo {line} --target {}", architecture.target));
        architecture.set(&mut cargo);
        cargo
            .env("CARGO_PROFILE_DEV_DEBUG", "none")
            .env("CARGO_PROFILE_DEV_STRIP", "symbols")
            .env(
                "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_RUNNER",
                "qemu-aarch64",
            );
        cargo
    };
    let [program] = cmd::cargo_executables(
        &mut cargo("build --package netflume --bin netflume"),
        ["netflume"],
    )?;
    let emulated =
        |line: &str| cmd::output(command("qemu-aarch64").arg(&program).args(line.split(' ')));
    let version = emulated("--version")?;
    if version.trim() != concat!("netflume ", env!("CARGO_PKG_VERSION")) {
        bail!("the arm64 program prints `{version}`");
    }
    emulated("check")?;
    // Random cases are many where no processor is emulated; here it is the instructions that differ.
    let mut tests = cargo("test --package netflume-core --lib");
    run(tests.env("PROPTEST_CASES", "16"))
}
