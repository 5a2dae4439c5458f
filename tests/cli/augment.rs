//! Views of inputs, from the command line.

use std::path::Path;

use onnx_prune::inputs::{Tensors, write_npz};
use onnx_prune::model::{TensorRef, save, text};

use super::{code, json, run};

const SAMPLES: usize = 32;

/// A net for pictures of 16 × 16, and pictures that it hardly tells from their mirror images.
fn write(folder: &Path) {
    let net = "opset 17\ninput x f32[n,3,16,16]\nconst w f32[12,3,3,3]\nconst b f32[12]\nconst v f32[12,12,3,3]\nconst u f32[4,12]
        a = Conv(x, w, b) {pads=[1,1,1,1]}\nc = Relu(a)\nd = Conv(c, v) {pads=[1,1,1,1]}\ne = Relu(d)
        m = ReduceMean(e) {axes=[2,3],keepdims=0}\ny = Gemm(m, u) {transB=1}\noutput y";
    save(&text::model(net).unwrap(), &folder.join("net.onnx")).unwrap();
    let numbers: Vec<f32> = (0..SAMPLES * 3 * 256)
        .map(|at| {
            let (sample, row, column) = (at / 768, at / 16 % 16, at % 16);
            let (far, step) = ((column as f32 - 7.5).abs(), sample as f32 * 0.37);
            (row as f32 * 0.3 + far * 0.2 + step).sin() + (at / 256 % 3) as f32 * step.cos()
        })
        .collect();
    let pictures = TensorRef::from_f32(vec![SAMPLES, 3, 16, 16], &numbers);
    let data = Tensors::from_iter([("x".to_owned(), pictures)]);
    write_npz(&folder.join("data.npz"), &data).unwrap();
}

#[test]
fn pictures_are_fitted_to_in_views() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    write(path);
    let line = "{}/net.onnx -o {}/NAME.onnx --data {}/data.npz --force --report {}/NAME.json";
    let first = "--target macs=0.6 --align 1 --plan-out {}/NAME.p";
    for (name, options) in [
        ("plain", format!("{first} --augment none")),
        (
            "one",
            format!("{first} --augment flip,crop,mix --threads 1"),
        ),
        (
            "two",
            format!("{first} --augment flip,crop,mix --threads 2"),
        ),
        ("again", "--plan {}/one.p".to_owned()),
    ] {
        let output = run(path, &format!("{line} {options}").replace("NAME", name));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code().is_some_and(|code| code < 2), "{said}");
    }
    let read = |name: &str| std::fs::read(path.join(format!("{name}.onnx"))).unwrap();
    assert!(read("one") == read("two"), "on any number of threads");
    assert!(read("one") == read("again"), "a plan says which views");
    assert!(read("one") != read("plain"));
    let fit = |name: &str| json(&path.join(format!("{name}.json")))["fit"].clone();
    assert_eq!(fit("plain")["augment"], "none");
    assert!(fit("plain")["inputs"].get("views").is_none());
    let views = fit("one")["inputs"]["views"].to_string();
    assert!(
        views.contains("mix") && views.contains("4 of each"),
        "{views}"
    );
    // What is kept apart is measured as it is.
    let measured = json(&path.join("one.json"))["drift"]["held_out"].clone();
    assert_eq!(measured, 8);
}

#[test]
fn small_pictures_are_not_turned_nor_moved() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let line = "@digits_lstm.onnx -o {}/NAME.onnx --target macs=0.5 --data @digits_calibration.npz --samples 32 --force --augment VIEWS";
    for views in ["none", "flip,crop"] {
        let line = line.replace("NAME", views).replace("VIEWS", views);
        assert!(code(path, &line).0 < 2);
    }
    let read = |name: &str| std::fs::read(path.join(format!("{name}.onnx"))).unwrap();
    assert!(read("none") == read("flip,crop"));
    let wrong = line.replace("VIEWS", "flip,turn");
    let (exit, said) = code(path, &wrong);
    assert_eq!(exit, 2, "{said}");
    assert!(said.contains("'turn' is no view"), "{said}");
}
