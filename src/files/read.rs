//! How files are opened for reading: regular ones only, and those that are mapped so that a change is seen.

use std::fs::{File, Metadata};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bytes::Bytes;

use super::kind::not_regular;

/// Files of up to this many bytes are read into memory: whatever happens to them later does no harm. Larger ones are quicker
/// to map.
const READ: u64 = 16 << 20;

/// A file as it was when it was opened.
#[derive(Clone, Debug, PartialEq)]
pub struct Stamp {
    /// The file.
    pub path: PathBuf,
    /// Its length and time of change, where it was mapped and not read into memory.
    mapped: Option<(u64, Option<SystemTime>)>,
}

impl Stamp {
    /// Errors: the file is mapped, and is not what it was. Its bytes must not be touched then: where it has become shorter,
    /// that would end the process.
    pub fn check(&self) -> io::Result<()> {
        let Some((length, modified)) = self.mapped else {
            return Ok(());
        };
        let now = std::fs::metadata(&self.path)?;
        if now.len() != length || now.modified().ok() != modified {
            return Err(changed());
        }
        Ok(())
    }
}

fn changed() -> io::Error {
    io::Error::new(
        ErrorKind::UnexpectedEof,
        "the file was changed while it was read",
    )
}

/// What is at a path, if files are read from there: a regular file or a folder. Errors: neither of them, named for what it is.
pub fn metadata(path: &Path) -> io::Result<Metadata> {
    let metadata = std::fs::metadata(path)?;
    match not_regular(&metadata) {
        Some(what) if !metadata.is_dir() => Err(io::Error::new(
            ErrorKind::InvalidInput,
            format!("this is {what}, not a file"),
        )),
        _ => Ok(metadata),
    }
}

/// Opens a regular file. Errors: it is none (a pipe would be waited for), it cannot be read.
pub fn open(path: &Path) -> io::Result<File> {
    if metadata(path)?.is_dir() {
        return Err(io::Error::new(
            ErrorKind::IsADirectory,
            "this is a folder, not a file",
        ));
    }
    File::open(path)
}

/// Reads a whole file. Errors: as [`open`].
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = open(path)?;
    let length = file.metadata()?.len();
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(usize::try_from(length).unwrap_or(usize::MAX))?;
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads a whole file of text. Errors: as [`open`]; no UTF-8.
pub fn text(path: &Path) -> io::Result<String> {
    String::from_utf8(read(path)?)
        .map_err(|_| io::Error::new(ErrorKind::InvalidData, "this is no text"))
}

/// The bytes of a file, read if it is small and mapped if it is large. Errors: as [`open`].
pub fn bytes(path: &Path) -> io::Result<(Bytes, Stamp)> {
    let file = open(path)?;
    let metadata = file.metadata()?;
    let mut stamp = Stamp {
        path: path.to_owned(),
        mapped: None,
    };
    // Files of the kernel tell no length.
    if metadata.len() <= READ {
        let bytes = read(path)?;
        return if (bytes.len() as u64) < metadata.len() {
            Err(changed())
        } else {
            Ok((bytes.into(), stamp))
        };
    }
    stamp.mapped = Some((metadata.len(), metadata.modified().ok()));
    // Safety: the map is read-only, and this tool never writes into a file that is there (it writes another and renames it).
    // Another program may change the file meanwhile; `Stamp::check` finds that out between the steps of the work.
    let map = unsafe { memmap2::Mmap::map(&file)? };
    Ok((Bytes::from_owner(map), stamp))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_file_that_changes_is_found_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("large");
        let file = File::create(&path).unwrap();
        file.set_len(READ + 1).unwrap();
        let (mapped, stamp) = bytes(&path).unwrap();
        assert_eq!(mapped.len() as u64, READ + 1);
        stamp.check().unwrap();
        file.set_len(READ).unwrap();
        assert!(stamp.check().unwrap_err().to_string().contains("changed"));
        // A small one is in memory.
        let (read, stamp) = bytes(&path).unwrap();
        file.set_len(0).unwrap();
        assert_eq!(read.iter().map(|byte| u64::from(*byte)).sum::<u64>(), 0);
        stamp.check().unwrap();
        assert!(
            open(folder.path())
                .unwrap_err()
                .to_string()
                .contains("this is a folder")
        );
        assert!(
            open(Path::new("/dev/null"))
                .unwrap_err()
                .to_string()
                .contains("this is a device")
        );
    }
}
