//! YAML, environment and command line into a checked [`Config`].
//!
//! What stands later wins: defaults, generic `OTEL_*` variables, those of a signal, the file, the command line. All keys are in
//! one table ([`schema`]), each with its meaning and its bounds; every problem is told with file, line, column and key.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

pub mod changes;
pub mod cilium;
pub mod environment;
pub mod expand;
pub mod exporters;
pub mod extensions;
pub mod filters;
pub mod hubble_metrics;
pub mod otlp_grpc;
pub mod print;
pub mod problem;
pub mod receivers;
pub mod schema;
pub mod service;
mod settings;
pub mod tree;
pub mod units;
pub mod value;
mod watch;

use crate::export::console::Format;
use crate::receivers::ReceiverOptions;
use environment::ResourceVariables;
use expand::Variables;
use problem::{Cause, Problem};
use schema::{Applied, File};
use tree::Step;
use watch::Watch;

/// All settings, checked.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Config {
    /// What is read.
    pub receivers: ReceiverOptions,
    /// Where it goes.
    pub exporters: Exporters,
    /// What others may ask.
    pub extensions: Extensions,
    /// Log records of all receivers.
    pub logs: service::Logs,
    /// Metrics of all receivers.
    pub metrics: service::Metrics,
    /// The program itself.
    pub service: service::Service,
    /// From `OTEL_RESOURCE_ATTRIBUTES` and `OTEL_SERVICE_NAME`.
    pub resource: ResourceVariables,
}

/// Those that are there run.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Exporters {
    /// OTLP over gRPC.
    pub otlp_grpc: Option<exporters::OtlpGrpc>,
    /// Lines on stdout.
    pub console: Option<exporters::Console>,
}

/// Those that are there run.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Extensions {
    /// Health over HTTP.
    pub health: Option<extensions::Health>,
    /// Metrics over HTTP.
    pub prometheus: Option<extensions::Prometheus>,
    /// Flows by Hubble's Observer API.
    pub hubble_observer: Option<extensions::HubbleObserver>,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("configuration file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its content is wrong; one line each.
    #[error("{0}")]
    Invalid(Problems),
}

/// At least one problem; prints one line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

/// A configuration, and what was ignored on the way.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Variables that could not be used, all or in part, and why.
    pub warnings: Vec<Problem>,
}

/// What the command line says.
#[derive(Clone, Copy, Debug, Default)]
pub struct Overrides {
    /// `--output`: turns the console on, in this format.
    pub output: Option<Format>,
}

/// Where a configuration comes from, so that it can be read again.
#[derive(Debug, Default)]
pub struct Origin {
    path: Option<PathBuf>,
    overrides: Overrides,
    watch: Option<Watch>,
}

impl Origin {
    /// The file (none: the embedded default) and the command line.
    #[must_use]
    pub fn new(path: Option<PathBuf>, overrides: Overrides) -> Self {
        // Looked at before it is first read: a change that comes in between is one.
        let watch = path.as_deref().map(Watch::new);
        Self {
            path,
            overrides,
            watch,
        }
    }

    /// Whether the file is another one than at the last call, or since [`Origin::new`].
    pub fn has_changed(&mut self) -> bool {
        self.watch.as_mut().is_some_and(Watch::has_changed)
    }

    /// Reads it, now.
    ///
    /// # Errors
    /// As [`load`].
    pub fn load(&self, variables: Variables<'_>) -> Result<Loaded, ConfigError> {
        load(self.path.as_deref(), variables, self.overrides)
    }
}

/// Reads the file (or takes the embedded default), the variables and the command line.
///
/// # Errors
/// The file cannot be read, or something in it is wrong, or a variable names a destination that cannot be used.
pub fn load(
    path: Option<&Path>,
    variables: Variables<'_>,
    overrides: Overrides,
) -> Result<Loaded, ConfigError> {
    let Some(path) = path else {
        return parse(None, variables, overrides).map_err(ConfigError::Invalid);
    };
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    let name = path.to_string_lossy();
    let file = File {
        name: &name,
        text: &text,
    };
    parse(Some(file), variables, overrides).map_err(ConfigError::Invalid)
}

