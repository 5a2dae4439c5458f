//! Retraining from the command line.

use std::path::Path;

use super::{code, json, run};

/// Zeros of all initializers.
fn zeros(path: &Path) -> usize {
    let model = onnx_prune::load(path, onnx_prune::Limits::default()).unwrap();
    let graph = model.proto.graph.as_ref().unwrap();
    let numbers = graph
        .initializer
        .iter()
        .filter_map(|tensor| onnx_prune::TensorRef::from_proto(tensor).ok()?.to_f32());
    numbers.flatten().filter(|number| *number == 0.0).count()
}

#[test]
fn weights_are_trained_and_the_report_says_how() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let line = "@digits_cnn.onnx -o {}/NAME.onnx --target macs=0.3 --data @digits_calibration.npz --samples 160 --force --report {}/r.json \
                --plan-out {}/p.json --recover distill --steps 6 --threads THREADS";
    for (name, threads) in [("a", "1"), ("b", "2")] {
        let output = run(
            path,
            &line.replace("NAME", name).replace("THREADS", threads),
        );
        assert!(output.status.code().is_some_and(|code| code < 2));
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(
            said.contains("trained for 6 steps of 64 inputs (views: mix)"),
            "{said}"
        );
    }
    let read = |name: &str| std::fs::read(path.join(name)).unwrap();
    assert!(read("a.onnx") == read("b.onnx"));
    let report = json(&path.join("r.json"));
    let curve = report["training"]["curve"].as_array().unwrap();
    assert_eq!(
        (report["fit"]["method"].as_str(), curve.len()),
        (Some("distill"), 7)
    );
    // The plan says that they were, so that the same inputs make the same file again.
    let again = "@digits_cnn.onnx -o {}/c.onnx --plan {}/p.json --data @digits_calibration.npz --samples 160 --force";
    assert!(run(path, again).status.code().is_some_and(|code| code < 2));
    assert!(read("a.onnx") == read("c.onnx"));
}

#[test]
fn zeros_stay_while_the_other_weights_are_trained() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let line = "sparsify @digits_cnn.onnx -o {}/NAME.onnx --sparsity 0.9 --data @digits_calibration.npz --samples 160 --force";
    assert_eq!(code(path, &line.replace("NAME", "fitted")).0, 0);
    let trained = format!(
        "{} --recover distill --steps 30",
        line.replace("NAME", "trained")
    );
    assert_eq!(code(path, &trained).0, 0);
    let [fitted, trained] = ["fitted", "trained"].map(|name| path.join(format!("{name}.onnx")));
    assert_eq!(zeros(&fitted), zeros(&trained));
    assert!(std::fs::read(fitted).unwrap() != std::fs::read(trained).unwrap());
}

#[test]
fn training_needs_inputs() {
    let folder = tempfile::tempdir().unwrap();
    let said = |line: &str| code(folder.path(), line);
    for command in ["", "sparsify --sparsity 0.5 "] {
        let (code, text) = said(&format!(
            "{command}@digits_cnn.onnx -o {{}}/x.onnx --recover distill"
        ));
        assert!(
            code == 2 && text.contains("learns from inputs; give them with --data"),
            "{text}"
        );
        let (code, text) = said(&format!(
            "{command}@digits_cnn.onnx -o {{}}/x.onnx --steps 5"
        ));
        assert!(
            code == 2 && text.contains("goes with --recover distill"),
            "{text}"
        );
    }
}
