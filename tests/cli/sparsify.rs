//! Single weights set to zero, from the command line.

use std::path::Path;
use std::process::Command;

use onnx_prune::model::{save, text};
use serde_json::Value;

use super::{code, fixture, json, run, same};

/// What an independent reader says of a sparse model, made of a fixture or a file: `tests/masks.py`. `None`: Python or its packages are not there.
pub(super) fn read_again(
    folder: &Path,
    original: &str,
    options: &[&str],
) -> Option<(bool, String)> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/masks.py");
    let present = Command::new("python3")
        .args(["-c", "import onnx, numpy"])
        .output();
    if !present.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIP: no Python with onnx and numpy");
        return None;
    }
    let output = Command::new("python3")
        .arg(script)
        .arg(fixture(original))
        .args([folder.join("x.onnx"), folder.join("p.json")])
        .args(options)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    Some((output.status.success(), text.into_owned()))
}

#[test]
fn masks_obey_their_patterns_in_the_eyes_of_another_reader() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    for (name, options, sparsity) in [
        (
            "digits_cnn.onnx",
            "--sparsity 0.8 --data @digits_calibration.npz --samples 96",
            Some("0.8"),
        ),
        (
            "digits_cnn.onnx",
            "--sparsity 0.9 --storage sparse --no-verify",
            Some("0.9"),
        ),
        (
            "digits_cnn.onnx",
            "--sparsity 0.5 --pattern kernel --score magnitude-layer --no-verify",
            None,
        ),
        (
            "digits_transformer.onnx",
            "--pattern 2:4 --data @digits_calibration.npz --samples 96",
            Some("0.5"),
        ),
        (
            "digits_transformer.onnx",
            "--sparsity 0.6 --pattern 4x1 --score magnitude-global --no-verify",
            None,
        ),
        (
            "digits_lstm.onnx",
            "--sparsity 0.7 --data @digits_calibration.npz --samples 96",
            Some("0.7"),
        ),
    ] {
        let line = format!("sparsify @{name} -o {{}}/x.onnx --plan-out {{}}/p.json -q {options}");
        let (exit, text) = code(path, &line);
        assert_eq!(exit, 0, "{line}: {text}");
        let mut options = Vec::new();
        options.extend(sparsity.iter().flat_map(|share| ["--sparsity", *share]));
        let Some((well, text)) = read_again(path, name, &options) else {
            return;
        };
        assert!(well && !text.contains(" 0 held"), "{line}: {text}");
    }
}

#[test]
fn numbers_of_four_bits_become_their_zero_point() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    for product in [
        "const q u8[24,2,16] = full\nconst s f32[48] = positive\nconst z u8[24] = full\n\
         h = com.microsoft.MatMulNBits(x, q, s, z) {K=64, N=24, bits=4, block_size=32}",
        "const q i4[64,24] = full\nconst s f32[2,24] = positive\nw = DequantizeLinear(q, s) {axis=0, block_size=32}\nh = MatMul(x, w)",
    ] {
        let net = format!(
            "opset 21\ninput x f32[n,64]\n{product}\nconst v f32[24,16]\nr = Relu(h)\ny = MatMul(r, v)\noutput y f32[n,16]"
        );
        save(&text::model(&net).unwrap(), &path.join("m.onnx")).unwrap();
        for (options, sparsity) in [("--sparsity 0.7", "0.7"), ("--pattern 2:4", "0.5")] {
            let line = format!(
                "sparsify {{}}/m.onnx -o {{}}/x.onnx --plan-out {{}}/p.json --force -q {options}"
            );
            let (exit, text) = code(path, &line);
            assert_eq!(exit, 0, "{line}: {text}");
            let original = path.join("m.onnx");
            let options = ["--sparsity", sparsity];
            let Some((well, text)) = read_again(path, original.to_str().unwrap(), &options) else {
                return;
            };
            assert!(
                well && text.starts_with("2 masks, 2 held"),
                "{line}: {text}"
            );
        }
    }
}

