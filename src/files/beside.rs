//! Files beside a model that hold its weights. Their names are made of the model's and of their contents, so that no two
//! models of one name share them: `NAME.onnx.0123456789abcdef.data`.

use std::fs::{File, TryLockError};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::draft::mark;
use super::kind::FileIdentity;

const ENDING: &str = ".data";
const DIGITS: usize = 16;
/// Models of more bytes than this are not searched for names.
const SEARCHED: u64 = 256 << 20;
/// How long others may take to give files their names.
const WAIT: Duration = Duration::from_secs(3);

/// The name of data by their digest (hexadecimal) and their model's name.
pub(super) fn name(model: &str, digest: &str) -> String {
    format!("{model}.{}{ENDING}", digest.get(..DIGITS).unwrap_or(digest))
}

/// The name of the model whose data have this name.
pub(super) fn model_of(name: &str) -> Option<&str> {
    let (model, digest) = name.strip_suffix(ENDING)?.rsplit_once('.')?;
    let is_digest = digest.len() == DIGITS
        && digest
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (is_digest && !model.is_empty()).then_some(model)
}

/// Data in a folder, with the names of their models.
pub(super) fn in_folder(folder: &Path) -> Vec<(PathBuf, String)> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let regular = entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
    let data = regular.filter_map(|entry| {
        Some((
            entry.path(),
            model_of(entry.file_name().to_str()?)?.to_owned(),
        ))
    });
    data.collect()
}

/// Whether a model of the folder refers, or may refer, to the data at a path; `except` is not asked.
pub(super) fn is_used(data: &Path, except: Option<&Path>) -> bool {
    let (Some(folder), Some(name)) = (
        data.parent(),
        data.file_name().and_then(|name| name.to_str()),
    ) else {
        return true;
    };
    let Ok(entries) = std::fs::read_dir(folder) else {
        return true;
    };
    let own = model_of(name);
    entries.flatten().any(|entry| {
        let (path, file) = (entry.path(), entry.file_name());
        let model = path
            .extension()
            .is_some_and(|ending| ending.eq_ignore_ascii_case("onnx"))
            || file.to_str() == own;
        model && path.is_file() && except != Some(&path) && mentions(&path, name)
    })
}

/// Whether a model refers, or may refer, to data of this name.
pub(super) fn mentions(model: &Path, name: &str) -> bool {
    let search = || -> io::Result<bool> {
        let file = File::open(model)?;
        if file.metadata()?.len() > SEARCHED {
            return Ok(true);
        }
        contains(BufReader::new(file), name.as_bytes())
    };
    match search() {
        Ok(found) => found,
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

fn contains(mut stream: impl Read, wanted: &[u8]) -> io::Result<bool> {
    let mut window = Vec::new();
    loop {
        // What may be the beginning of it stays.
        window.drain(..window.len().saturating_sub(wanted.len().saturating_sub(1)));
        if stream.by_ref().take(1 << 20).read_to_end(&mut window)? == 0 {
            return Ok(false);
        }
        if window.windows(wanted.len()).any(|part| part == wanted) {
            return Ok(true);
        }
    }
}

/// Whether two files hold the same.
pub(super) fn same_contents(one: &Path, other: &Path) -> io::Result<bool> {
    let (one, other) = (File::open(one)?, File::open(other)?);
    if one.metadata()?.len() != other.metadata()?.len() {
        return Ok(false);
    }
    let (mut one, mut other) = (
        BufReader::with_capacity(1 << 20, one),
        BufReader::with_capacity(1 << 20, other),
    );
    let (mut left, mut right) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        let read = one.read(&mut left)?;
        if read == 0 {
            return Ok(true);
        }
        other.read_exact(&mut right[..read])?;
        if left[..read] != right[..read] {
            return Ok(false);
        }
    }
}

/// A folder in which nobody else gives files their names or removes leftovers, as long as this is alive. `None` where that
/// cannot be had: nothing must be removed then.
pub(super) fn alone_in(folder: &Path) -> Option<File> {
    let lock = File::open(folder).ok()?;
    let start = Instant::now();
    loop {
        match lock.try_lock() {
            Ok(()) => return Some(lock),
            Err(TryLockError::WouldBlock) if start.elapsed() < WAIT => {
                std::thread::sleep(Duration::from_millis(5))
            }
            Err(_) => return None,
        }
    }
}

/// Data that go. Until then they have a second name that is a leftover's, so that they go in any case.
pub(super) struct Condemned {
    path: PathBuf,
    mark: Option<PathBuf>,
    /// Locked: the second name is no leftover as long as this process lives.
    file: File,
}

impl Condemned {
    /// `None` where somebody uses them.
    pub fn new(path: PathBuf) -> Option<Self> {
        let file = File::open(&path).ok()?;
        if file.try_lock().is_err() || !FileIdentity::still_at(&file, &path) {
            return None;
        }
        Some(Condemned {
            mark: mark(&path),
            path,
            file,
        })
    }

    pub fn remove(self) {
        // The same contents may have been written anew meanwhile.
        if FileIdentity::still_at(&self.file, &self.path) {
            let _ = std::fs::remove_file(&self.path);
        }
        if let Some(mark) = &self.mark {
            let _ = std::fs::remove_file(mark);
        }
    }

    /// They stay after all.
    pub fn spare(self) {
        if let Some(mark) = &self.mark {
            let _ = std::fs::remove_file(mark);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_of_model_and_contents() {
        let name = name("a.onnx", "0123456789abcdef0123");
        assert_eq!(
            (name.as_str(), model_of(&name)),
            ("a.onnx.0123456789abcdef.data", Some("a.onnx"))
        );
        for other in [
            "a.onnx.data",
            "a.onnx.0123456789abcdeF.data",
            ".0123456789abcdef.data",
            "a.onnx.0123456789abcdef",
        ] {
            assert_eq!(model_of(other), None, "{other}");
        }
    }

    #[test]
    fn a_name_is_found_across_pieces() {
        let mut bytes = vec![b'x'; (1 << 20) - 3];
        bytes.extend(b"needle");
        assert!(contains(bytes.as_slice(), b"needle").unwrap());
        bytes.pop();
        assert!(!contains(bytes.as_slice(), b"needle").unwrap());
    }
}
