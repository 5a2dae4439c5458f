//! What calibration keeps, and where searches end.

use serde_json::Value;

use super::{code, json, run};

#[test]
fn calibrated_pruning_keeps_what_magnitudes_lose() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let accuracy = |options: &str| {
        assert_eq!(
            code(
                path,
                &format!("@digits_cnn.onnx -o {{}}/x.onnx --target macs=0.5 -q --force {options}")
            )
            .0,
            0,
            "{options}"
        );
        let verify = "verify @digits_cnn.onnx {}/x.onnx --data @digits_test.npz --labels @digits_test_labels.npy --json";
        let report: Value = serde_json::from_slice(&run(path, verify).stdout).unwrap();
        let labelled = &report["drift"]["labelled"];
        (
            labelled["original"].as_f64().unwrap(),
            labelled["pruned"].as_f64().unwrap(),
        )
    };
    let (dense, calibrated) = accuracy("--data @digits_calibration.npz");
    let (_, in_rounds) = accuracy("--data @digits_calibration.npz --rounds 2");
    let (_, by_norms) = accuracy("--score l2");
    assert!(
        dense - calibrated <= 0.01 && dense - in_rounds <= 0.015,
        "{dense}: {calibrated}, {in_rounds}"
    );
    assert!(
        by_norms < calibrated - 0.05,
        "{by_norms} against {calibrated}"
    );
}

#[test]
fn a_model_alone_always_gives_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let written = || path.join("x.onnx").exists();
    let asked = "@digits_cnn.onnx -o {}/x.onnx --target drift=0.001 -q";
    assert_eq!((code(path, asked).0, written()), (1, false));
    assert_eq!(code(path, "@digits_cnn.onnx -o {}/x.onnx -q").0, 0);
    assert!(written());
}

#[test]
fn a_search_lands_near_the_drift_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let options = "--target drift=0.2 --data @digits_calibration.npz --report {}/r.json -q";
    assert_eq!(
        code(
            folder.path(),
            &format!("@digits_lstm.onnx -o {{}}/x.onnx {options}")
        )
        .0,
        0
    );
    let report = json(&folder.path().join("r.json"));
    // What is reported is of inputs that the search has not seen; it keeps a margin for how much these may differ.
    let drift = report["drift"]["outputs"][0]["relative_l2"]
        .as_f64()
        .unwrap();
    assert!(drift <= 0.2, "{drift}");
    let chosen = report["tradeoff"]
        .as_array()
        .unwrap()
        .iter()
        .find(|point| point["macs"] == report["pruned"]["macs"])
        .unwrap();
    let found = chosen["drift"].as_f64().unwrap();
    assert!((0.16..=0.2).contains(&found), "{found}");
}
