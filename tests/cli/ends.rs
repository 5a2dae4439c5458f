//! Inputs and outputs that the user allows to shrink.

use std::path::Path;

use onnx_prune::model::{save, text};
use serde_json::Value;

use super::{SIZE_ONLY, code, json, run};

/// A decoder layer whose past keys and values come in and go out, head by head, as a file.
fn decoder(path: &Path) {
    let text = "input x f32[n,3,16]
input past_key f32[n,8,4,4]
input past_value f32[n,8,4,4]
const q f32[16,32]
const k f32[16,32]
const v f32[16,32]
const o f32[32,16]
const h f32[16,6]
const heads i64[4] = 0,0,8,4
const flat i64[3] = 0,0,-1
q1 = MatMul(x, q)
q2 = Reshape(q1, heads)
q3 = Transpose(q2) {perm=[0,2,1,3]}
k1 = MatMul(x, k)
k2 = Reshape(k1, heads)
k3 = Transpose(k2) {perm=[0,2,1,3]}
v1 = MatMul(x, v)
v2 = Reshape(v1, heads)
v3 = Transpose(v2) {perm=[0,2,1,3]}
present_key = Concat(past_key, k3) {axis=2}
present_value = Concat(past_value, v3) {axis=2}
kt = Transpose(present_key) {perm=[0,1,3,2]}
a = MatMul(q3, kt)
s = Softmax(a) {axis=-1}
c = MatMul(s, present_value)
c1 = Transpose(c) {perm=[0,2,1,3]}
c2 = Reshape(c1, flat)
c3 = MatMul(c2, o)
r = Add(x, c3)
y = MatMul(r, h)
output y
output present_key
output present_value";
    save(&text::model(text).unwrap(), path).unwrap();
}

/// Whether a run did all that was asked. Of weights that were never trained the outputs may move further than is written without
/// being insisted on.
fn is_cut(exit: Option<i32>, complaint: &str) -> bool {
    exit == Some(0) || (exit == Some(1) && complaint.contains("drift below 0.5"))
}

#[test]
fn inputs_and_outputs_shrink_where_the_user_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    decoder(&path.join("m.onnx"));
    let inspected = |options: &str| -> u64 {
        let report: Value = serde_json::from_slice(
            &run(path, &format!("inspect {{}}/m.onnx --json {options}")).stdout,
        )
        .unwrap();
        report["params_prunable"].as_u64().unwrap()
    };
    let allow = "--allow-io past_* --allow-io present_*:1";
    assert!(
        inspected("") < inspected(allow),
        "heads are frozen unless past keys and values may shrink"
    );
    let cut = format!(
        "{{}}/m.onnx --target params=0.7 --units heads --align 1 {allow} --report {{}}/r.json --report {{}}/r.md --force"
    );
    for (name, options) in [
        ("weights", "--score l2"),
        (
            "rounds",
            "--score obs --recover least-squares --rounds 2 --samples 24",
        ),
    ] {
        let output = run(
            path,
            &format!("{cut} -o {{}}/{name}.onnx --plan-out {{}}/p.json {options}"),
        );
        let said = String::from_utf8_lossy(&output.stdout);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(
            is_cut(output.status.code(), &complaint),
            "{name}: {said} {complaint}"
        );
        assert!(
            said.contains("past_key") && said.contains("n×8×4×4"),
            "{said}"
        );
        let report = json(&path.join("r.json"));
        assert_eq!(report["exactness"]["verdict"], "exact", "{name}: {report}");
        let changed = report["io_changed"].as_array().unwrap();
        let names: Vec<_> = changed
            .iter()
            .map(|end| end["name"].as_str().unwrap())
            .collect();
        assert_eq!(
            names,
            ["past_key", "past_value", "present_key", "present_value"]
        );
        let left = changed[0]["to"][1].as_u64().unwrap();
        assert!(
            changed[0]["from"] == serde_json::json!(["n", 8, 4, 4]) && left < 8,
            "{changed:?}"
        );
        // What stays of the keys of the past is that of the original, and all outputs are measured.
        let drift = report["drift"]["outputs"].as_array().unwrap();
        assert!(
            drift.len() == 3
                && drift
                    .iter()
                    .all(|output| output["relative_l2"].as_f64().is_some_and(f64::is_finite)),
            "{drift:?}"
        );
        assert_eq!(drift[1]["name"], "present_key");
        assert!(drift[1]["relative_l2"].as_f64() < Some(1e-3), "{drift:?}");
        assert!(
            std::fs::read_to_string(path.join("r.md"))
                .unwrap()
                .contains("changed shape")
        );
        let plan = json(&path.join("p.json"));
        assert_eq!(
            plan["io"][0]["indices"].as_array().unwrap().len() as u64,
            8 - left
        );
        assert_eq!(
            plan["allowed"][2],
            serde_json::json!({"value": "present_key", "axes": [1]})
        );
    }
    // The plan knows what was allowed.
    let met = |line: &str| {
        let (exit, said) = code(path, line);
        assert!(is_cut(Some(exit), &said), "{said}");
    };
    met(&format!(
        "{cut} -o {{}}/x.onnx --score l2 --plan-out {{}}/p.json"
    ));
    met("{}/m.onnx -o {}/again.onnx --plan {}/p.json --force");
    assert_eq!(
        std::fs::read(path.join("x.onnx")).unwrap(),
        std::fs::read(path.join("again.onnx")).unwrap()
    );
    // Two files alone do not say which slices are left; the plan does.
    let bare = code(path, "verify {}/m.onnx {}/x.onnx");
    assert!(
        bare.0 == 2 && bare.1.contains("--plan FILE.json"),
        "{}",
        bare.1
    );
    let known = run(path, "verify {}/m.onnx {}/x.onnx --plan {}/p.json --json");
    let report: Value = serde_json::from_slice(&known.stdout).unwrap();
    assert!(
        report["drift"]["outputs"][1]["relative_l2"].as_f64() < Some(1e-3),
        "{report}"
    );
    let wrong = code(path, "inspect {}/m.onnx --allow-io nothing");
    assert!(
        wrong.0 == 2
            && wrong
                .1
                .contains("there are x, past_key, past_value, y, present_key, present_value"),
        "{}",
        wrong.1
    );
    let dynamic = code(
        path,
        "{}/m.onnx -o {}/y.onnx --target params=0.7 --allow-io x:0",
    );
    assert!(
        dynamic.0 == 2 && dynamic.1.contains("n×3×16"),
        "{}",
        dynamic.1
    );
}

/// Plans of versions that knew no allowances are read.
#[test]
fn plans_without_allowances_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    assert_eq!(
        code(
            path,
            &format!("@digits_cnn.onnx -o {{}}/x.onnx {SIZE_ONLY} --plan-out {{}}/p.json")
        )
        .0,
        0
    );
    let plan = json(&path.join("p.json"));
    assert!(
        plan.get("allowed").is_none() && plan.get("io").is_none(),
        "{plan}"
    );
    assert_eq!(
        code(
            path,
            "@digits_cnn.onnx -o {}/again.onnx --plan {}/p.json --no-verify"
        )
        .0,
        0
    );
}
