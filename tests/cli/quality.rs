//! What calibration keeps, and where searches end.

use onnx_prune::inputs::{Tensors, write_npz};
use onnx_prune::model::{TensorRef, save, text};
use serde_json::Value;

use super::{code, json, run};

#[test]
fn calibrated_pruning_keeps_what_magnitudes_lose() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let accuracy = |options: &str| {
        let asked =
            format!("@digits_cnn.onnx -o {{}}/x.onnx --target macs=0.5 -q --force {options}");
        let (exit, said) = code(path, &asked);
        // By norms alone the outputs move so far that the file is written only because it is insisted on.
        let refused = exit == 1 && said.contains("drift below 0.5");
        assert!(
            exit == 0 || (refused && options == "--score l2"),
            "{options}: {said}"
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
    // What only the whole model meets, it meets.
    assert_eq!((code(path, asked).0, written()), (0, true));
    std::fs::remove_file(path.join("x.onnx")).unwrap();
    assert_eq!(code(path, "@digits_cnn.onnx -o {}/x.onnx -q").0, 0);
    assert!(written());
}

/// The largest drift of any output, on made-up inputs as the default claims it, and on real ones.
fn claimed_and_real(path: &std::path::Path, model: &str, options: &str) -> (f64, f64, f64) {
    let asked = format!("@{model} -o {{}}/x.onnx --report {{}}/r.json -q {options}");
    assert_eq!(code(path, &asked).0, 0, "{model}");
    let worst = |report: &Value| {
        let outputs = report["drift"]["outputs"].as_array().unwrap().iter();
        outputs
            .map(|output| output["relative_l2"].as_f64().unwrap())
            .fold(0.0, f64::max)
    };
    let report = json(&path.join("r.json"));
    assert!(report["drift"]["held_out"].as_u64().unwrap() > 0, "{model}");
    let verify = format!("verify @{model} {{}}/x.onnx --data @digits_test.npz --json");
    let real = worst(&serde_json::from_slice(&run(path, &verify).stdout).unwrap());
    let macs = |of: &str| report[of]["macs"].as_f64().unwrap();
    (worst(&report), real, macs("pruned") / macs("original"))
}

#[test]
fn what_the_default_claims_of_made_up_inputs_holds_on_real_ones() {
    let folder = tempfile::tempdir().unwrap();
    let mut cut = 0;
    for model in [
        "digits_cnn.onnx",
        "digits_transformer.onnx",
        "digits_lstm.onnx",
    ] {
        let (claimed, real, macs) = claimed_and_real(folder.path(), model, "");
        assert!(claimed <= 0.055, "{model}: {claimed}");
        assert!(real <= 2.0 * claimed, "{model}: {real} against {claimed}");
        cut += usize::from(macs < 1.0);
    }
    assert!(cut > 0, "nothing went anywhere");
}

#[test]
fn with_data_the_default_allows_a_tenth() {
    let folder = tempfile::tempdir().unwrap();
    let data = "--data @digits_calibration.npz --samples 200";
    let (claimed, real, macs) = claimed_and_real(folder.path(), "digits_transformer.onnx", data);
    assert!(
        (0.05..=0.11).contains(&claimed) && real <= 0.12,
        "{claimed} {real}"
    );
    assert!(macs < 0.95, "{macs}");
}

#[test]
fn outputs_that_have_little_in_common_are_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let asked = "@digits_cnn.onnx -o {}/x.onnx --target macs=0.1 --score random --recover none -q";
    let (exit, said) = code(path, asked);
    assert_eq!((exit, path.join("x.onnx").exists()), (1, false), "{said}");
    assert!(
        said.contains("drift below 0.5") && said.contains("--force"),
        "{said}"
    );
    // Insisting helps, but the exit code stays.
    assert_eq!(code(path, &format!("{asked} --force")).0, 1);
    assert!(path.join("x.onnx").exists());
}

#[test]
fn far_off_models_are_refused_whatever_was_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    for asked in ["params=0.1", "bytes=0.2", "drift=2"] {
        let line = format!(
            "@digits_cnn.onnx -o {{}}/x.onnx --target {asked} --score random --recover none -q"
        );
        let (exit, said) = code(path, &line);
        assert_eq!((exit, path.join("x.onnx").exists()), (1, false), "{said}");
        assert!(said.contains("drift below 0.5"), "{asked}: {said}");
    }
}

#[test]
fn embeddings_are_judged_by_how_their_similarities_rank() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let net = "opset 13\ninput x f32[n,12]\nconst a f32[12,64]\nconst b f32[64,24]\nh = MatMul(x, a)\nr = Relu(h)\n\
               z = MatMul(r, b)\nl = ReduceL2(z) {axes=[1]}\ny = Div(z, l)\noutput y";
    save(&text::model(net).unwrap(), &path.join("m.onnx")).unwrap();
    let numbers: Vec<f32> = (0..64 * 12)
        .map(|at| ((at * at) as f32 * 0.37).sin())
        .collect();
    let inputs = Tensors::from([("x".to_owned(), TensorRef::from_f32(vec![64, 12], &numbers))]);
    write_npz(&path.join("d.npz"), &inputs).unwrap();
    let line = "{}/m.onnx -o {}/x.onnx --target macs=0.3 --data {}/d.npz --force --min-agreement 0.2 \
                --report {}/r.json --report {}/r.md --report {}/r.html --report {}/r.xml";
    let output = run(path, line);
    let report = json(&path.join("r.json"));
    let found = &report["drift"]["outputs"][0];
    let ranks = found["rank_correlation"].as_f64().unwrap();
    assert!((0.2..1.0).contains(&ranks), "{found}");
    assert!(found["top1_agreement"].is_null() && found["kl"].is_null());
    assert_eq!(report["drift"]["verdict"], "pass");
    let told =
        ["r.md", "r.html", "r.xml"].map(|name| std::fs::read_to_string(path.join(name)).unwrap());
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    for text in told.iter().chain([&said]) {
        assert!(text.contains("ranks of similarities correlate "), "{text}");
        assert!(!text.contains("same top-1 class"), "{text}");
    }
    assert!(told[0].contains("same ranks") && told[1].contains("same ranks"));
    let verify = "verify {}/m.onnx {}/x.onnx --data {}/d.npz --min-agreement 1";
    let output = run(path, verify);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("ranks of similarities correlate "), "{said}");
}

#[test]
fn classes_are_kept_as_asked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let asked = "@digits_cnn.onnx -o {}/x.onnx --target agreement=0.97 --data @digits_calibration.npz --report {}/r.json -q";
    let (exit, said) = code(path, asked);
    assert_eq!(exit, 0, "{said}");
    let report = json(&path.join("r.json"));
    let share =
        report["pruned"]["macs"].as_f64().unwrap() / report["original"]["macs"].as_f64().unwrap();
    assert!(share < 0.7, "{share}");
    let verify = "verify @digits_cnn.onnx {}/x.onnx --data @digits_test.npz --json";
    let report: Value = serde_json::from_slice(&run(path, verify).stdout).unwrap();
    let agreement = report["drift"]["outputs"][0]["top1_agreement"]
        .as_f64()
        .unwrap();
    assert!((0.94..1.0).contains(&agreement), "{agreement}");
    let (exit, said) = code(path, "@digits_cnn.onnx --target agreement=2");
    assert!(
        exit == 2 && said.contains("agreement is the share"),
        "{said}"
    );
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
