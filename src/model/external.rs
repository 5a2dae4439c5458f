//! Weights that stand in files beside the model.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;

use crate::proto::{TensorProto, tensor_proto::DataLocation};

/// The files beside one model, mapped when first asked for.
pub(super) struct External {
    folder: PathBuf,
    files: BTreeMap<String, Bytes>,
}

impl External {
    pub(super) fn new(folder: &Path) -> Self {
        External { folder: folder.to_owned(), files: BTreeMap::new() }
    }

    /// Whether the model has external weights.
    pub(super) fn any(&self) -> bool {
        !self.files.is_empty()
    }

    pub(super) fn mapped_bytes(&self) -> u64 {
        self.files.values().map(|bytes| bytes.len() as u64).sum()
    }

    /// Puts the external bytes of a tensor into its `raw_data`, as a range of the mapped file.
    pub(super) fn attach(&mut self, tensor: &mut TensorProto) -> Result<(), String> {
        if tensor.data_location != Some(DataLocation::External as i32) {
            return Ok(());
        }
        let entry = |key: &str| tensor.external_data.iter().find(|entry| entry.key() == key).map(|entry| entry.value().to_owned());
        let number = |key: &str| match entry(key) {
            None => Ok(None),
            Some(text) => text.trim().parse::<u64>().map(Some).map_err(|_| format!("external data: '{text}' is no {key}")),
        };
        let location = entry("location").ok_or("external data without a location")?;
        let (offset, length) = (number("offset")?.unwrap_or(0), number("length")?);
        let file = self.file(&location)?;
        let length = length.unwrap_or((file.len() as u64).saturating_sub(offset));
        let end = offset.checked_add(length).filter(|end| *end <= file.len() as u64).ok_or_else(|| {
            format!(
                "external data file '{location}' has {} bytes, bytes {offset} to {} are asked for",
                file.len(),
                offset.saturating_add(length)
            )
        })?;
        tensor.raw_data = Some(file.slice(offset as usize..end as usize));
        tensor.data_location = None;
        tensor.external_data.clear();
        Ok(())
    }

    fn file(&mut self, location: &str) -> Result<Bytes, String> {
        if let Some(bytes) = self.files.get(location) {
            return Ok(bytes.clone());
        }
        let relative = Path::new(location);
        let inside = relative.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        let path = self.folder.join(relative);
        // Links could lead out as well as `..` and absolute paths do.
        let stays = |path: &Path| Some(path.canonicalize().ok()?.starts_with(self.folder.canonicalize().ok()?));
        if !inside || stays(&path) == Some(false) {
            return Err(format!("external data file '{location}' lies outside the model's folder, which is not allowed"));
        }
        let bytes = super::load::map(&path).map_err(|error| format!("external data file '{}': {error}", path.display()))?;
        self.files.insert(location.to_owned(), bytes.clone());
        Ok(bytes)
    }
}
