//! Notices that the configuration file changed: written anew, replaced, or reached by another symbolic link, as Kubernetes mounts a
//! ConfigMap.
//!
//! It is looked at, not watched: two calls a second or so cost nothing, work on every file system, and cannot lose an event.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// What a look at a file finds without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Look {
    target: PathBuf,
    length: u64,
    modified: Option<SystemTime>,
}

/// A file, as it was at the last look.
#[derive(Debug)]
pub(super) struct Watch {
    path: PathBuf,
    seen: Option<Look>,
}

impl Watch {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            seen: look(path),
        }
    }

    /// Whether the file is another one than at the last look. A file that is gone is none; it counts when it is back.
    pub(super) fn has_changed(&mut self) -> bool {
        let now = look(&self.path);
        let changed = now.is_some() && now != self.seen;
        if changed {
            self.seen = now;
        }
        changed
    }
}

fn look(path: &Path) -> Option<Look> {
    let target = fs::canonicalize(path).ok()?;
    let metadata = fs::metadata(&target).ok()?;
    Some(Look {
        target,
        length: metadata.len(),
        modified: metadata.modified().ok(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_a_replaced_and_a_returned_file_have_changed_once_each() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("netflume.yaml");
        fs::write(&path, "a").unwrap();
        let mut watch = Watch::new(&path);
        assert!(!watch.has_changed());
        fs::write(&path, "ab").unwrap();
        assert!(watch.has_changed());
        assert!(!watch.has_changed());
        fs::remove_file(&path).unwrap();
        assert!(!watch.has_changed(), "a file that is gone is not read");
        fs::write(&path, "abc").unwrap();
        assert!(watch.has_changed());
    }

    #[cfg(unix)]
    #[test]
    fn a_link_that_points_elsewhere_is_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (folder.path().join("..1"), folder.path().join("..2"));
        for data in [&old, &new] {
            fs::create_dir(data).unwrap();
            fs::write(data.join("netflume.yaml"), "same").unwrap();
        }
        let link = folder.path().join("..data");
        std::os::unix::fs::symlink(&old, &link).unwrap();
        let mut watch = Watch::new(&link.join("netflume.yaml"));
        assert!(!watch.has_changed());
        let next = folder.path().join("..data_tmp");
        std::os::unix::fs::symlink(&new, &next).unwrap();
        fs::rename(&next, &link).unwrap();
        assert!(watch.has_changed());
    }
}
