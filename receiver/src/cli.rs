//! The command line into a [`Command`], and the answers of `check`.

use std::path::PathBuf;

use clap::{CommandFactory, Parser, Subcommand};

use crate::config::{self, ConfigError, Overrides};
use crate::export::console::Format;

pub mod doctor;
pub mod terminal;

/// What the network really did, as OpenTelemetry.
#[derive(Debug, Parser)]
#[command(
    name = "netflume",
    version,
    disable_help_subcommand = true,
    max_term_width = 110
)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Run: read what the configuration names, and send it where it says.
    ///
    /// Without a file: connections of this machine's kernel as lines on the console, and by OTLP too if
    /// OTEL_EXPORTER_OTLP_ENDPOINT is set. Ctrl-C stops.
    Run(RunOptions),
    /// Check a configuration file and print what is in effect, with the meaning of every key.
    ///
    /// Without a file: the default configuration.
    Check(CheckOptions),
    /// Tell what this machine offers, what is missing, what that costs and how to get it.
    Doctor(DoctorOptions),
    /// Write the raw bytes of the sources to a file.
    Record(RecordOptions),
    /// Feed a recorded file through the same pipeline; needs no privileges.
    Replay(ReplayOptions),
}

/// Options of `run`.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct RunOptions {
    /// Configuration file (YAML).
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Write records to stdout: `text` for people, `json` for OTLP JSON lines.
    #[arg(long, value_name = "FORMAT")]
    pub output: Option<Format>,
}

/// Options of `check`.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct CheckOptions {
    /// Configuration file (YAML).
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print headers and private keys too.
    #[arg(long)]
    pub secrets: bool,
}

/// Options of `doctor`.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct DoctorOptions {
    /// Configuration file (YAML) whose sources are asked about.
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Options of `record`.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct RecordOptions {
    /// Configuration file (YAML) whose sources are recorded.
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// File to write; an old one is replaced.
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
}

/// Options of `replay`.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct ReplayOptions {
    /// Recorded file.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Configuration file (YAML).
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Write records to stdout: `text` for people, `json` for OTLP JSON lines.
    #[arg(long, value_name = "FORMAT")]
    pub output: Option<Format>,
}

/// Reads the command line of this process. Help, version and mistakes are answered here and end it (mistakes with status 2).
#[must_use]
pub fn parse() -> Command {
    match Arguments::try_parse() {
        Ok(Arguments {
            command: Some(command),
        }) => command,
        Ok(Arguments { command: None }) => {
            let help = Arguments::command().render_help().to_string();
            let hint = "`sudo netflume run` shows the connections of this machine";
            terminal::error(format_args!("{help}\n{hint}"));
            std::process::exit(2);
        }
        Err(error) => error.exit(),
    }
}

/// Looks a variable up in the environment of this process. What is not UTF-8 is as if unset.
#[must_use]
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// `netflume check`: the effective configuration as YAML, and a line for each variable that was ignored.
///
/// # Errors
/// The configuration is wrong, see [`ConfigError`].
pub fn check(options: &CheckOptions) -> Result<(String, Vec<String>), ConfigError> {
    let loaded = config::load(options.config.as_deref(), &variable, Overrides::default())?;
    let warnings = loaded.warnings.iter().map(ToString::to_string).collect();
    Ok((
        config::print::effective(&loaded.config, options.secrets),
        warnings,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn commands_are_read() {
        let parse =
            |line: &str| Arguments::try_parse_from(line.split(' ')).map(|parsed| parsed.command);
        assert_eq!(
            parse("netflume run -c a.yaml --output json").unwrap(),
            Some(Command::Run(RunOptions {
                config: Some("a.yaml".into()),
                output: Some(Format::Json),
            }))
        );
        assert_eq!(parse("netflume").unwrap(), None);
        for wrong in [
            "netflume run --output xml",
            "netflume record",
            "netflume replay",
            "netflume walk",
        ] {
            assert_eq!(parse(wrong).unwrap_err().exit_code(), 2, "{wrong}");
        }
    }
}