#[test]
fn a_plan_gives_the_same_file_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let data = "--data @digits_calibration.npz --samples 96 -q";
    let first = format!(
        "sparsify @digits_cnn.onnx -o {{}}/a.onnx --sparsity 0.7 --plan-out {{}}/a.json {data}"
    );
    let second = format!(
        "sparsify @digits_cnn.onnx -o {{}}/b.onnx --plan {{}}/a.json --plan-out {{}}/b.json {data}"
    );
    for line in [&first, &second] {
        let (exit, text) = code(path, line);
        assert_eq!(exit, 0, "{line}: {text}");
    }
    for (one, other) in [("a.onnx", "b.onnx"), ("a.json", "b.json")] {
        assert!(same(path, one, other), "{one}");
    }
    // Without inputs the weights cannot be fitted as they were.
    let line = "sparsify @digits_cnn.onnx -o {}/c.onnx --plan {}/a.json -q";
    assert_eq!(code(path, line).0, 1);
    assert!(!path.join("c.onnx").exists());
}

#[test]
fn a_plan_of_trained_weights_trains_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let data = "--data @digits_calibration.npz --samples 96 -q";
    for line in [
        format!(
            "sparsify @digits_cnn.onnx -o {{}}/a.onnx --sparsity 0.7 --recover distill --steps 3 --augment none --plan-out {{}}/a.json {data}"
        ),
        format!("sparsify @digits_cnn.onnx -o {{}}/b.onnx --plan {{}}/a.json {data}"),
    ] {
        let (exit, text) = code(path, &line);
        assert_eq!(exit, 0, "{line}: {text}");
    }
    assert!(same(path, "a.onnx", "b.onnx"));
}

#[test]
fn fitted_weights_keep_what_sizes_lose() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let accuracy = |options: &str| {
        let line = format!(
            "sparsify @digits_cnn.onnx -o {{}}/x.onnx --report {{}}/r.json -q --verify-data @digits_test.npz \
             --verify-labels @digits_test_labels.npy {options}"
        );
        let (exit, text) = code(path, &line);
        assert_eq!(exit, 0, "{line}: {text}");
        let report = json(&path.join("r.json"));
        assert_eq!(report["kind"], "sparsify");
        let sparsity = &report["sparsity"];
        let share = sparsity["zeros"].as_f64().unwrap() / sparsity["elements"].as_f64().unwrap();
        assert!((share - 0.85).abs() < 1e-3, "{share}");
        report["drift"]["labelled"]["pruned"].as_f64().unwrap()
    };
    let fitted = accuracy("--sparsity 0.85 --data @digits_calibration.npz");
    let by_size = accuracy("--sparsity 0.85 --score magnitude-layer");
    assert!(
        fitted > 0.97 && by_size < fitted - 0.02,
        "{fitted} and {by_size}"
    );
}

#[test]
fn what_is_stored_as_indices_is_read_as_the_same_model() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    for (name, storage) in [("a", "dense"), ("b", "sparse")] {
        let line = format!(
            "sparsify @digits_cnn.onnx -o {{}}/{name}.onnx --sparsity 0.9 --no-verify --storage {storage} -q"
        );
        let (exit, text) = code(path, &line);
        assert_eq!(exit, 0, "{line}: {text}");
    }
    let size = |name: &str| std::fs::metadata(path.join(name)).unwrap().len();
    assert!(size("b.onnx") < size("a.onnx") / 2);
    let output = run(
        path,
        "verify {}/a.onnx {}/b.onnx --data @digits_test.npz --samples 16 --json",
    );
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["drift"]["outputs"][0]["relative_l2"], 0.0);
}

#[test]
fn options_that_contradict_each_other_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (options, named) in [
        ("--pattern 2:4 --sparsity 0.9", "0.5"),
        ("--pattern kernel", "--sparsity"),
        ("--pattern 4:2 --sparsity 0.5", "2:4"),
        ("--sparsity 1", "below 1"),
        ("--sparsity 0.5 --score best", "magnitude"),
        ("--sparsity 0.5 --score obs --no-verify", "--no-verify"),
        ("--sparsity 0.5 --exclude *", "excluded"),
    ] {
        let line = format!("sparsify @digits_cnn.onnx -o {{}}/x.onnx {options}");
        let (exit, text) = code(folder.path(), &line);
        assert!(exit == 2 && text.contains(named), "{line}: {text}");
    }
    assert!(!folder.path().join("x.onnx").exists());
}
