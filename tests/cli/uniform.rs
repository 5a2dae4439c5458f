//! One width for all layers of a kind and size, from the command line.

use std::collections::BTreeMap;
use std::path::Path;

use onnx_prune::inputs::{Tensors, write_npz};
use onnx_prune::model::{TensorRef, save, text};

use super::{code, json};

/// Four hidden layers of one size and one of another; weights of the later ones are smaller.
fn write(folder: &Path) {
    let mut net =
        "opset 17\ninput x f32[n,8]\nconst w0 f32[8,32]\na0 = MatMul(x, w0)\nr0 = Relu(a0)"
            .to_owned();
    for layer in 1..4 {
        let before = layer - 1;
        net += &format!(
            "\nconst w{layer} f32[32,32]\nconst s{layer} f32[1] = {}\nv{layer} = Mul(r{before}, s{layer})\na{layer} = MatMul(v{layer}, w{layer})\nr{layer} = Relu(a{layer})",
            1.0 / (layer as f32 + 1.0)
        );
    }
    net += "\nconst w4 f32[32,20]\na4 = MatMul(r3, w4)\nr4 = Relu(a4)\nconst w5 f32[20,4]\ny = MatMul(r4, w5)\noutput y";
    save(&text::model(&net).unwrap(), &folder.join("m.onnx")).unwrap();
    let numbers: Vec<f32> = (0..8 * 48).map(|at| (at as f32 * 1.7).sin()).collect();
    let x = TensorRef::from_f32(vec![48, 8], &numbers);
    write_npz(
        &folder.join("d.npz"),
        &Tensors::from_iter([("x".to_owned(), x)]),
    )
    .unwrap();
}

/// The kept widths of the groups, by their size.
fn widths(folder: &Path, options: &str) -> BTreeMap<u64, Vec<u64>> {
    let line = "{}/m.onnx -o {}/o.onnx --target macs=0.6 --align 1 --force --report {}/r.json";
    let (exit, said) = code(folder, &format!("{line} {options}"));
    // By weights alone the outputs may move too far for the result to stand without --force.
    assert!(exit < 2, "{said}");
    let report = json(&folder.join("r.json"));
    let macs = |row: &str| report[row]["macs"].as_f64().unwrap();
    assert!((0.5..0.6001).contains(&(macs("pruned") / macs("original"))));
    assert_eq!(report["exactness"]["verdict"], "exact");
    let mut found: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for group in report["groups"].as_array().unwrap() {
        let of = |field: &str| group[field].as_u64().unwrap();
        found.entry(of("units")).or_default().push(of("kept"));
    }
    found
}

#[test]
fn layers_of_one_size_keep_one_width() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    write(path);
    for score in [
        "--score l2 --recover none",
        "--data {}/d.npz",
        "--data {}/d.npz --rounds 2",
    ] {
        let differ = |widths: &[u64]| widths.iter().any(|width| *width != widths[0]);
        let free = widths(path, score);
        assert!(differ(&free[&32]), "{score}: {free:?}");
        let same = widths(path, &format!("{score} --uniform"));
        assert_eq!(same[&32].len(), 4, "{score}: {same:?}");
        assert!(
            !differ(&same[&32]) && same[&32][0] < 32,
            "{score}: {same:?}"
        );
    }
}
