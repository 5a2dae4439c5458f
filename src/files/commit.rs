//! Files that are ready get their names, all together.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::beside::{self, Condemned, alone_in};
use super::draft::{Draft, mark};
use super::outputs::{Gate, Outputs, Place};
use super::{FileError, kind};

/// The outputs of a run, written beside their places; they go if they are not committed.
#[derive(Debug)]
pub struct Staged<'a> {
    outputs: &'a Outputs,
    files: Vec<(Draft, Place)>,
    models: Vec<StagedModel>,
    /// Data of the model that is written next.
    data: Option<(Draft, PathBuf)>,
}

/// A model beside its place, and the data that it refers to.
#[derive(Debug)]
struct StagedModel {
    draft: Draft,
    place: Place,
    data: Option<(Draft, PathBuf)>,
}

impl<'a> Staged<'a> {
    /// Nothing yet.
    pub fn new(outputs: &'a Outputs) -> Self {
        Staged {
            outputs,
            files: Vec::new(),
            models: Vec::new(),
            data: None,
        }
    }

    /// Writes a file. Errors: those of `fill`; it cannot be written.
    pub fn write(
        &mut self,
        place: &Place,
        fill: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> Result<(), FileError> {
        let draft = self.draft(place, fill)?;
        self.files.push((draft, place.clone()));
        Ok(())
    }

    /// Writes a model; models get their names last. Errors: as of [`Staged::write`].
    pub fn write_model(
        &mut self,
        place: &Place,
        fill: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> Result<(), FileError> {
        let draft = self.draft(place, fill)?;
        self.models.push(StagedModel {
            draft,
            place: place.clone(),
            data: self.data.take(),
        });
        Ok(())
    }

    /// Writes data that the model at a place is going to refer to, before the model itself. Gives their name, which is made
    /// of their contents, and what `fill` gives. Errors: as of [`Staged::write`].
    pub fn write_data<T>(
        &mut self,
        place: &Place,
        fill: impl FnOnce(&mut dyn Write) -> io::Result<T>,
    ) -> Result<(String, T), FileError> {
        let (mut found, mut hash) = (None, Sha256::new());
        let draft = self.draft(place, |file| {
            let mut out = BufWriter::with_capacity(
                1 << 16,
                Hashed {
                    file,
                    hash: &mut hash,
                },
            );
            found = Some(fill(&mut out)?);
            out.flush()
        })?;
        let digest: String = hash
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let model = place.real.file_name().unwrap_or_default().to_string_lossy();
        let name = beside::name(&model, &digest);
        self.data = Some((draft, place.folder().join(&name)));
        match found {
            Some(found) => Ok((name, found)),
            None => Err(place.failed(io::Error::other("nothing was written"))),
        }
    }

    /// Writes a temporary file to the disk, with the permissions of the file that it is to replace.
    fn draft(
        &self,
        place: &Place,
        fill: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> Result<Draft, FileError> {
        let mut draft = self.outputs.draft(place)?;
        let written = || {
            fill(draft.file())?;
            keep_permissions(draft.file(), &place.real)?;
            draft.file().sync_all()
        };
        let result = written();
        result.map_err(|error| place.failed(error)).map(|()| draft)
    }

    /// Gives all files their names, models last, and removes the data of the models that were there before. Errors: a name
    /// that became something else meanwhile, what the file system says, a stop asked for; the model is then as it was.
    pub fn commit(self) -> Result<(), FileError> {
        let Staged {
            outputs,
            files,
            models,
            ..
        } = self;
        let mut gate = outputs.gate();
        if *gate == Gate::Closed {
            return Err(FileError::Closed);
        }
        let places = files.iter().map(|(_, place)| place);
        let places: Vec<&Place> = places
            .chain(models.iter().map(|model| &model.place))
            .collect();
        places.iter().try_for_each(|place| place.check())?;
        let mut folders: Vec<PathBuf> = places
            .iter()
            .map(|place| place.folder().to_owned())
            .collect();
        folders.sort();
        folders.dedup();
        for (draft, place) in files {
            draft
                .rename(&place.real)
                .map_err(|error| place.failed(error))?;
        }
        for StagedModel { draft, place, data } in models {
            switch(outputs, draft, &place, data).map_err(|error| place.failed(error))?;
        }
        *gate = Gate::Passed;
        folders.iter().for_each(|folder| sync(folder));
        Ok(())
    }
}

/// Bytes that are counted into a digest on their way to a file.
struct Hashed<'a> {
    file: &'a mut File,
    hash: &'a mut Sha256,
}

impl Write for Hashed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.update(bytes.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Puts a model and its data in the place of another with its data. At any moment there is a model whose data are there.
fn switch(
    outputs: &Outputs,
    model: Draft,
    place: &Place,
    data: Option<(Draft, PathBuf)>,
) -> io::Result<()> {
    let alone = alone_in(place.folder());
    let fresh = data.as_ref().map(|(_, path)| path.clone());
    // Locked until all is done: nobody else takes them for leftovers.
    let (_locked, mark) = match data {
        Some((draft, path)) => put_data(outputs, draft, &path)?,
        None => (None, None),
    };
    let old = if alone.is_some() {
        condemned(outputs, place, fresh.as_deref())
    } else {
        Vec::new()
    };
    if fresh.is_some() || !old.is_empty() {
        // What the model refers to reaches the disk before the model, and goes after it.
        sync(place.folder());
    }
    let renamed = model.rename(&place.real);
    if !old.is_empty() {
        sync(place.folder());
    }
    if let Err(error) = renamed {
        old.into_iter().for_each(Condemned::spare);
        if let (Some(mark), Some(fresh), Some(_)) = (&mark, &fresh, &alone)
            && !beside::is_used(fresh, None)
        {
            let _ = std::fs::remove_file(fresh);
            let _ = std::fs::remove_file(mark);
        }
        return Err(error);
    }
    old.into_iter().for_each(Condemned::remove);
    if let Some(mark) = mark {
        let _ = std::fs::remove_file(mark);
    }
    Ok(())
}

/// What keeps data locked, and their second name, which makes them a leftover until the model is there.
type Placed = (Option<File>, Option<PathBuf>);

/// Gives data their name.
fn put_data(outputs: &Outputs, draft: Draft, path: &Path) -> io::Result<Placed> {
    if let Ok(metadata) = std::fs::symlink_metadata(path) {
        if let Some(what) = kind::not_regular(&metadata) {
            return Err(io::Error::other(format!("{} is {what}", path.display())));
        }
        let same = beside::same_contents(draft.path(), path)?;
        if same {
            // Unless somebody is about to remove it.
            let file = File::open(path)?;
            if file.try_lock().is_ok() && kind::FileIdentity::still_at(&file, path) {
                return Ok((Some(file), None));
            }
        }
        if !same && outputs.is_read(path) {
            return Err(io::Error::other(format!(
                "{} is read, and is not what its name says",
                path.display()
            )));
        }
    }
    // The temporary name goes last, so that it marks the data until the model refers to them.
    let mark = mark(draft.path());
    Ok((Some(draft.rename(path)?), mark))
}

/// The data that only the model at a place refers to, which is about to be replaced.
fn condemned(outputs: &Outputs, place: &Place, fresh: Option<&Path>) -> Vec<Condemned> {
    let Some(model) = place.real.file_name().and_then(|name| name.to_str()) else {
        return Vec::new();
    };
    let own = beside::in_folder(place.folder())
        .into_iter()
        .filter(|(_, of)| of == model)
        .map(|(path, _)| path);
    let old = own.filter(|path| Some(path.as_path()) != fresh && !outputs.is_read(path));
    let named = old.filter(|path| {
        path.file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| beside::mentions(&place.real, name))
    });
    named
        .filter(|path| !beside::is_used(path, Some(&place.real)))
        .filter_map(Condemned::new)
        .collect()
}

#[cfg(unix)]
fn keep_permissions(file: &File, old: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let Ok(metadata) = std::fs::metadata(old) else {
        return Ok(());
    };
    file.set_permissions(std::fs::Permissions::from_mode(
        metadata.permissions().mode() & 0o777,
    ))
}

#[cfg(not(unix))]
fn keep_permissions(_: &File, _: &Path) -> io::Result<()> {
    Ok(())
}

/// Writes names to the disk, where folders can be opened.
fn sync(folder: &Path) {
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
}
