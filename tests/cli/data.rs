//! Inputs: what is fitted to and what is measured on, how they are prepared, and what a plan tells of them.

use std::path::Path;

use onnx_prune::inputs::{Tensors, read_npz, write_npz};
use onnx_prune::model::{TensorRef, save, text};
use serde_json::Value;

use super::{code, fixture, json, run};

const CNN: &str = "@digits_cnn.onnx -o {}/x.onnx --target macs=0.5 --data @digits_calibration.npz";

#[test]
fn an_eighth_is_kept_apart_and_measured_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    for (samples, held) in [(1, 0), (6, 3), (24, 8), (200, 25)] {
        let output = run(
            path,
            &format!("{CNN} --samples {samples} --report {{}}/r.json --force"),
        );
        let (report, said) = (
            json(&path.join("r.json")),
            String::from_utf8_lossy(&output.stdout).into_owned(),
        );
        assert_eq!(
            (&report["drift"]["inputs"], &report["drift"]["held_out"]),
            (&Value::from(samples), &Value::from(held)),
            "{said}"
        );
        let wanted = if held == 0 {
            "which were fitted to as well".to_owned()
        } else {
            format!("{held} of {samples} inputs, kept apart")
        };
        assert!(said.contains(&wanted), "{said}");
        let rows = report["drift"]["outputs"][0]["top1_agreement"]
            .as_f64()
            .unwrap()
            * f64::from(held.max(1));
        assert!(
            (rows - rows.round()).abs() < 1e-9,
            "agreement is of the inputs kept apart: {rows}"
        );
    }
    // Where nothing is fitted or chosen by inputs, all of them may be measured on.
    let bare = "--samples 24 --score l2 --recover none --report {}/r.json --force";
    run(path, &format!("{CNN} {bare}"));
    let report = json(&path.join("r.json"));
    assert_eq!(
        (&report["drift"]["inputs"], &report["drift"]["held_out"]),
        (&Value::from(24), &Value::from(24))
    );
    // Made-up inputs are kept apart too.
    run(
        path,
        "@digits_cnn.onnx -o {}/x.onnx --target drift=0.1 --report {}/r.json --force",
    );
    let report = json(&path.join("r.json"));
    assert_eq!(
        (&report["drift"]["held_out"], &report["drift"]["synthetic"]),
        (&Value::from(16), &Value::from(true))
    );
}

/// What is kept apart takes no part in the fit: other numbers there make the same model.
#[test]
fn what_is_kept_apart_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let all = read_npz(&fixture("digits_calibration.npz")).unwrap()["input"]
        .to_f32()
        .unwrap();
    let (samples, pixels) = (40, 64);
    let kept = onnx_prune::inputs::apart(samples, samples);
    let write = |name: &str, change: &dyn Fn(usize) -> bool| {
        let numbers: Vec<f32> = (0..samples * pixels)
            .map(|at| {
                if change(at / pixels) {
                    1.0 - all[at]
                } else {
                    all[at]
                }
            })
            .collect();
        let tensor = TensorRef::from_f32(vec![samples, 1, 8, 8], &numbers);
        write_npz(
            &path.join(name),
            &Tensors::from_iter([("input".to_owned(), tensor)]),
        )
        .unwrap();
    };
    write("one.npz", &|_| false);
    write("apart.npz", &|sample| kept.contains(&sample));
    write("fitted.npz", &|sample| {
        sample == 0 && !kept.contains(&0) || sample == 1 && !kept.contains(&1)
    });
    let made = |data: &str| {
        let line = format!(
            "@digits_cnn.onnx -o {{}}/x.onnx --target macs=0.6 --data {{}}/{data} --report {{}}/r.json --force -q"
        );
        code(path, &line);
        (
            std::fs::read(path.join("x.onnx")).unwrap(),
            json(&path.join("r.json"))["drift"]["outputs"][0]["relative_l2"].as_f64(),
        )
    };
    let (one, apart, fitted) = (made("one.npz"), made("apart.npz"), made("fitted.npz"));
    assert!(
        one.0 == apart.0 && one.1 != apart.1,
        "the same model, measured on other inputs"
    );
    assert!(one.0 != fitted.0);
}

