//! Units that no output depends on: what `clean` and a run do about them, and what they say.

use std::path::Path;

use onnx_prune::analysis::Options;
use onnx_prune::inputs::{Tensors, write_npz};
use onnx_prune::model::{Limits, TensorRef, load, save, text};
use onnx_prune::score::{Needs, SCORES};
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

/// Writes a network of 8 hidden units: no output depends on 1, 2 and 5, and 6 is never active on inputs of usual size. All of
/// these have the largest weights. Writes inputs, too.
fn write_silent(folder: &Path) {
    const HIDDEN: usize = 8;
    let number = |at: usize| ((at * 7 + 3) % 11) as f32 / 5.0 - 0.93;
    let mut into: Vec<f32> = (0..4 * HIDDEN).map(number).collect();
    let mut bias = [0.1f32; HIDDEN];
    let mut from: Vec<f32> = (0..HIDDEN * 6).map(|at| number(at + 5)).collect();
    for unit in [1, 5] {
        (0..4).for_each(|input| into[input * HIDDEN + unit] = 0.0);
        bias[unit] = -1.0;
        from[unit * 6..][..6]
            .iter_mut()
            .for_each(|weight| *weight = 9.0);
    }
    (0..4).for_each(|input| into[input * HIDDEN + 2] *= 20.0);
    from[2 * 6..][..6].fill(0.0);
    bias[6] = -1000.0;
    from[6 * 6..][..6]
        .iter_mut()
        .for_each(|weight| *weight *= 20.0);
    let list = |numbers: &[f32]| {
        numbers
            .iter()
            .map(f32::to_string)
            .collect::<Vec<_>>()
            .join(", ")
    };
    let net = format!(
        "input x f32[n,4]\nconst a f32[4,8] = {}\nconst p f32[8] = {}\nconst c f32[8,6] = {}\nconst q f32[6]\nconst b f32[6,3]\n\
         h = MatMul(x, a)\ni = Add(h, p)\nr = Relu(i)\nj = MatMul(r, c)\nk = Add(j, q)\ns = Relu(k)\ny = MatMul(s, b)\noutput y",
        list(&into),
        list(&bias),
        list(&from)
    );
    save(&text::model(&net).unwrap(), &folder.join("m.onnx")).unwrap();
    let numbers: Vec<f32> = (0..64 * 4).map(|at| (at as f32 * 0.7).sin()).collect();
    let inputs = Tensors::from([("x".to_owned(), TensorRef::from_f32(vec![64, 4], &numbers))]);
    write_npz(&folder.join("d.npz"), &inputs).unwrap();
}

/// The units that a run takes out; all of one group.
fn taken(folder: &Path, how: &str) -> Vec<u64> {
    let line = format!("{{}}/m.onnx -o {{}}/o.onnx {how} --plan-out {{}}/p.json --runtime tract");
    let output = run(folder, &line);
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{how}: {complaint}");
    let plan = json(&folder.join("p.json"));
    let cuts: Vec<&Value> = plan["groups"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|cut| {
            cut["removed"]
                .as_array()
                .is_some_and(|units| !units.is_empty())
        })
        .collect();
    let [cut] = cuts[..] else {
        panic!("{how}: {cuts:?}")
    };
    let units = cut["removed"].as_array().unwrap().iter();
    units.filter_map(Value::as_u64).collect()
}

#[test]
fn units_that_do_nothing_go_before_others_by_every_score() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    write_silent(path);
    for score in SCORES {
        for data in ["", "--data {}/d.npz"] {
            let needs_data = matches!(score.needs, Needs::Activations | Needs::Derivatives);
            if data.is_empty() && needs_data {
                continue;
            }
            let how = format!("--target params=0.9 --score {} {data}", score.name);
            let mut units = taken(path, &how);
            // What is dead is seen from the weights, what is silent only by scores that look at activations.
            if score.needs != Needs::Weights {
                units.retain(|unit| *unit != 6);
            }
            assert_eq!(units, [1, 2, 5], "{how}");
        }
    }
}

#[test]
fn no_drift_at_all_takes_what_is_silent_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    write_silent(path);
    for how in ["", "--data {}/d.npz", "--data {}/d.npz --score wanda"] {
        let how = format!("--target drift=0 {how}");
        assert_eq!(taken(path, &how), [1, 2, 5, 6], "{how}");
    }
    assert_eq!(taken(path, "--target drift=0 --score l2"), [1, 2, 5]);
}
