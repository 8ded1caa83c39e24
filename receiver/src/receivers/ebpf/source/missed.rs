//! Runs of our programs that the kernel left out: one was interrupted, on its own CPU, by what would have run it again.

use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd};

use aya::Ebpf;

/// What was seen so far, by name of the program.
#[derive(Debug, Default)]
pub(super) struct Missed(HashMap<String, u64>);

impl Missed {
    /// Runs left out since the last call. Kernels before 5.12 do not tell.
    pub(super) fn grown(&mut self, ebpf: &Ebpf) -> u64 {
        let mut grown = 0;
        for (name, program) in ebpf.programs() {
            let Ok(program) = program.fd() else {
                continue;
            };
            let path = format!("/proc/self/fdinfo/{}", program.as_fd().as_raw_fd());
            let Some(total) = std::fs::read_to_string(path)
                .ok()
                .and_then(|info| total(&info))
            else {
                continue;
            };
            // Most programs never miss a run, and have no place in the table.
            if total > 0 {
                let before = self.0.insert(name.to_owned(), total).unwrap_or_default();
                grown += total.saturating_sub(before);
            }
        }
        grown
    }
}

/// `recursion_misses` of a program's `fdinfo` (`bpf_prog_show_fdinfo`, kernel/bpf/syscall.c).
fn total(info: &str) -> Option<u64> {
    let value = info
        .lines()
        .find_map(|line| line.strip_prefix("recursion_misses:"))?;
    value.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_line_is_found_among_the_others() {
        let info =
            "pos:\t0\nprog_type:\t26\nrun_cnt:\t7\nrecursion_misses:\t3\nverified_insns:\t1\n";
        assert_eq!(super::total(info), Some(3));
        assert_eq!(super::total("pos:\t0\n"), None);
    }
}
