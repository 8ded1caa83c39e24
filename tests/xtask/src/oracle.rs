//! `cargo xtask oracle`: the program built with Cilium's own code, and the race of its decoder against ours.
//!
//! The race runs over one stream of 65,536 events as a busy node sends them: of 1,000 events 850 are traces (82 % TCP, 13 % UDP, the
//! rest ICMP; 118 bytes of packet), 60 policy verdicts, 60 drops, 28 access logs (HTTP and DNS, requests and responses) and 2 agent
//! notifications. Both sides read the same bytes on one core, know the same endpoints and identities (`world.json`), make flows and
//! count the same metrics (netflume's default). Hubble's figure is of its CPU time, ours of the clock: run it on a quiet machine.

use std::fs;

use crate::bench::Pace;
use anyhow::{Context, Result, bail};
use xtask::cache;
use xtask::partner;
use xtask::run::{command, output, run};

/// How many times as fast as Hubble netflume has to be.
const FACTOR: f64 = 10.0;

/// `gen`, `bench`, or arguments for the program itself.
pub(crate) fn oracle(args: &[String]) -> Result<()> {
    let program = partner::ORACLE.program()?;
    let oracle = || command(&program.to_string_lossy());
    match args {
        [what] if what == "gen" => {
            let older = partner::ORACLE_1_18.program()?;
            run(command(&older.to_string_lossy()).arg("gen"))?;
            run(oracle().arg("gen"))
        }
        [what, rest @ ..] if what == "bench" => {
            let (pace, _) = Pace::of(rest);
            let ours = format!("{} --bench cilium", pace.cargo());
            // Built before anything is measured.
            run(command(&ours).arg("--no-run"))?;
            let stream = cache::root().join("target/cilium-mixed.gob");
            run(oracle()
                .args(["mixed", "-n", pace.events(), "-out"])
                .arg(&stream))?;
            let hubble = output(oracle().arg("bench").arg(&stream))?;
            print!("{hubble}");
            run(command(&ours)
                .env("NETFLUME_CILIUM_STREAM", &stream)
                .arg("--")
                .args(pace.once()))?;
            match pace {
                Pace::Measured => compare(hubbles(&hubble)?, ours_measured()?),
                Pace::Quick => hubbles(&hubble).map(drop),
            }
        }
        args => run(oracle().args(args)),
    }
}

fn compare(hubble: f64, ours: f64) -> Result<()> {
    let ratio = ours / hubble;
    println!(
        "decode, flow and metrics on one core: Hubble {hubble:.0} events/s, netflume {ours:.0} events/s, {ratio:.1} times as many"
    );
    if ratio < FACTOR {
        bail!("less than {FACTOR} times Hubble's speed");
    }
    Ok(())
}

/// Events a second in the line that the oracle writes of all stages together.
fn hubbles(text: &str) -> Result<f64> {
    text.lines()
        .find_map(|line| line.strip_prefix("gob+parser+metrics "))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .context("the oracle told no speed")
}

/// Events a second of criterion's last run.
fn ours_measured() -> Result<f64> {
    let folder = cache::root().join("target/criterion/cilium/gob_flow_metrics/new");
    let read = |name: &str, path: &[&str]| {
        let file = folder.join(name);
        let text = fs::read_to_string(&file).with_context(|| format!("no {}", file.display()))?;
        number(&text, path).with_context(|| format!("no {} in {}", path.join("."), file.display()))
    };
    let events = read("benchmark.json", &["throughput", "Elements"])?;
    let nanoseconds = read("estimates.json", &["median", "point_estimate"])?;
    Ok(events * 1e9 / nanoseconds)
}

/// The number behind these keys of a JSON text, of which each is looked for behind the one before.
fn number(text: &str, path: &[&str]) -> Option<f64> {
    let rest = path.iter().try_fold(text, |text, key| {
        text.split_once(&format!("\"{key}\":"))
            .map(|(_, rest)| rest)
    })?;
    let end = rest.find([',', '}'])?;
    rest.get(..end)?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{hubbles, number};

    #[test]
    fn both_figures_are_found() {
        let hubble = "Hubble 1.19.4, 65536 events\nparser 1 events/s\ngob+parser+metrics      88208 events/s    11337 ns/event\n";
        assert_eq!(hubbles(hubble).unwrap(), 88208.0);
        assert!(hubbles("parser 1 events/s\n").is_err());
        let ours = r#"{"mean":{"point_estimate":1.0},"median":{"confidence_interval":{"confidence_level":0.95},"point_estimate":46.5e6,"standard_error":2.0}}"#;
        assert_eq!(number(ours, &["median", "point_estimate"]), Some(46.5e6));
        assert_eq!(
            number(
                r#"{"throughput":{"Elements":65536}}"#,
                &["throughput", "Elements"]
            ),
            Some(65536.0)
        );
        assert_eq!(number("{}", &["median"]), None);
    }
}
