//! How the kernel tests are called. Some functions among them are no tests but what their second processes run (`Helper::is_me` in
//! `tests/kernel/support.rs`): these are left out, so that none counts as a test that passed.

use std::fs;

use anyhow::{Context, Result};
use xtask::cache;

/// The arguments of the test program that run every test.
pub(crate) fn arguments() -> Result<Vec<String>> {
    // Exact names: `serve` must not leave out `serve_twice`.
    let mut arguments = ["--ignored", "--test-threads=1", "--exact"]
        .map(str::to_owned)
        .to_vec();
    for helper in names("is_me(")? {
        arguments.extend(["--skip".to_owned(), helper]);
    }
    Ok(arguments)
}

/// The first argument of each call of `function` in the kernel tests, where it is a string.
fn names(function: &str) -> Result<Vec<String>> {
    let mut names = Vec::new();
    let mut left = vec![cache::root().join("tests/kernel")];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            let entries = fs::read_dir(&path).with_context(|| path.display().to_string())?;
            for entry in entries {
                left.push(entry?.path());
            }
            continue;
        }
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        for call in text.split(function).skip(1) {
            let name = call.trim_start().strip_prefix('"');
            let name = name.and_then(|rest| rest.split_once('"'));
            names.extend(name.map(|(name, _)| name.to_owned()));
        }
    }
    names.sort();
    names.dedup();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_started_as_a_helper_is_left_out() {
        let helpers = names("is_me(").unwrap();
        let mut started = names("Helper::start(").unwrap();
        started.extend(names("Helper::start_with(").unwrap());
        assert!(!started.is_empty());
        let missing: Vec<_> = started
            .iter()
            .filter(|name| !helpers.contains(name))
            .collect();
        assert!(missing.is_empty(), "{missing:?}");
    }
}
