//! Units that no output depends on: what `clean` and a run do about them, and what they say.

use std::path::Path;

use onnx_prune::analysis::Options;
use onnx_prune::model::{Limits, load, save};
use onnx_prune::verify::masked;
use onnx_prune::workspace::Workspace;
use serde_json::Value;

use super::{fixture, json, run};

/// Units that nothing reads.
const DEAD: usize = 8;

/// Writes the fixture with some channels of its widest group read by zeros alone; gives the group's name.
fn write_masked(path: &Path) -> String {
    let model = load(&fixture("digits_cnn.onnx"), Limits::default()).unwrap();
    let workspace = Workspace::new(&model, &Options::default()).unwrap();
    let groups = &workspace.analysis.groups;
    let widest = (0..groups.len()).max_by_key(|group| groups[*group].units.len());
    let group = widest.unwrap();
    let units: Vec<u32> = (0..DEAD as u32).map(|unit| unit * 2 + 1).collect();
    let selection = workspace.analysis.select([(group, units.as_slice())]);
    let model = masked(&workspace.working, &workspace.analysis, &selection).unwrap();
    save(&model, path).unwrap();
    groups[group].id.clone()
}

#[test]
fn dead_channels_are_cleaned_away_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    write_masked(&path.join("masked.onnx"));
    let output = run(path, "clean {}/masked.onnx -o {}/clean.onnx");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("dead: 8 channels removed\n"), "{said}");
    let output = run(
        path,
        "verify {}/masked.onnx {}/clean.onnx --data @digits_test.npz --max-drift 0.0001",
    );
    assert_eq!(output.status.code(), Some(0));
    let output = run(path, "clean {}/clean.onnx -o {}/again.onnx");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!said.contains("dead:"), "{said}");
}

#[test]
fn a_run_takes_dead_channels_out_whatever_its_target() {
    for how in ["--no-verify", "--samples 64 --data @digits_test.npz"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let group = write_masked(&path.join("masked.onnx"));
        let line = format!(
            "{{}}/masked.onnx -o {{}}/out.onnx --target macs=0.99 {how} --report {{}}/out.json --plan-out {{}}/plan.json"
        );
        let output = run(path, &line);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{said}{complaint}");
        assert!(said.contains("dead: 8 channels removed"), "{said}");
        let plan = json(&path.join("plan.json"));
        let cuts = plan["groups"].as_array().unwrap();
        let cut = cuts.iter().find(|cut| cut["id"] == group.as_str()).unwrap();
        let removed = cut["removed"].as_array().unwrap();
        for unit in 0..DEAD {
            assert!(
                removed.contains(&Value::from(unit * 2 + 1)),
                "{how}: {removed:?}"
            );
        }
    }
}
