//! Ids of cgroups, as the kernel programs tell them, to paths: by walking the tree of cgroup v2 when an unknown one is asked for.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

/// Directories that are remembered.
const CGROUPS_MAX: usize = 32_768;
/// Depth of the walk.
const DEPTH_MAX: usize = 24;
/// Time between two walks, nanoseconds: an unknown id may ask for one no more often.
const WALK_AGAIN_NS: u64 = 2_000_000_000;

/// The cgroups of this host, as far as they were met.
#[derive(Debug)]
pub struct Cgroups {
    root: PathBuf,
    paths: HashMap<u64, Arc<str>, RandomState>,
    walked_at_ns: Option<u64>,
}

impl Cgroups {
    /// The tree whose root is mounted at `mount`: of cgroup v2 (`/sys/fs/cgroup`), or of a host that has v1 beside it
    /// (`/sys/fs/cgroup/unified`), which is looked for first.
    #[must_use]
    pub fn new(mount: &Path) -> Self {
        let unified = mount.join("unified");
        Self {
            root: if unified.is_dir() {
                unified
            } else {
                mount.to_owned()
            },
            paths: HashMap::default(),
            walked_at_ns: None,
        }
    }

    /// The path of a cgroup below the root, with a leading slash. `now_ns`: any clock that does not go back.
    pub fn path(&mut self, id: u64, now_ns: u64) -> Option<Arc<str>> {
        if id == 0 {
            return None;
        }
        if let Some(path) = self.paths.get(&id) {
            return Some(path.clone());
        }
        let recent = |at: u64| now_ns.saturating_sub(at) < WALK_AGAIN_NS;
        if self.walked_at_ns.is_some_and(recent) {
            return None;
        }
        self.walked_at_ns = Some(now_ns);
        self.walk();
        self.paths.get(&id).cloned()
    }

    /// Reads the whole tree anew. An id is never given to two directories while the host runs, so the paths of those that are
    /// gone stay good; they are dropped when there is no more room.
    fn walk(&mut self) {
        if self.paths.len() >= CGROUPS_MAX {
            self.paths.clear();
        }
        let mut waiting = vec![(self.root.clone(), String::new(), 0)];
        while let Some((directory, path, depth)) = waiting.pop() {
            if self.paths.len() >= CGROUPS_MAX {
                return;
            }
            // A directory may be gone by the time it is read.
            let Some(id) = id(&directory) else {
                continue;
            };
            let told: &str = if path.is_empty() { "/" } else { &path };
            self.paths.entry(id).or_insert_with(|| told.into());
            if depth == DEPTH_MAX {
                continue;
            }
            let Ok(entries) = std::fs::read_dir(&directory) else {
                continue;
            };
            for entry in entries.flatten() {
                let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
                if is_directory && let Some(name) = entry.file_name().to_str() {
                    waiting.push((entry.path(), format!("{path}/{name}"), depth + 1));
                }
            }
        }
    }
}

/// The id of a cgroup: its directory's inode number.
#[cfg(unix)]
fn id(directory: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt as _;
    Some(std::fs::metadata(directory).ok()?.ino())
}

/// There are no cgroups.
#[cfg(not(unix))]
fn id(_: &Path) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn an_id_is_found_also_when_the_group_was_made_after_the_first_walk() {
        let root = tempfile::tempdir().unwrap();
        let make = |path: &str| {
            let directory = root.path().join(path);
            std::fs::create_dir_all(&directory).unwrap();
            std::fs::metadata(&directory).unwrap().ino()
        };
        let a = make("system.slice/a.service");
        let mut cgroups = Cgroups::new(root.path());
        assert_eq!(
            cgroups.path(a, 0).as_deref(),
            Some("/system.slice/a.service")
        );
        let b = make("b");
        assert_eq!(cgroups.path(b, 1), None, "asked again too soon");
        assert_eq!(cgroups.path(b, WALK_AGAIN_NS).as_deref(), Some("/b"));
        assert_eq!(cgroups.path(0, u64::MAX), None);
        let top = std::fs::metadata(root.path()).unwrap().ino();
        assert_eq!(cgroups.path(top, 0).as_deref(), Some("/"));
    }

    #[test]
    fn the_unified_tree_of_a_hybrid_host_is_used() {
        let root = tempfile::tempdir().unwrap();
        let group = root.path().join("unified/x");
        std::fs::create_dir_all(&group).unwrap();
        let id = std::fs::metadata(&group).unwrap().ino();
        assert_eq!(Cgroups::new(root.path()).path(id, 0).as_deref(), Some("/x"));
    }
}
