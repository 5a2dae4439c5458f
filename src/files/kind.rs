//! What stands at a path, and whether two paths are one file.

use std::fs::{File, Metadata};
use std::path::Path;

/// What something is that is no regular file; `None` for a regular file.
pub(super) fn not_regular(metadata: &Metadata) -> Option<&'static str> {
    let kind = metadata.file_type();
    if kind.is_file() {
        return None;
    }
    if kind.is_dir() {
        return Some("a folder");
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if kind.is_fifo() {
            return Some("a pipe");
        }
        if kind.is_socket() {
            return Some("a socket");
        }
        if kind.is_char_device() || kind.is_block_device() {
            return Some("a device");
        }
    }
    Some("no regular file")
}

/// A file whatever it is called: hard and symbolic links to it have the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileIdentity(
    #[cfg(unix)] (u64, u64),
    #[cfg(not(unix))] std::path::PathBuf,
);

impl FileIdentity {
    /// Of the file at a path, links followed; `None` where there is none.
    pub fn at(path: &Path) -> Option<Self> {
        #[cfg(unix)]
        return Some(Self::of(&std::fs::metadata(path).ok()?));
        #[cfg(not(unix))]
        return Some(FileIdentity(path.canonicalize().ok()?));
    }

    #[cfg(unix)]
    fn of(metadata: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        FileIdentity((metadata.dev(), metadata.ino()))
    }

    /// Whether an open file is the one at a path.
    pub fn still_at(file: &File, path: &Path) -> bool {
        #[cfg(unix)]
        return file
            .metadata()
            .is_ok_and(|metadata| Self::at(path) == Some(Self::of(&metadata)));
        #[cfg(not(unix))]
        return file.metadata().is_ok() && path.is_file();
    }
}

/// Whether a file has further names.
pub(super) fn has_links(file: &File) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        file.metadata().is_ok_and(|metadata| metadata.nlink() > 1)
    }
    #[cfg(not(unix))]
    {
        let _ = file;
        false
    }
}
