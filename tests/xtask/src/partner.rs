//! Go programs that the tests run beside netflume: built once from the manifests of this repository, kept in the cache folder.

use std::fs;
use std::path::{Path, PathBuf};
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
    /// What it is made from: these files of the folder are copied and name the result by their hash. `*.go` stands for all such files.
    pub files: &'static [&'static str],
    /// Commands before `go build`, run in the copy.
    pub prepare: &'static [&'static str],
    /// The last arguments of `go build`: the package, after further flags.
    pub build: &'static str,
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
    build: ".",
};

/// Cilium's own code, newest release of the fixtures: writes, decodes, counts and serves monitor events.
pub const ORACLE: Partner = Partner {
    name: "oracle",
    dir: "tests/oracle",
    files: &["go.mod", "go.sum", "*.go", "agent_link.s"],
    prepare: &[],
    build: ".",
};

/// The same program with Cilium 1.18.
pub const ORACLE_1_18: Partner = Partner {
    name: "oracle-1.18",
    dir: "tests/oracle",
    files: &[
        "go-1.18.mod",
        "go-1.18.sum",
        "go.mod",
        "*.go",
        "agent_link.s",
    ],
    prepare: &[],
    build: "-modfile go-1.18.mod -tags cilium_1_18 .",
};

/// Hubble's command line: the test client of the Observer API.
pub const HUBBLE: Partner = Partner {
    name: "hubble",
    dir: "tests/oracle",
    files: &["go.mod", "go.sum", "hubble/main.go"],
    prepare: &[],
    build: "./hubble",
};

/// Hubble's relay: finds nodes by the Peer service, and is a client of the Observer API as the cluster has it.
pub const RELAY: Partner = Partner {
    name: "relay",
    dir: "tests/relay",
    files: &["go.mod", "go.sum", "main.go"],
    prepare: &[],
    build: ".",
};

/// `grpcurl`: a client without schemas, which asks for them by reflection.
pub const GRPCURL: Partner = Partner {
    name: "grpcurl",
    dir: "tests/relay",
    files: &["go.mod", "go.sum"],
    prepare: &[],
    build: "github.com/fullstorydev/grpcurl/cmd/grpcurl",
};

/// Kubernetes' API server: what it accepts is what a cluster accepts.
pub const API_SERVER: Partner =
    kubernetes("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver");

/// Kubernetes' command line.
pub const KUBECTL: Partner = kubernetes("kubectl", "k8s.io/kubernetes/cmd/kubectl");

/// The package manager of Kubernetes, built with the same release of its libraries.
pub const HELM: Partner = kubernetes("helm", "helm.sh/helm/v4/cmd/helm");

/// Checks manifests against schemas, without a cluster.
pub const KUBECONFORM: Partner = kubernetes(
    "kubeconform",
    "github.com/yannh/kubeconform/cmd/kubeconform",
);

/// One of the programs that `tests/kubernetes/go.mod` lists as its tools; what they share is compiled once.
const fn kubernetes(name: &'static str, package: &'static str) -> Partner {
    Partner {
        name,
        dir: "tests/kubernetes",
        files: &["go.mod", "go.sum"],
        prepare: &[],
        build: package,
    }
}

/// Every partner, for set-up.
pub const ALL: &[&Partner] = &[
    &COLLECTOR,
    &ORACLE,
    &ORACLE_1_18,
    &HUBBLE,
    &RELAY,
    &GRPCURL,
    &API_SERVER,
    &KUBECTL,
    &HELM,
    &KUBECONFORM,
];

impl Partner {
    /// The built program; builds it first if the cache does not have it.
    ///
    /// # Errors
    /// Go is missing, or a build step fails.
    pub fn program(&self) -> Result<PathBuf> {
        let source = cache::root().join(self.dir);
        let mut hash = Hash::default();
        let files = self.sources(&source)?;
        for file in &files {
            hash.add(file.as_bytes());
            hash.add(
                &fs::read(source.join(file))
                    .with_context(|| format!("cannot read {}/{file}", self.dir))?,
            );
        }
        self.prepare
            .iter()
            .for_each(|line| hash.add(line.as_bytes()));
        hash.add(self.build.as_bytes());
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
        for file in &files {
            let copy = work.join(file);
            fs::create_dir_all(copy.parent().unwrap_or(&work))?;
            fs::copy(source.join(file), copy)?;
        }
        for line in self.prepare {
            run::run(run::command(line).current_dir(&work))?;
        }
        // Two packages at a time: each may take most of a gigabyte.
        let build = format!(
            "go build -p 2 -trimpath -buildvcs=false -ldflags -s -o built {}",
            self.build
        );
        run::run(
            run::command(&build)
                .current_dir(&work)
                .env("CGO_ENABLED", "0"),
        )?;
        fs::rename(work.join("built"), &program)?;
        cache::remove(&work)?;
        println!("   built {} in {} s", self.name, start.elapsed().as_secs());
        Ok(program)
    }

    /// The files it is made from, in a fixed order.
    fn sources(&self, folder: &Path) -> Result<Vec<String>> {
        let mut all = Vec::new();
        for file in self.files {
            let Some(ending) = file.strip_prefix('*') else {
                all.push((*file).to_owned());
                continue;
            };
            let mut found = Vec::new();
            for entry in
                fs::read_dir(folder).with_context(|| format!("cannot read {}", self.dir))?
            {
                let name = entry?.file_name().to_string_lossy().into_owned();
                if name.ends_with(ending) {
                    found.push(name);
                }
            }
            found.sort();
            all.append(&mut found);
        }
        Ok(all)
    }
}
