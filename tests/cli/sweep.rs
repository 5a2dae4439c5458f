//! Families of models from one calibration.

use std::path::Path;

use serde_json::Value;

use super::{code, fixture, json, run};

const DATA: &str = "--data @digits_test.npz --labels @digits_test_labels.npy --samples 160";

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}

#[test]
fn a_sweep_gives_a_model_for_each_point_and_tells_of_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let line = format!(
        "@digits_transformer.onnx -o {{}}/x.onnx --sweep macs=0.8..0.6:3 {DATA} --plan-out {{}}/p.json \
         --report {{}}/r.json --report {{}}/r.md --report {{}}/r.html --report {{}}/r.xml"
    );
    let output = run(path, &line);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        table.contains("front") && table.contains("macs=0.7 "),
        "{table}"
    );
    let report = json(&path.join("r.json"));
    let rows = report["sweep"].as_array().unwrap();
    let targets: Vec<&str> = rows
        .iter()
        .filter_map(|row| row["target"].as_str())
        .collect();
    assert_eq!(targets, ["macs=0.8", "macs=0.7", "macs=0.6"]);
    let whole = number(&report["original"]["macs"]);
    for (row, asked) in rows.iter().zip([0.8, 0.7, 0.6]) {
        let left = number(&row["macs"]) / whole;
        assert!(left <= asked + 1e-9 && left > asked - 0.1, "{row}");
        assert_eq!(row["exactness"], "exact");
        let (drift, accuracy) = (number(&row["drift"]), number(&row["accuracy"]));
        assert!(drift > 0.0 && drift < 0.5 && accuracy > 0.8, "{row}");
        assert!(
            number(&row["agreement"]) > 0.8 && row["stands"] == true,
            "{row}"
        );
        let file = Path::new(row["path"].as_str().unwrap());
        let bytes = std::fs::metadata(file).unwrap().len();
        assert_eq!(
            (row["bytes"].as_u64(), file.parent()),
            (Some(bytes), Some(path))
        );
        assert!(path.join(format!("p.macs-{asked}.json")).exists());
    }
    assert!(rows.iter().any(|row| row["on_front"] == true));
    // What else is told is of the smallest.
    assert_eq!(report["pruned"]["macs"], rows[2]["macs"]);
    assert!(!path.join("x.onnx").exists() && !path.join("p.json").exists());
    let text = |name: &str| std::fs::read_to_string(path.join(name)).unwrap();
    assert!(text("r.md").contains("## Sweep") && text("r.html").contains("<circle"));
    let cases = text("r.xml");
    assert!(cases.contains("name=\"--sweep macs=0.7\"") && cases.contains("failures=\"0\""));
    // A plan of the family makes its model's shapes again.
    let again = "@digits_transformer.onnx -o {}/again.onnx --plan {}/p.macs-0.7.json --recover none --no-verify -q";
    assert_eq!(code(path, again).0, 0);
    let size = |name: &str| std::fs::metadata(path.join(name)).unwrap().len();
    assert!(size("again.onnx").abs_diff(size("x.macs-0.7.onnx")) < 2000);
}

#[test]
fn models_of_a_sweep_are_as_near_as_those_made_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let data = "--data @digits_calibration.npz --samples 256";
    let drift = |options: &str, at: &str| {
        let line = format!(
            "@digits_lstm.onnx -o {{}}/x.onnx {options} {data} -q --report {{}}/r.json --force"
        );
        code(path, &line);
        let report = json(&path.join("r.json"));
        number(report.pointer(at).unwrap())
    };
    let alone = drift("--target macs=0.6", "/drift/outputs/0/relative_l2");
    let swept = drift("--sweep macs=0.9..0.6:4", "/sweep/3/drift");
    assert!(swept <= 1.15 * alone, "{swept} in a sweep, {alone} alone");
}

#[test]
fn what_a_sweep_cannot_reach_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let line = "@digits_cnn.onnx -o {}/x.onnx --sweep macs=0.8..0.001:2 --no-verify -q --report {}/r.json --report {}/r.xml";
    let (status, text) = code(path, line);
    assert!(
        status == 1 && text.contains("wrote 1 of 2 models"),
        "{text}"
    );
    assert!(path.join("x.macs-0.8.onnx").exists() && !path.join("x.macs-0.001.onnx").exists());
    let rows = json(&path.join("r.json"))["sweep"].clone();
    assert_eq!(
        (&rows[0]["stands"], &rows[1]["stands"]),
        (&true.into(), &false.into())
    );
    assert!(
        rows[1]["path"].is_null() && rows[1]["on_front"] == false,
        "{rows}"
    );
    let cases = std::fs::read_to_string(path.join("r.xml")).unwrap();
    assert!(cases.contains("failures=\"1\""), "{cases}");
    assert_eq!(code(path, &format!("{line} --force")).0, 1);
    assert!(path.join("x.macs-0.001.onnx").exists());
}

#[test]
fn sweeps_of_drifts_end_within_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let line = "@digits_lstm.onnx -o {}/x.onnx --sweep drift=0.05..0.2:2 --data @digits_calibration.npz --samples 128 \
                -q --report {}/r.json --force";
    code(path, line);
    let rows = json(&path.join("r.json"))["sweep"].clone();
    assert!(
        number(&rows[0]["macs"]) > number(&rows[1]["macs"]),
        "{rows}"
    );
    assert!(
        number(&rows[0]["drift"]) < number(&rows[1]["drift"]),
        "{rows}"
    );
}

#[test]
fn what_does_not_go_with_a_sweep_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let taken = path.join("x.macs-0.5.onnx");
    std::fs::copy(fixture("digits_cnn.onnx"), &taken).unwrap();
    for (options, named) in [
        ("--sweep macs=0.9", "macs=0.9..0.3"),
        ("--sweep macs=0.9..0.5 --rounds 2", "leave out --rounds"),
        (
            "--sweep macs=0.9..0.5 --target macs=0.5",
            "leave out --target macs",
        ),
        (
            "--sweep drift=0.01..0.1 --target macs=0.5",
            "leave out --target macs",
        ),
        (
            "--sweep latency=0.9..0.5 --no-verify",
            "leave out --no-verify",
        ),
        (
            "--sweep macs=0.9..0.5 --plan {}/p.json",
            "cannot be used with",
        ),
    ] {
        let (code, text) = code(path, &format!("@digits_cnn.onnx -o {{}}/y.onnx {options}"));
        assert!(code == 2 && text.contains(named), "{options}: {text}");
    }
    // The model that is read has the name of one of the family.
    let line = "{}/x.macs-0.5.onnx -o {}/x.onnx --sweep macs=0.9..0.5:2 --no-verify";
    let before = std::fs::read(&taken).unwrap();
    assert_eq!(
        (code(path, line).0, std::fs::read(&taken).unwrap()),
        (2, before)
    );
    assert!(!path.join("x.macs-0.9.onnx").exists());
}

#[test]
fn all_kinds_can_be_asked_for_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let line = "@digits_transformer.onnx -o {}/x.onnx --units auto --target macs=0.7 --data @digits_calibration.npz \
                --samples 64 -q --force --report {}/r.json";
    code(path, line);
    assert_eq!(json(&path.join("r.json"))["exactness"]["verdict"], "exact");
    // By weights alone no layer is chosen.
    let line = "@digits_cnn.onnx -o {}/y.onnx --units auto --target macs=0.7 --no-verify -q";
    assert_eq!(code(path, line), (0, String::new()));
}
