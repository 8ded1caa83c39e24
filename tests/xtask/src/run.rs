//! Running other programs: every command is echoed, a failure names the command that failed.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// A command in the repository's root. Words are separated by blanks; use [`Command::arg`] for anything that may hold one.
#[must_use]
pub fn command(line: &str) -> Command {
    let mut words = line.split_whitespace();
    let program = words.next().unwrap_or_default();
    let mut command = Command::new(program);
    if program == "cargo" {
        // What cargo told us about our own package would look like a change to the build scripts of others (ring's): all
        // that depends on them would be built again, here and when one calls cargo the next time.
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
                command.env_remove(name);
            }
        }
    }
    command.args(words).current_dir(crate::cache::root());
    command
}

/// The command as one would type it.
#[must_use]
pub fn shown(command: &Command) -> String {
    let mut text = String::new();
    for (key, value) in command.get_envs() {
        if let Some(value) = value {
            text.push_str(&format!("{}={} ", key.display(), value.display()));
        }
    }
    text.push_str(&command.get_program().to_string_lossy());
    for arg in command.get_args() {
        text.push(' ');
        text.push_str(&arg.to_string_lossy());
    }
    text
}

/// Runs it with our standard output and error; anything but exit status 0 is an error.
///
/// # Errors
/// It cannot be started or fails.
pub fn run(command: &mut Command) -> Result<()> {
    let text = shown(command);
    println!("   $ {text}");
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("cannot start: {text}"))?;
    if !status.success() {
        bail!("failed ({status}): {text}");
    }
    Ok(())
}

/// Runs it without showing its output unless it fails; gives its standard output.
///
/// # Errors
/// It cannot be started or fails; the error carries what it wrote to standard error.
pub fn output(command: &mut Command) -> Result<String> {
    let text = shown(command);
    let out = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start: {text}"))?;
    if !out.status.success() {
        bail!(
            "failed ({}): {text}\n{}",
            out.status,
            String::from_utf8_lossy(&out.stderr).trim_end()
        );
    }
    String::from_utf8(out.stdout).with_context(|| format!("not UTF-8: {text}"))
}

/// Whether a program of that name can be found.
#[must_use]
pub fn exists(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian keeps some programs where an unprivileged PATH does not look.
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|dir: PathBuf| dir.join(program).is_file())
}

/// Runs a cargo build command and gives the executables it made for the targets called `names`.
///
/// # Errors
/// The build fails or does not make one of them.
pub fn cargo_executables<const N: usize>(
    command: &mut Command,
    names: [&str; N],
) -> Result<[PathBuf; N]> {
    command.arg("--message-format=json-render-diagnostics");
    let text = shown(command);
    println!("   $ {text}");
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot start: {text}"))?;
    let mut found = [const { None }; N];
    for line in BufReader::new(child.stdout.take().context("no output")?).lines() {
        let line = line?;
        for (slot, name) in found.iter_mut().zip(names) {
            // The library of the same name has no executable.
            if line.contains(&format!("\"name\":\"{name}\"")) {
                *slot = json_string(&line, "executable").or(slot.take());
            }
        }
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("failed ({status}): {text}");
    }
    let mut made = [const { PathBuf::new() }; N];
    for ((made, found), name) in made.iter_mut().zip(found).zip(names) {
        *made = found
            .map(PathBuf::from)
            .with_context(|| format!("no executable called {name} was made: {text}"))?;
    }
    Ok(made)
}

/// The value of a string key in one line of cargo's messages. Paths there hold no escapes.
fn json_string(line: &str, key: &str) -> Option<String> {
    let (_, rest) = line.split_once(&format!("\"{key}\":\""))?;
    let (value, _) = rest.split_once('"')?;
    Some(value.to_owned())
}

/// Whether we are root.
#[must_use]
pub fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    Path::new("/proc/self")
        .metadata()
        .is_ok_and(|m| m.uid() == 0)
}
