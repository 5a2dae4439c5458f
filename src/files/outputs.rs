//! What a run reads and what it is to write, held against each other before the work.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::FileError;
use super::draft::{Draft, Live};
use super::kind::{FileIdentity, not_regular};
use super::sweep::sweep;

/// The files of one run. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Outputs {
    known: Arc<Mutex<KnownPaths>>,
    gate: Arc<Mutex<Gate>>,
    pub(super) live: Live,
}

#[derive(Debug, Default)]
struct KnownPaths {
    read: Vec<(FileIdentity, String)>,
    claimed: Vec<(Place, String)>,
}

/// Whether files may be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Gate {
    /// Not yet written.
    #[default]
    Open,
    /// They have their names.
    Passed,
    /// They never will.
    Closed,
}

/// Where an output goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// As it was given.
    pub given: PathBuf,
    /// Links followed: what is written.
    pub(super) real: PathBuf,
}

impl Place {
    /// Finds out what a path leads to. Errors: no folder, something that is no regular file.
    fn new(path: &Path) -> Result<Self, FileError> {
        let fail = |source| FileError::Io {
            path: path.to_owned(),
            source,
        };
        let real = match std::fs::metadata(path) {
            Ok(metadata) => match not_regular(&metadata) {
                Some(what) => {
                    return Err(FileError::NotRegular {
                        path: path.to_owned(),
                        what,
                    });
                }
                None => path.canonicalize().map_err(fail)?,
            },
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                let target = end_of_links(path);
                let folder = folder_of(&target);
                match (folder.canonicalize(), target.file_name()) {
                    (Ok(real), Some(name)) if real.is_dir() => real.join(name),
                    (Err(error), _) if error.kind() == ErrorKind::PermissionDenied => {
                        return Err(fail(error));
                    }
                    _ => {
                        return Err(FileError::NoFolder {
                            path: path.to_owned(),
                            folder: folder.to_owned(),
                        });
                    }
                }
            }
            Err(error) => return Err(fail(error)),
        };
        Ok(Place {
            given: path.to_owned(),
            real,
        })
    }

    pub(super) fn folder(&self) -> &Path {
        folder_of(&self.real)
    }

    pub(super) fn failed(&self, source: io::Error) -> FileError {
        FileError::Io {
            path: self.given.clone(),
            source,
        }
    }

    /// Errors: there is something now that is no regular file.
    pub(super) fn check(&self) -> Result<(), FileError> {
        match std::fs::symlink_metadata(&self.real)
            .ok()
            .and_then(|metadata| not_regular(&metadata))
        {
            Some(what) => Err(FileError::NotRegular {
                path: self.given.clone(),
                what,
            }),
            None => Ok(()),
        }
    }

    fn is(&self, other: &Place) -> bool {
        self.real == other.real
            || (FileIdentity::at(&self.real)
                .is_some_and(|identity| FileIdentity::at(&other.real) == Some(identity)))
    }
}

/// The folder of a file.
fn folder_of(path: &Path) -> &Path {
    path.parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// Where symbolic links lead that end at no file.
fn end_of_links(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..40 {
        let Ok(next) = std::fs::read_link(&path) else {
            break;
        };
        path = folder_of(&path).join(next);
    }
    path
}

impl Outputs {
    fn known(&self) -> MutexGuard<'_, KnownPaths> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Claims an output, before the work; `role` names it in messages ("the plan"). Leftovers of runs that were killed are
    /// removed from its folder. Errors: it is no regular file, it cannot be written, the run reads it, it is another output.
    pub fn claim(&self, path: &Path, role: &str) -> Result<Place, FileError> {
        let place = Place::new(path)?;
        let mut known = self.known();
        known
            .claimed
            .iter()
            .try_for_each(|(other, other_role)| match place.is(other) {
                true => Err(FileError::Shared {
                    path: path.to_owned(),
                    one: other_role.clone(),
                    other: role.to_owned(),
                }),
                false => Ok(()),
            })?;
        let identity = FileIdentity::at(&place.real);
        if let Some((_, role)) = known
            .read
            .iter()
            .find(|(read, _)| identity.as_ref() == Some(read))
        {
            return Err(FileError::Read {
                path: path.to_owned(),
                role: role.clone(),
            });
        }
        self.probe(&place)?;
        known.claimed.push((place.clone(), role.to_owned()));
        Ok(place)
    }

    /// Notes a file that the run reads, and calls `role` ("the model"). Errors: it is one of the outputs.
    pub fn reads(&self, path: &Path, role: &str) -> Result<(), FileError> {
        let Some(identity) = FileIdentity::at(path) else {
            return Ok(());
        };
        let mut known = self.known();
        if let Some((place, _)) = known
            .claimed
            .iter()
            .find(|(place, _)| FileIdentity::at(&place.real).as_ref() == Some(&identity))
        {
            return Err(FileError::Read {
                path: place.given.clone(),
                role: role.to_owned(),
            });
        }
        known.read.push((identity, role.to_owned()));
        Ok(())
    }

    /// Notes a file that the run reads and may be told to write over, like a model that is cleaned in its place: what it
    /// refers to is left alone.
    pub fn spares(&self, path: &Path) {
        if let Some(identity) = FileIdentity::at(path) {
            self.known().read.push((identity, String::new()));
        }
    }

    /// Whether the run reads a file.
    pub(super) fn is_read(&self, path: &Path) -> bool {
        FileIdentity::at(path)
            .is_some_and(|identity| self.known().read.iter().any(|(read, _)| *read == identity))
    }

    /// Errors: a file cannot be written there.
    fn probe(&self, place: &Place) -> Result<(), FileError> {
        if place.real.exists() {
            // Renaming would write over files that are not to be written.
            OpenOptions::new()
                .write(true)
                .open(&place.real)
                .map_err(|error| place.failed(error))?;
        }
        self.draft(place)?;
        sweep(place.folder());
        Ok(())
    }

    /// A temporary file beside a place.
    pub(super) fn draft(&self, place: &Place) -> Result<Draft, FileError> {
        // Held, so that nothing appears after the gate was closed.
        let gate = self.gate();
        match *gate {
            Gate::Closed => Err(FileError::Closed),
            _ => Draft::new(place.folder(), &self.live).map_err(|error| place.failed(error)),
        }
    }

    /// Whether the files of the run have got their names.
    pub fn written(&self) -> bool {
        *self.gate() == Gate::Passed
    }

    /// From now on nothing is written: temporary files are removed. Waits while files get their names; `false` if they have,
    /// or if this was asked for before.
    pub fn close(&self) -> bool {
        let mut gate = self.gate();
        if *gate != Gate::Open {
            return false;
        }
        *gate = Gate::Closed;
        self.live.remove();
        true
    }
}
