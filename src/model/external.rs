//! Weights that stand in files beside the model.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;

use super::tensor_problem::TensorProblem;
use crate::files::{self, Stamp};
use crate::proto::{TensorProto, tensor_proto::DataLocation};

/// The files beside one model, opened when first asked for.
pub(super) struct External {
    folder: PathBuf,
    /// Where the model's file really is, if it was named by a link in another folder.
    real: Option<PathBuf>,
    files: BTreeMap<String, (Bytes, Stamp)>,
}

impl External {
    pub(super) fn new(model: &Path) -> Self {
        let folder = model
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        let linked = model
            .canonicalize()
            .ok()
            .and_then(|real| real.parent().map(Path::to_owned));
        let real = linked.filter(|real| folder.canonicalize().is_ok_and(|folder| folder != *real));
        External {
            folder: folder.to_owned(),
            real,
            files: BTreeMap::new(),
        }
    }

    /// Whether the model has external weights.
    pub(super) fn any(&self) -> bool {
        !self.files.is_empty()
    }

    pub(super) fn total_bytes(&self) -> u64 {
        self.files
            .values()
            .map(|(bytes, _)| bytes.len() as u64)
            .sum()
    }

    /// The files as they were when they were opened.
    pub(super) fn stamps(&self) -> impl Iterator<Item = Stamp> {
        self.files.values().map(|(_, stamp)| stamp.clone())
    }

    /// Puts the external bytes of a tensor into its `raw_data`, as a range of the mapped file.
    pub(super) fn attach(&mut self, tensor: &mut TensorProto) -> Result<(), TensorProblem> {
        if tensor.data_location != Some(DataLocation::External as i32) {
            return Ok(());
        }
        let entry = |key: &str| {
            tensor
                .external_data
                .iter()
                .find(|entry| entry.key() == key)
                .map(|entry| entry.value().to_owned())
        };
        let number = |key: &'static str| match entry(key) {
            None => Ok(None),
            Some(text) => match text.trim().parse::<u64>() {
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(TensorProblem::ExternalNumber { text, key }),
            },
        };
        let location = entry("location").ok_or(TensorProblem::NoLocation)?;
        let (offset, length) = (number("offset")?.unwrap_or(0), number("length")?);
        let file = self.file(&location)?;
        let length = length.unwrap_or((file.len() as u64).saturating_sub(offset));
        let end = offset
            .checked_add(length)
            .filter(|end| *end <= file.len() as u64)
            .ok_or_else(|| TensorProblem::ExternalEnd {
                location,
                bytes: file.len(),
                from: offset,
                to: offset.saturating_add(length),
            })?;
        tensor.raw_data = Some(file.slice(offset as usize..end as usize));
        tensor.data_location = None;
        tensor.external_data.clear();
        Ok(())
    }

    fn file(&mut self, location: &str) -> Result<Bytes, TensorProblem> {
        if let Some((bytes, _)) = self.files.get(location) {
            return Ok(bytes.clone());
        }
        let relative = Path::new(location);
        let inside = relative
            .components()
            .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        let beside = |folder: &PathBuf| (folder.join(relative), folder.clone());
        let elsewhere = self
            .real
            .as_ref()
            .map(beside)
            .filter(|(path, _)| !self.folder.join(relative).exists() && path.exists());
        let (path, folder) = elsewhere.unwrap_or_else(|| beside(&self.folder));
        // Links could lead out as well as `..` and absolute paths do.
        let stays = |path: &Path| {
            Some(
                path.canonicalize()
                    .ok()?
                    .starts_with(folder.canonicalize().ok()?),
            )
        };
        if !inside || stays(&path) == Some(false) {
            return Err(TensorProblem::Outside(location.to_owned()));
        }
        let opened =
            files::bytes(&path).map_err(|source| TensorProblem::ExternalFile { path, source })?;
        let bytes = opened.0.clone();
        self.files.insert(location.to_owned(), opened);
        Ok(bytes)
    }
}
