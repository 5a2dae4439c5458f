//! Why a file is not written.

use std::io;
use std::path::PathBuf;

/// Why a file is not written. Nothing was changed then.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum FileError {
    #[error("{}: this is {what}; only a regular file is written", path.display())]
    NotRegular { path: PathBuf, what: &'static str },
    #[error("{}: there is no folder {}", path.display(), folder.display())]
    NoFolder { path: PathBuf, folder: PathBuf },
    #[error("{}: this is {role}, a file that is read, which is never written over; name another output", path.display())]
    Read { path: PathBuf, role: String },
    #[error("{}: {one} and {other} would be the same file; name another", path.display())]
    Shared {
        path: PathBuf,
        one: String,
        other: String,
    },
    #[error("cannot write {}", path.display())]
    Io { path: PathBuf, source: io::Error },
    /// A stop was asked for; nothing is written any more.
    #[error("stopped")]
    Closed,
}
