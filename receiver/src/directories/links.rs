//! The network interfaces of our own network namespace: `/sys/class/net` → number and name.

use std::path::Path;

/// Interfaces beyond which none is read.
const LINKS_MAX: usize = 65_536;

/// Number and name of each interface under `root`, normally `/sys/class/net`. None where it cannot be read.
#[must_use]
pub fn read(root: &Path) -> Vec<(u32, String)> {
    let Ok(entries) = std::fs::read_dir(root) else {
        return Vec::new();
    };
    let link = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry.ok()?;
        let index = std::fs::read_to_string(entry.path().join("ifindex")).ok()?;
        let name = entry.file_name().into_string().ok()?;
        Some((index.trim().parse().ok()?, name))
    };
    entries.take(LINKS_MAX).filter_map(link).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_read_and_other_files_are_left() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("eth0")).unwrap();
        std::fs::write(folder.path().join("eth0/ifindex"), "2\n").unwrap();
        std::fs::write(folder.path().join("bonding_masters"), "").unwrap();
        assert_eq!(read(folder.path()), [(2, "eth0".to_owned())]);
        assert_eq!(read(&folder.path().join("absent")), []);
    }
}
