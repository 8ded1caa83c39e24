//! Every command that README, ARCHITECTURE, CHANGELOG and `docs/` name is run by the tests: here in its shortest form, or by a part of
//! `cargo xtask test`. A unit test compares the table below with the documents.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context, Result, bail, ensure};
use xtask::cache;
use xtask::run::{cargo_executables, command, output, run, shown};

use crate::setup;

/// How a documented command is run.
#[derive(Clone, Copy)]
enum Form {
    /// By this part of `cargo xtask test`; empty: by all of them.
    Part(&'static str),
    /// `cargo xtask` with these words.
    Xtask(&'static str),
    /// By this function, which knows the program.
    Program(fn(&Program) -> Result<()>),
}

/// The commands as they stand in the documents. `target/release/netflume` is `netflume` here.
const COMMANDS: &[(&str, Form)] = &[
    ("cargo run --release -- run", Form::Program(Program::runs)),
    ("cargo xtask --help", Form::Xtask("--help")),
    ("cargo xtask bench", Form::Xtask("bench --quick")),
    (
        "cargo xtask bench --bench export",
        Form::Xtask("bench --bench export --quick"),
    ),
    (
        "cargo xtask bench --bench otlp",
        Form::Xtask("bench --bench otlp --quick"),
    ),
    ("cargo xtask bench cilium-socket", Form::Part("cilium")),
    (
        "cargo xtask bench cilium-socket --reloads 100",
        Form::Xtask("bench cilium-socket --quick --seconds 3 --rate 10000 --reloads 5"),
    ),
    (
        "cargo xtask bench kernel connect",
        Form::Xtask("bench kernel connect 3 20 --quick"),
    ),
    (
        "cargo xtask bench kernel memory 10000",
        Form::Xtask("bench kernel memory 20 --quick"),
    ),
    (
        "cargo xtask bench kernel pass 10000",
        Form::Xtask("bench kernel pass 20 --quick"),
    ),
    (
        "cargo xtask bench kernel pass 10000 250",
        Form::Xtask("bench kernel pass 20 2 --quick"),
    ),
    (
        "cargo xtask bench kernel udp",
        Form::Xtask("bench kernel udp 3 20 --quick"),
    ),
    // What it writes is compared there with what is kept.
    ("cargo xtask chart", Form::Part("deployment")),
    ("cargo xtask collector", Form::Program(collector_starts)),
    (
        "cargo xtask fuzz --seconds N",
        Form::Xtask("fuzz --seconds 1 replay"),
    ),
    // There with a program that is built already.
    ("cargo xtask image", Form::Part("deployment")),
    ("cargo xtask image amd64", Form::Part("deployment")),
    ("cargo xtask kernels", Form::Part("kernels")),
    (
        "cargo xtask oracle bench",
        Form::Xtask("oracle bench --quick"),
    ),
    ("cargo xtask test", Form::Part("")),
    ("cargo xtask test deployment", Form::Part("deployment")),
    ("cargo xtask test kernel", Form::Part("kernel")),
    ("cargo xtask test supply", Form::Part("supply")),
    ("cargo xtask test targets", Form::Part("targets")),
    ("netflume check", Form::Program(Program::checks)),
    (
        "netflume check -c FILE",
        Form::Program(Program::checks_files),
    ),
    (
        "netflume check -c bad.yaml",
        Form::Program(Program::finds_mistakes),
    ),
    ("netflume doctor", Form::Program(Program::doctor)),
    ("netflume record -o FILE", Form::Program(Program::records)),
    ("netflume replay FILE", Form::Program(Program::replays)),
    ("netflume run", Form::Program(Program::runs)),
];

/// Runs all that no other part runs.
pub(crate) fn all() -> Result<()> {
    setup::mounts()?;
    let program = Program::build()?;
    let mut failed = Vec::new();
    for (text, form) in COMMANDS {
        let result = match form {
            Form::Part(part) => {
                println!("   {text}: run by {}", part_text(part));
                continue;
            }
            Form::Xtask(words) => run(xtask().args(words.split(' '))),
            Form::Program(function) => function(&program),
        };
        if let Err(error) = result {
            println!("   {text}: {error:#}");
            failed.push(*text);
        }
    }
    ensure!(failed.is_empty(), "{}", failed.join(", "));
    Ok(())
}

fn part_text(part: &str) -> String {
    if part.is_empty() {
        "all parts".to_owned()
    } else {
        format!("the part `{part}`")
    }
}

/// This program.
fn xtask() -> Command {
    let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("xtask"));
    command(&program.to_string_lossy())
}

/// A command that runs until it is interrupted. What is left of it is killed when this is dropped.
struct Interactive(Child);

impl Interactive {
    /// Starts it, and waits until it prints `text` on standard error.
    fn until(command: &mut Command, text: &str) -> Result<Self> {
        println!("   $ {} (until it prints `{text}`)", shown(command));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // As a terminal has it: the interrupt goes to all processes of the command.
            .process_group(0);
        let mut running = Self(command.spawn().with_context(|| shown(command))?);
        let stderr = running.0.stderr.take().context("standard error")?;
        let mut printed = String::new();
        let mut lines = BufReader::new(stderr).lines();
        for line in lines.by_ref() {
            printed.push_str(&line?);
            printed.push('\n');
            if printed.contains(text) {
                // Read on, or it could not write on.
                std::thread::spawn(move || lines.for_each(drop));
                return Ok(running);
            }
        }
        bail!("it ended without `{text}`:\n{printed}")
    }

