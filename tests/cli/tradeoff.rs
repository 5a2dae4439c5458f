//! What can be had for how much drift: points that are foreseen beside the one that is made.

use serde_json::Value;

use super::{code, json, run};

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

/// The rows of the trade-off, those that are foreseen first.
fn rows(report: &Value) -> (Vec<Value>, Vec<Value>) {
    let all = report["tradeoff"].as_array().unwrap().iter().cloned();
    all.partition(|row| row["estimated"] == true)
}

/// Rows come widest first, and what is foreseen moves the outputs the more the less is left.
fn falls(rows: &[Value]) -> bool {
    rows.windows(2).all(|pair| {
        number(&pair[0]["macs"]) > number(&pair[1]["macs"])
            && number(&pair[0]["drift"]) <= number(&pair[1]["drift"])
    })
}

#[test]
fn a_fixed_target_tells_what_others_would_give() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let line = "@digits_lstm.onnx -o {}/x.onnx --target macs=0.7 --data @digits_calibration.npz --samples 128 \
                --report {}/r.json --report {}/r.md --report {}/r.html";
    let output = run(path, line);
    assert!(output.status.success(), "{output:?}");
    let report = json(&path.join("r.json"));
    let (foreseen, made) = rows(&report);
    assert!(foreseen.len() >= 7 && foreseen.len() + made.len() >= 8);
    assert!(falls(&foreseen), "{foreseen:?}");
    let pruned = &report["pruned"];
    assert_eq!(made.len(), 1);
    for cost in ["macs", "params", "bytes"] {
        assert_eq!(made[0][cost], pruned[cost]);
    }
    assert_eq!(
        made[0]["drift"],
        report["drift"]["outputs"][0]["relative_l2"]
    );
    let least = &report["least"];
    assert!(number(&least["macs"]) < number(&pruned["macs"]), "{least}");
    assert_eq!(foreseen.last().unwrap()["macs"], least["macs"]);
    // What is foreseen lies on both sides of what was made.
    let (drift, macs) = (number(&made[0]["drift"]), number(&made[0]["macs"]));
    for row in &foreseen {
        let wider = number(&row["macs"]) > macs;
        assert_eq!(number(&row["drift"]) < drift, wider, "{row}");
    }
    let sensitive = report["sensitive"].as_array().unwrap();
    assert!(!sensitive.is_empty() && sensitive.len() <= 5);
    let drifts: Vec<f64> = sensitive.iter().map(|row| number(&row["drift"])).collect();
    assert!(drifts.is_sorted_by(|a, b| a >= b && *b > 0.0), "{drifts:?}");
    // The pattern that is named leaves the group whole.
    let first = &sensitive[0];
    let pattern = first["exclude"].as_str().unwrap();
    let named = |text: &str| text.contains("--exclude ") && text.contains("least that can be");
    assert!(named(&String::from_utf8_lossy(&output.stdout)));
    for form in ["r.md", "r.html"] {
        let text = std::fs::read_to_string(path.join(form)).unwrap();
        assert!(named(&text) && text.contains("≈ "), "{form}");
    }
    let page = std::fs::read_to_string(path.join("r.html")).unwrap();
    assert_eq!(page.matches("<circle class=\"rest\"").count(), 1);
    assert!(page.contains("<circle class=\"foreseen\""));
    let again = format!("{line} --exclude {pattern} --force -q");
    let (exit, said) = code(path, &again);
    assert!(exit < 2, "{said}");
    let report = json(&path.join("r.json"));
    let groups = report["groups"].as_array().unwrap();
    let excluded = groups.iter().any(|group| group["id"] == first["id"]);
    assert!(!excluded && !groups.is_empty(), "{groups:?}");
}

#[test]
fn searches_and_sweeps_tell_it_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let data = "--data @digits_calibration.npz --samples 64 --report {}/r.json -q --force";
    for asked in [
        "--target drift=0.2",
        "--target agreement=0.9",
        "--target params=0.6 --rounds 2",
        "--sweep macs=0.8..0.6:2",
    ] {
        let (exit, said) = code(
            path,
            &format!("@digits_lstm.onnx -o {{}}/x.onnx {asked} {data}"),
        );
        assert!(exit < 2, "{asked}: {said}");
        let report = json(&path.join("r.json"));
        let (foreseen, made) = rows(&report);
        assert!(foreseen.len() + made.len() >= 8, "{asked}");
        assert!(falls(&foreseen), "{asked}: {foreseen:?}");
        let result = made
            .iter()
            .find(|row| row["macs"] == report["pruned"]["macs"]);
        let drift = &result.unwrap()["drift"];
        if asked.contains("drift") || asked.contains("agreement") {
            // What the search went by.
            assert!((0.0..1.0).contains(&number(drift)), "{asked}: {drift}");
        } else {
            let apart = &report["drift"]["outputs"][0]["relative_l2"];
            assert_eq!(drift, apart, "{asked}");
        }
        assert!(report["least"]["macs"].is_u64() && report["sensitive"][0]["id"].is_string());
    }
    // By weights alone nothing is foreseen.
    let line = "@digits_lstm.onnx -o {}/x.onnx --target macs=0.7 --score l2 --no-verify -q --report {}/r.json";
    assert_eq!(code(path, line).0, 0);
    let report = json(&path.join("r.json"));
    assert_eq!(report["tradeoff"], Value::Array(Vec::new()));
    assert!(report.get("least").is_none() && report.get("sensitive").is_none());
}
