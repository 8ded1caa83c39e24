//! What is linked into the program: cargo-deny over licences, sources and bans, advisories where their database is at hand.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;
use xtask::run::{command, run};

use crate::tools;

/// Rules: deny.toml.
pub(crate) fn check() -> Result<()> {
    let deny = tools::DENY.program()?;
    let deny = || command(&deny.to_string_lossy());
    run(deny().args(["check", "licenses", "sources", "bans"]))?;
    match advisories() {
        Some(folder) => {
            println!("   advisories of {}", folder.display());
            run(deny().args(["check", "--disable-fetch", "advisories"]))
        }
        None => {
            println!(
                "   SKIPPED: advisories. No advisory database is on this machine; with network access, `cargo deny fetch` brings one"
            );
            Ok(())
        }
    }
}

/// The folder of advisory databases that cargo-deny keeps, if one is there.
fn advisories() -> Option<PathBuf> {
    let cargo = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")))?;
    let folder = cargo.join("advisory-dbs");
    let has_one = fs::read_dir(&folder)
        .ok()?
        .filter_map(Result::ok)
        .any(|entry| entry.path().join("crates").is_dir());
    has_one.then_some(folder)
}
