//! What killed runs left behind.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};

use super::beside;
use super::draft::{PREFIX, SUFFIX};
use super::kind::{FileIdentity, has_links};

/// Removes temporary files of processes that are no more. Data that such a file is a second name of, and that no model
/// refers to, go too: the run was killed before its model was in place, or before the data of the model before were removed.
pub(super) fn sweep(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    let regular = entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
    let left: Vec<PathBuf> = regular
        .filter(|entry| is_temporary(&entry.file_name()))
        .map(|entry| entry.path())
        .collect();
    if left.is_empty() {
        return;
    }
    let Some(_alone) = beside::alone_in(folder) else {
        return;
    };
    for path in left {
        let Ok(file) = File::open(&path) else {
            continue;
        };
        // Whoever made it lives, or nobody can tell.
        if file.try_lock().is_err() || !FileIdentity::still_at(&file, &path) {
            continue;
        }
        if has_links(&file) {
            for (data, _) in beside::in_folder(folder) {
                if FileIdentity::still_at(&file, &data) && !beside::is_used(&data, None) {
                    let _ = std::fs::remove_file(data);
                }
            }
        }
        let _ = std::fs::remove_file(path);
    }
}

fn is_temporary(name: &OsStr) -> bool {
    let middle = name
        .to_str()
        .and_then(|name| name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX));
    middle.is_some_and(|middle| {
        !middle.is_empty() && middle.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })
}
