//! Cargo's helpers from the crate registry: installed once at a fixed version, kept in the cache folder.

use std::path::PathBuf;

use anyhow::{Context, Result};
use xtask::cache;
use xtask::run::{command, run};

/// A helper of cargo.
pub(crate) struct Tool {
    /// Name of the crate and its program.
    name: &'static str,
    version: &'static str,
    /// Further arguments of `cargo install`.
    features: &'static [&'static str],
}

/// Checks licences, sources and banned crates. Without its own certificate store and HTTP client it compiles in half the time; cargo
/// fetches what it needs.
pub(crate) const DENY: Tool = Tool {
    name: "cargo-deny",
    version: "0.20.2",
    features: &["--no-default-features"],
};

/// Writes the bill of materials.
pub(crate) const CYCLONEDX: Tool = Tool {
    name: "cargo-cyclonedx",
    version: "0.5.9",
    features: &[],
};

/// All, for set-up.
pub(crate) const ALL: [&Tool; 2] = [&DENY, &CYCLONEDX];

impl Tool {
    /// The installed program; installs it first if the cache does not have it. Not optimised: they run for seconds and compile for minutes.
    pub(crate) fn program(&self) -> Result<PathBuf> {
        let root = cache::dir()?.join(format!("{}-{}", self.name, self.version));
        let program = root.join("bin").join(self.name);
        let _lock = cache::lock(self.name)?;
        if program.is_file() {
            return Ok(program);
        }
        let scratch = root.join("build");
        let line = format!(
            "cargo install {} --version {} --locked --debug --root",
            self.name, self.version
        );
        run(command(&line)
            .arg(&root)
            .arg("--target-dir")
            .arg(&scratch)
            .args(self.features)
            .env("CARGO_PROFILE_DEV_DEBUG", "none")
            .env("CARGO_INCREMENTAL", "0"))
        .with_context(|| format!("{} comes from the crate registry", self.name))?;
        cache::remove(&scratch)?;
        Ok(program)
    }
}
