//! Real models, run and compared with what ONNX Runtime gave for the same inputs.

use std::path::{Path, PathBuf};

use super::{Runtime, TractRuntime};
use crate::inputs::read_npz;
use crate::model::{Limits, TensorRef, load};
use crate::proto::Dtype;

/// The corpus, or a visible note that it is not here.
pub(crate) fn corpus() -> Option<PathBuf> {
    let given = std::env::var_os("ONNX_PRUNE_CORPUS").map(PathBuf::from);
    let root = given.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"));
    let found = root.join("data/models").is_dir();
    if !found {
        eprintln!(
            "SKIP: no corpus at {} (set ONNX_PRUNE_CORPUS)",
            root.display()
        );
    }
    found.then(|| root.join("data"))
}

fn apart(got: &TensorRef, want: &TensorRef) -> f64 {
    if got.dims != want.dims || (got.dtype != want.dtype && want.dtype != Dtype::Float16) {
        return f64::INFINITY;
    }
    let (got, want) = (got.to_f64().unwrap(), want.to_f64().unwrap());
    let largest = want
        .iter()
        .fold(1e-30, |largest: f64, x| largest.max(x.abs()));
    got.iter()
        .zip(&want)
        .map(|(got, want)| (got - want).abs() / largest)
        .fold(0.0, f64::max)
}

#[test]
fn real_models_agree_with_onnx_runtime() {
    let Some(corpus) = corpus() else { return };
    let mut paths: Vec<PathBuf> = std::fs::read_dir(corpus.join("models"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    let runtime = TractRuntime::new(true);
    let (mut wrong, mut unverifiable) = (Vec::new(), Vec::new());
    for path in paths
        .iter()
        .filter(|path| path.extension().is_some_and(|end| end == "onnx"))
    {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let model = load(path, Limits::default()).unwrap();
        let inputs = read_npz(&corpus.join(format!("inputs/{name}.npz"))).unwrap();
        let want = read_npz(&corpus.join(format!("expected/{name}.npz"))).unwrap();
        let start = std::time::Instant::now();
        let session = match runtime.prepare(&model, &inputs, &[]) {
            Ok(session) => session,
            Err(error) => {
                println!("{name:24} unverifiable: {error}");
                unverifiable.push(name);
                continue;
            }
        };
        let ready = start.elapsed().as_millis();
        let got = match session.run(&inputs) {
            Ok(got) => got,
            Err(error) => {
                println!("{name:24} fails: {error}");
                wrong.push(name);
                continue;
            }
        };
        let outputs = &model.proto.graph.as_ref().unwrap().output;
        let worst = outputs
            .iter()
            .zip(&got)
            .map(|(output, got)| apart(got, &want[output.name()]))
            .fold(0.0, f64::max);
        println!(
            "{name:24} {worst:9.1e}  noise {:7.1e}  {ready:5} ms",
            session.noise()
        );
        let quantized = ["cifar10_resnet20_qdq", "rawi_v2_int8"].contains(&name.as_str());
        if worst > if quantized { 3e-2 } else { 1e-3 } {
            wrong.push(name);
        }
    }
    assert!(wrong.is_empty(), "wrong: {wrong:?}");
    assert!(unverifiable.len() <= 2, "unverifiable: {unverifiable:?}");
}
