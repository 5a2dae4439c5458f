//! Where the real models and their inputs are.

use std::path::{Path, PathBuf};

use onnx_prune::inputs::read_npz;
use onnx_prune::model::{Limits, Model, load};
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
        eprintln!(
            "SKIP: no corpus at {} (set ONNX_PRUNE_CORPUS)",
            root.display()
        );
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
    let mut tensors = read_npz(inputs).unwrap();
    if let Some(rows) = rows {
        for tensor in tensors.values_mut() {
            *tensor = tensor.select(
                &[
                    vec![Some((0..rows as u32).collect())],
                    vec![None; tensor.dims.len() - 1],
                ]
                .concat(),
            );
        }
    }
    Case {
        name,
        model: load(model, Limits::default()).unwrap(),
        inputs: tensors,
    }
}

/// The fixtures, each on eight images.
pub fn fixture_cases() -> Vec<Case> {
    let folder = fixtures();
    ["digits_cnn", "digits_transformer", "digits_lstm"]
        .iter()
        .map(|name| {
            case(
                &folder.join(format!("{name}.onnx")),
                &folder.join("digits_test.npz"),
                Some(8),
            )
        })
        .collect()
}

/// The real models, in the order of their names; `only` (a comma-separated list) narrows them.
pub fn corpus_cases(only: Option<&str>) -> Vec<Case> {
    let Some(root) = corpus() else {
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = std::fs::read_dir(root.join("data/models"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    let wanted = |path: &PathBuf| {
        only.is_none_or(|only| {
            only.split(',')
                .any(|name| path.file_stem().unwrap().to_string_lossy().contains(name))
        })
    };
    paths
        .iter()
        .filter(|path| wanted(path))
        .map(|path| {
            case(
                path,
                &root
                    .join("data/inputs")
                    .join(path.with_extension("npz").file_name().unwrap()),
                None,
            )
        })
        .collect()
}