    /// Interrupts it, as Ctrl-C does; it must end well.
    fn interrupt(mut self) -> Result<()> {
        self.signal("-INT")?;
        let status = self.0.wait()?;
        ensure!(status.success(), "it ended with {status} when interrupted");
        Ok(())
    }

    fn signal(&self, signal: &str) -> Result<()> {
        let group = format!("-{}", self.0.id());
        output(command("kill").args([signal, "--", &group])).map(drop)
    }
}

impl Drop for Interactive {
    fn drop(&mut self) {
        // After a good end there is nothing left to be killed.
        if let Ok(None) = self.0.try_wait() {
            drop(self.signal("-KILL"));
            drop(self.0.wait());
        }
    }
}

fn collector_starts(_: &Program) -> Result<()> {
    let ready = "Everything is ready";
    let started = Interactive::until(xtask().arg("collector"), ready)?;
    // xtask itself ends by the signal, without a status; the Collector behind it has reported that it runs.
    started.signal("-INT")
}

/// netflume, and a folder to work in.
struct Program {
    path: PathBuf,
    folder: PathBuf,
}

impl Program {
    fn build() -> Result<Self> {
        // Built like the tests, of which nothing is compiled twice.
        let mut build = command("cargo build --quiet --workspace --bin netflume");
        let [path] = cargo_executables(&mut build, ["netflume"])?;
        let folder = cache::root().join("target/tmp/commands");
        fs::create_dir_all(&folder)?;
        Ok(Self { path, folder })
    }

    fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(&self.path);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("OTEL_") {
                command.env_remove(name);
            }
        }
        command.args(args).current_dir(&self.folder);
        command
    }

    fn output(&self, args: &[&str]) -> Result<Output> {
        let mut command = self.command(args);
        println!("   $ {}", shown(&command));
        command
            .stdin(Stdio::null())
            .output()
            .with_context(|| shown(&command))
    }

    fn succeeds(&self, args: &[&str]) -> Result<String> {
        let output = self.output(args)?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}: {stderr}", output.status);
        Ok(String::from_utf8(output.stdout)?)
    }

    fn runs(&self) -> Result<()> {
        Interactive::until(&mut self.command(["run"]), "records go to")?.interrupt()
    }

    fn checks(&self) -> Result<()> {
        let effective = self.succeeds(&["check"])?;
        ensure!(effective.contains("receivers:"), "{effective}");
        Ok(())
    }

    /// The configurations that the README shows.
    fn checks_files(&self) -> Result<()> {
        let readme = read("README.md")?;
        let shown: Vec<_> = blocks(&readme, "yaml").collect();
        ensure!(!shown.is_empty(), "README.md shows no configuration");
        for text in shown {
            fs::write(self.folder.join("readme.yaml"), text)?;
            self.succeeds(&["check", "-c", "readme.yaml"])?;
        }
        Ok(())
    }

    /// What the README shows of it.
    fn finds_mistakes(&self) -> Result<()> {
        let text = "receivers:\n  ebpf:\n    intervall: 5s\nexporters:\n  otlp_grpc:\n    compression: lzma\n";
        fs::write(self.folder.join("bad.yaml"), text)?;
        let output = self.output(&["check", "-c", "bad.yaml"])?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        let readme = read("README.md")?;
        ensure!(output.status.code() == Some(2), "{}", output.status);
        ensure!(
            readme.contains(&format!("$ netflume check -c bad.yaml\n{stderr}")),
            "README.md shows something else than\n{stderr}"
        );
        Ok(())
    }

    fn doctor(&self) -> Result<()> {
        let text = self.succeeds(&["doctor"])?;
        ensure!(text.starts_with("kernel "), "{text}");
        Ok(())
    }

    fn records(&self) -> Result<()> {
        let mut record = self.command(["record", "-o", "a.rec"]);
        Interactive::until(&mut record, "recording to")?.interrupt()?;
        let length = fs::metadata(self.folder.join("a.rec"))?.len();
        ensure!(length > 12, "the recording has {length} bytes");
        Ok(())
    }

    /// What the one before recorded.
    fn replays(&self) -> Result<()> {
        self.succeeds(&["replay", "a.rec"]).map(drop)
    }
}

