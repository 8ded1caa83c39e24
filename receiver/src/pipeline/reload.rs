//! A new configuration while everything runs: checked whole, applied part by part, or refused whole.
//!
//! | what changed | what happens |
//! | --- | --- |
//! | a live key of a receiver, of `logs` | source and engine take it over between two batches |
//! | another key of a receiver, or the receiver itself | it ends (its last records leave) and starts anew, alone |
//! | `metrics` | every receiver starts anew: series begin again |
//! | `exporters.otlp_grpc` | engines get a new exporter between two batches; the old one sends what it has |
//! | an extension | it starts anew |
//! | `exporters.console`, `service` | logged: it takes a restart of the program |

use std::collections::BTreeSet;

use super::running::Pipeline;
use crate::config::changes::{Changed, changes};
use crate::config::{Config, ConfigError, Loaded, print};

const EXPORTER: &str = "exporters.otlp_grpc";
const OBSERVER: &str = "extensions.hubble_observer";

/// Brings a configuration into effect, or logs why the one in effect stays.
pub(super) async fn reload(pipeline: &mut Pipeline, loaded: Result<Loaded, ConfigError>) {
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(error) => {
            pipeline.reloads.refused();
            for line in error_lines(&error) {
                tracing::error!("configuration not reloaded, the old one stays: {line}");
            }
            return;
        }
    };
    for warning in &loaded.warnings {
        tracing::warn!("configuration: ignored: {warning}");
    }
    let changed = changes(&pipeline.config, &loaded.config);
    let problems = apply(pipeline, loaded.config, &changed).await;
    let Some(problems) = problems else {
        pipeline.reloads.refused();
        return;
    };
    pipeline
        .reloads
        .applied(&print::effective(&pipeline.config, true));
    for problem in &problems {
        tracing::error!("configuration: {problem}");
    }
    let (generation, hash) = pipeline.reloads.generation();
    let keys: Vec<&str> = changed.iter().map(|changed| changed.path).collect();
    tracing::info!(
        generation,
        hash,
        changed = keys.join(", "),
        "configuration reloaded"
    );
}

/// What could not be done, one text each; none: the configuration was refused whole.
async fn apply(
    pipeline: &mut Pipeline,
    config: Config,
    changed: &BTreeSet<Changed>,
) -> Option<Vec<String>> {
    let components: BTreeSet<&str> = changed.iter().map(Changed::component).collect();
    let replaced = if components.contains(EXPORTER) {
        match pipeline.services.replace_exporter(&config) {
            Ok(replaced) => Some(replaced),
            Err(error) => {
                tracing::error!("configuration not reloaded, the old one stays: {error:#}");
                return None;
            }
        }
    } else {
        None
    };
    for key in changed.iter().filter(|key| needs_program(key)) {
        tracing::warn!(
            "{}: takes effect at the next start of the program",
            key.path
        );
    }
    let serves_flows = components.contains(OBSERVER)
        || pipeline.serves_flows(&pipeline.config) != pipeline.serves_flows(&config);
    if serves_flows {
        pipeline.end_flows();
    }
    pipeline.config = config;
    let mut problems = pipeline
        .services
        .reconfigure(&pipeline.config, &components)
        .await;
    if serves_flows && let Err(error) = pipeline.serve_flows() {
        problems.push(format!("{OBSERVER}: {error}"));
    }
    let all = components.contains("metrics");
    let restarts: BTreeSet<&str> = changed
        .iter()
        .filter(|changed| !changed.live)
        .filter_map(|changed| changed.component().strip_prefix("receivers."))
        // What publishes flows gets the new ring at its start.
        .chain(serves_flows.then_some("cilium"))
        .collect();
    let settings = pipeline.config.settings();
    problems.extend(tokio::task::block_in_place(|| {
        pipeline.reconfigure(&settings, |key| all || restarts.contains(key))
    }));
    if let Some(replaced) = replaced {
        // Every engine has the new one: nothing more comes to the old one.
        pipeline.services.retire(replaced);
    }
    Some(problems)
}

/// Whether only a restart of the program brings a changed key into effect.
fn needs_program(changed: &Changed) -> bool {
    !changed.live && matches!(changed.component(), "service" | "exporters.console")
}

fn error_lines(error: &ConfigError) -> Vec<String> {
    match error {
        ConfigError::Invalid(problems) => problems.0.iter().map(ToString::to_string).collect(),
        ConfigError::Read { source, .. } => vec![format!("{error}: {source}")],
    }
}