/// As [`load`], with the file's text at hand.
///
/// # Errors
/// All problems in the text, or of variables that name a destination.
pub fn parse(
    file: Option<File<'_>>,
    variables: Variables<'_>,
    overrides: Overrides,
) -> Result<Loaded, Problems> {
    let mut config = Config::default();
    let mut applied = Applied::default();
    if let Some(file) = file {
        applied = apply_file(&mut config, file, variables)?;
    }
    if !applied.is_set("receivers") {
        config.receivers.ebpf.get_or_insert_default();
    }
    if !applied.is_set("exporters") {
        config.exporters.console.get_or_insert_default();
        if environment::names_endpoint(variables) {
            config.exporters.otlp_grpc.get_or_insert_default();
        }
    }
    if !applied.is_set("extensions") && config.receivers.cilium.is_some() {
        // As beside a Cilium agent: a local socket that `hubble observe` can be pointed at.
        config.extensions.hubble_observer.get_or_insert_default();
    }
    let unusable = environment::apply(&mut config, variables, &applied);
    if !unusable.refused.is_empty() {
        return Err(Problems(unusable.refused));
    }
    if let Some(format) = overrides.output {
        config.exporters.console.get_or_insert_default().format = format;
    }
    let conflicts = conflicts(&config, &applied, file);
    if conflicts.is_empty() {
        Ok(Loaded {
            config,
            warnings: unusable.ignored,
        })
    } else {
        Err(Problems(conflicts))
    }
}

fn apply_file(
    config: &mut Config,
    file: File<'_>,
    variables: Variables<'_>,
) -> Result<Applied, Problems> {
    let mut root = tree::parse(file.text).map_err(|error| {
        Problems(vec![Problem {
            source: file.name.to_owned(),
            position: error.position,
            path: String::new(),
            cause: Cause::Syntax(error.message),
        }])
    })?;
    let unexpanded = expand::expand(&mut root, variables);
    let mut applied = schema::apply(config, &root, file);
    // A value that could not be expanded is no value: what the walk says of it would only repeat that.
    let expansions = unexpanded
        .into_iter()
        .map(|(steps, error)| {
            file.problem(&steps, schema::path_of(&root, &steps), Cause::Expand(error))
        })
        .collect::<Vec<_>>();
    applied.problems.retain(|problem| {
        expansions
            .iter()
            .all(|other| other.position != problem.position)
    });
    applied.problems.extend(expansions);
    applied.problems.sort_by_key(|problem| problem.position);
    if applied.problems.is_empty() {
        Ok(applied)
    } else {
        Err(Problems(applied.problems))
    }
}

/// Settings that are right alone and wrong together.
fn conflicts(config: &Config, applied: &Applied, file: Option<File<'_>>) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut report = |path: &'static str, text: &str| {
        let cause = Cause::Conflict(text.to_owned());
        let steps: Vec<Step> = applied.steps(path).unwrap_or_default().to_vec();
        problems.push(match file {
            Some(file) => file.problem(&steps, path, cause),
            None => Problem {
                source: "netflume".to_owned(),
                position: None,
                path: path.to_owned(),
                cause,
            },
        });
    };
    if config.receivers == ReceiverOptions::default() {
        report(
            "receivers",
            "none is there, so there is nothing to do; allowed are ebpf, cilium",
        );
    }
    if config.exporters == Exporters::default() && config.extensions.prometheus.is_none() {
        report(
            "exporters",
            "none is there, so records go nowhere; allowed are otlp_grpc, console (or extensions.prometheus)",
        );
    }
    if let Some(observer) = &config.extensions.hubble_observer {
        if config.receivers.cilium.is_none() {
            report(
                "extensions.hubble_observer",
                "there are no flows to show without `receivers.cilium`",
            );
        }
        for (path, text) in observer.conflicts() {
            report(path, text);
        }
    }
    if let Some(otlp) = &config.exporters.otlp_grpc {
        let tls = &otlp.client.tls;
        for (path, file, pem, text) in [
            (
                "exporters.otlp_grpc.tls.ca_file",
                tls.ca_file.is_some(),
                tls.ca_pem.is_some(),
                "set beside `ca_pem`, allowed is one of the two",
            ),
            (
                "exporters.otlp_grpc.tls.cert_file",
                tls.cert_file.is_some(),
                tls.cert_pem.is_some(),
                "set beside `cert_pem`, allowed is one of the two",
            ),
            (
                "exporters.otlp_grpc.tls.key_file",
                tls.key_file.is_some(),
                tls.key_pem.is_some(),
                "set beside `key_pem`, allowed is one of the two",
            ),
        ] {
            if file && pem {
                report(path, text);
            }
        }
        let has_cert = tls.cert_file.is_some() || tls.cert_pem.is_some();
        let has_key = tls.key_file.is_some() || tls.key_pem.is_some();
        if has_cert != has_key {
            report(
                "exporters.otlp_grpc.tls",
                "mTLS needs both a certificate (`cert_file` or `cert_pem`) and its key (`key_file` or `key_pem`)",
            );
        }
    }
    problems
}

#[cfg(test)]
mod tests;