fn read(path: impl AsRef<Path>) -> Result<String> {
    let path = cache::root().join(path);
    fs::read_to_string(&path).with_context(|| path.display().to_string())
}

/// The fenced blocks of a text in this language.
fn blocks<'a>(text: &'a str, language: &'a str) -> impl Iterator<Item = &'a str> {
    let all = text.split("```").skip(1).step_by(2);
    all.filter_map(move |block| {
        let (found, content) = block.split_once('\n')?;
        (found == language).then_some(content)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Commands in a document: in code spans, and in blocks on lines that begin with `$` or with `cargo`.
    fn named(text: &str) -> Vec<String> {
        let mut found = Vec::new();
        for (at, part) in text.split("```").enumerate() {
            if at % 2 == 0 {
                found.extend(part.split('`').skip(1).step_by(2).map(str::to_owned));
                continue;
            }
            for line in part.lines() {
                let typed = line.strip_prefix("$ ");
                let typed = typed.or(line.starts_with("cargo ").then_some(line));
                let typed = typed.and_then(|line| line.split(" #").next());
                found.extend(typed.map(|typed| typed.trim().to_owned()));
            }
        }
        let ours = |command: &String| {
            ["cargo ", "netflume ", "target/release/netflume "]
                .iter()
                .any(|program| command.starts_with(program))
        };
        found.retain(ours);
        for command in &mut found {
            *command = command.replace("target/release/netflume", "netflume");
        }
        found
    }

    fn documents() -> Vec<PathBuf> {
        let mut all: Vec<PathBuf> = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"]
            .map(PathBuf::from)
            .to_vec();
        let docs = cache::root().join("docs");
        let pages = fs::read_dir(docs).into_iter().flatten().flatten();
        all.extend(pages.map(|entry| entry.path()));
        all.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
        all
    }

    #[test]
    fn every_command_that_the_documents_name_is_run() {
        let mut missing = Vec::new();
        for document in documents() {
            for command in named(&read(&document).unwrap()) {
                if !COMMANDS.iter().any(|(known, _)| *known == command) {
                    missing.push(format!("{}: {command}", document.display()));
                }
            }
        }
        assert!(missing.is_empty(), "{missing:#?}");
        for (_, form) in COMMANDS {
            if let Form::Part(part) = form {
                let known = crate::PARTS.iter().any(|(name, ..)| name == part);
                assert!(part.is_empty() || known, "{part}");
            }
        }
    }

    #[test]
    fn commands_are_found_where_readers_see_them() {
        let text = "Do `cargo xtask a` with `netflume.x`.\n```\n$ target/release/netflume run\nnetflume 0.1 on vm\ncargo x # why\n```\n\
            and `netflume b`\n```yaml\na: 1\n```\n";
        assert_eq!(
            named(text),
            ["cargo xtask a", "netflume run", "cargo x", "netflume b"]
        );
        assert_eq!(blocks(text, "yaml").collect::<Vec<_>>(), ["a: 1\n"]);
    }
}
