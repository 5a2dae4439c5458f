//! Where the state of training is kept.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often the state is kept.
const EVERY: Duration = Duration::from_secs(180);

/// Where the state of training is kept, and whether it goes on from there.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Checkpoint {
    /// The file. What is there is replaced.
    pub path: PathBuf,
    /// How often it is written.
    pub every: Duration,
    /// Whether training goes on from the state in it, where there is one.
    pub resumes: bool,
}

impl Checkpoint {
    /// In a file, every few minutes.
    pub fn new(path: PathBuf, resumes: bool) -> Self {
        Checkpoint {
            path,
            every: EVERY,
            resumes,
        }
    }

    /// That of one of several courses, which has a file of its own beside the last one's.
    pub(crate) fn of_course(&self, number: usize) -> Self {
        Checkpoint {
            path: numbered(&self.path, number),
            ..self.clone()
        }
    }

    /// Removes the files of all courses of a run that needs them no more.
    pub(crate) fn remove(&self) {
        let _ = std::fs::remove_file(&self.path);
        let mut number = 1;
        while std::fs::remove_file(numbered(&self.path, number)).is_ok() {
            number += 1;
        }
    }
}

/// The name of one of several files.
fn numbered(path: &Path, number: usize) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}
