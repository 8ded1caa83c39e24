//! Fuzzing on the pinned stable compiler: libFuzzer, with LLVM's coverage pass asked for by stable flags.

use std::ffi::OsString;
use std::fs;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use xtask::cache;
use xtask::run::{self as cmd, command};

/// Seconds for each target if none are asked for.
const SECONDS: u64 = 10;

/// What the compiler is asked for beside what cargo asks: coverage that libFuzzer reads, and some optimisation for executions a second. Overflow
/// checks and debug assertions stay on.
const FLAGS: &[&str] = &[
    "--cfg=fuzzing",
    "-Copt-level=1",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];

/// Set while this program stands in for the compiler of our own crates.
const STAND_IN: &str = "NETFLUME_FUZZ_COMPILER";

/// Cargo calls `xtask RUSTC ARG...` for the crates of this workspace when they are built for fuzzing: only they are watched, their dependencies are
/// shared with every other build. Gives the exit status if this is such a call.
pub(crate) fn stand_in_for_compiler() -> Option<Result<ExitCode>> {
    std::env::var_os(STAND_IN)?;
    let mut args = std::env::args_os().skip(1);
    let mut rustc = Command::new(args.next()?);
    let args: Vec<OsString> = args.collect();
    rustc.args(&args);
    // Build scripts run without libFuzzer.
    if args.iter().any(|arg| arg == "--crate-type")
        && !args.iter().any(|arg| arg == "build_script_build")
    {
        rustc.args(FLAGS);
    }
    let status = rustc.status().context("cannot start the compiler");
    Some(status.map(|status| {
        if status.success() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }))
}

/// `[--seconds N] [TARGET...]`
pub(crate) fn run(args: &[String]) -> Result<()> {
    let mut seconds = SECONDS;
    let mut chosen = Vec::new();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--seconds" => {
                seconds = args
                    .next()
                    .context("--seconds needs a number")?
                    .parse()
                    .context("--seconds needs a number")?
            }
            name => chosen.push(name.to_owned()),
        }
    }
    let all = targets()?;
    if let Some(unknown) = chosen.iter().find(|name| !all.contains(name)) {
        bail!(
            "unknown fuzz target `{unknown}`, known are {}",
            all.join(", ")
        );
    }
    let mut build = command("cargo build --workspace --features netflume-fuzz/libfuzzer");
    for name in &all {
        build.args(["--bin", name]);
    }
    build
        .env("RUSTC_WORKSPACE_WRAPPER", std::env::current_exe()?)
        .env(STAND_IN, "1");
    cmd::run(&mut build)?;
    let seeds = cache::root().join("target/fuzz-seeds");
    let mut build = command("cargo build --workspace --bin write-seeds");
    let [write_seeds] = cmd::cargo_executables(&mut build, ["write-seeds"])?;
    cmd::run(command(&write_seeds.to_string_lossy()).arg(&seeds))?;
    let mut failed = Vec::new();
    for name in all
        .iter()
        .filter(|name| chosen.is_empty() || chosen.contains(name))
    {
        let fuzz = cache::root().join("tests/fuzz");
        let corpus = fuzz.join("corpus").join(name);
        let artifacts = fuzz.join("artifacts").join(name);
        fs::create_dir_all(&corpus)?;
        fs::create_dir_all(&artifacts)?;
        let mut target = command(&format!("target/debug/{name}"));
        target.arg(&corpus);
        // Read, never written.
        target.arg(seeds.join(name));
        target.arg(format!("-artifact_prefix={}/", artifacts.display()));
        target.arg(format!("-max_total_time={seconds}"));
        target.args([
            "-timeout=5",
            "-rss_limit_mb=1024",
            "-max_len=65536",
            "-verbosity=0",
            "-print_final_stats=1",
        ]);
        if cmd::run(&mut target).is_err() {
            failed.push(name.as_str());
        }
    }
    if !failed.is_empty() {
        bail!(
            "inputs that break a decoder, kept in tests/fuzz/artifacts: {}",
            failed.join(", ")
        );
    }
    Ok(())
}

/// Their names: one file each.
fn targets() -> Result<Vec<String>> {
    let dir = cache::root().join("tests/fuzz/fuzz_targets");
    let mut names = Vec::new();
    for entry in fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))? {
        names.extend(
            entry?
                .path()
                .file_stem()
                .map(|name| name.to_string_lossy().into_owned()),
        );
    }
    names.sort();
    Ok(names)
}
