//! A file on its way: beside its place, locked as long as its process lives.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tempfile::NamedTempFile;

use super::kind::FileIdentity;

pub(super) const PREFIX: &str = ".onnx-prune-";
pub(super) const SUFFIX: &str = ".tmp";

/// Names of temporary files that a run has made; some of them are not there any more.
#[derive(Clone, Debug, Default)]
pub(super) struct Live(Arc<Mutex<Vec<PathBuf>>>);

impl Live {
    pub fn add(&self, path: &Path) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(path.to_owned());
    }

    /// Removes those that are there.
    pub fn remove(&self) {
        for path in self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .drain(..)
        {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A temporary file. Goes when dropped.
#[derive(Debug)]
pub(super) struct Draft(NamedTempFile);

impl Draft {
    /// Makes one in a folder, with the permissions that new files have. Errors: what the file system says.
    pub fn new(folder: &Path, live: &Live) -> io::Result<Self> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(PREFIX).suffix(SUFFIX);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(std::fs::Permissions::from_mode(0o666));
        }
        // Whoever removes leftovers may come upon a file before it is locked, and take it away.
        for _ in 0..100 {
            let file = builder.tempfile_in(folder)?;
            live.add(file.path());
            let taken = matches!(file.as_file().try_lock(), Err(TryLockError::WouldBlock));
            if !taken && FileIdentity::still_at(file.as_file(), file.path()) {
                return Ok(Draft(file));
            }
        }
        Err(io::Error::other(
            "temporary files disappear as soon as they are made",
        ))
    }

    pub fn file(&mut self) -> &mut File {
        self.0.as_file_mut()
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Gives it its name, over what has that name. The file stays locked until what is given back is dropped.
    pub fn rename(self, to: &Path) -> io::Result<File> {
        self.0.persist(to).map_err(|failed| failed.error)
    }
}

/// Gives a file a second name that is a leftover's; `None` on file systems that know no second names.
pub(super) fn mark(path: &Path) -> Option<PathBuf> {
    let folder = path.parent()?;
    (0..1000u32)
        .map(|number| folder.join(format!("{PREFIX}{}x{number}{SUFFIX}", std::process::id())))
        .find_map(|mark| match std::fs::hard_link(path, &mark) {
            Ok(()) => Some(Some(mark)),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => None,
            Err(_) => Some(None),
        })?
}
