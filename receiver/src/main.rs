//! `netflume`: dispatches a command, prints an error once, and turns the outcome into an exit status.
//!
//! 0: fine. 2: a bad command line or configuration. 1: anything else.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use netflume::cli::{self, Command, terminal};
use netflume::config::{Config, ConfigError, Origin, Overrides};
use netflume::export::console::Format;
use netflume::{pipeline, receivers};

fn main() -> ExitCode {
    let error = match dispatch(cli::parse()) {
        Ok(code) => return code,
        Err(error) => error,
    };
    match error.downcast_ref::<ConfigError>() {
        Some(ConfigError::Invalid(problems)) => {
            terminal::error(problems);
            ExitCode::from(2)
        }
        Some(ConfigError::Read { .. }) => {
            terminal::error(format_args!("netflume: {error:#}"));
            ExitCode::from(2)
        }
        None if is_broken_pipe(&error) => ExitCode::SUCCESS,
        None => {
            terminal::error(format_args!("netflume: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run(options) => {
            let origin = at(options.config, options.output);
            pipeline::run(load(&origin)?, origin, receivers::ALL)
        }
        Command::Record(options) => {
            let config = load(&at(options.config.clone(), None))?;
            pipeline::record(&config, &options, receivers::ALL)
        }
        Command::Replay(options) => {
            let config = load(&at(options.config.clone(), options.output))?;
            pipeline::replay(&config, &options, receivers::ALL)
        }
        Command::Check(options) => {
            let (text, warnings) = cli::check(&options)?;
            warn(&warnings);
            terminal::answer(&text)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Doctor(options) => {
            let config = load(&at(options.config.clone(), None))?;
            let text = cli::doctor::report(receivers::ALL, &config.settings(), options.json);
            terminal::answer(&text)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn at(path: Option<PathBuf>, output: Option<Format>) -> Origin {
    Origin::new(path, Overrides { output })
}

fn load(origin: &Origin) -> Result<Config, ConfigError> {
    let loaded = origin.load(&cli::variable)?;
    let warnings: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
    warn(&warnings);
    Ok(loaded.config)
}

fn warn(lines: &[String]) {
    for line in lines {
        terminal::error(format_args!("netflume: ignored: {line}"));
    }
}

/// The reader of our output went away (`netflume check | head`): that is its good right.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
