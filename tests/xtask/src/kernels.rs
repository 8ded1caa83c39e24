//! The kernel tests on other kernels: Debian's cloud kernels, one emulated machine each.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use xtask::cache;
use xtask::run::{self as cmd, command};

use crate::debian::{KERNELS, Kernel};
use crate::qemu;
use crate::setup::STATIC_TARGET;

/// Runs the kernel tests on the kernels named, or on all.
pub(crate) fn run(versions: &[String]) -> Result<()> {
    for version in versions {
        if !KERNELS.iter().any(|kernel| kernel.version == version) {
            let known: Vec<&str> = KERNELS.iter().map(|kernel| kernel.version).collect();
            bail!("unknown kernel `{version}`, known are {}", known.join(", "));
        }
    }
    crate::setup::packages()?;
    let (netflume, tests) = build()?;
    let programs = [("netflume", netflume), ("kernel-tests", tests)];
    let mut failed = Vec::new();
    for kernel in KERNELS {
        let version = kernel.version;
        if !versions.is_empty() && !versions.iter().any(|chosen| chosen == version) {
            continue;
        }
        let start = Instant::now();
        let result = test(kernel, &programs);
        let took = start.elapsed().as_secs();
        match result {
            Ok(result) => println!("   {version}: {result}, {took} s"),
            Err(error) => {
                println!("   {version}: FAILED, {took} s: {error:#}");
                failed.push(version);
            }
        }
    }
    if !failed.is_empty() {
        bail!("kernel tests failed on {}", failed.join(", "));
    }
    Ok(())
}

/// The README's table of supported kernels, from the last runs.
pub(crate) fn table() -> Result<()> {
    println!("| kernel | kernel tests | tcp | udp |\n|---|---|---|---|");
    for kernel in KERNELS {
        let console = fs::read_to_string(work(kernel).join("console.txt")).with_context(|| {
            format!(
                "no result for {0}: run `cargo xtask kernels {0}` first",
                kernel.version
            )
        })?;
        let result = verdict(&console).unwrap_or_else(|error| format!("**failed**: {error}"));
        let line = |name: &str| {
            console
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .unwrap_or("?")
                .trim()
                .to_owned()
        };
        println!(
            "| {} | {result} | {} | {} |",
            line("kernel-release"),
            line("tcp "),
            line("udp ")
        );
    }
    Ok(())
}

/// The program and the kernel tests, statically linked: for the emulated machine, and the program for the image's tests.
pub(crate) fn build() -> Result<(PathBuf, PathBuf)> {
    let line = "cargo build --workspace --bin netflume --test kernel --target";
    let mut cargo = command(line);
    cargo.arg(STATIC_TARGET);
    // Some optimisation, because emulation is slow; no debug information, because the machine carries all in memory.
    cargo
        .env("CARGO_PROFILE_DEV_OPT_LEVEL", "1")
        .env("CARGO_PROFILE_DEV_DEBUG", "none")
        .env("CARGO_PROFILE_DEV_STRIP", "symbols");
    let [netflume, tests] = cmd::cargo_executables(&mut cargo, ["netflume", "kernel"])?;
    Ok((netflume, tests))
}

/// Where one kernel's machine and its last console are kept.
fn work(kernel: &Kernel) -> PathBuf {
    cache::root().join("target/kernels").join(kernel.version)
}

/// Boots it once; what the tests said.
fn test(kernel: &Kernel, programs: &[(&str, PathBuf)]) -> Result<String> {
    let files = kernel.fetch()?;
    let work = work(kernel);
    let initrd = qemu::initramfs(&work, &files.join("modules"), programs)?;
    let release = fs::read_to_string(files.join("release"))?;
    println!("   booting {release} in software emulation");
    let console = qemu::boot(kernel.version, &files.join("vmlinuz"), &initrd)?;
    let kept = work.join("console.txt");
    fs::write(&kept, format!("kernel-release {release}\n{console}"))?;
    verdict(&console).inspect_err(|_| {
        let lines: Vec<&str> = console.lines().collect();
        println!("--- end of the console of {release} ---");
        lines
            .iter()
            .skip(lines.len().saturating_sub(60))
            .for_each(|line| println!("{line}"));
        println!("--- all of it: {} ---", kept.display());
    })
}

/// What the tests said, if they ran, all passed, and the first process of the machine agrees.
fn verdict(console: &str) -> Result<String> {
    let result = console
        .lines()
        .find_map(|line| line.strip_prefix("test result: "))
        .context("the tests did not come to a result")?;
    let exit = console
        .lines()
        .find_map(|line| line.strip_prefix("NETFLUME-EXIT "))
        .context("the tests did not end")?;
    if exit.trim() != "0" {
        bail!("exit status {exit}, {result}");
    }
    let passed = result
        .strip_prefix("ok. ")
        .and_then(|rest| rest.split_once(" passed"))
        .map(|(count, _)| count.trim());
    match passed.and_then(|count| count.parse::<u32>().ok()) {
        Some(1..) => Ok(format!("{} passed", passed.unwrap_or_default())),
        _ => bail!("no test passed: {result}"),
    }
}

#[cfg(test)]
mod tests {
    use super::verdict;

    #[test]
    fn only_passed_tests_and_a_clean_exit_count() {
        let ok =
            "test a ... ok\n\ntest result: ok. 12 passed; 0 failed; 0 ignored\nNETFLUME-EXIT 0\n";
        assert_eq!(verdict(ok).unwrap(), "12 passed");
        for bad in [
            "",
            "test result: ok. 12 passed; 0 failed\n",
            "NETFLUME-EXIT 0\n",
            "test result: ok. 0 passed; 0 failed\nNETFLUME-EXIT 0\n",
            "test result: FAILED. 11 passed; 1 failed\nNETFLUME-EXIT 101\n",
            "test result: ok. 12 passed; 0 failed\nNETFLUME-EXIT 139\n",
        ] {
            assert!(verdict(bad).is_err(), "{bad}");
        }
    }
}
