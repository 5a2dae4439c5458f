//! Where the real models and their inputs are.

use std::io::Read;
use std::path::{Path, PathBuf};

use onnx_prune::model::{Limits, Model, TensorRef, load};
use onnx_prune::proto::Dtype;
use onnx_prune::run::Tensors;

/// The repository's own fixtures.
pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// The corpus of real models, or a visible note that it is not here.
pub fn corpus() -> Option<PathBuf> {
    let given = std::env::var_os("ONNX_PRUNE_CORPUS").map(PathBuf::from);
    let root = given.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"));
    let found = root.join("data/models").is_dir();
    if !found {
        eprintln!("SKIP: no corpus at {} (set ONNX_PRUNE_CORPUS)", root.display());
    }
    found.then_some(root)
}

/// A model with real inputs for it.
pub struct Case {
    pub name: String,
    pub model: Model,
    pub inputs: Tensors,
}

fn case(model: &Path, inputs: &Path, rows: Option<usize>) -> Case {
    let name = model.file_stem().unwrap().to_string_lossy().into_owned();
    let mut tensors = read_npz(inputs);
    if let Some(rows) = rows {
        for tensor in tensors.values_mut() {
            *tensor = tensor.select(&[vec![Some((0..rows as u32).collect())], vec![None; tensor.dims.len() - 1]].concat());
        }
    }
    Case { name, model: load(model, Limits::default()).unwrap(), inputs: tensors }
}

/// The fixtures, each on eight images.
pub fn fixture_cases() -> Vec<Case> {
    let folder = fixtures();
    ["digits_cnn", "digits_transformer", "digits_lstm"]
        .iter()
        .map(|name| case(&folder.join(format!("{name}.onnx")), &folder.join("digits_test.npz"), Some(8)))
        .collect()
}

/// The real models, in the order of their names; `only` (a comma-separated list) narrows them.
pub fn corpus_cases(only: Option<&str>) -> Vec<Case> {
    let Some(root) = corpus() else { return Vec::new() };
    let mut paths: Vec<PathBuf> = std::fs::read_dir(root.join("data/models")).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let wanted =
        |path: &PathBuf| only.is_none_or(|only| only.split(',').any(|name| path.file_stem().unwrap().to_string_lossy().contains(name)));
    paths
        .iter()
        .filter(|path| wanted(path))
        .map(|path| case(path, &root.join("data/inputs").join(path.with_extension("npz").file_name().unwrap()), None))
        .collect()
}

/// All arrays of a file that numpy wrote.
pub fn read_npz(path: &Path) -> Tensors {
    let mut archive = zip::ZipArchive::new(std::fs::File::open(path).unwrap()).unwrap();
    let mut tensors = Tensors::new();
    for at in 0..archive.len() {
        let mut file = archive.by_index(at).unwrap();
        let name = file.name().trim_end_matches(".npy").to_owned();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        let array = npyz::NpyFile::new(bytes.as_slice()).unwrap();
        let dims: Vec<usize> = array.shape().iter().map(|dim| *dim as usize).collect();
        let dtype = match array.dtype().descr().trim_matches('\'') {
            "<f4" => Dtype::Float,
            "<i8" => Dtype::Int64,
            "<i4" => Dtype::Int32,
            "|b1" => Dtype::Bool,
            other => panic!("{other}"),
        };
        let size = dtype.bytes_for(dims.iter().product());
        let bytes = bytes[bytes.len() - size..].to_vec().into();
        tensors.insert(name, TensorRef { dtype, dims, bytes });
    }
    tensors
}
