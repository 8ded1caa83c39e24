//! `cargo xtask bench`: measures on a quiet machine; with `--quick` (not in the help: it measures nothing) each benchmark runs as briefly as it
//! can, built like the tests, which shows that it runs.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use xtask::cache;
use xtask::run::{cargo_executables, command, run};

/// How a benchmark is built and how long it takes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Optimised, as long as figures need.
    Measured,
    /// As the tests are built, once.
    Quick,
}

impl Pace {
    /// Takes `--quick` out of the arguments.
    pub(crate) fn of(args: &[String]) -> (Self, Vec<String>) {
        let (quick, rest): (Vec<_>, Vec<_>) = args
            .iter()
            .cloned()
            .partition(|argument| argument == "--quick");
        let pace = if quick.is_empty() {
            Self::Measured
        } else {
            Self::Quick
        };
        (pace, rest)
    }

    /// Of `cargo build` and `cargo run`.
    const fn build(self) -> &'static str {
        match self {
            Self::Measured => "--release",
            Self::Quick => "--quiet",
        }
    }

    /// A `cargo bench` line without the names of benchmarks; arguments for them come behind `--`.
    pub(crate) const fn cargo(self) -> &'static str {
        match self {
            Self::Measured => "cargo bench --package netflume-core --package netflume",
            // The whole workspace, so that dependencies have the features that the tests compile them with.
            Self::Quick => "cargo bench --profile dev --workspace",
        }
    }

    /// Events of the stream in the race with Hubble.
    pub(crate) const fn events(self) -> &'static str {
        match self {
            Self::Measured => "65536",
            Self::Quick => "2048",
        }
    }

    /// The argument with which a benchmark runs once.
    pub(crate) const fn once(self) -> &'static [&'static str] {
        match self {
            Self::Measured => &[],
            Self::Quick => &["--test"],
        }
    }
}

/// `cilium-socket ARG...`, `kernel ARG...`, or `[--bench NAME]... [ARG...]` with arguments for criterion.
pub(crate) fn bench(args: &[String]) -> Result<()> {
    let (pace, args) = Pace::of(args);
    match args.split_first() {
        Some((what, rest)) if what == "cilium-socket" => cilium_socket(pace, rest),
        Some((what, rest)) if what == "kernel" => kernel(pace, rest),
        _ => criterion(pace, &args),
    }
}

fn criterion(pace: Pace, args: &[String]) -> Result<()> {
    let (chosen, rest) = split(args)?;
    let mut line = command(pace.cargo());
    // By name: without any, cargo would hand criterion's arguments to the unit tests too.
    let names = if chosen.is_empty() { all()? } else { chosen };
    for name in names {
        line.args(["--bench", &name]);
    }
    run(line.arg("--").args(pace.once()).args(rest))
}

/// The names behind `--bench`, and all other arguments; a `--` before these is not needed and not handed on.
fn split(args: &[String]) -> Result<(Vec<String>, Vec<String>)> {
    let (mut names, mut rest) = (Vec::new(), Vec::new());
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match (arg.as_str(), arg.strip_prefix("--bench=")) {
            (_, Some(name)) => names.push(name.to_owned()),
            ("--bench", _) => names.push(args.next().context("--bench needs a name")?.clone()),
            ("--", _) => {}
            _ => rest.push(arg.clone()),
        }
    }
    Ok((names, rest))
}

/// The names of all criterion benchmarks: one file each.
fn all() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for folder in ["receiver/core/benches", "receiver/benches"] {
        let folder = cache::root().join(folder);
        let entries = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "rs") {
                names.extend(
                    path.file_stem()
                        .map(|name| name.to_string_lossy().into_owned()),
                );
            }
        }
    }
    names.sort();
    Ok(names)
}

fn kernel(pace: Pace, args: &[String]) -> Result<()> {
    // `memory` measures the program itself, which it finds beside itself.
    let names = ["netflume", "netflume-bench-kernel"];
    let [_, bench] = built(pace, names)?;
    run(command(&bench.to_string_lossy()).args(args))
}

/// Fails when anything is lost from sight.
fn cilium_socket(pace: Pace, args: &[String]) -> Result<()> {
    let names = ["netflume", "netflume-bench-cilium-socket"];
    let [netflume, bench] = built(pace, names)?;
    run(command(&bench.to_string_lossy())
        .env("NETFLUME_BIN", netflume)
        .args(args))
}

fn built(pace: Pace, names: [&str; 2]) -> Result<[PathBuf; 2]> {
    // The whole workspace, so that nothing is compiled twice.
    let [first, second] = names;
    let line = format!(
        "cargo build {} --workspace --bin {first} --bin {second}",
        pace.build()
    );
    cargo_executables(&mut command(&line), names)
}

#[cfg(test)]
mod tests {
    use super::{all, split};

    #[test]
    fn names_of_benchmarks_are_cargos_and_all_else_is_criterions() {
        let args = [
            "--bench",
            "otlp",
            "gzip",
            "--bench=export",
            "--",
            "--sample-size",
            "10",
        ];
        let (names, rest) = split(&args.map(str::to_owned)).unwrap();
        assert_eq!(names, ["otlp", "export"]);
        assert_eq!(rest, ["gzip", "--sample-size", "10"]);
        assert!(split(&["--bench".to_owned()]).is_err());
        let all = all().unwrap();
        assert!(names.iter().all(|name| all.contains(name)), "{all:?}");
    }
}