#[test]
fn inputs_of_the_users_own_are_measured_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let data = "--samples 48 --verify-data @digits_test.npz";
    for labels in ["--labels", "--verify-labels"] {
        let (status, said) = code(
            path,
            &format!("{CNN} {data} {labels} @digits_test_labels.npy --report {{}}/r.json --force"),
        );
        assert!(status <= 1, "{said}");
        let report = json(&path.join("r.json"));
        assert_eq!(
            (&report["drift"]["inputs"], &report["drift"]["held_out"]),
            (&Value::from(548), &Value::from(500))
        );
        assert!(
            (report["drift"]["labelled"]["original"].as_f64().unwrap() - 0.994).abs() < 1e-6,
            "{report}"
        );
        assert_eq!(
            report["fit"]["inputs"]["number"], 48,
            "all of the others may be fitted to"
        );
        assert!(
            report["fed"]["line"]
                .as_str()
                .unwrap()
                .contains("48 samples → input 1×1×8×8, range 0.00…1.00; measured on 500 samples")
        );
    }
    let (_, said) = code(
        path,
        &format!("{CNN} --samples 24 --verify-data @digits_calibration.npz --force"),
    );
    assert!(
        said.contains("--verify-data is the file of --data"),
        "{said}"
    );
    let (status, said) = code(
        path,
        "@digits_cnn.onnx --target macs=0.5 --labels @digits_test_labels.npy",
    );
    assert!(status == 2 && said.contains("--verify-data"), "{said}");
}

#[test]
fn a_plan_tells_what_its_weights_were_fitted_to() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    assert_eq!(
        code(
            path,
            &format!("{CNN} --samples 48 --plan-out {{}}/p.json -q")
        )
        .0,
        0
    );
    let fit = json(&path.join("p.json"))["fit"].clone();
    assert_eq!(
        (
            &fit["method"],
            &fit["inputs"]["number"],
            &fit["inputs"]["synthetic"]
        ),
        (&"least-squares".into(), &40.into(), &false.into())
    );
    assert_eq!(fit["inputs"]["digest"].as_str().unwrap().len(), 64);
    let apply = "@digits_cnn.onnx -o {}/again.onnx --plan {}/p.json";
    let written = || path.join("again.onnx").exists();
    let (status, said) = code(path, apply);
    assert!(
        status == 1 && !written() && said.contains("were fitted by least-squares to 40 inputs"),
        "{said}"
    );
    assert!(
        said.contains("--data") && said.contains("--recover none"),
        "{said}"
    );
    // As they were, they make the same model.
    let (status, said) = code(
        path,
        &format!("{apply} --data @digits_calibration.npz --samples 48"),
    );
    assert_eq!(
        (
            status,
            std::fs::read(path.join("x.onnx")).unwrap()
                == std::fs::read(path.join("again.onnx")).unwrap()
        ),
        (0, true),
        "{said}"
    );
    std::fs::remove_file(path.join("again.onnx")).unwrap();
    let output = run(
        path,
        &format!("{apply} --data @digits_test.npz --samples 48"),
    );
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("when the plan was made"),
        "{output:?}"
    );
    assert_eq!((output.status.code(), written()), (Some(0), true));
    for (options, expected) in [("--recover none --force", 1), ("--force", 1)] {
        let _ = std::fs::remove_file(path.join("again.onnx"));
        assert_eq!(
            (code(path, &format!("{apply} {options}")).0, written()),
            (expected, true),
            "{options}"
        );
    }
    // Weights that were not fitted are not fitted anew because there are inputs.
    assert_eq!(
        code(
            path,
            &format!("{CNN} --samples 48 --recover none --plan-out {{}}/p.json -q --force")
        )
        .0,
        1,
        "unfitted, the outputs move by more than half"
    );
    assert_eq!(json(&path.join("p.json"))["fit"]["method"], "none");
    assert_eq!(
        code(
            path,
            &format!("{apply} --data @digits_calibration.npz --samples 48 -q --force")
        )
        .0,
        1
    );
    assert_eq!(
        std::fs::read(path.join("x.onnx")).unwrap(),
        std::fs::read(path.join("again.onnx")).unwrap()
    );
}

#[test]
fn constants_of_other_numbers_are_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let line = "verify @digits_cnn.onnx @digits_cnn.onnx --data @digits_test.npz --samples 20 --report {}/r.json";
    let (status, said) = code(path, line);
    assert!(status == 0 && !said.contains("warning"), "{said}");
    assert_eq!(
        json(&path.join("r.json"))["fed"]["line"],
        "20 samples → input 1×1×8×8, range 0.00…1.00"
    );
    let (_, said) = code(path, &format!("{line} --mean 123.7 --std 58"));
    assert!(
        said.contains("warning: the mean 123.7 does not lie among numbers from 0.000 to 1.000"),
        "{said}"
    );
    // The first normalisation knows what it was trained on.
    let (_, said) = code(path, &format!("{line} --scale 255"));
    assert!(
        said.contains("was trained on numbers whose variance") && said.contains("--scale"),
        "{said}"
    );
    assert!(
        !json(&path.join("r.json"))["fed"]["doubts"]
            .as_array()
            .unwrap()
            .is_empty()
    );
}

