//! `cargo xtask`: the second of netflume's two commands is `cargo xtask test`.
#![allow(
    clippy::print_stdout,
    reason = "a command line program talks to its terminal"
)]

mod arm64;
mod bench;
mod commands;
mod debian;
mod fuzz;
mod image;
mod kernel_tests;
mod kernels;
mod oracle;
mod qemu;
mod setup;
mod steps;
mod supply;
mod tools;

use std::process::ExitCode;

use anyhow::{Result, bail};
use steps::Steps;
use xtask::partner;
use xtask::run::{command, run};

const HELP: &str = "\
cargo xtask COMMAND

  test [PART...]      set-up, then everything that must pass, in the order below; with parts, only those
  setup               installs what building and testing needs: Rust components, Debian packages, test partners
  lint                fmt, clippy and doc
  collector [CONFIG]  starts the OpenTelemetry Collector with otelcol-config/CONFIG.yaml (default: debug) until Ctrl-C
  kernels [VERSION...] [--table]  runs the kernel tests under QEMU on Debian's 5.10, 6.1 and 6.12; --table prints the last results
  image [ARCH [FOLDER]]  the release build, and all else that the container image of amd64 or arm64 holds, for docker/Dockerfile
  chart               writes docker/kubernetes/manifests and the chart's values.schema.json anew
  fuzz [--seconds N] [TARGET...]  fuzzes the decoders (default: each for 10 s)
  oracle gen          writes tests/fixtures/cilium anew with Cilium's own code, both releases
  oracle bench        Hubble's decoder and metrics, then ours, on the same bytes: both speeds and their ratio
  oracle ARG...       runs the program with other arguments; without any it lists them
  bench [--bench NAME] [ARG...]  benchmarks of the pure parts and of the export, on a quiet machine; arguments go to criterion
  bench cilium-socket [--seconds N] [--rate N] [--reloads N]  100,000 events/s through the monitor socket: books, CPU, memory, the agent's cost
  bench kernel pass|connect|udp|memory [ARG...]  what the kernel programs cost (root)

parts of test:
";

/// Name, meaning and action of a part of `cargo xtask test`.
type Part = (&'static str, &'static str, fn() -> Result<()>);

/// What `cargo xtask test` does, in this order.
const PARTS: &[Part] = &[
    ("fmt", "formatting", || cargo("fmt --all --check")),
    ("clippy", "lints, warnings are errors", || {
        cargo("clippy --workspace --all-targets -- -D warnings")
    }),
    ("doc", "documentation, broken links are errors", doc),
    (
        "targets",
        "the whole program for Windows, the pure centre for a target without an operating system",
        targets,
    ),
    (
        "unit",
        "unit, property, documentation and pipeline tests: no root, no network",
        || cargo("test --workspace"),
    ),
    (
        "collector",
        "end to end into a real OpenTelemetry Collector (root)",
        || ignored("collector"),
    ),
    (
        "cilium",
        "the Cilium receiver beside the agent's own listener code (root)",
        cilium,
    ),
    (
        "kernel",
        "kernel programs on this machine's kernel (root)",
        kernel,
    ),
    (
        "observer",
        "Hubble's own command line against the Observer API",
        || ignored("observer"),
    ),
    (
        "commands",
        "each command that README and docs name, in its shortest form (root)",
        commands::all,
    ),
    (
        "supply",
        "licences, sources and bans of what is linked; advisories where their database is at hand",
        supply::check,
    ),
    (
        "arm64",
        "the arm64 program and the unit tests of the pure centre, under QEMU's user mode",
        arm64::test,
    ),
    (
        "deployment",
        "image, chart, manifests and compose file: a real API server, a real container runtime (root)",
        || deployment("", true),
    ),
    ("fuzz", "every fuzz target for a short while", || {
        fuzz::run(&[])
    }),
    (
        "kernels",
        "the kernel tests on other kernels, under QEMU",
        || kernels::run(&[]),
    ),
];

