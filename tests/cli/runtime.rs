//! What runs the models, and what is said where nothing does.

use std::path::Path;
use std::process::Output;

use onnx_prune::model::text;
use serde_json::Value;

use super::{json, program};

/// An operator that tract lacks, between two convolutions.
const LACKED: &str = "input x f32[1,2,6,6]\nconst w f32[8,2,3,3]\nconst v f32[4,8,1,1]\nh = Conv(x, w)\n\
    p = LpPool(h) {kernel_shape=[2,2], p=2}\nr = Relu(p)\ny = Conv(r, v)\noutput y f32[1,4,3,3]";

fn write(folder: &Path, name: &str, graph: &str) {
    onnx_prune::model::save(&text::model(graph).unwrap(), &folder.join(name)).unwrap();
}

/// Runs with no library of ONNX Runtime in reach, or with what is at hand.
fn run(folder: &Path, line: &str, alone: bool) -> (Output, String) {
    let mut command = program();
    command.args(line.split_whitespace()).current_dir(folder);
    if alone {
        command.env("ORT_DYLIB_PATH", folder.join("libonnxruntime.so"));
    }
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (output, text)
}

#[test]
fn one_failure_has_one_code_in_all_commands() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "m.onnx", LACKED);
    for (line, way) in [
        ("bench m.onnx", "ORT_DYLIB_PATH"),
        ("verify m.onnx m.onnx", "--allow-unverified"),
        (
            "m.onnx --target macs=0.7 --score l2 -q",
            "--allow-unverified",
        ),
        ("bench m.onnx --runtime tract", "LpPool"),
    ] {
        let (output, text) = run(folder.path(), line, true);
        assert_eq!(output.status.code(), Some(3), "{line}: {text}");
        assert!(
            text.contains(way) || !line.contains("tract"),
            "{line}: {text}"
        );
    }
    assert!(!folder.path().join("m.pruned.onnx").exists());
    assert_eq!(
        run(
            folder.path(),
            "verify m.onnx m.onnx --allow-unverified",
            true
        )
        .0
        .status
        .code(),
        Some(0)
    );
    let (output, text) = run(folder.path(), "bench m.onnx --runtime ort", true);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(
        text.contains("ORT_DYLIB_PATH") && text.contains("not at hand"),
        "{text}"
    );
}

#[test]
fn onnx_runtime_runs_what_tract_lacks() {
    if let Err(missing) = onnx_prune::cli::onnxruntime() {
        eprintln!("SKIPPED, for ONNX Runtime is not at hand: {missing}");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    write(path, "m.onnx", LACKED);
    let (output, text) = run(
        path,
        "m.onnx -o x.onnx --target macs=0.7 --score l2 --report r.json --force",
        false,
    );
    // By norms alone the outputs move by more than half.
    assert_eq!(output.status.code(), Some(1), "{text}");
    let report = json(&path.join("r.json"));
    assert_eq!(
        (&report["exactness"]["verdict"], &report["runtime"]["name"]),
        (&Value::from("exact"), &Value::from("ONNX Runtime"))
    );
    assert!(
        report["original"]["latency_ms"].is_f64() && report["drift"]["inputs"].as_u64() > Some(0)
    );
    assert!(String::from_utf8_lossy(&output.stdout).contains("run in ONNX Runtime"));
    let (output, text) = run(path, "verify m.onnx x.onnx --json", false);
    assert_eq!(output.status.code(), Some(0), "{text}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["runtime"]["name"], "ONNX Runtime");
    assert_eq!(
        run(path, "bench m.onnx x.onnx", false).0.status.code(),
        Some(0)
    );
}

/// Units of which none is ever on, beside some that are.
const DEAD: &str = "input x f32[n,6]\nconst w f32[6,8]\nconst b f32[8] = -90, -90, 0.1, 0.2, -90, 0.1, 0.3, -90\nconst v f32[8,5]\n\
    h = Gemm(x, w, b)\nr = Relu(h)\ny = MatMul(r, v)\noutput y f32[n,5]";

#[test]
fn dead_units_go_with_no_drift() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "m.onnx", DEAD);
    for options in [
        "--target macs=0.95",
        "--target macs=0.5",
        "--target drift=0",
        "",
    ] {
        let (output, text) = run(
            folder.path(),
            &format!("m.onnx -o x.onnx --force --align 1 --report r.json {options}"),
            false,
        );
        let report = json(&folder.path().join("r.json"));
        assert_eq!(
            output.status.code(),
            Some(0),
            "{options}: {text}{}",
            String::from_utf8_lossy(&output.stdout)
        );
        assert_eq!(report["exactness"]["verdict"], "exact", "{options}");
        let drift = report["drift"]["outputs"][0]["relative_l2"]
            .as_f64()
            .unwrap();
        // Which units are off is seen by drift alone: magnitudes of weights do not tell.
        assert!(
            drift < 1e-6 || options != "--target drift=0",
            "{options}: {drift}"
        );
    }
}

#[test]
fn what_is_made_of_a_model_must_run_where_that_does() {
    let folder = tempfile::tempdir().unwrap();
    let usual = "input x f32[n,6]\nconst w f32[6,8]\ny = MatMul(x, w)\noutput y f32[n,8]";
    write(folder.path(), "m.onnx", usual);
    write(
        folder.path(),
        "x.onnx",
        &usual.replace("const w f32[6,8]", "const w f32[7,8]"),
    );
    let (output, text) = run(folder.path(), "verify m.onnx x.onnx", true);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("does not run though the original does"),
        "{text}"
    );
}
