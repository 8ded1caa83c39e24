//! One line before and after each step, and a summary at the end.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// What ran so far. A failed step does not keep the next ones from running: one run shows everything that is wrong.
#[derive(Default)]
pub(crate) struct Steps {
    done: Vec<(String, Duration, Option<anyhow::Error>)>,
}

impl Steps {
    /// Runs one step; whether it passed.
    pub(crate) fn step(
        &mut self,
        name: &str,
        meaning: &str,
        action: impl FnOnce() -> Result<()>,
    ) -> bool {
        println!("==> {name}: {meaning}");
        let start = Instant::now();
        let error = action().err();
        let took = start.elapsed();
        match &error {
            None => println!("<== {name}: passed, {}", shown(took)),
            Some(error) => println!("<== {name}: FAILED, {}: {error:#}", shown(took)),
        }
        let passed = error.is_none();
        self.done.push((name.to_owned(), took, error));
        passed
    }

    /// Prints the summary; an error if a step failed.
    pub(crate) fn finish(self) -> Result<()> {
        println!("\nsummary");
        for (name, took, error) in &self.done {
            let verdict = error
                .as_ref()
                .map_or("passed".to_owned(), |error| format!("FAILED: {error}"));
            println!("  {name:<12}{:>9}  {verdict}", shown(*took));
        }
        let total: Duration = self.done.iter().map(|(_, took, _)| *took).sum();
        let failed: Vec<&str> = self
            .done
            .iter()
            .filter(|(.., error)| error.is_some())
            .map(|(name, ..)| name.as_str())
            .collect();
        if !failed.is_empty() {
            bail!("failed: {} ({} in all)", failed.join(", "), shown(total));
        }
        println!("  all passed, {}", shown(total));
        Ok(())
    }
}

fn shown(took: Duration) -> String {
    let seconds = took.as_secs_f64();
    if seconds < 60.0 {
        format!("{seconds:.1} s")
    } else {
        format!("{} min {:02} s", took.as_secs() / 60, took.as_secs() % 60)
    }
}
