//! What each fuzz target does with its bytes: decode them, and check what must hold for any bytes. A panic is a finding.
//!
//! The binaries in `fuzz_targets/` hand libFuzzer's inputs to these functions; the test below hands them the seeds in `tests/fixtures/<target>/`, so
//! that plain `cargo test` covers both.

use netflume::source::replay::{Reader, Writer};

/// A target: its name, and what it does with the bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: &[Target] = &[("replay", replay)];

/// A recorded file: reading ends, and the batches read are written back as the bytes they came from.
pub fn replay(data: &[u8]) {
    let Ok(reader) = Reader::new(data) else {
        return;
    };
    let mut again = Vec::new();
    let Ok(mut writer) = Writer::new(&mut again) else {
        return;
    };
    for batch in reader.map_while(Result::ok) {
        assert!(
            batch.bytes.len() <= data.len(),
            "a batch longer than its file"
        );
        assert!(
            writer.write(&batch).is_ok(),
            "what was read cannot be written"
        );
    }
    assert!(again.len() <= data.len(), "more was read than there is");
}

#[cfg(test)]
mod tests {
    use super::TARGETS;

    /// Seeds that a target is given must not break it; every target has some.
    #[test]
    fn every_target_takes_its_seeds() {
        let fixtures = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures");
        for (name, target) in TARGETS {
            let mut seeds = 0;
            for entry in std::fs::read_dir(fixtures.join(name)).unwrap() {
                let seed = std::fs::read(entry.unwrap().path()).unwrap();
                // Every prefix too: a cut-off input is the commonest kind of damage.
                for end in 0..=seed.len().min(4096) {
                    target(&seed[..end]);
                }
                target(&seed);
                seeds += 1;
            }
            assert!(seeds > 0, "no seeds for {name}");
        }
    }
}