#[test]
fn numbers_that_are_none_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    for (wrong, what) in [(f32::NAN, "NaN"), (f32::INFINITY, "an infinity")] {
        let mut numbers = vec![0.5; 20 * 64];
        numbers[7 * 64 + 3] = wrong;
        let tensor = TensorRef::from_f32(vec![20, 1, 8, 8], &numbers);
        write_npz(
            &path.join("wrong.npz"),
            &Tensors::from_iter([("input".to_owned(), tensor)]),
        )
        .unwrap();
        let (status, said) = code(
            path,
            "@digits_cnn.onnx -o {}/x.onnx --target macs=0.6 --data {}/wrong.npz",
        );
        assert!(
            status == 2 && said.contains(&format!("array 'input' holds {what} in sample 7")),
            "{said}"
        );
    }
    let labels = |numbers: &[i64]| {
        onnx_prune::inputs::write_npy(
            &path.join("labels.npy"),
            &TensorRef::from_i64(vec![numbers.len()], numbers),
        )
        .unwrap();
        code(
            path,
            "@digits_cnn.onnx -o {}/x.onnx --target macs=0.6 --data @digits_test.npz --samples 20 --labels {}/labels.npy",
        )
    };
    let (status, said) = labels(&(0..20).map(|at| at % 10 + 1).collect::<Vec<_>>());
    assert!(
        status == 2 && said.contains("label 10 of sample 9") && said.contains("counted from 1"),
        "{said}"
    );
    let (status, said) = labels(&[0; 7]);
    assert!(status == 2 && said.contains("fewer"), "{said}");
}

/// Two layers for each of two rates, as a file.
fn two_rates(path: &Path) {
    let graph = "opset 17
input x f32[n,8]
input sr i64[]
const rate i64[] = 16000
const a f32[8,32]
const b f32[32,4]
const c f32[8,24]
const d f32[24,4]
t = Equal(sr, rate)
y = If(t) {then_branch=@high, else_branch=@low}
output y
graph high
h = MatMul(x, a)
i = Relu(h)
j = MatMul(i, b)
output j
end
graph low
k = MatMul(x, c)
l = Relu(k)
m = MatMul(l, d)
output m
end";
    save(&text::model(graph).unwrap(), path).unwrap();
}

#[test]
fn branches_that_never_ran_are_named_and_left_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    two_rates(&path.join("m.onnx"));
    let numbers: Vec<f32> = (0..48 * 8)
        .map(|at| ((at * 37) % 101) as f32 / 50.0 - 1.0)
        .collect();
    let arrays = [
        ("x".to_owned(), TensorRef::from_f32(vec![48, 8], &numbers)),
        ("sr".to_owned(), TensorRef::from_i64(vec![], &[16000])),
    ];
    write_npz(&path.join("d.npz"), &Tensors::from_iter(arrays)).unwrap();
    for options in ["--data {}/d.npz", "--data {}/d.npz --score l2", ""] {
        let output = run(
            path,
            &format!(
                "{{}}/m.onnx -o {{}}/x.onnx --target params=0.9 --align 1 --force --report {{}}/r.json {options}"
            ),
        );
        let (report, said) = (
            json(&path.join("r.json")),
            String::from_utf8_lossy(&output.stdout).into_owned(),
        );
        assert_eq!(
            report["never_ran"],
            serde_json::json!([{"node": "y", "branch": "else_branch", "units": 24}]),
            "{options} {said}"
        );
        assert!(said.contains("no input took the else branch of"), "{said}");
        let groups = report["groups"].as_array().unwrap();
        assert!(
            groups.iter().all(|group| group["units"] == 32),
            "{groups:?}"
        );
        assert!(groups[0]["kept"].as_u64() < Some(32), "{groups:?}");
        let frozen = report["frozen"].as_array().unwrap();
        let never = "left out: its branch never ran on these inputs";
        let whole = frozen.iter().find(|row| row["reason"] == never);
        let nodes = whole.map(|row| &row["nodes"]);
        assert_eq!(nodes, Some(&serde_json::json!(["k", "m"])), "{frozen:?}");
        assert!(!said.contains("scores that are given"), "{said}");
    }
    // What runs nothing rests on weights alone.
    assert_eq!(
        code(
            path,
            "{}/m.onnx -o {}/x.onnx --target params=0.5 --align 1 --no-verify --plan-out {}/p.json"
        )
        .0,
        0
    );
    assert_eq!(
        json(&path.join("p.json"))["groups"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    let output = run(
        path,
        "{}/m.onnx -o {}/y.onnx --plan {}/p.json --data {}/d.npz --report {}/y.json",
    );
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("neither measured nor checked"),
        "{output:?}"
    );
    // What the plan cuts there is not left out.
    let report = json(&path.join("y.json"));
    let units: Vec<_> = report["groups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|group| group["units"].as_u64())
        .collect();
    assert!(
        units.contains(&Some(32)) && units.contains(&Some(24)),
        "{report:#}"
    );
    let said = report["frozen"].to_string();
    assert!(!said.contains("left out"), "{said}");
}
