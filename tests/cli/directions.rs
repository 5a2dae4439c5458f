//! Directions: another basis first, then the cut.

use serde_json::Value;

use super::{code, json, run, same};

const TRANSFORMER: &str = "@digits_transformer.onnx --units directions --target macs=0.93 -q";
const SOME: &str = "--data @digits_calibration.npz --samples 100";

#[test]
fn directions_are_cut_and_the_plan_makes_the_same_model_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let asked = format!(
        "{TRANSFORMER} {SOME} -o {{}}/x.onnx --plan-out {{}}/p.json --report {{}}/r.json --report {{}}/r.md --force"
    );
    let (exit, said) = code(path, &asked);
    assert_eq!(exit, 0, "{said}");
    let (report, plan) = (json(&path.join("r.json")), json(&path.join("p.json")));
    assert_eq!(report["exactness"]["verdict"], "exact");
    let cut = report["groups"].as_array().unwrap().iter();
    let kinds: Vec<&Value> = cut.map(|group| &group["kind"]).collect();
    assert!(!kinds.is_empty() && kinds.iter().all(|kind| *kind == "directions"));
    let rotations = plan["rotations"].as_array().unwrap();
    assert!(!rotations.is_empty() && plan["rotations"] == report["rotations"]);
    for rotation in rotations {
        assert!(rotation["value"].is_string() && rotation["axis"].is_u64());
        assert_eq!(rotation["digest"].as_str().unwrap().len(), 64);
    }
    let markdown = std::fs::read_to_string(path.join("r.md")).unwrap();
    assert!(markdown.contains("brought to another basis"), "{markdown}");
    let apply = "@digits_transformer.onnx --plan {}/p.json -q --force";
    let (exit, said) = code(path, &format!("{apply} {SOME} -o {{}}/y.onnx"));
    assert_eq!(exit, 0, "{said}");
    assert!(
        same(path, "x.onnx", "y.onnx"),
        "the plan gives another model"
    );
    // Other inputs give another basis, of which the plan does not speak.
    let (exit, said) = code(
        path,
        &format!("{apply} --samples 50 --data @digits_test.npz -o {{}}/z.onnx"),
    );
    assert!(
        exit == 2 && said.contains("in another basis"),
        "{exit} {said}"
    );
}

#[test]
fn directions_move_the_outputs_less_than_the_same_number_of_dimensions() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let drift = |units: &str| {
        let asked = format!(
            "@digits_transformer.onnx --units {units} --only *attention* --target macs=0.85 --align 1 -q --force {SOME} -o {{}}/{units}.onnx"
        );
        let (exit, said) = code(path, &asked);
        assert!(exit < 2, "{said}");
        let verify = format!(
            "verify @digits_transformer.onnx {{}}/{units}.onnx --data @digits_test.npz --json"
        );
        let report: Value = serde_json::from_slice(&run(path, &verify).stdout).unwrap();
        report["drift"]["outputs"][0]["relative_l2"]
            .as_f64()
            .unwrap()
    };
    let (directions, dimensions) = (drift("directions"), drift("head-dims,channels"));
    assert!(directions < dimensions, "{directions} {dimensions}");
}

#[test]
fn inspection_lists_directions() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(
        folder.path(),
        "inspect @digits_transformer.onnx --units directions --json",
    );
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let groups = report["groups"].as_array().unwrap();
    assert!(!groups.is_empty() && groups.iter().all(|group| group["kind"] == "directions"));
}
