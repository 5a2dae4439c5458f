//! ONNX test sets: folders `test_data_set_0`, `test_data_set_1` … with `input_0.pb`, `input_1.pb` … in each.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use prost::Message;

use super::error::DataErrorKind;
use super::spec::dims_text;
use super::{DataError, InputSpec, Preprocess, Tensors, preprocess};
use crate::model::TensorRef;
use crate::proto::TensorProto;

/// The sets of a folder (or the one set that the folder itself is), each of which is one batch; `None` when there is none.
/// Errors: a folder that can not be listed.
pub(super) fn find(folder: &Path) -> Result<Option<Vec<PathBuf>>, DataError> {
    if folder.join("input_0.pb").is_file() {
        return Ok(Some(vec![folder.to_owned()]));
    }
    let mut sets: Vec<(u64, PathBuf)> = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|error| DataError::new(folder, error))? {
        let path = entry.map_err(|error| DataError::new(folder, error))?.path();
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        if let (Some(number), true) = (name.strip_prefix("test_data_set_"), path.is_dir()) {
            sets.push((number.parse().unwrap_or(u64::MAX), path));
        }
    }
    if sets.is_empty() {
        return Ok(None);
    }
    sets.sort();
    Ok(Some(sets.into_iter().map(|(_, path)| path).collect()))
}

/// The files of one set, in the order of the inputs.
pub(super) fn files(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let folder = folder.to_owned();
    (0..)
        .map(move |number| folder.join(format!("input_{number}.pb")))
        .take_while(|path| path.is_file())
}

/// The shapes of the tensors of a set, by name; what cannot be read is left out.
pub(super) fn shapes(folder: &Path) -> BTreeMap<String, Vec<usize>> {
    let tensors = files(folder)
        .filter_map(|path| TensorProto::decode(bytes::Bytes::from(std::fs::read(path).ok()?)).ok());
    tensors
        .map(|tensor| {
            let dims = tensor
                .dims
                .iter()
                .map(|dim| usize::try_from(*dim).unwrap_or(0));
            (tensor.name().to_owned(), dims.collect())
        })
        .collect()
}

/// Reads one set. Errors: inputs missing, damaged, or of other types and shapes than the model's.
pub(super) fn read(folder: &Path, specs: &[InputSpec]) -> Result<Tensors, DataError> {
    let found = stored(folder)?;
    let mut tensors = Tensors::new();
    for (place, spec) in specs.iter().enumerate() {
        // By name where the files have the model's names, else by number.
        let named = found.iter().find(|(name, _)| *name == spec.name);
        let Some((_, tensor)) = named.or_else(|| found.get(place)) else {
            let found = (0..found.len())
                .map(|number| format!("input_{number}.pb"))
                .collect();
            return Err(DataError::new(
                folder,
                DataErrorKind::Names {
                    found,
                    missing: vec![spec.name.clone()],
                },
            ));
        };
        tensors.insert(spec.name.clone(), fitted(folder, tensor, spec)?);
    }
    Ok(tensors)
}

/// The tensors of a set as they are stored, with their names.
fn stored(folder: &Path) -> Result<Vec<(String, TensorRef)>, DataError> {
    let mut found: Vec<(String, TensorRef)> = Vec::new();
    for path in files(folder) {
        let fail = |problem: String| DataError::new(&path, DataErrorKind::Format(problem));
        let bytes = crate::files::read(&path).map_err(|error| DataError::new(&path, error))?;
        let message = TensorProto::decode(bytes::Bytes::from(bytes))
            .map_err(|error| fail(format!("no tensor: {error}")))?;
        let tensor = TensorRef::from_proto(&message).map_err(|error| fail(error.to_string()))?;
        found.push((message.name().to_owned(), tensor));
    }
    Ok(found)
}

/// A tensor in the type of an input. Errors: another shape, no such conversion, numbers that are not finite.
fn fitted(folder: &Path, tensor: &TensorRef, spec: &InputSpec) -> Result<TensorRef, DataError> {
    let fail = |kind: DataErrorKind| DataError::new(folder, kind);
    if !InputSpec::fits(&spec.shape, &tensor.dims) {
        return Err(fail(DataErrorKind::Shape {
            array: spec.name.clone(),
            found: format!("{} {}", tensor.dtype, dims_text(&tensor.dims)),
            expected: spec.describe(),
            hint: "the test set must belong to this model",
        }));
    }
    let tensor = if tensor.dtype == spec.dtype {
        tensor.clone()
    } else {
        Preprocess::default()
            .apply(&spec.name, tensor.clone(), spec)
            .map_err(fail)?
    };
    if let Some((what, _)) = preprocess::not_finite(&tensor, spec.kind) {
        let sample = folder
            .file_name()
            .and_then(|name| name.to_string_lossy().rsplit('_').next()?.parse().ok())
            .unwrap_or(0);
        return Err(fail(DataErrorKind::NotFinite {
            array: spec.name.clone(),
            what,
            sample,
        }));
    }
    Ok(tensor)
}

#[cfg(test)]
mod tests {
    use super::super::{LoadOptions, load};
    use super::*;
    use crate::facts::Dim;
    use crate::proto::Dtype;

    #[test]
    fn sets_are_found_in_order_and_by_name() {
        let folder = tempfile::tempdir().unwrap();
        for set in [10, 2] {
            let path = folder.path().join(format!("test_data_set_{set}"));
            std::fs::create_dir(&path).unwrap();
            let write = |file: &str, name: &str, value: f32| {
                let tensor = TensorRef::from_f32(vec![1], &[value]).to_proto(name);
                std::fs::write(path.join(file), tensor.encode_to_vec()).unwrap();
            };
            write("input_0.pb", "b", set as f32);
            write("input_1.pb", "a", -1.0);
        }
        let specs =
            ["a", "b"].map(|name| InputSpec::new(name, Dtype::Float, vec![Dim::symbol("n")]));
        let inputs = load(folder.path(), &specs, &LoadOptions::default()).unwrap();
        let seen: Vec<_> = (0..2)
            .map(|set| inputs.batch(set).unwrap()["b"].to_f32().unwrap()[0])
            .collect();
        assert_eq!(seen, [2.0, 10.0]);
        assert_eq!(inputs.batch(0).unwrap()["a"].to_f32().unwrap(), [-1.0]);
        let wrong = [InputSpec::new("b", Dtype::Float, vec![Dim::Num(3)])];
        assert!(
            load(folder.path(), &wrong, &LoadOptions::default())
                .unwrap_err()
                .to_string()
                .contains("test_data_set_2")
        );
    }
}
