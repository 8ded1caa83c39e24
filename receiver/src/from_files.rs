//! Values that are made of files and made again when these change: certificates and keys, which are replaced while the program runs.
//!
//! The contents are compared, not times: files are swapped by symlinks, renamed over each other and rewritten in place. They are
//! read when the value is asked for, which is once for each new connection.

use std::fmt::Display;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// Makes a value of the contents of the files, in their order.
type Make<T, E> = Box<dyn Fn(&[Vec<u8>]) -> Result<T, E> + Send + Sync>;

/// A value and the files that it is made of.
pub(crate) struct FromFiles<T, E> {
    /// Whose files they are, in messages.
    owner: &'static str,
    files: Vec<PathBuf>,
    make: Make<T, E>,
    state: Mutex<State<T>>,
}

struct State<T> {
    contents: Vec<Vec<u8>>,
    value: Arc<T>,
    /// Why the files as they are now cannot be used, as it was logged.
    refused: String,
}

/// Why there is no value.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FilesError<E> {
    /// A file cannot be read.
    #[error("{}: {source}", file.display())]
    Read {
        /// Which.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// What they hold does not make one.
    #[error("{0}")]
    Make(E),
}

impl<T, E: Display> FromFiles<T, E> {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// A file cannot be read, or what they hold does not make a value.
    pub(crate) fn new(
        owner: &'static str,
        files: Vec<PathBuf>,
        make: impl Fn(&[Vec<u8>]) -> Result<T, E> + Send + Sync + 'static,
    ) -> Result<Self, FilesError<E>> {
        let contents = read(&files)?;
        let value = Arc::new(make(&contents).map_err(FilesError::Make)?);
        Ok(Self {
            owner,
            files,
            make: Box::new(make),
            state: Mutex::new(State {
                contents,
                value,
                refused: String::new(),
            }),
        })
    }

    /// The value of the files as they are now. Where they do not make one (a key is replaced after its certificate), the one from
    /// before stays, and the reason is logged once.
    pub(crate) fn current(&self) -> Arc<T> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match self.renewed(&state.contents) {
            Ok(None) => state.refused.clear(),
            Ok(Some((contents, value))) => {
                tracing::info!(
                    "{}: files have changed and are used from now on",
                    self.owner
                );
                *state = State {
                    contents,
                    value: Arc::new(value),
                    refused: String::new(),
                };
            }
            Err(error) => {
                let reason = error.to_string();
                if reason != state.refused {
                    tracing::warn!(
                        "{}: {reason}; what was read before stays in use",
                        self.owner
                    );
                    state.refused = reason;
                }
            }
        }
        Arc::clone(&state.value)
    }

    /// What is new; none if nothing is.
    #[allow(clippy::type_complexity, reason = "contents and value")]
    fn renewed(&self, known: &[Vec<u8>]) -> Result<Option<(Vec<Vec<u8>>, T)>, FilesError<E>> {
        let contents = read(&self.files)?;
        if contents == known {
            return Ok(None);
        }
        let value = (self.make)(&contents).map_err(FilesError::Make)?;
        Ok(Some((contents, value)))
    }
}

impl<T, E> std::fmt::Debug for FromFiles<T, E> {
    /// Without what is in them: keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FromFiles")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

fn read<E>(files: &[PathBuf]) -> Result<Vec<Vec<u8>>, FilesError<E>> {
    files
        .iter()
        .map(|file| {
            std::fs::read(file).map_err(|source| FilesError::Read {
                file: file.clone(),
                source,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_follows_its_files_however_they_are_replaced_and_outlives_unusable_ones() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("1"), "a").unwrap();
        std::fs::write(at("2"), "b").unwrap();
        std::os::unix::fs::symlink("1", at("current")).unwrap();
        let number = |contents: &[Vec<u8>]| {
            let text = String::from_utf8_lossy(&contents[0]).into_owned();
            if text.len() == 1 {
                Ok(text)
            } else {
                Err("not one letter")
            }
        };
        let value = FromFiles::new("test", vec![at("current")], number).unwrap();
        let same = value.current();
        assert!(*same == "a" && Arc::ptr_eq(&same, &value.current()));
        // As Kubernetes replaces a mounted secret.
        std::os::unix::fs::symlink("2", at("new")).unwrap();
        std::fs::rename(at("new"), at("current")).unwrap();
        assert_eq!(*value.current(), "b");
        // In place, of the same length, within the same moment.
        std::fs::write(at("2"), "c").unwrap();
        assert_eq!(*value.current(), "c");
        std::fs::write(at("2"), "too long").unwrap();
        assert_eq!(*value.current(), "c");
        std::fs::remove_file(at("2")).unwrap();
        assert_eq!(*value.current(), "c");
        std::fs::write(at("2"), "d").unwrap();
        assert_eq!(*value.current(), "d");
        let absent = FromFiles::new("test", vec![at("absent")], number).unwrap_err();
        assert!(absent.to_string().contains("absent"), "{absent}");
    }
}
