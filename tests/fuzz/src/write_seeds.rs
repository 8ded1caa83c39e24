//! `write-seeds FOLDER`: each target's seeds as files in a folder of its name, for libFuzzer.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use netflume_fuzz::{TARGETS, seeds};

fn main() -> Result<()> {
    let root = PathBuf::from(std::env::args_os().nth(1).context("which folder?")?);
    for (target, _) in TARGETS {
        let folder = root.join(target);
        fs::create_dir_all(&folder)?;
        for (number, seed) in seeds::of(target)?.iter().enumerate() {
            fs::write(folder.join(format!("seed-{number:04}")), seed)?;
        }
    }
    Ok(())
}
