//! Go programs that the tests run beside netflume: built once from the manifests of this repository, kept in the cache folder.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::cache::{self, Hash};
use crate::run;

/// How one partner is built.
pub struct Partner {
    /// Name of the program.
    pub name: &'static str,
    /// Its folder in the repository.
    pub dir: &'static str,
    /// What it is made from: these files of the folder are copied and name the result by their hash.
    pub files: &'static [&'static str],
    /// Commands before `go build`, run in the copy.
    pub prepare: &'static [&'static str],
}

/// The OpenTelemetry Collector, with what `otelcol-config/builder.yaml` lists.
///
/// Its builder would run `go mod tidy`, which wants a test dependency that the module proxy does not serve; so the builder only writes the sources
/// and our go.mod, which names the builder too, fixes all versions.
pub const COLLECTOR: Partner = Partner {
    name: "otelcol",
    dir: "otelcol-config",
    files: &["builder.yaml", "go.mod", "go.sum"],
    prepare: &["go tool builder --config builder.yaml --skip-compilation --skip-get-modules"],
};

/// Every partner, for set-up.
pub const ALL: &[&Partner] = &[&COLLECTOR];

impl Partner {
    /// The built program; builds it first if the cache does not have it.
    ///
    /// # Errors
    /// Go is missing, or a build step fails.
    pub fn program(&self) -> Result<PathBuf> {
        let source = cache::root().join(self.dir);
        let mut hash = Hash::default();
        for file in self.files {
            hash.add(file.as_bytes());
            hash.add(
                &fs::read(source.join(file))
                    .with_context(|| format!("cannot read {}/{file}", self.dir))?,
            );
        }
        self.prepare
            .iter()
            .for_each(|line| hash.add(line.as_bytes()));
        let cache = cache::dir()?;
        let program = cache.join(format!("{}-{}", self.name, hash.hex()));
        let _lock = cache::lock(self.name)?;
        if program.is_file() {
            return Ok(program);
        }
        if !run::exists("go") {
            bail!(
                "{} is built with Go 1.25 or later, which is not installed: see https://go.dev/dl",
                self.name
            );
        }
        println!(
            "   building {} from {}/ (once, some minutes) into {}",
            self.name,
            self.dir,
            cache.display()
        );
        let start = Instant::now();
        let work = cache.join(format!("{}.build", self.name));
        cache::remove(&work)?;
        fs::create_dir_all(&work)?;
        for file in self.files {
            fs::copy(source.join(file), work.join(file))?;
        }
        for line in self.prepare {
            run::run(run::command(line).current_dir(&work))?;
        }
        let build = "go build -trimpath -buildvcs=false -ldflags -s -o built .";
        run::run(
            run::command(build)
                .current_dir(&work)
                .env("CGO_ENABLED", "0"),
        )?;
        fs::rename(work.join("built"), &program)?;
        cache::remove(&work)?;
        println!("   built {} in {} s", self.name, start.elapsed().as_secs());
        Ok(program)
    }
}
