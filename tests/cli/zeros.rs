//! Single weights set to zero beside units that go whole.

use super::sparsify::read_again;
use super::{code, json, same};

#[test]
fn zeros_go_beside_units() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    for (name, target, zeros, share) in [
        ("digits_cnn.onnx", "macs=0.6", "--sparsity 0.6", 0.6),
        (
            "digits_transformer.onnx",
            "params=0.7",
            "--pattern 2:4",
            0.5,
        ),
    ] {
        let line = format!(
            "@{name} -o {{}}/x.onnx --target {target} {zeros} --data @digits_calibration.npz --samples 160 \
             --report {{}}/r.json --plan-out {{}}/p.json -q"
        );
        let (exit, text) = code(path, &line);
        assert_eq!(exit, 0, "{line}: {text}");
        let report = json(&path.join("r.json"));
        assert_eq!(report["exactness"]["verdict"], "exact");
        let sparsity = &report["sparsity"];
        let zero = sparsity["zeros"].as_f64().unwrap() / sparsity["elements"].as_f64().unwrap();
        assert!((zero - share).abs() < 2e-3, "{name}: {zero}");
        let metric = target.split('=').next().unwrap();
        let left = |of: &str| report[of][metric].as_f64().unwrap();
        assert!(left("pruned") < 0.71 * left("original"), "{name}");
        // Drift is of both together.
        let remarks = report["remarks"].to_string();
        assert!(
            remarks.contains("the cut alone moved the outputs by"),
            "{remarks}"
        );
        // The same cut without zeros is what the masks are of.
        let line = format!(
            "@{name} -o {{}}/cut.onnx --target {target} --data @digits_calibration.npz --samples 160 -q"
        );
        assert_eq!(code(path, &line).0, 0, "{line}");
        let cut = path.join("cut.onnx").display().to_string();
        if let Some((well, text)) = read_again(path, &cut, &[]) {
            assert!(well && !text.contains(" 0 held"), "{name}: {text}");
        }
    }
}

#[test]
fn a_plan_tells_of_both() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let data = "--data @digits_calibration.npz --samples 96 -q";
    let first = format!(
        "@digits_cnn.onnx -o {{}}/a.onnx --target macs=0.6 --sparsity 0.5 --plan-out {{}}/a.json {data}"
    );
    let second =
        format!("@digits_cnn.onnx -o {{}}/b.onnx --plan {{}}/a.json --plan-out {{}}/b.json {data}");
    for line in [&first, &second] {
        let (exit, text) = code(path, line);
        assert_eq!(exit, 0, "{line}: {text}");
    }
    for (one, other) in [("a.onnx", "b.onnx"), ("a.json", "b.json")] {
        assert!(same(path, one, other), "{one}");
    }
    // Without inputs the weights cannot be fitted as they were.
    let line = "@digits_cnn.onnx -o {}/c.onnx --plan {}/a.json -q";
    assert_eq!(code(path, line).0, 1);
    assert!(!path.join("c.onnx").exists());
    let line = "@digits_cnn.onnx -o {}/c.onnx --plan {}/a.json --recover none --force -q";
    let (exit, text) = code(path, line);
    assert!(path.join("c.onnx").exists(), "{exit}: {text}");
}

#[test]
fn zeros_are_trained_around_after_the_cut() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let line = "@digits_cnn.onnx -o {}/x.onnx --target macs=0.6 --sparsity 0.6 --recover distill --steps 4 \
                --data @digits_test.npz --samples 160 --labels @digits_test_labels.npy \
                --report {}/r.json --plan-out {}/p.json -q";
    let (exit, text) = code(path, line);
    assert_eq!(exit, 0, "{text}");
    let report = json(&path.join("r.json"));
    assert_eq!(report["training"]["steps"], 4);
    assert!(report["training"]["labelled"].as_u64().unwrap() > 100);
    let sparsity = &report["sparsity"];
    let zero = sparsity["zeros"].as_f64().unwrap() / sparsity["elements"].as_f64().unwrap();
    assert!((zero - 0.6).abs() < 2e-3, "{zero}");
    assert!(!path.join("x.checkpoint").exists());
    // The plan trains again.
    let line = "@digits_cnn.onnx -o {}/y.onnx --plan {}/p.json --data @digits_test.npz --samples 160 \
                --labels @digits_test_labels.npy -q";
    let (exit, text) = code(path, line);
    assert_eq!(exit, 0, "{text}");
    assert!(same(path, "x.onnx", "y.onnx"));
}

#[test]
fn zeros_need_no_inputs() {
    let folder = tempfile::tempdir().unwrap();
    let line = "@digits_cnn.onnx -o {}/x.onnx --target params=0.6 --sparsity 0.3 --no-verify";
    let (exit, text) = code(folder.path(), line);
    assert_eq!(exit, 0, "{text}");
}

#[test]
fn zeros_of_another_format_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let line = "@digits_cnn.onnx -o {}/x.onnx --target params=0.6 --sparsity 0.3 --no-verify --plan-out {}/p.json -q";
    assert_eq!(code(path, line).0, 0);
    let mut plan = json(&path.join("p.json"));
    plan["zeros"]["format"] = 9.into();
    std::fs::write(path.join("p.json"), plan.to_string()).unwrap();
    let line = "@digits_cnn.onnx -o {}/y.onnx --plan {}/p.json --no-verify";
    let (exit, text) = code(path, line);
    assert!(
        exit == 2 && text.contains("of another format"),
        "{exit}: {text}"
    );
    assert!(!path.join("y.onnx").exists());
}

#[test]
fn zeros_without_a_size_to_cut_to_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (options, named) in [
        ("--sparsity 0.5", "the command sparsify"),
        ("--sparsity 0.5 --target drift=0.1", "say with --target"),
        ("--target macs=0.5 --pattern kernel", "give --sparsity"),
        (
            "--target macs=0.5 --sparsity 0.9 --pattern 2:4",
            "leave one of them out",
        ),
        (
            "--sweep macs=0.9..0.5 --sparsity 0.5",
            "cannot be used with",
        ),
    ] {
        let line = format!("@digits_cnn.onnx -o {{}}/x.onnx {options}");
        let (exit, text) = code(folder.path(), &line);
        assert!(exit == 2 && text.contains(named), "{line}: {text}");
    }
    assert!(!folder.path().join("x.onnx").exists());
}