fn main() -> ExitCode {
    let compiled = fuzz::stand_in_for_compiler();
    let result = compiled.unwrap_or_else(|| {
        let args: Vec<String> = std::env::args().skip(1).collect();
        dispatch(&args).map(|()| ExitCode::SUCCESS)
    });
    result.unwrap_or_else(|error| {
        println!("xtask: {error:#}");
        ExitCode::FAILURE
    })
}

fn dispatch(args: &[String]) -> Result<()> {
    let (name, rest) = args
        .split_first()
        .map_or(("--help", args), |(name, rest)| (name.as_str(), rest));
    match name {
        "test" => test(rest),
        "setup" => setup::run(),
        "lint" => test(&["fmt".into(), "clippy".into(), "doc".into()]),
        "collector" => collector(rest.first().map_or("debug", String::as_str)),
        "kernels" if rest.iter().any(|arg| arg == "--table") => kernels::table(),
        "kernels" => kernels::run(rest),
        "fuzz" => fuzz::run(rest),
        "image" => image::run(rest),
        "chart" => deployment("written_anew", false),
        "oracle" => oracle::oracle(rest),
        "bench" => bench::bench(rest),
        "--help" | "-h" | "help" => {
            print!("{HELP}");
            for (name, meaning, _) in PARTS {
                println!("  {name:<12}{meaning}");
            }
            Ok(())
        }
        other => bail!("unknown command `{other}`; `cargo xtask --help` lists them"),
    }
}

fn test(parts: &[String]) -> Result<()> {
    if let Some(unknown) = parts
        .iter()
        .find(|part| !PARTS.iter().any(|(name, ..)| name == part))
    {
        bail!("unknown part `{unknown}`; `cargo xtask --help` lists them");
    }
    let mut steps = Steps::default();
    if parts.is_empty() && !steps.step("setup", "what building and testing needs", setup::run) {
        return steps.finish();
    }
    for (name, meaning, action) in PARTS
        .iter()
        .filter(|(name, ..)| parts.is_empty() || parts.iter().any(|part| part == name))
    {
        steps.step(name, meaning, action);
    }
    steps.finish()
}

fn cargo(line: &str) -> Result<()> {
    run(&mut command(&format!("cargo {line}")))
}

fn doc() -> Result<()> {
    run(command("cargo doc --workspace --no-deps --quiet").env("RUSTDOCFLAGS", "-D warnings"))
}

fn targets() -> Result<()> {
    cargo(&format!(
        "clippy --package netflume --target {} -- -D warnings",
        setup::WINDOWS_TARGET
    ))?;
    cargo(&format!(
        "check --package netflume-core --target {}",
        setup::BARE_TARGET
    ))
}

/// The tests of one binary that plain `cargo test` leaves out because of what they need.
fn ignored(name: &str) -> Result<()> {
    setup::mounts()?;
    // The whole workspace, so that dependencies have the same features as for the other parts and are compiled once.
    cargo(&format!(
        "test --workspace --test {name} -- --ignored --test-threads=1"
    ))
}

fn kernel() -> Result<()> {
    setup::mounts()?;
    let line = "cargo test --workspace --test kernel --";
    run(command(line).args(kernel_tests::arguments()?))
}

/// The deployment tests whose names contain `filter`; with the folder that the image is built from.
fn deployment(filter: &str, with_image: bool) -> Result<()> {
    setup::mounts()?;
    let mut tests = command("cargo test --workspace --test deployment");
    tests.args(["--", "--ignored", "--test-threads=1"]);
    if with_image {
        tests
            .env("NETFLUME_IMAGE", image::of_tests()?)
            .args(["--skip", "written_anew"]);
    } else {
        tests.arg(filter);
    }
    run(&mut tests)
}

/// The tests, and a short run of the benchmark, which fails when anything is lost from sight.
fn cilium() -> Result<()> {
    ignored("cilium")?;
    ignored("oracle")?;
    let short = "cilium-socket --quick --seconds 3 --rate 10000";
    let short: Vec<String> = short.split(' ').map(str::to_owned).collect();
    bench::bench(&short)
}

fn collector(config: &str) -> Result<()> {
    let program = partner::COLLECTOR.program()?;
    run(command(&program.to_string_lossy()).arg(format!("--config=otelcol-config/{config}.yaml")))
}
