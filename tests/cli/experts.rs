//! Experts of mixtures: those that no token misses go first, and the plan makes the same model again.

use std::path::Path;

use onnx_prune::inputs::{Tensors, write_npz};
use onnx_prune::model::{TensorRef, save, text};
use rand::Rng;
use serde_json::Value;

use super::{code, json, run, same};

const ALL: &str = "{}/m.onnx -o {}/x.onnx --units experts --data {}/d.npz --force -q";

/// A mixture of eight, of which the router never chooses 2, 3 and 6, and inputs for it.
fn write(folder: &Path) {
    let net = "input x f32[n,6]\nconst r f32[6,8]\nconst rb f32[8] = 0, 0.1, -10000, -10000, 0, 0.1, -10000, 0\nconst a f32[8,12,6]\nconst ab f32[8,12]\nconst b f32[8,6,12]\nconst bb f32[8,6]\nconst o f32[6,4]
        g = MatMul(x, r)\np = Add(g, rb)\nm = com.microsoft.MoE(x, p, a, ab, b, bb) {k=2, normalize_routing_weights=1}\ny = MatMul(m, o)\noutput y";
    save(&text::model(net).unwrap(), &folder.join("m.onnx")).unwrap();
    let mut random = onnx_prune::rng::rng(1, "x");
    let numbers: Vec<f32> = (0..96 * 6)
        .map(|_| random.random_range(-2.0..2.0))
        .collect();
    let data = Tensors::from([("x".to_owned(), TensorRef::from_f32(vec![96, 6], &numbers))]);
    write_npz(&folder.join("d.npz"), &data).unwrap();
}

#[test]
fn inspection_lists_experts_where_they_are_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path());
    let report = |units: &str| -> Value {
        let line = format!("inspect {{}}/m.onnx {units} --json");
        serde_json::from_slice(&run(folder.path(), &line).stdout).unwrap()
    };
    let asked = report("--units experts");
    let groups = asked["groups"].as_array().unwrap();
    assert_eq!(groups.len(), 1, "{groups:?}");
    assert_eq!(
        (&groups[0]["kind"], &groups[0]["units"]),
        (&"experts".into(), &8.into())
    );
    assert!(groups[0]["lossy"].as_str().unwrap().contains("router"));
    let usual = report("");
    let mut kinds = usual["groups"].as_array().unwrap().iter();
    assert!(kinds.all(|group| group["kind"] != "experts"), "{usual}");
    let said = String::from_utf8(run(folder.path(), "inspect {}/m.onnx").stdout).unwrap();
    assert!(said.contains("add experts to --units"), "{said}");
}

#[test]
fn experts_that_no_token_misses_go_first() {
    if let Err(missing) = onnx_prune::cli::onnxruntime() {
        eprintln!("SKIP: {missing}");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    write(path);
    let line = format!("{ALL} --target params=0.7 --plan-out {{}}/p.json --report {{}}/r.json");
    let (exit, said) = code(path, &line);
    assert_eq!(exit, 0, "{said}");
    let (report, plan) = (json(&path.join("r.json")), json(&path.join("p.json")));
    assert_eq!(report["exactness"]["verdict"], "exact");
    assert_eq!(
        (&plan["groups"][0]["kind"], &plan["groups"][0]["removed"]),
        (&"experts".into(), &serde_json::json!([2, 3, 6]))
    );
    let drift = report["drift"]["outputs"][0]["relative_l2"]
        .as_f64()
        .unwrap();
    assert!(drift < 1e-5, "{drift}");
    // The plan makes the same model again.
    let apply = "{}/m.onnx -o {}/y.onnx --plan {}/p.json --data {}/d.npz --force -q";
    let (exit, said) = code(path, apply);
    assert_eq!(exit, 0, "{said}");
    assert!(
        same(path, "x.onnx", "y.onnx"),
        "the plan gives another model"
    );
    // As many stay as the router chooses, also where a plan says otherwise.
    let (exit, said) = code(
        path,
        &format!("{ALL} --target params=0.1 --report {{}}/s.json"),
    );
    assert_eq!(exit, 1, "{said}");
    assert_eq!(json(&path.join("s.json"))["groups"][0]["kept"], 2);
    let mut wrong = plan.clone();
    wrong["groups"][0]["removed"] = serde_json::json!([0, 1, 2, 3, 4, 5, 6]);
    std::fs::write(path.join("p.json"), wrong.to_string()).unwrap();
    let (exit, said) = code(path, apply);
    assert!(
        exit == 2 && said.contains("as many must stay"),
        "{exit} {said}"
    );
}
